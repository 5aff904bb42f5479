"""What the nearest labelled scans say: a k-nearest-neighbour classifier, by cosine, that never asks the own patient."""

import numpy as np

# N scans, P features, E labelled scans, C findings, K neighbours

CELLS_AT_ONCE = 16_000_000  # cosines compared at once: 64 MB
NOBODY = -1  # no labelled scan of another patient


def nearest_label_classes(
    unit_NP: np.ndarray,
    unit_EP: np.ndarray,
    class_E: np.ndarray,
    patient_N: np.ndarray,
    patient_E: np.ndarray,
    num_neighbors: int,
    num_classes: int,
) -> np.ndarray:
    """The class that most of a scan's nearest labelled scans have, those of its own patient left out.

    On a tie the class wins whose neighbours are nearer, by the sum of their cosines. Nothing of size N x N is made.

    Args:
        unit_NP: Features of norm 1.
        unit_EP: Those of the labelled scans.
        class_E: Their class index.
        patient_N: Patient of each scan, as an integer.
        patient_E: Patient of each labelled scan, by the same numbers.
        num_neighbors: K, at least 1; fewer where there are fewer labelled scans of other patients.
        num_classes: C.

    Returns:
        Class index (N,), int64; `NOBODY` where no other patient has a labelled scan.

    Source: Cover & Hart 1967.
    """
    said_N = np.full(len(unit_NP), NOBODY, np.int64)
    if len(class_E) == 0:
        return said_N
    rows_at_once = max(1, CELLS_AT_ONCE // len(class_E))
    for start in range(0, len(unit_NP), rows_at_once):
        rows = slice(start, start + rows_at_once)
        cosine_BE = np.asarray(unit_NP[rows] @ unit_EP.T, np.float64)
        cosine_BE[patient_N[rows, None] == patient_E[None, :]] = -np.inf
        said_N[rows] = _vote(cosine_BE, class_E, num_neighbors, num_classes)
    return said_N


def _vote(cosine_BE: np.ndarray, class_E: np.ndarray, num_neighbors: int, num_classes: int) -> np.ndarray:
    wanted = min(num_neighbors, cosine_BE.shape[1])
    near_BK = np.argpartition(-cosine_BE, wanted - 1, axis=1)[:, :wanted]
    cosine_BK = np.take_along_axis(cosine_BE, near_BK, axis=1)
    may_vote_BK = np.isfinite(cosine_BK)
    class_BK = class_E[near_BK]
    score_BC = np.zeros((len(cosine_BE), num_classes))
    for c in range(num_classes):
        votes_BK = may_vote_BK & (class_BK == c)
        # A cosine is at most 1, so that all of them together never outweigh a vote.
        nearness_B = np.where(votes_BK, 1.0 + cosine_BK, 0.0).sum(axis=1) / (4.0 * wanted)
        score_BC[:, c] = votes_BK.sum(axis=1) + nearness_B
    return np.where(may_vote_BK.any(axis=1), score_BC.argmax(axis=1), NOBODY)
