"""Which scans of a pool that joined come first: while it has fewer labels than its share, those least like the others.

Shapes: N scans of the training pool, S parts, M of a part, R of the parts before it.
"""

import math
from dataclasses import replace

import numpy as np

from pipeline.selection.pictures import Pictures
from pipeline.selection.pool import SelectionPool

LEAST_ALIKE = 0.5  # share of a part's open scans that its first picks come from
NUM_NEIGHBORS = 10
MAX_REFERENCE = 10_000  # scans of the parts before that are compared with
CHUNK = 4096


def missing(part_N: np.ndarray, pictures: Pictures, budget: int) -> np.ndarray:
    """Labels that each part lacks of its share, once a queue is answered (S,), int64; of the run's own pool 0.

    Pictures count, each to the part that brought it first: a copy is never asked about. A part lacks no more than may
    be asked, since nothing waits for what cannot come.

    Args:
        part_N: Part of each scan.
        pictures: What the scans show, and what of it may be asked.
        budget: Labels of the queue.
    """
    first_N = pictures.first_N
    size_S, labels_S, askable_S = (
        np.bincount(part_N[rows_N], minlength=int(part_N.max()) + 1)
        for rows_N in (first_N, first_N & pictures.answered_N, pictures.askable_N)
    )
    total = labels_S.sum() + budget
    wanted_S = [math.ceil(total * size / size_S.sum()) for size in size_S.tolist()]
    missing_S: np.ndarray = np.clip(np.array(wanted_S, np.int64) - labels_S, 0, askable_S)
    missing_S[0] = 0
    return missing_S


def least_alike(pool: SelectionPool, part_N: np.ndarray, part: int, num: int) -> SelectionPool:
    """The pool with the candidates of one part that are least like the parts before it: a half, or `num` if more.

    How like a scan is: its cosine to the tenth nearest scan of the parts before.
    """
    open_M = np.flatnonzero(pool.candidate_N & (part_N == part))
    before = np.flatnonzero(part_N < part)
    chosen_N = np.zeros(len(part_N), bool)
    if len(before) == 0:
        chosen_N[open_M] = True
        return replace(pool, candidate_N=chosen_N)
    spaced = np.linspace(0, len(before) - 1, min(len(before), MAX_REFERENCE)).astype(int)
    cosine_M = _likeness(pool.unit_ND[open_M], pool.unit_ND[before[spaced]])
    num_kept = max(math.ceil(LEAST_ALIKE * len(open_M)), num)
    chosen_N[open_M[np.argsort(cosine_M, kind="stable")[:num_kept]]] = True
    return replace(pool, candidate_N=chosen_N)


def _likeness(unit_MD: np.ndarray, unit_RD: np.ndarray) -> np.ndarray:
    """Cosine of each scan to the tenth nearest reference (M,)."""
    nth = min(NUM_NEIGHBORS, len(unit_RD))
    cosine_M = np.empty(len(unit_MD), np.float32)
    for start in range(0, len(unit_MD), CHUNK):
        rows = slice(start, start + CHUNK)
        cosine_M[rows] = np.partition(unit_MD[rows] @ unit_RD.T, -nth, axis=1)[:, -nth]
    return cosine_M
