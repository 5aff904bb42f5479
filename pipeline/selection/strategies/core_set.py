"""Core-set: the scan farthest from all that are labelled or chosen, again and again (greedy k-center).

Sener, Savarese: Active Learning for Convolutional Neural Networks: A Core-Set Approach (ICLR 2018, arXiv 1708.00489),
algorithm 1.
"""

from collections.abc import Callable, Sequence
from itertools import cycle

import numpy as np

from pipeline.selection.open_scans import OpenScans
from pipeline.selection.pool import Pick, SelectionPool

# M candidates, L labelled or queued, D dimensions

LABELLED_AT_ONCE = 256

UnitOf = Callable[[np.ndarray], np.ndarray]
"""Unit vectors (M, D), float32, of the scans at M positions of a pool."""


def select(
    pool: SelectionPool,
    num: int,
    rng: np.random.Generator,
    views: Sequence[UnitOf] = (),
) -> list[Pick]:
    """Up to `num` scans; the score is the distance to the nearest labelled or chosen scan, 0 to 2.

    The first one of a pool without labels is random.

    Args:
        pool: What may be seen.
        num: How many scans are wanted; fewer come back when the pool runs out.
        rng: Draws the sample of a large pool, and decides between scans that are as far.
        views: Vectors between which distances are taken, several in turn; none: the pool's own.
    """
    scans = OpenScans(pool, num, rng)
    distances = [_Distances(pool, scans.rows_M, unit_of) for unit_of in views or (pool.unit_ND.__getitem__,)]
    for view in cycle(distances):
        if not scans.wants_more:
            break
        place = scans.best(view.sqdist_M)
        scans.take(place, float(np.sqrt(max(view.sqdist_M[place], 0.0))))
        for each in distances:
            each.add(place)
    return scans.picks


class _Distances:
    """Squared distance of each candidate to the nearest labelled or chosen scan, 0 to 4, in one view."""

    def __init__(self, pool: SelectionPool, rows_M: np.ndarray, unit_of: UnitOf) -> None:
        self.unit_MD = unit_of(rows_M)
        self.sqdist_M = np.full(len(rows_M), 4.0, np.float32)  # the farthest two unit vectors can be
        covered = np.flatnonzero(pool.covered_N)
        for start in range(0, len(covered), LABELLED_AT_ONCE):
            unit_LD = unit_of(covered[start : start + LABELLED_AT_ONCE])
            np.minimum(self.sqdist_M, 2.0 - 2.0 * (self.unit_MD @ unit_LD.T).max(axis=1), out=self.sqdist_M)

    def add(self, place: int) -> None:
        """The candidate at a place was chosen."""
        np.minimum(self.sqdist_M, 2.0 - 2.0 * (self.unit_MD @ self.unit_MD[place]), out=self.sqdist_M)
