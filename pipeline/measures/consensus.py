"""One class per scan from several readers; labels and readers worth a second look.

Legend: N scans, M annotators, C classes, S scans read twice or more, P classes named, Q annotators of such
scans, K patients, I label issues.

A rating is a class index 0..C-1; -1 = not read, or an answer that names no class.

CROWDLAB weighs readers by how often they agree with each other, and the model by how often it agrees with
them. Here it decides between classes that readers named, on scans where they differ, and nothing else.
Against a bad or overconfident model its probabilities are first fitted to the readers' answers (one
temperature), on the scans read twice or more; what that does is in `tests/bench/results/consensus.md`. What
is left: a model that has learnt one reader's errors speaks for that reader where only two have read a scan.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.measures import bootstrap

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

UNREAD, SINGLE, AGREED = "unread", "single", "agreed"
CROWDLAB, MAJORITY, UNDECIDED = "crowdlab", "majority", "undecided"

MIN_SHARED = 20  # scans read twice, with a probability, under which no weights are estimated
FLOOR = 1e-6  # added to probabilities
NUDGE = 1e-9
SAME_QUALITY = 1e-6  # two classes as good as each other; well above `NUDGE`
MIN_OF_CLASS = 10  # labels of a class under which none of them is called doubtful
MIN_GAP = 0.05  # of agreement, that makes an annotator stand out: readers at 5 and at 10 % error are both good


@dataclass(frozen=True)
class Consensus:
    """What the readers of each scan together say.

    Attributes:
        class_N: Class index; -1 where unread or undecided.
        quality_N: CROWDLAB's probability that the class is right, 0..1; NaN where it did not look.
        annotator_quality_M: CROWDLAB's, 0..1; NaN for one who shares no scan it looked at.
        how_N: `unread`, `single` reading, all `agreed`, or, where they differ, by `crowdlab`, by `majority`,
            or `undecided`.
    """

    class_N: Ints
    quality_N: Floats
    annotator_quality_M: Floats
    how_N: NDArray[np.str_]


@dataclass(frozen=True)
class LabelIssues:
    """Labels that may be wrong, the most doubtful first, (I,) each.

    Attributes:
        row_I: Row of the scan.
        class_I: The label.
        model_class_I: Class the model finds most probable, another one.
        model_prob_I: Its probability.
        label_prob_I: Probability of the label.
    """

    row_I: Ints
    class_I: Ints
    model_class_I: Ints
    model_prob_I: Floats
    label_prob_I: Floats


@dataclass(frozen=True)
class Suspect:
    """An annotator who agrees with the others less than they agree with each other.

    Attributes:
        annotator: Column number.
        agreement: Share of readings by others that agree with hers; the mean over `num_scans` scans.
        others: Share of pairs of the others' readings that agree; the mean over the very same scans.
        gap_ci95: Interval of the difference; its lower end is above `MIN_GAP`.
        num_scans: Scans that she and at least two others have read.
    """

    annotator: int
    agreement: float
    others: float
    gap_ci95: list[float]
    num_scans: int


@dataclass(frozen=True)
class Overruled:
    """How often disputes were decided against a reader.

    Attributes:
        annotator: Column number.
        share: Of the scans she read with another, those on which the decision was another than her reading.
        others: The same of the others' readings of these scans.
        gap_ci95: Interval of the difference.
        num_scans: Scans she read with another.
        stands_out: Whether the interval's lower end is above `MIN_GAP`.
    """

    annotator: int
    share: float
    others: float
    gap_ci95: list[float]
    num_scans: int
    stands_out: bool


def consensus(rating_NM: ArrayLike, prob_NC: ArrayLike | None = None) -> Consensus:
    """The class of each scan, for TRAINING labels only.

    One reading stands, whatever the model says; so does a class all readers name. Where they differ CROWDLAB
    decides between the classes named; where it cannot (no probability, or under `MIN_SHARED` scans to weigh
    readers by) the majority does, and an even split stays undecided.

    Labels that judge the model (holdout, blind checks of a certificate) must not be settled with its help:
    they would agree with it too often. Pass no probabilities there; the majority alone decides.

    Args:
        rating_NM: Class index, -1 = none, (N, M).
        prob_NC: Out-of-fold probabilities, (N, C): of a model that saw no label of the scan. A row with NaN is
            a scan without one.

    Raises:
        ValueError: On shapes that do not match or values out of range.

    Source: Goh, Tkachenko & Mueller 2022 (CROWDLAB).
    """
    rating_NM, prob_NC = _ratings(rating_NM, prob_NC)
    num_classes = prob_NC.shape[1]
    count_NC = np.stack([(rating_NM == c).sum(axis=1) for c in range(num_classes)], axis=1)
    num_N, named_N, top_N = count_NC.sum(axis=1), (count_NC > 0).sum(axis=1), count_NC.max(axis=1)
    clear_N = (count_NC == top_N[:, None]).sum(axis=1) == 1
    class_N = np.where(clear_N, count_NC.argmax(axis=1), -1)

    weighed_NC, annotator_quality_M = _crowdlab(rating_NM, prob_NC)
    best_N = np.nanmax(weighed_NC, axis=1, initial=-1)
    # One class at the top, of two or more: readers who agree need no judge.
    settled_N = (named_N > 1) & ((weighed_NC > best_N[:, None] - SAME_QUALITY).sum(axis=1) == 1)
    class_N[settled_N] = np.nan_to_num(weighed_NC[settled_N], nan=-1).argmax(axis=1)
    quality_N = np.where(class_N >= 0, np.take_along_axis(weighed_NC, class_N[:, None].clip(0), axis=1)[:, 0], np.nan)
    how_N = np.select(
        [num_N == 0, num_N == 1, named_N == 1, settled_N, clear_N],
        [UNREAD, SINGLE, AGREED, CROWDLAB, MAJORITY],
        UNDECIDED,
    )
    return Consensus(class_N.astype(np.int64), quality_N, annotator_quality_M, how_N)


def label_issues(class_N: ArrayLike, prob_NC: ArrayLike, max_issues: int) -> LabelIssues:
    """Expert labels that are likely wrong: offered for a second look, never changed.

    Confident learning estimates how many labels of each class belong to another, and the labels the model
    finds least probable are named. Classes of up to `MIN_OF_CLASS` labels are left in peace.

    Args:
        class_N: Class index of the label, -1 = none, (N,).
        prob_NC: Out-of-fold probabilities, (N, C); a row with NaN is a scan without one.
        max_issues: Most to name.

    Raises:
        ValueError: On shapes that do not match or values out of range.

    Source: Northcutt, Jiang & Chuang 2021 (confident learning).
    """
    label_N1, prob_NC = _ratings(np.asarray(class_N)[:, None], prob_NC)
    label_N = label_N1[:, 0]
    row_S = np.flatnonzero((label_N >= 0) & np.isfinite(prob_NC).all(axis=1))
    named_P, prob_SP = _named_classes(label_N1[row_S], prob_NC[row_S])
    issue_rows = np.zeros(0, np.int64)
    if len(named_P) > 1:
        from cleanlab.filter import find_label_issues

        place_S = np.searchsorted(named_P, label_N[row_S])
        ranked = _quietly(
            find_label_issues,
            place_S,
            prob_SP,
            return_indices_ranked_by="self_confidence",
            min_examples_per_class=MIN_OF_CLASS,
            n_jobs=1,
        )
        issue_rows = row_S[ranked[: max(max_issues, 0)]]
    prob_IC = prob_NC[issue_rows]
    return LabelIssues(
        row_I=issue_rows.astype(np.int64),
        class_I=label_N[issue_rows],
        model_class_I=prob_IC.argmax(axis=1),
        model_prob_I=prob_IC.max(axis=1, initial=0),
        label_prob_I=prob_IC[np.arange(len(issue_rows)), label_N[issue_rows]],
    )


def suspect_annotators(rating_NM: ArrayLike, group_N: ArrayLike) -> list[Suspect]:
    """Annotators who stand out as bad, the worst first: people judged by people, the model has no say.

    Named is who agrees with the others less than the others agree among themselves, by more than `MIN_GAP`
    with 95 % confidence. Both are measured on the same scans, those that she and at least two others have read:
    who reads the hard scans of a pool agrees less with everybody, and is none the worse for it. Scans read by
    two name nobody, whoever they are: of two who differ, either may be right. Each share is a mean over scans
    with Wilson's interval at the size its variance between patients implies, and Newcombe's rule for paired
    shares joins the two. Needs two patients.

    Args:
        rating_NM: Class index, -1 = none, (N, M).
        group_N: Patient of each scan, (N,): numbers or names.

    Raises:
        ValueError: On shapes that do not match or values out of range.

    Source: Newcombe 1998 (paired data, method 10: difference of two shares from their intervals and correlation).
    """
    rating_NM, _ = _ratings(rating_NM, None)
    group_N = np.asarray(group_N)
    if group_N.shape != (len(rating_NM),):
        raise ValueError(f"{len(rating_NM)} scans but patients {group_N.shape}")
    judged = (_judged(rating_NM, group_N, m) for m in range(rating_NM.shape[1]))
    named = [suspect for suspect in judged if suspect is not None and suspect.gap_ci95[0] > MIN_GAP]
    return sorted(named, key=lambda suspect: suspect.agreement - suspect.others)


def overruled_readers(rating_NM: ArrayLike, decision_N: ArrayLike, group_N: ArrayLike) -> list[Overruled]:
    """How often the decision of disputes went against each reader, and against who read the same scans beside her.

    Two readings a scan tell that they differ, not who is wrong; who decided does. Both shares are over all scans that
    she read with another, disputed or not, so that hard scans weigh on both sides alike. An adjudicator who errs makes
    both of them larger and hides a bad reader before accusing a good one.

    Args:
        rating_NM: Class index, -1 = none, (N, M); the readings that were asked for whatever others say.
        decision_N: Class index of what was decided, -1 = nothing, (N,).
        group_N: Patient of each scan, (N,).

    Returns:
        Each reader with two patients or more, in the order of columns.
    """
    rating_NM, _ = _ratings(rating_NM, None)
    decision_N, group_N = np.asarray(decision_N), np.asarray(group_N)
    read_NM = rating_NM >= 0
    against_NM = read_NM & (decision_N[:, None] >= 0) & (rating_NM != decision_N[:, None])
    out = []
    for m in range(rating_NM.shape[1]):
        others_N = read_NM.sum(axis=1) - read_NM[:, m]
        both_N = read_NM[:, m] & (others_N > 0)
        own_S = against_NM[both_N, m].astype(np.float64)
        rest_S = (against_NM[both_N].sum(axis=1) - own_S) / others_N[both_N]
        own, rest = _share(own_S, group_N[both_N]), _share(rest_S, group_N[both_N])
        if own is not None and rest is not None:
            gap_ci95 = _paired_gap(own, rest)
            out.append(Overruled(m, own.value, rest.value, gap_ci95, int(both_N.sum()), gap_ci95[0] > MIN_GAP))
    return out


def _judged(rating_NM: Ints, group_N: NDArray[Any], annotator: int) -> Suspect | None:
    """How far she agrees with the others, and they with each other, on her scans; None where that cannot be said."""
    others_NR = np.delete(rating_NM, annotator, axis=1)
    shared_N = (rating_NM[:, annotator] >= 0) & ((others_NR >= 0).sum(axis=1) > 1)
    own_S1, others_SR, group_S = rating_NM[shared_N][:, [annotator]], others_NR[shared_N], group_N[shared_N]
    num_S = (others_SR >= 0).sum(axis=1)
    count_SC = np.stack([(others_SR == c).sum(axis=1) for c in range(int(rating_NM.max(initial=0)) + 1)], axis=1)
    same_S = (others_SR == own_S1).sum(axis=1) / num_S
    pairs_S = (count_SC * (count_SC - 1)).sum(axis=1) / (num_S * (num_S - 1))
    own, rest = _share(same_S, group_S), _share(pairs_S, group_S)
    if own is None or rest is None:
        return None
    gap_ci95 = _paired_gap(rest, own)
    return Suspect(annotator, own.value, rest.value, gap_ci95, int(shared_N.sum()))


@dataclass(frozen=True)
class _Share:
    """A mean over scans with its 95 % interval, and each patient's part in its error, (K,)."""

    value: float
    low: float
    high: float
    residual_K: Floats


def _share(value_S: Floats, group_S: NDArray[Any]) -> _Share | None:
    """The mean over scans; None with under two patients."""
    names_K, group_of_S = np.unique(group_S, return_inverse=True)
    num_groups = len(names_K)
    if num_groups < 2:
        return None
    mean = float(value_S.mean())
    residual_K = np.asarray(np.bincount(group_of_S, value_S - mean), np.float64)
    variance = float(np.square(residual_K).sum()) / len(value_S) ** 2 * num_groups / (num_groups - 1)
    from scipy import stats  # takes a second to import

    size = mean * (1 - mean) / variance if variance > bootstrap.NO_VARIANCE else float(num_groups)
    low, high = bootstrap.wilson(mean, size, float(stats.t.ppf(0.975, num_groups - 1)))
    return _Share(mean, min(low, mean), max(high, mean), residual_K)


def _paired_gap(larger: _Share, smaller: _Share) -> list[float]:
    """95 % interval of `larger` less `smaller`, two shares of the same scans."""
    norm = float(np.linalg.norm(larger.residual_K) * np.linalg.norm(smaller.residual_K))
    correlation = float(larger.residual_K @ smaller.residual_K) / norm if norm > bootstrap.NO_VARIANCE else 0.0

    def reach(first: float, second: float) -> float:
        return float(np.sqrt(max(first**2 - 2 * correlation * first * second + second**2, 0.0)))

    gap = larger.value - smaller.value
    down = reach(larger.value - larger.low, smaller.high - smaller.value)
    up = reach(larger.high - larger.value, smaller.value - smaller.low)
    return [gap - down, gap + up]


def _crowdlab(rating_NM: Ints, prob_NC: Floats) -> tuple[Floats, Floats]:
    """Probability of each class that readers named, (N, C), and the quality of each annotator, (M,); else NaN."""
    weighed_NC, quality_M = np.full(prob_NC.shape, np.nan), np.full(rating_NM.shape[1], np.nan)
    row_S = np.flatnonzero(((rating_NM >= 0).sum(axis=1) > 1) & np.isfinite(prob_NC).all(axis=1))
    named_P, prob_SP = _named_classes(rating_NM[row_S], prob_NC[row_S])
    if len(row_S) < MIN_SHARED or len(named_P) < 2:
        return weighed_NC, quality_M
    from cleanlab.multiannotator import get_label_quality_multiannotator

    rating_SM = rating_NM[row_S]
    column_Q = np.flatnonzero((rating_SM >= 0).any(axis=0))
    rating_SQ = rating_SM[:, column_Q]
    place_SQ = np.where(rating_SQ >= 0, np.searchsorted(named_P, rating_SQ), np.nan)
    consensus = _quietly(
        get_label_quality_multiannotator,
        place_SQ,
        prob_SP,
        consensus_method="majority_vote",
        calibrate_probs=True,
        verbose=False,
    )
    # Of the combined probabilities, cleanlab gives out those of the labels given: all that may be chosen.
    detail_SQ = consensus["detailed_label_quality"].to_numpy(np.float64)
    scan_L, reader_L = np.nonzero(rating_SQ >= 0)
    weighed_NC[row_S[scan_L], rating_SQ[scan_L, reader_L]] = detail_SQ[scan_L, reader_L]
    quality_M[column_Q] = consensus["annotator_stats"]["annotator_quality"].sort_index().to_numpy(np.float64)
    return weighed_NC, quality_M


def _named_classes(rating_SM: Ints, prob_SC: Floats) -> tuple[Ints, Floats]:
    """Classes named, (P,), and the probabilities among them, (S, P), adding to 1; alike where all are 0."""
    named_P = np.unique(rating_SM[rating_SM >= 0])
    num_named = len(named_P)
    prob_SP = prob_SC[:, named_P] + FLOOR
    # Ties that neither votes nor probabilities break, cleanlab breaks by numpy's global randomness.
    prob_SP = prob_SP / prob_SP.sum(axis=1, keepdims=True) + NUDGE * np.arange(num_named)
    return named_P, prob_SP / prob_SP.sum(axis=1, keepdims=True)


def _quietly(call: Any, *args: Any, **options: Any) -> Any:
    """A call of cleanlab, without its warnings: what it warns of (few labels, ties) is handled here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(*args, **options)


def _ratings(rating_NM: ArrayLike, prob_NC: ArrayLike | None) -> tuple[Ints, Floats]:
    """Checked ratings and probabilities; without probabilities NaN for each class up to the highest rated."""
    rating = np.asarray(rating_NM)
    if rating.ndim != 2 or not np.issubdtype(rating.dtype, np.integer) or (rating < -1).any():
        raise ValueError(f"ratings must be class indices or -1, (N, M), not {rating.dtype} {rating.shape}")
    if prob_NC is None:
        return rating.astype(np.int64), np.full((len(rating), int(rating.max(initial=0)) + 1), np.nan)
    prob = np.asarray(prob_NC, np.float64)
    if prob.ndim != 2 or len(prob) != len(rating) or int(rating.max(initial=-1)) >= prob.shape[1]:
        raise ValueError(f"{rating.shape} ratings up to {rating.max(initial=-1)} but probabilities {prob.shape}")
    if ((prob < 0) | (prob > 1 + 1e-6)).any():
        raise ValueError("probabilities must be in 0..1, or NaN")
    return rating.astype(np.int64), prob
