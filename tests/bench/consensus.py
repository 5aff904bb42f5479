"""Does the consensus find the truth, and the reader who does not? Do the intervals of kappas cover?

Shapes: N scans, M annotators, C classes, K patients, B replicates.
"""

import warnings
from argparse import Namespace
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.measures import agreement
from pipeline.measures import consensus as combine
from tests.bench import tables

NUM_SCANS = 300
ERRORS = (0.05, 0.1, 0.3)  # of the three readers; the last one is bad
BAD = 2
ALL, FIFTH, TWO = "all by 3", "a fifth by 3", "all by 2 of 3"  # besides a fifth: by one reader

# Readers' errors and the bad one's number, for the table of suspects.
CREWS: dict[str, tuple[tuple[float, ...], int | None]] = {
    "5, 10, 30 %": (ERRORS, BAD),
    "5, 5, 10 %": ((0.05, 0.05, 0.1), None),
    "5, 10, 5, 10, 30 %": ((0.05, 0.1, 0.05, 0.1, 0.3), 4),
    "5, 10, 5, 10, 5 %": ((0.05, 0.1, 0.05, 0.1, 0.05), None),
    "10, 30 %": ((0.1, 0.3), 1),
}
NUM_CREWS = 200  # simulated crews of each kind
NUM_FEW = 200  # samples of few scans

NUM_BOOTSTRAP = 200
NUM_COVERAGE = 800

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Model(NamedTuple):
    """A simulated classifier: its accuracy against `of`, and its logits' factor; 1 is calibrated."""

    accuracy: float
    sharpness: float = 1.0
    of: str = "truth"

    def __str__(self) -> str:
        sure = {1.0: "calibrated"}.get(self.sharpness, f"{self.sharpness:.0f}-fold too sure")
        return f"{self.accuracy:.2f}, {sure}" + ("" if self.of == "truth" else f", of {self.of}")


COPY = "the bad reader's answers"
MODELS = (Model(0.87), Model(0.87, 3), Model(0.6), Model(0.6, 3), Model(0.87, 1, COPY))


@dataclass(frozen=True)
class Sample:
    """Scans with their truth (N,), probabilities (N, C) and ratings (N, M)."""

    truth_N: Ints
    prob_NC: Floats
    rating_NM: Ints


def main(_data: Path, given: Namespace) -> None:
    """Write `results/consensus.md`; about 5 minutes for 20 seeds."""
    rows = []
    for num_classes in (2, 3):
        for design in (ALL, FIFTH, TWO):
            for model in MODELS:
                found = [scores(draw(num_classes, design, model, seed)) for seed in range(given.seeds)]
                rows.append((num_classes, design, str(model), *cells(found)))
    header = (
        "classes",
        "read",
        "model's accuracy",
        "majority (split: wrong)",
        "majority (split: half)",
        "consensus",
        "cleanlab's own",
        "Dawid-Skene",
        "consensus − majority (half)",
        "− majority (wrong)",
    )
    tables.write(
        "consensus",
        "Consensus of three readers, one of whom is wrong in 30 %",
        f"python -m tests.bench consensus --seeds {given.seeds}",
        header,
        rows,
        notes(given.seeds),
    )


def draw(
    num_classes: int,
    design: str,
    model: Model,
    seed: int,
    errors: tuple[float, ...] = ERRORS,
    num_scans: int = NUM_SCANS,
) -> Sample:
    """Readers that err independently, to any other class alike, and a model of normal scores around the truth."""
    rng = np.random.default_rng([seed, num_classes])
    num_readers = len(errors)
    truth_N = rng.integers(0, num_classes, num_scans)
    wrong_NM = rng.random((num_scans, num_readers)) < errors
    other_NM = (truth_N[:, None] + rng.integers(1, num_classes, (num_scans, num_readers))) % num_classes
    rating_NM = np.where(wrong_NM, other_NM, truth_N[:, None])
    seen_N = truth_N if model.of == "truth" else rating_NM[:, -1]
    shift = separation(num_classes, model.accuracy)
    score_NC = rng.normal(size=(num_scans, num_classes)) + shift * np.eye(num_classes)[seen_N]
    logit_NC = model.sharpness * shift * score_NC
    prob_NC = np.exp(logit_NC - logit_NC.max(axis=1, keepdims=True))
    rank_NM = rng.random((num_scans, num_readers)).argsort(axis=1).argsort(axis=1)
    if design == FIFTH:
        rating_NM = np.where((rank_NM == 0) | (rng.random((num_scans, 1)) < 0.2), rating_NM, -1)
    elif design == TWO:
        rating_NM = np.where(rank_NM < 2, rating_NM, -1)
    return Sample(truth_N, prob_NC / prob_NC.sum(axis=1, keepdims=True), rating_NM)


@cache
def separation(num_classes: int, accuracy: float) -> float:
    """Shift of the true class's score at which the highest score is right that often; scores have unit variance."""
    noise_NC = np.random.default_rng(0).normal(size=(40_000, num_classes))
    margin_N = noise_NC[:, 1:].max(axis=1) - noise_NC[:, 0]
    return float(np.quantile(margin_N, accuracy))


def scores(sample: Sample) -> dict[str, float]:
    """Accuracy of each consensus on the scans read twice or more."""
    truth_N, rating_NM = sample.truth_N, sample.rating_NM
    shared_N = (rating_NM >= 0).sum(axis=1) > 1
    plain_N = combine.consensus(rating_NM).class_N
    split_N = shared_N & (plain_N < 0)
    count_NC = votes(rating_NM, sample.prob_NC.shape[1])
    among_N = count_NC == count_NC.max(axis=1, keepdims=True)
    luck_N = among_N[np.arange(len(truth_N)), truth_N] / among_N.sum(axis=1)
    right_N = plain_N == truth_N
    calls = {
        "wrong": right_N,
        "half": np.where(split_N, luck_N, right_N),
        "ours": combine.consensus(rating_NM, sample.prob_NC).class_N == truth_N,
        "cleanlab": unrestricted(sample) == truth_N,
        "dawid-skene": dawid_skene(rating_NM, sample.prob_NC.shape[1]) == truth_N,
    }
    return {name: float(call_N[shared_N].mean()) for name, call_N in calls.items()}


def cells(found: list[dict[str, float]]) -> list[str]:
    """Mean accuracies, and the paired differences with their intervals."""
    means = [
        f"{np.mean([f[name] for f in found]):.3f}" for name in ("wrong", "half", "ours", "cleanlab", "dawid-skene")
    ]
    return [*means, *(tables.mean_ci([f["ours"] - f[name] for f in found]) for name in ("half", "wrong"))]


def votes(rating_NM: Ints, num_classes: int) -> Ints:
    """Readings per class, (N, C)."""
    return np.stack([(rating_NM == c).sum(axis=1) for c in range(num_classes)], axis=1)


def unrestricted(sample: Sample) -> Ints:
    """Cleanlab's consensus as it comes, over all scans."""
    from cleanlab.multiannotator import get_label_quality_multiannotator

    rating_NM = np.where(sample.rating_NM < 0, np.nan, sample.rating_NM)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = get_label_quality_multiannotator(rating_NM, sample.prob_NC, verbose=False)
    labels: Ints = found["label_quality"]["consensus_label"].to_numpy()
    return labels


def dawid_skene(rating_NM: Ints, num_classes: int, num_steps: int = 50) -> Ints:
    """Most probable class by Dawid and Skene's EM (1979), from the votes; one imagined reading per cell."""
    hot_NMC = (rating_NM[:, :, None] == np.arange(num_classes)).astype(np.float64)
    post_NC = hot_NMC.mean(axis=1)
    post_NC /= post_NC.sum(axis=1, keepdims=True)
    for _ in range(num_steps):
        confusion_MCC = np.einsum("nt,nmc->mtc", post_NC, hot_NMC) + 1
        confusion_MCC /= confusion_MCC.sum(axis=2, keepdims=True)
        log_NC = np.log(post_NC.mean(axis=0) + 1e-9) + np.einsum("nmc,mtc->nt", hot_NMC, np.log(confusion_MCC))
        post_NC = np.exp(log_NC - log_NC.max(axis=1, keepdims=True))
        post_NC /= post_NC.sum(axis=1, keepdims=True)
    return post_NC.argmax(axis=1)


def notes(num_seeds: int) -> str:
    """What the table shows, then the suspects and the coverage as further tables."""
    lines = [
        f"{NUM_SCANS} scans, readers wrong in 5, 10 and 30 %, {num_seeds} seeds; accuracy on the scans read twice or "
        "more; differences are paired, with 95 % intervals over the seeds. An even split of the majority counts as "
        'wrong, and as the chance of a draw among the classes tied. "Cleanlab\'s own" is its consensus as it comes: '
        "probabilities as they are, any class. A model 3-fold too sure has its logits multiplied by 3. "
        "The last model has learnt the bad reader's answers, errors included.",
        "",
        *few_scans(),
        "",
        f"The bad annotator named, a good one accused: shares of {NUM_CREWS} crews, "
        f"{NUM_SCANS} and {5 * NUM_SCANS} scans. Compared on the scans she and two others read: those read by two name "
        "nobody.",
        "",
        "| errors of the readers | classes | read | named, 300 | accused, 300 | named, 1500 | accused, 1500 |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [suspect_row(crew, c, design) for crew in CREWS for c in (2, 3) for design in (ALL, FIFTH, TWO)]
    lines += [
        "",
        f"Coverage of 95 % intervals in per cent, {NUM_COVERAGE} simulations, {NUM_BOOTSTRAP} replicates, 1 to 3 "
        "scans a patient, errors correlated within patients: the project's / plain percentiles of redrawn patients. "
        "The simulation error of a cell is 0.8. Without interval: samples of one class.",
        "",
        "| patients | prevalence | true kappa | Cohen's kappa | mean width | alpha of 3 readers | without interval |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    rng = np.random.default_rng(0)
    for prevalence in (0.5, 0.1):
        for kappa in (0.4, 0.8):
            lines += [coverage_row(num, prevalence, kappa, rng) for num in (30, 100, 300)]
    return "\n".join(lines)


def few_scans() -> list[str]:
    """What few scans to weigh readers by do to the consensus: the reason for `MIN_SHARED`."""
    lines = [
        f"All scans read by 3, 2 classes, {NUM_FEW} samples of few scans, weighed although they are few: "
        "consensus less majority, by the model.",
        "",
        "| scans | " + " | ".join(str(model) for model in MODELS) + " |",
        "| --- |" + " --- |" * len(MODELS),
    ]
    usual, combine.MIN_SHARED = combine.MIN_SHARED, 2
    for num_scans in (8, 15, 20, 30):
        row = []
        for model in MODELS:
            samples = [draw(2, ALL, model, seed, num_scans=num_scans) for seed in range(NUM_FEW)]
            row.append(tables.mean_ci([right(s, s.prob_NC) - right(s, None) for s in samples]))
        lines.append(f"| {num_scans} | " + " | ".join(row) + " |")
    combine.MIN_SHARED = usual
    return lines


def right(sample: Sample, prob_NC: Floats | None) -> float:
    return float((combine.consensus(sample.rating_NM, prob_NC).class_N == sample.truth_N).mean())


def suspect_row(crew: str, num_classes: int, design: str) -> str:
    num_readers = len(CREWS[crew][0])
    shares = [f"{s:.3f}" if s is not None else "–" for n in (1, 5) for s in suspected(crew, num_classes, design, n)]
    read = design.replace("3", str(num_readers))
    return f"| {crew} | {num_classes} | {read} | " + " | ".join(shares) + " |"


def suspected(crew: str, num_classes: int, design: str, times: int) -> tuple[float | None, float]:
    """Share of crews whose bad annotator is named (None without one), and share in which a good one is."""
    errors, bad = CREWS[crew]
    named = []
    for seed in range(NUM_CREWS):
        sample = draw(num_classes, design, MODELS[0], seed, errors, times * NUM_SCANS)
        patient_N = np.arange(len(sample.truth_N)) // 2
        named.append({suspect.annotator for suspect in combine.suspect_annotators(sample.rating_NM, patient_N)})
    hit = None if bad is None else float(np.mean([bad in who for who in named]))
    return hit, float(np.mean([bool(who - {bad}) for who in named]))


def coverage_row(num_patients: int, prevalence: float, kappa: float, rng: np.random.Generator) -> str:
    """Coverage of Cohen's kappa of two readers (ours, percentile), mean width (ours), coverage of alpha (ours)."""
    error, true = difficulty(prevalence, kappa)
    hits: list[list[bool]] = []
    widths, alphas, missing = [], [], 0
    for _ in range(NUM_COVERAGE):
        rating_N3, group_N = readings(num_patients, error, prevalence, rng)
        pair = agreement.pairwise(rating_N3[:, :2], group_N, 2, NUM_BOOTSTRAP, rng)[0, 1].kappa
        panel = agreement.overall(rating_N3, group_N, 2, NUM_BOOTSTRAP, rng).krippendorff
        if pair.ci95 is None or panel.ci95 is None:
            missing += 1
            continue
        plain = percentiles(rating_N3[:, :2], group_N, rng)
        hits.append([low - 1e-9 <= true <= high + 1e-9 for low, high in (pair.ci95, plain)])
        alphas.append(panel.ci95[0] - 1e-9 <= true <= panel.ci95[1] + 1e-9)
        widths.append(pair.ci95[1] - pair.ci95[0])
    ours, plain_share = 100 * np.mean(hits, axis=0)
    return (
        f"| {num_patients} | {prevalence} | {true:.2f} | {ours:.1f} / {plain_share:.1f} | {np.mean(widths):.2f} "
        f"| {100 * np.mean(alphas):.1f} | {missing} |"
    )


def readings(num_patients: int, error: float, prevalence: float, rng: np.random.Generator) -> tuple[Ints, Any]:
    """Three readers alike of one to three scans a patient, whose class and difficulty are partly the patient's."""
    group_N = np.repeat(np.arange(num_patients), rng.integers(1, 4, num_patients))
    own_K = rng.beta(2 * prevalence, 2 * (1 - prevalence), num_patients)
    truth_N = (rng.random(len(group_N)) < own_K[group_N]).astype(np.int64)
    hard_N = rng.beta(4 * error, 4 * (1 - error), num_patients)[group_N]
    wrong_N3 = rng.random((len(group_N), 3)) < hard_N[:, None]
    return np.where(wrong_N3, 1 - truth_N[:, None], truth_N[:, None]), group_N


@cache
def difficulty(prevalence: float, kappa: float) -> tuple[float, float]:
    """Mean error of a reader at which kappa is as asked, and the kappa of a pool of 300,000 patients there."""

    def value(error: float, num_patients: int, seed: int) -> float:
        rating_N3, group_N = readings(num_patients, error, prevalence, np.random.default_rng(seed))
        found = agreement.pairwise(rating_N3[:, :2], group_N, 2, 0, np.random.default_rng(0))[0, 1].kappa.value
        assert found is not None
        return found

    low, high = 0.001, 0.45
    for _ in range(15):
        middle = (low + high) / 2
        low, high = (middle, high) if value(middle, 50_000, 1) > kappa else (low, middle)
    return low, value(low, 300_000, 2)


def percentiles(rating_N2: Ints, group_N: Ints, rng: np.random.Generator) -> tuple[float, float]:
    """Plain percentile interval of Cohen's kappa of two classes, patients redrawn."""
    parts_N4 = np.column_stack([np.ones(len(rating_N2)), rating_N2[:, 0] == rating_N2[:, 1], rating_N2])
    parts_K4 = np.zeros((int(group_N.max()) + 1, 4))
    np.add.at(parts_K4, group_N, parts_N4)
    num = len(parts_K4)
    total_B4 = rng.multinomial(num, np.full(num, 1 / num), size=NUM_BOOTSTRAP) @ parts_K4
    agreed_B, first_B, second_B = (total_B4[:, 1:] / total_B4[:, :1]).T
    chance_B = first_B * second_B + (1 - first_B) * (1 - second_B)
    kappa_B = ((agreed_B - chance_B) / np.where(chance_B < 1, 1 - chance_B, np.nan))[chance_B < 1]
    low, high = np.quantile(kappa_B, [0.025, 0.975])
    return float(low), float(high)
