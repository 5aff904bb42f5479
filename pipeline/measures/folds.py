"""Patient-grouped, class-balanced folds, of one question or of several at once."""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.measures.calibrate import Ints, check_same_length, present_classes

# N scans, K groups, Q questions, C classes (of all questions), F folds

NUM_RESTARTS = 20  # of the fold repair, each from another greedy order
UNKNOWN = -1  # class index of a scan that a question has no answer for


def grouped_folds(groups_N: Sequence[Hashable], truth_N: ArrayLike, num_folds: int, rng: np.random.Generator) -> Ints:
    """Fold of each scan, (N,): groups stay whole, classes are spread evenly, no fold is empty.

    Uses `min(num_folds, K)` folds. A class held by two groups or more is never locked into one fold,
    so every training part knows it (found by repair with restarts; where no such assignment exists,
    for instance with two folds and three classes that overlap in a triangle, the fewest classes are
    missed). The order of the rows does not matter.

    Args:
        groups_N: Patient-group ids.
        truth_N: Class index, (N,).
        num_folds: At least 2.
        rng: Breaks ties.

    Raises:
        ValueError: With fewer than two groups (nothing can be held out) or folds, or lengths that differ.

    Source: the greedy rule of scikit-learn's StratifiedGroupKFold.
    """
    truth_N = present_classes(truth_N)
    check_same_length(truth_N, len(groups_N), "truth")
    return shared_folds(groups_N, truth_N[:, None], num_folds, rng)


def shared_folds(groups_N: Sequence[Hashable], truth_NQ: Ints, num_folds: int, rng: np.random.Generator) -> Ints:
    """Fold of each scan, (N,), that several questions share: as `grouped_folds`, for all their classes at once.

    A question that two groups or more have an answer for has answers in two folds or more, so that every training
    part knows some of them.

    Args:
        groups_N: Patient-group ids.
        truth_NQ: Class index for each question, (N, Q); `UNKNOWN` where there is no answer.
        num_folds: At least 2.
        rng: Breaks ties.

    Raises:
        ValueError: as `grouped_folds`.
    """
    group_of_N = group_index(groups_N)
    num_groups = int(group_of_N.max(initial=-1)) + 1
    if num_folds < 2 or num_groups < 2:
        raise ValueError(f"out-of-fold scores need 2 groups and 2 folds, not {num_groups} and {num_folds}")
    count_KC, answered_KQ = _counts(group_of_N, truth_NQ, num_groups)
    apart_KC = np.hstack([count_KC, answered_KQ])
    num_folds = min(num_folds, num_groups)
    best_K, fewest = None, None
    for _ in range(NUM_RESTARTS):
        fold_K = _repair(_spread(count_KC, num_folds, rng), apart_KC, num_folds)
        faults = _faults(fold_K, apart_KC, num_folds)
        if fewest is None or faults < fewest:
            best_K, fewest = fold_K, faults
        if not fewest:
            break
    assert best_K is not None
    return best_K[group_of_N]


def _counts(group_of_N: Ints, truth_NQ: Ints, num_groups: int) -> tuple[Ints, Ints]:
    """Scans of each class (K, C), and scans with an answer to each question (K, Q), in each group."""
    of_class, answered_KQ = [], np.zeros((num_groups, truth_NQ.shape[1]), np.int64)
    for question, truth_N in enumerate(truth_NQ.T):
        known_N = truth_N != UNKNOWN
        classes, class_N = np.unique(truth_N[known_N], return_inverse=True)
        count_KC = np.zeros((num_groups, len(classes)), np.int64)
        np.add.at(count_KC, (group_of_N[known_N], class_N), 1)
        of_class.append(count_KC)
        answered_KQ[:, question] = count_KC.sum(axis=1)
    return np.hstack(of_class), answered_KQ


def group_index(groups_N: Sequence[Hashable]) -> Ints:
    """Number the groups 0..K-1 in the order of their names, (N,).

    Raises:
        ValueError: If a scan has no group (None or NaN): it would silently join all other such scans.
    """
    groups = groups_N.tolist() if isinstance(groups_N, np.ndarray) else list(groups_N)
    if any(g is None or g != g for g in groups):
        raise ValueError("every scan needs a patient group; give scans without a patient id one each")
    number = {g: i for i, g in enumerate(sorted(set(groups), key=lambda g: (str(g), type(g).__name__)))}
    return np.array([number[g] for g in groups], np.int64)


def _spread(count_KC: Ints, num_folds: int, rng: np.random.Generator) -> Ints:
    """Greedy: groups with the largest share of a class first, each to the fold that stays most even."""
    num_groups = len(count_KC)
    share_KC = count_KC / count_KC.sum(axis=0)
    shuffled_K = rng.permutation(num_groups)
    order_K = shuffled_K[np.argsort(-share_KC[shuffled_K].max(axis=1, initial=0.0), kind="stable")]
    fold_K = np.zeros(num_groups, np.int64)
    share_FC = np.zeros((num_folds, share_KC.shape[1]))
    for group in order_K:
        # Adding x to fold f raises the sum of squares by 2 x·share_f + x·x: the smallest product is evenest.
        product_F = share_FC @ share_KC[group]
        fold = int(np.lexsort((share_FC.sum(axis=1), product_F.round(12)))[0])
        fold_K[group] = fold
        share_FC[fold] += share_KC[group]
    return fold_K


def _repair(fold_K: Ints, count_KC: Ints, num_folds: int) -> Ints:
    """Move single groups, smallest first, as long as a move removes a fault."""
    fold_K = fold_K.copy()
    order_K = np.argsort(count_KC.sum(axis=1), kind="stable")
    faults = _faults(fold_K, count_KC, num_folds)
    improved = faults > 0
    while improved:
        improved = False
        locked_C = _locked(fold_K, count_KC, num_folds)
        # Only a group that holds a locked class can free it; any group can fill an empty fold.
        movable = [g for g in order_K if not locked_C.any() or (count_KC[g, locked_C] > 0).any()]
        for group, fold in ((g, f) for g in movable for f in range(num_folds)):
            before, fold_K[group] = fold_K[group], fold
            now = _faults(fold_K, count_KC, num_folds)
            if now < faults:
                faults, improved = now, faults > now > 0
                break
            fold_K[group] = before
    return fold_K


def _faults(fold_K: Ints, count_KC: Ints, num_folds: int) -> int:
    """Empty folds plus classes of two groups or more that stand in one fold alone."""
    num_locked = int(_locked(fold_K, count_KC, num_folds).sum())
    return num_locked + num_folds - len(np.unique(fold_K))


def _locked(fold_K: Ints, count_KC: Ints, num_folds: int) -> NDArray[np.bool_]:
    held_KC = count_KC > 0
    held_FC = np.zeros((num_folds, count_KC.shape[1]), bool)
    np.logical_or.at(held_FC, fold_K, held_KC)
    locked_C: NDArray[np.bool_] = (held_KC.sum(axis=0) >= 2) & (held_FC.sum(axis=0) < 2)
    return locked_C
