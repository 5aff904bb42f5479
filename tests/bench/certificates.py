"""Is a certified precision ever above the truth? Simulated pools, releases and checks, looked at after every answer.

Shapes: N scans of a release, P patients.
"""

from argparse import Namespace
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from pipeline.measures.certify import lower_bound
from pipeline.measures.plans import finite_plan
from pipeline.measures.plans.sequential_plan import certified_precision
from tests.bench import tables

Floats = NDArray[np.float64]

NUM_HISTORIES = 4000
NUM_CHECKS = (40, 150)
PLAN = "sequential plan, every look"
CONFIDENCE = 0.95
PROMISE = 0.9
LONG_SERIES = 1_400  # scans: one plan serves all histories
MIN_SHARE = 0.1  # of the largest inclusion probability: keeps the weights of Horvitz-Thompson finite


class Released(NamedTuple):
    """A release: whether each proposal is wrong, its probability, its patient, (N,) each."""

    wrong_N: NDArray[np.bool_]
    prob_N: Floats
    patient_N: NDArray[np.int64]


def main(data: Path, given: Namespace) -> None:
    """Write `results/certificates.md`; a few minutes, no scans."""
    rows = []
    for number, (pool, draw) in enumerate(POOLS.items()):
        for num_checks in NUM_CHECKS[: 1 if pool in SMALLEST else None]:
            rng = np.random.default_rng([number, num_checks])
            rows.append([pool, num_checks, *cells(draw, num_checks, rng)])
    tables.write(
        "certificates",
        "Share of histories whose certified precision was above the truth",
        "python -m tests.bench certificates",
        ("release", "checks", "true precision", *METHODS, "median bound, plan", "certified .90, plan"),
        rows,
        NOTES,
    )


def cells(draw: Callable[[np.random.Generator], Released], num_checks: int, rng: np.random.Generator) -> list[str]:
    """Mean true precision, the share above the truth of each method in per cent, and what the plan certifies."""
    truth, bounds = [], {name: [] for name in METHODS}
    for _ in range(NUM_HISTORIES):
        release = draw(rng)
        truth.append(1.0 - release.wrong_N.mean())
        for name, method in METHODS.items():
            bounds[name].append(method(release, num_checks, rng))
    above = {name: np.array(bounds[name]) > np.array(truth) + 1e-12 for name in METHODS}
    plan = np.array(bounds[PLAN])
    return [
        f"{np.mean(truth):.3f}",
        *(f"{100 * above[name].mean():.1f}" for name in METHODS),
        f"{np.median(plan):.3f}",
        f"{100 * (plan >= PROMISE).mean():.0f} %",
    ]


# --- methods: a release, a number of checks -> a lower bound of its precision ---------------------------------------


def finite(release: Released, num_checks: int, rng: np.random.Generator) -> float:
    """The product's: the best bound at any look, which is what somebody sees who stops when it is best.

    A bound rises with clean checks alone, so that the looks just before each error, and the last, are enough.
    """
    num = len(release.wrong_N)
    wrong = release.wrong_N[rng.permutation(num)[:num_checks]].tolist()
    looks = [*np.flatnonzero(wrong).tolist(), len(wrong)]
    return max(finite_plan.certified_precision(num, wrong[:look], CONFIDENCE, PROMISE) for look in looks)


def endless(release: Released, num_checks: int, rng: np.random.Generator) -> float:
    """The same, as if the release were endless."""
    order = rng.permutation(len(release.wrong_N))[:num_checks]
    return _endless_bound(tuple(release.wrong_N[order].tolist()))


def exact_once(release: Released, num_checks: int, rng: np.random.Generator) -> float:
    """Clopper-Pearson on a uniform fifth of the checks, looked at once."""
    order = rng.permutation(len(release.wrong_N))[: num_checks // 5]
    return _exact(release.wrong_N[order])


def exact_every_look(release: Released, num_checks: int, rng: np.random.Generator) -> float:
    """Clopper-Pearson on all checks, the best of all looks."""
    order = rng.permutation(len(release.wrong_N))[:num_checks]
    return max(_exact(release.wrong_N[order[:n]]) for n in range(1, num_checks + 1))


def one_scan_a_patient(release: Released, num_checks: int, rng: np.random.Generator) -> float:
    """Clopper-Pearson on one scan of each patient, patients in an order drawn by chance, looked at once."""
    order = rng.permutation(len(release.wrong_N))
    _, first = np.unique(release.patient_N[order], return_index=True)
    chosen = rng.permutation(order[first])[:num_checks]
    return _exact(release.wrong_N[chosen])


def horvitz_thompson(release: Released, num_checks: int, rng: np.random.Generator) -> float:
    """Unsure scans checked more often, weighted back; bound by the central limit, looked at once."""
    doubt_N = 1.0 - release.prob_N
    chance_N = np.maximum(doubt_N, MIN_SHARE * doubt_N.max())
    chance_N /= chance_N.sum()
    drawn = rng.choice(len(chance_N), num_checks, p=chance_N)
    part = release.wrong_N[drawn] / (len(chance_N) * chance_N[drawn])
    return _normal(part)


def prediction_powered(release: Released, num_checks: int, rng: np.random.Generator) -> float:
    """Prediction-powered inference: the scores' own error rate, corrected on the checks; looked at once."""
    drawn = rng.permutation(len(release.wrong_N))[:num_checks]
    doubt_N = 1.0 - release.prob_N
    part = release.wrong_N[drawn] - doubt_N[drawn] + doubt_N.mean()
    return _normal(part)


def _exact(wrong_N: NDArray[np.bool_]) -> float:
    return _exact_bound(int((~wrong_N).sum()), len(wrong_N)) if len(wrong_N) else 0.0


@cache
def _exact_bound(num_correct: int, num_checked: int) -> float:
    return lower_bound(num_correct, num_checked, CONFIDENCE)


@cache
def _endless_bound(wrong: tuple[bool, ...]) -> float:
    return certified_precision(wrong, CONFIDENCE, PROMISE)


def _normal(part_N: Floats) -> float:
    return float(1.0 - part_N.mean() - norm.ppf(CONFIDENCE) * part_N.std(ddof=1) / np.sqrt(len(part_N)))


METHODS: dict[str, Callable[[Released, int, np.random.Generator], float]] = {
    PLAN: finite,
    "as of an endless release, every look": endless,
    "Clopper–Pearson, a uniform fifth, one look": exact_once,
    "Clopper–Pearson, every look": exact_every_look,
    "one scan a patient, one look": one_scan_a_patient,
    "Horvitz–Thompson, normal": horvitz_thompson,
    "prediction-powered, normal": prediction_powered,
}


# --- releases ---------------------------------------------------------------------------------------------------------


def scattered(error_rate: float, num: int, rng: np.random.Generator) -> Released:
    """One to three scans a patient; errors fall where the score is lower, somewhat more often than it says."""
    patient_N = np.repeat(np.arange(num), rng.integers(1, 4, num))[:num]
    doubt_N = rng.beta(0.6, 12.0, num)
    wrong_N = rng.random(num) < np.minimum(1.0, doubt_N * error_rate / doubt_N.mean())
    return Released(wrong_N, 1.0 - doubt_N, patient_N)


def long_series(rng: np.random.Generator) -> Released:
    """Six hundred patients with a scan or two, twelve with 40 to 60; of these whole series are wrong."""
    sizes_P = np.concatenate([rng.integers(1, 3, 600), rng.integers(40, 61, 12)])
    rate_P = np.concatenate([np.full(600, 0.01), np.where(rng.random(12) < 0.25, 0.9, 0.02)])
    patient_N = np.repeat(np.arange(len(sizes_P)), sizes_P)[:LONG_SERIES]
    wrong_N = rng.random(len(patient_N)) < rate_P[patient_N]
    doubt_N = rng.beta(0.6, 12.0, len(patient_N))  # the scores know nothing of it
    return Released(wrong_N, 1.0 - doubt_N, patient_N)


SMALLEST = {"surest tier, 72 scans, .985": 0.015, "surest tier, 72 scans, .90": 0.10}
POOLS: dict[str, Callable[[np.random.Generator], Released]] = {
    "precision .985": lambda rng: scattered(0.015, 2000, rng),
    "precision .95": lambda rng: scattered(0.05, 2000, rng),
    "precision .90": lambda rng: scattered(0.10, 2000, rng),
    "small, 250 scans, .95": lambda rng: scattered(0.05, 250, rng),
    **{name: partial(scattered, rate, 72) for name, rate in SMALLEST.items()},
    "few patients with long series": long_series,
}

NOTES = (
    f"Cells: per cent of {NUM_HISTORIES} simulated histories in which the bound was above the true precision of that "
    "very release; 5 is allowed, and 0.7 is the half-width of a cell's 95 % interval at 5. Checks are drawn without "
    "replacement by scan, except where the method says otherwise. *Sequential plan*: of draws without replacement from "
    "a release of known size. *Every look*: the best bound after any answer counts. *One look*: after the last check "
    "only; more looks make it worse. Last columns: the median bound of the plan, and in how many histories it "
    "certified .90, which it must not where the true precision is below .90."
)
