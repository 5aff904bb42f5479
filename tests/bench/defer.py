"""Is the promise of act or defer kept, and what is decided alone? Simulated label histories on real and drawn pools.

A history asks for 100 labels of half of the patients and learns a head. The other half is the population: its error
rates are known exactly. The patients whose blind labels certify are drawn from it, with replacement, and looked at
twice, when half of the labels are there and when all are; the laxest threshold of both looks counts.

Shapes: J scans of the population, K patients drawn, P features.
"""

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import softmax

from pipeline.baselines.curves import bench_pool
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.config import Config
from pipeline.contracts.healthy_class import healthy_among
from pipeline.learn.stopping import subset_fits
from pipeline.measures import act_or_defer
from pipeline.runtime.engine import SerialEngine
from tests.bench import forecast, tables

POOLS = ("nih", "phantom", "kermany")
NUM_HISTORIES, NUM_LEARNED, CONFIDENCE, PLAIN = 200, 100, 0.95, 0.95
LABELS, ERRORS, KINDS = (150, 400), (0.05, 0.1), ("class", "decided")


@dataclass(frozen=True)
class Side:
    """One answer of one finding on the population.

    Attributes:
        sure_J: Sureness of the answer.
        wrong_J: Whether it would be wrong.
        patient_J: Patient as a number from 0.
    """

    sure_J: np.ndarray
    wrong_J: np.ndarray
    patient_J: np.ndarray

    def error(self, threshold: float, kind: str) -> float:
        """True error rate of a threshold, each patient counted once; 0 where nothing is at stake."""
        decided_J = self.sure_J >= threshold
        counted_J = self.wrong_J if kind == "class" else np.ones(len(decided_J), bool)
        weight_J = counted_J / np.maximum(np.bincount(self.patient_J, counted_J)[self.patient_J], 1)
        total = weight_J.sum() if kind == "class" else (weight_J * decided_J).sum()
        return float((weight_J * decided_J * self.wrong_J).sum() / total) if total else 0.0

    def share(self, threshold: float | None) -> float:
        """Share decided, each patient counted once."""
        if threshold is None:
            return 0.0
        weight_J = 1.0 / np.bincount(self.patient_J)[self.patient_J]
        return float((weight_J * (self.sure_J >= threshold)).sum() / weight_J.sum())


def main(data: Path, given: Namespace) -> None:
    """Write `results/defer.md`; a few minutes once the pools are embedded."""
    folder = cache_folder() / "bench" / "forecast"
    paths = {name: forecast.pool_file(data, name, folder, SerialEngine()) for name in POOLS}
    header = (
        *("pool", "labelled patients", "promised error", "share of"),
        *("sides certified", "kept, worst side", "decided alone"),
        *(f"plain {PLAIN:g}: kept, worst side", "decided alone"),
    )
    rows = []
    for name, path in paths.items():
        rows += _rows(name, path)
        tables.write("defer", "What the model decides alone", "python -m tests.bench defer", header, rows, NOTES)


def _rows(name: str, path: Path) -> list[list[object]]:
    cells = [(num, error, kind) for num in LABELS for error in ERRORS for kind in KINDS]
    outcomes: dict[tuple[int, float, str], list[np.ndarray]] = {cell: [] for cell in cells}
    for history in range(NUM_HISTORIES):
        rng = np.random.default_rng([history, len(name)])
        sides, pool_of = _history(bench_pool.load(path), rng)
        num_patients = int(sides[0].patient_J.max()) + 1
        drawn_K = rng.integers(num_patients, size=max(LABELS))
        for num, error, kind in cells:
            both = zip(sides, pool_of, strict=True)
            outcome = [_outcome(side, sure_P, drawn_K[:num], error, kind, rng) for side, sure_P in both]
            outcomes[num, error, kind].append(np.array(outcome))
    return [[name, cell[0], f"{cell[1]:g}", cell[2], *_cells(np.array(outcomes[cell]))] for cell in cells]


def _cells(outcome_HSM: np.ndarray) -> list[str]:
    """Over H histories and S sides: certified, kept, decided; plain kept, plain decided."""
    certified, kept, decided, plain_kept, plain_decided = np.moveaxis(outcome_HSM, 2, 0)
    pairs = decided.shape[1] // 2  # sides of a finding decide together

    def interval(kept_HS: np.ndarray) -> str:
        worst = int(kept_HS.sum(axis=0).min())
        low, high = act_or_defer.share_interval(worst, len(kept_HS))
        return f"{100 * worst / len(kept_HS):.1f} % ({100 * low:.1f}–{100 * high:.1f})"

    return [
        f"{100 * certified.mean():.0f} %",
        interval(kept),
        f"{100 * decided.sum(axis=1).mean() / pairs:.0f} %",
        interval(plain_kept),
        f"{100 * plain_decided.sum(axis=1).mean() / pairs:.0f} %",
    ]


def _history(pool: bench_pool.BenchPool, rng: np.random.Generator) -> tuple[list[Side], list[np.ndarray]]:
    """No and yes of each finding on the population, and the sureness of the scans of the other patients."""
    groups = rng.permutation(np.unique(pool.group_T))
    asked_T = np.isin(pool.group_T, groups[: len(groups) // 2])
    rows_E = rng.permutation(np.flatnonzero(asked_T))[:NUM_LEARNED]
    weight_CP, bias_C = subset_fits.fit_head(
        pool.x_TP[rows_E], pool.class_T[rows_E], len(pool.findings), Config().train.teacher_l2
    )
    prob_TC = softmax(pool.x_TP @ weight_CP.T + bias_C, axis=1)
    patient_J = np.unique(pool.group_T[~asked_T], return_inverse=True)[1]
    sides, of_pool = [], []
    healthy = healthy_among(pool.findings)
    for c in [c for c, finding in enumerate(pool.findings) if finding not in healthy]:
        has_J = pool.class_T[~asked_T] == c
        for sure_T, wrong_J in ((1.0 - prob_TC[:, c], has_J), (prob_TC[:, c], ~has_J)):
            sides.append(Side(sure_T[~asked_T], wrong_J, patient_J))
            of_pool.append(sure_T[asked_T])
    return sides, of_pool


def _outcome(
    side: Side,
    sure_P: np.ndarray,
    drawn_K: np.ndarray,
    error: float,
    kind: str,
    rng: np.random.Generator,
) -> tuple[float, ...]:
    """Certified, kept, share decided; the same two of the plain rule."""
    among_J = side.wrong_J if kind == "class" else np.ones(len(side.wrong_J), bool)
    thresholds = []
    row_K = _one_scan_each(side.patient_J, among_J, drawn_K, rng)
    for num in (len(row_K) // 2, len(row_K)):
        rows = row_K[:num][row_K[:num] >= 0]
        sure_N, wrong_N = side.sure_J[rows], side.wrong_J[rows]
        certified = (
            act_or_defer.certify_class(sure_N, error, CONFIDENCE)
            if kind == "class"
            else act_or_defer.certify_decided(sure_N, wrong_N, sure_P, error, CONFIDENCE)
        )
        thresholds += [] if certified.threshold is None else [certified.threshold]
    laxest = min(thresholds, default=None)
    kept = laxest is None or side.error(laxest, kind) <= error
    return laxest is not None, kept, side.share(laxest), side.error(PLAIN, kind) <= error, side.share(PLAIN)


def _one_scan_each(
    patient_J: np.ndarray, among_J: np.ndarray, drawn_K: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """For each patient drawn the row of one of their scans among some, by chance; -1 where there is none."""
    rows = np.flatnonzero(among_J)
    rows = rows[np.argsort(patient_J[rows], kind="stable")]
    num_of = np.bincount(patient_J[rows], minlength=int(patient_J.max()) + 1)
    first_of = np.cumsum(num_of) - num_of
    num_K = num_of[drawn_K]
    place_K = first_of[drawn_K] + rng.integers(np.maximum(num_K, 1))
    return np.where(num_K > 0, rows[np.minimum(place_K, len(rows) - 1)], -1)


NOTES = f"""\
{NUM_HISTORIES} histories a row. *Kept*: share of the histories in which no threshold breaks the promise, on the side
(no or yes of a finding that is not healthy) where that is rarest, with an exact 95 % interval; a side that is refused
keeps it. One side at a time is promised at {CONFIDENCE:.0%}. The labels are looked at twice and the laxest threshold
counts. *Decided alone*: mean share of the patients' scans, both answers together, mean over the findings. *Plain*:
decided where the head's own probability of the answer is at least {PLAIN:g}, no label asked. `nih` is covid3's part of
one source.

The head is the one from which queues are drawn, uncalibrated, after {NUM_LEARNED} labels drawn by chance."""
