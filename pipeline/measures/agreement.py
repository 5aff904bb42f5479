"""How far do readers agree, with each other and with themselves? Shares and kappas, with intervals by patient.

Legend: N scans, M annotators, C classes, P pairs of readings, K patients, B replicates, F sums.

A rating is a class index 0..C-1; -1 = not read, or an answer that names no class. A scan counts where
two readings or more of it exist. Every measure is a function of sums over scans, so that a replicate of
the bootstrap is one row of a matrix product.

Intervals: each measure is `(o - e) / (1 - e)`, o the agreement observed and e the one expected by chance
(0 for the plain share). `bootstrap.share_interval` is taken of o and carried over at the e of the sample;
its variance is that of the measure's replicates, in which e moves as well. Unlike the percentile interval
it keeps its coverage near 1 and is no point where the readers never differed
(`tests/bench/results/consensus.md`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.measures import bootstrap

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Ratio = Callable[[Floats], tuple[Floats, Floats]]  # sums (..., F) to agreement observed and expected, (...)

SHARE, COHEN, FLEISS, KRIPPENDORFF = "share", "cohen", "fleiss", "krippendorff"
NO_CHANCE_LEFT = 1e-12  # 1 - e under this: one class only, and no kappa


@dataclass(frozen=True)
class Agreement:
    """One measure of agreement.

    Attributes:
        kind: `share` of pairs of readings that agree, or the kappa: `cohen`, `fleiss`, `krippendorff`.
        value: At most 1; None without a scan read twice, a kappa also where one class alone was named.
        ci95: From the patient-cluster bootstrap; None without a value, a second patient or replicates.
        num_scans: Scans read twice or more.
        num_readings: Readings of those scans.
        num_groups: Patients among them.
    """

    kind: str
    value: float | None
    ci95: list[float] | None
    num_scans: int
    num_readings: int
    num_groups: int


@dataclass(frozen=True)
class TwoReaders:
    """Agreement of two readings of the same scans."""

    share: Agreement
    kappa: Agreement


@dataclass(frozen=True)
class Overall:
    """Agreement of all annotators together, and of every two of them by their column numbers."""

    share: Agreement
    fleiss: Agreement
    krippendorff: Agreement
    pairs: dict[tuple[int, int], TwoReaders]


def overall(
    rating_NM: ArrayLike, group_N: ArrayLike, num_classes: int, num_bootstrap: int, rng: np.random.Generator
) -> Overall:
    """Agreement of all annotators: of two readings of a scan, drawn at random, and of each pair of annotators.

    * `share`: pairs of readings of a scan that agree; the mean over scans, each weighing the same.
    * `fleiss`: that share against chance, where a class's frequency is again a mean over scans. With as many
      readers of every scan it is Fleiss' kappa; with differing numbers a scan of many readers weighs no more.
    * `krippendorff`: nominal alpha, where every reading weighs the same, corrected for small samples.

    Args:
        rating_NM: Class index, -1 = not read, (N, M).
        group_N: Patient of each scan, (N,): numbers or names.
        num_classes: C.
        num_bootstrap: Replicates; 0 gives no intervals.
        rng: Draws the patients.

    Raises:
        ValueError: On shapes that do not match or ratings out of range.

    Sources: Fleiss 1971; Gwet 2014, ch. 2 (missing readings); Krippendorff 2011 (alpha).
    """
    rating_NM, group_N = _checked(rating_NM, group_N, num_classes)
    count_NC = np.stack([(rating_NM == c).sum(axis=1) for c in range(num_classes)], axis=1).astype(np.float64)
    shared_N = count_NC.sum(axis=1) >= 2
    sums = _Sums.of(_panel_sums(count_NC[shared_N]), group_N[shared_N], num_bootstrap, rng)
    num_readings = int(count_NC[shared_N].sum())
    panel = {SHARE: _panel_share, FLEISS: _fleiss, KRIPPENDORFF: _krippendorff}
    agreed = {kind: sums.agreement(kind, ratio, num_readings) for kind, ratio in panel.items()}
    pairs = pairwise(rating_NM, group_N, num_classes, num_bootstrap, rng)
    return Overall(agreed[SHARE], agreed[FLEISS], agreed[KRIPPENDORFF], pairs)


def pairwise(
    rating_NM: ArrayLike, group_N: ArrayLike, num_classes: int, num_bootstrap: int, rng: np.random.Generator
) -> dict[tuple[int, int], TwoReaders]:
    """Share and Cohen's kappa of every two annotators, by their column numbers, over the scans both have read.

    Args:
        rating_NM: As in `overall`.
        group_N: As in `overall`.
        num_classes: As in `overall`.
        num_bootstrap: As in `overall`.
        rng: As in `overall`.

    Raises:
        ValueError: On shapes that do not match or ratings out of range.

    Source: Cohen 1960.
    """
    rating_NM, group_N = _checked(rating_NM, group_N, num_classes)
    return {
        (a, b): _two_readers(rating_NM[:, [a, b]], group_N, num_classes, num_bootstrap, rng)
        for a, b in combinations(range(rating_NM.shape[1]), 2)
    }


def intra(
    first_P: ArrayLike,
    later_P: ArrayLike,
    annotator_P: ArrayLike,
    group_P: ArrayLike,
    num_classes: int,
    num_bootstrap: int,
    rng: np.random.Generator,
) -> dict[int, TwoReaders]:
    """Agreement of each annotator with herself, by annotator number, over scans read again.

    Args:
        first_P: Class index of the first answer, (P,); -1 = named no class.
        later_P: Of the later answer about the same scan, (P,).
        annotator_P: Who gave both, a number, (P,).
        group_P: Patient of the scan, (P,).
        num_classes: C.
        num_bootstrap: Replicates; 0 gives no intervals.
        rng: Draws the patients.

    Raises:
        ValueError: On shapes that do not match or ratings out of range.
    """
    first_P, later_P, who_P = np.asarray(first_P), np.asarray(later_P), np.asarray(annotator_P)
    if not first_P.shape == later_P.shape == who_P.shape or first_P.ndim != 1:
        raise ValueError(f"{first_P.shape} first and {later_P.shape} later answers of {who_P.shape} annotators")
    rating_P2, group_P = _checked(np.stack([first_P, later_P], axis=1), group_P, num_classes)
    return {
        int(who): _two_readers(rating_P2[who_P == who], group_P[who_P == who], num_classes, num_bootstrap, rng)
        for who in np.unique(who_P)
    }


@dataclass(frozen=True)
class _Sums:
    """Sums over scans, and their replicates under redrawn patients."""

    sum_F: Floats
    sum_BF: Floats
    num_scans: int
    num_groups: int

    @classmethod
    def of(cls, part_NF: Floats, group_N: NDArray[np.generic], num_bootstrap: int, rng: np.random.Generator) -> "_Sums":
        """Of scans that have two readings; patients without such a scan are not drawn."""
        _, group_of_N = np.unique(group_N, return_inverse=True)
        num_groups = int(group_of_N.max(initial=-1)) + 1
        part_KF = np.zeros((num_groups, part_NF.shape[1]))
        np.add.at(part_KF, group_of_N, part_NF)

        def measure(weight_BK: Floats) -> dict[str, Floats]:
            return {"sums": weight_BK @ part_KF}

        replicates = bootstrap.replicates(measure, np.arange(num_groups), num_bootstrap, rng)
        sum_BF = replicates.get("sums", np.zeros((0, part_NF.shape[1])))
        return cls(part_NF.sum(axis=0), sum_BF, len(part_NF), num_groups)

    def agreement(self, kind: str, ratio: Ratio, num_readings: int) -> Agreement:
        value, ci95 = None, None
        if self.num_scans:
            observed, chance = (float(x) for x in ratio(self.sum_F))
            if 1 - chance > NO_CHANCE_LEFT:
                value = (observed - chance) / (1 - chance)
                observed_B, chance_B = ratio(self.sum_BF)
                value_B = np.full(len(self.sum_BF), np.nan)
                np.divide(observed_B - chance_B, 1 - chance_B, out=value_B, where=1 - chance_B > NO_CHANCE_LEFT)
                ci95 = self._interval(observed, chance, value_B)
        return Agreement(kind, value, ci95, self.num_scans, num_readings, self.num_groups)

    def _interval(self, observed: float, chance: float, value_B: Floats) -> list[float] | None:
        observed_B = chance + (1 - chance) * value_B
        interval = bootstrap.share_interval(observed, observed_B, self.num_groups, self.num_groups - 1)
        return None if interval is None else [(end - chance) / (1 - chance) for end in interval]


def _two_readers(
    rating_P2: Ints, group_P: NDArray[np.generic], num_classes: int, num_bootstrap: int, rng: np.random.Generator
) -> TwoReaders:
    both_P = (rating_P2 >= 0).all(axis=1)
    first_P, second_P = rating_P2[both_P].T
    one_hot_CC = np.eye(num_classes)
    # One, agreed, the first's class, the second's class.
    parts = [np.ones(len(first_P)), first_P == second_P, one_hot_CC[first_P], one_hot_CC[second_P]]
    sums = _Sums.of(np.column_stack(parts), group_P[both_P], num_bootstrap, rng)
    num_readings = 2 * len(first_P)
    return TwoReaders(sums.agreement(SHARE, _panel_share, num_readings), sums.agreement(COHEN, _cohen, num_readings))


def _panel_sums(count_NC: Floats) -> Floats:
    """Per scan: one, share of agreeing pairs, shares of the C classes, readings, coincidences, readings per class."""
    num_N = count_NC.sum(axis=1)
    coincidence_N = (count_NC * (count_NC - 1)).sum(axis=1) / (num_N - 1)
    parts = [np.ones(len(num_N)), coincidence_N / num_N, count_NC / num_N[:, None], num_N, coincidence_N, count_NC]
    return np.column_stack(parts)


def _panel_share(sum_F: Floats) -> tuple[Floats, Floats]:
    share = sum_F[..., 1] / sum_F[..., 0]
    return share, np.zeros_like(share)


def _cohen(sum_F: Floats) -> tuple[Floats, Floats]:
    first, second = np.split(sum_F[..., 2:], 2, axis=-1)
    return sum_F[..., 1] / sum_F[..., 0], (first * second).sum(axis=-1) / sum_F[..., 0] ** 2


def _fleiss(sum_F: Floats) -> tuple[Floats, Floats]:
    num_classes = (sum_F.shape[-1] - 4) // 2
    class_share = sum_F[..., 2 : 2 + num_classes] / sum_F[..., :1]
    return sum_F[..., 1] / sum_F[..., 0], np.square(class_share).sum(axis=-1)


def _krippendorff(sum_F: Floats) -> tuple[Floats, Floats]:
    num_classes = (sum_F.shape[-1] - 4) // 2
    num, coincidence, by_class = sum_F[..., 2 + num_classes], sum_F[..., 3 + num_classes], sum_F[..., -num_classes:]
    return coincidence / num, (by_class * (by_class - 1)).sum(axis=-1) / (num * (num - 1))


def _checked(rating_NM: ArrayLike, group_N: ArrayLike, num_classes: int) -> tuple[Ints, NDArray[np.generic]]:
    rating, group = np.asarray(rating_NM), np.asarray(group_N)
    if rating.ndim != 2 or group.shape != (len(rating),):
        raise ValueError(f"ratings must be (N, M) and patients (N,), not {rating.shape} and {group.shape}")
    if not np.issubdtype(rating.dtype, np.integer) or ((rating < -1) | (rating >= num_classes)).any():
        raise ValueError(f"ratings must be class indices 0..{num_classes - 1}, or -1 for none")
    return rating.astype(np.int64), group
