"""Do the intervals cover, do the tests keep their level? Simulated patients with several scans each.

Shapes: N scans, K patients, B replicates.
"""

from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit

from pipeline.evidence.operating_points import MODEL
from pipeline.evidence.paired_comparison import compare
from pipeline.evidence.predictive_values import predictive_values
from pipeline.evidence.subgroups import permutation_p
from pipeline.measures import bootstrap
from pipeline.measures.weighted_metrics import Scores
from tests.bench import tables

NUM_BOOTSTRAP = 200
# Patients to prevalences and simulated holdouts.
GRID = {40: ((0.1, 0.3, 0.5), 1000), 100: ((0.1, 0.3, 0.5), 1000), 400: ((0.1,), 1500)}
NUM_TESTS = 300  # simulated tests of each kind
MAX_SCANS = 6  # of a patient
ICC = 0.5  # of the scores of a patient
MIX = 0.5  # a patient's own prevalence is Beta(MIX p, MIX (1 - p)): most hold one class only
PREVALENCE_STATED = 0.1
METRICS = ("auroc", "accuracy", "sensitivity", "ppv")

Floats = NDArray[np.float64]


class Sample(NamedTuple):
    """Scans of K patients: score, truth (1 is the finding), patient number, (N,) each."""

    score_N: Floats
    truth_N: NDArray[np.int64]
    group_of_N: NDArray[np.int64]


def main(data: Path, given: Namespace) -> None:
    """Write `results/coverage.md`; about 10 minutes."""
    rng = np.random.default_rng(0)
    rows = [
        [num_patients, prevalence, auroc, *cells(num_patients, prevalence, auroc, num_simulations, rng)]
        for num_patients, (prevalences, num_simulations) in GRID.items()
        for prevalence in prevalences
        for auroc in (0.8, 0.95)
    ]
    tables.write(
        "coverage",
        "Coverage of 95 % intervals, and error rates of tests, with several scans a patient",
        "python -m tests.bench coverage",
        ("patients", "prevalence", "true AUROC", "with the finding", *METRICS),
        rows,
        notes(rng),
    )


def draw(num_patients: int, prevalence: float, shift: float, rng: np.random.Generator) -> Sample:
    """One to six scans a patient; scores are normal with a patient's effect, `shift` higher with the finding.

    Sizes and effects do not depend on the truth, so that the AUROC is `Phi(shift / sqrt 2)`, and at a cut of
    half the shift sensitivity, specificity and accuracy are `Phi(shift / 2)`.
    """
    group_of_N = np.repeat(np.arange(num_patients), rng.integers(1, MAX_SCANS + 1, num_patients))
    own_K = rng.beta(MIX * prevalence, MIX * (1 - prevalence), num_patients)
    truth_N = (rng.random(len(group_of_N)) < own_K[group_of_N]).astype(np.int64)
    return Sample(noise(group_of_N, rng) + shift * truth_N, truth_N, group_of_N)


def noise(group_of_N: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """Standard normal, correlated within patients."""
    effect_K = rng.normal(size=group_of_N.max() + 1)
    return np.sqrt(ICC) * effect_K[group_of_N] + np.sqrt(1 - ICC) * rng.normal(size=len(group_of_N))


def samples(num_patients: int, prevalence: float, shift: float, num: int, rng: np.random.Generator) -> Iterator[Sample]:
    """Samples with both classes."""
    while num:
        sample = draw(num_patients, prevalence, shift, rng)
        if 0 < sample.truth_N.sum() < len(sample.truth_N):
            num -= 1
            yield sample


def cells(
    num_patients: int, prevalence: float, auroc: float, num_simulations: int, rng: np.random.Generator
) -> list[str]:
    """Patients with the finding, and per metric "ours / patient percentile / scan percentile" in per cent."""
    shift = float(np.sqrt(2) * stats.norm.ppf(auroc))
    share = float(stats.norm.cdf(shift / 2))
    ppv = PREVALENCE_STATED * share / (PREVALENCE_STATED * share + (1 - PREVALENCE_STATED) * (1 - share))
    truth = {"auroc": auroc, "accuracy": share, "sensitivity": share, "ppv": ppv}
    hits, holds = defaultdict(list), []
    for sample in samples(num_patients, prevalence, shift, num_simulations, rng):
        holds.append(bootstrap.num_in_group(sample.group_of_N, sample.truth_N == 1))
        for key, interval in intervals(sample, shift / 2, rng).items():
            # No interval is no claim, and counted as a miss of neither.
            if interval is not None:
                hits[key].append(interval[0] - 1e-12 <= truth[key[0]] <= interval[1] + 1e-12)
    shown = [
        " / ".join(f"{100 * np.mean(hits[m, r]):.1f}" for r in ("ours", "patients", "scans") if hits[m, r])
        for m in METRICS
    ]
    return [f"{np.mean(holds):.0f}", *shown]


def intervals(sample: Sample, cut: float, rng: np.random.Generator) -> dict[tuple[str, str], list[float] | None]:
    """(metric, rule) to its interval: the project's, the plain percentiles of patients, and of scans."""
    prob_N = expit(sample.score_N)
    scores = Scores(
        np.stack([1 - prob_N, prob_N], 1), (sample.score_N >= cut).astype(np.int64), sample.truth_N, positive=1
    )
    value = {k: float(v[0]) for k, v in scores.measure(np.ones((1, len(prob_N)))).items()}
    out: dict[tuple[str, str], list[float] | None] = {}
    units = {"patients": sample.group_of_N, "scans": np.arange(len(prob_N))}
    for rule, unit_of_N in units.items():
        value_B = bootstrap.replicates(scores.measure, unit_of_N, NUM_BOOTSTRAP, rng)
        for metric in METRICS[:3]:
            defined_B = value_B[metric][np.isfinite(value_B[metric])]
            out[metric, rule] = list(np.quantile(defined_B, [0.025, 0.975]))
        if rule == "patients":
            informed = scores.informed(unit_of_N)
            ours = {m: informed[m].interval(value[m], value_B[m]) for m in informed}
    out |= {(metric, "ours"): ours[metric] for metric in METRICS[:3]}
    point = {"finding": "f", "target": MODEL}
    for name in ("sensitivity", "specificity"):
        point |= {name: value[name], f"{name}_ci95": ours[name]}
    out["ppv", "ours"] = predictive_values([point], {"f": 0.5}, [PREVALENCE_STATED])[0]["ppv_ci95"]
    return out


def notes(rng: np.random.Generator) -> str:
    """What the table shows, and the error rates of the tests as a second table."""
    lines = [
        f"Cells: coverage in per cent over 1000, 1000 and 1500 simulated holdouts, {NUM_BOOTSTRAP} replicates "
        "each: the project's interval / plain percentiles of redrawn patients / plain percentiles of redrawn scans "
        "(the naive interval). The simulation error of a cell is 0.6 to 0.7. "
        f"Patients have 1 to {MAX_SCANS} scans; scores within a patient correlate with {ICC}; PPV is at a stated "
        f"prevalence of {PREVALENCE_STATED}, from the intervals of sensitivity and specificity. "
        '"With the finding": mean number of patients with a positive scan.',
        "",
        "Tests, share of p under .05 where the null hypothesis is true:",
        "",
        "| test | patients | ours | others |",
        "| --- | --- | --- | --- |",
    ]
    for num_patients in (20, 100):
        for kind in ("a tenth of the patients", "half of the patients", "half of the scans"):
            ours, naive = slice_error(num_patients, kind, NUM_TESTS, rng)
            lines.append(f"| slice: {kind} | {num_patients} | {ours:.3f} | scans taken as independent {naive:.3f} |")
    for num_patients in (40, 100):
        ours, naive, clustered = paired_error(num_patients, NUM_TESTS, rng)
        lines.append(
            f"| AUROC of two models | {num_patients} | {ours:.3f} | DeLong {naive:.3f}, clustered {clustered:.3f} |"
        )
    return "\n".join(lines)


def slice_error(num_patients: int, kind: str, num_simulations: int, rng: np.random.Generator) -> tuple[float, float]:
    """Share of p < .05 of the permutation test, and of a test that takes scans as independent (Fisher's)."""
    ours, naive = [], []
    while len(ours) < num_simulations:
        group_of_N = np.repeat(np.arange(num_patients), rng.integers(1, MAX_SCANS + 1, num_patients))
        correct_N = (noise(group_of_N, rng) < stats.norm.ppf(0.9)).astype(np.float64)
        if kind == "half of the scans":
            inside_N = rng.random(len(group_of_N)) < 0.5
        else:
            share = 0.1 if kind == "a tenth of the patients" else 0.5
            inside_N = (rng.permutation(num_patients) < share * num_patients)[group_of_N]
        if inside_N.all() or not inside_N.any():
            continue
        ours += permutation_p(correct_N, [inside_N], group_of_N, rng)
        counts = [[(correct_N[s] == c).sum() for c in (0, 1)] for s in (inside_N, ~inside_N)]
        naive.append(stats.fisher_exact(counts)[1])
    return float(np.mean(np.array(ours) < 0.05)), float(np.mean(np.array(naive) < 0.05))


def paired_error(num_patients: int, num_simulations: int, rng: np.random.Generator) -> tuple[float, float, float]:
    """Share of p < .05 of the paired bootstrap, DeLong's test, and Obuchowski's, for two equally good models."""
    shift = float(np.sqrt(2) * stats.norm.ppf(0.8))
    found: list[list[Any]] = []
    for sample in samples(num_patients, 0.5, shift, num_simulations, rng):
        # Half of the noise is the scan's, seen by both models, half the model's own, alike within patients too.
        shared_N = noise(sample.group_of_N, rng)
        prob_NC, call = [], []
        for _ in range(2):
            score_N = shift * sample.truth_N + np.sqrt(0.5) * (shared_N + noise(sample.group_of_N, rng))
            prob_NC.append(np.stack([1 - expit(score_N), expit(score_N)], 1))
            call.append((score_N >= shift / 2).astype(np.int64))
        got = compare(
            prob_NC[0],
            call[0],
            prob_NC[1],
            call[1],
            sample.truth_N,
            ["a", "b"],
            sample.group_of_N.tolist(),
            positive=1,
            num_bootstrap=NUM_BOOTSTRAP,
            rng=rng,
        )
        delong = got["delong"][0]
        found.append([got["metrics"][0]["p_value"], delong["p_value"], delong["p_value_clustered"]])
    shares = (np.array(found, np.float64) < 0.05).mean(axis=0)
    return float(shares[0]), float(shares[1]), float(shares[2])
