"""Core-set: the scan farthest from all that are labelled or chosen, again and again (greedy k-center).

Sener, Savarese: Active Learning for Convolutional Neural Networks: A Core-Set Approach (ICLR 2018, arXiv 1708.00489),
algorithm 1.
"""

from collections.abc import Callable, Sequence

import numpy as np

from pipeline.selection.open_scans import OpenScans
from pipeline.selection.pool import Pick, SelectionPool

# M candidates, L labelled or queued, V views, D dimensions

LABELLED_AT_ONCE = 256

View = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""From the cosines (M, L) of scans at M and at L positions of a pool, and the positions, to the cosines that count."""


def angle(cosine_ML: np.ndarray, rows_M: np.ndarray, rows_L: np.ndarray) -> np.ndarray:
    """The view of core-set: of the pool's unit vectors as they are."""
    return cosine_ML


def select(
    pool: SelectionPool,
    num: int,
    rng: np.random.Generator,
    views: Sequence[View] = (angle,),
) -> list[Pick]:
    """Up to `num` scans; the score is the distance to the nearest labelled or chosen scan, 0 to 2.

    With several views it is that of the view that chose. The first one of a pool without labels is random.

    Args:
        pool: What may be seen.
        num: How many scans are wanted; fewer come back when the pool runs out.
        rng: Draws the sample of a large pool, and decides between scans that are as far.
        views: What distances are taken from, several in turn; how many scans are labelled or queued says which begins.
    """
    scans = OpenScans(pool, num, rng)
    unit_MD = pool.unit_ND[scans.rows_M]
    sqdist_VM = np.full((len(views), len(unit_MD)), 4.0, np.float32)  # the farthest two unit vectors can be

    def cover(rows_L: np.ndarray) -> None:
        cosine_ML = unit_MD @ pool.unit_ND[rows_L].T
        for view, sqdist_M in zip(views, sqdist_VM, strict=True):
            np.minimum(sqdist_M, 2.0 - 2.0 * view(cosine_ML, scans.rows_M, rows_L).max(axis=1), out=sqdist_M)

    covered = np.flatnonzero(pool.covered_N)
    for start in range(0, len(covered), LABELLED_AT_ONCE):
        cover(covered[start : start + LABELLED_AT_ONCE])
    turn = len(covered)
    while scans.wants_more:
        sqdist_M = sqdist_VM[turn % len(views)]
        place = scans.best(sqdist_M)
        scans.take(place, float(np.sqrt(max(sqdist_M[place], 0.0))))
        cover(scans.rows_M[[place]])
        turn += 1
    return scans.picks
