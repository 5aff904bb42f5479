"""Core-set: the scan farthest from all that are labelled or chosen, again and again (greedy k-center).

Sener, Savarese: Active Learning for Convolutional Neural Networks: A Core-Set Approach (ICLR 2018, arXiv 1708.00489),
algorithm 1.
"""

from collections.abc import Callable

import numpy as np

from pipeline.selection.open_scans import OpenScans
from pipeline.selection.pool import Pick, SelectionPool

# M candidates, L labelled or queued, D dimensions

LABELLED_AT_ONCE = 256


def select(
    pool: SelectionPool,
    num: int,
    rng: np.random.Generator,
    unit_of: Callable[[np.ndarray], np.ndarray] | None = None,
) -> list[Pick]:
    """Up to `num` scans; the score is the distance to the nearest labelled or chosen scan, 0 to 2.

    The first one of a pool without labels is random.

    Args:
        pool: What may be seen.
        num: How many scans are wanted; fewer come back when the pool runs out.
        rng: Draws the sample of a large pool, and decides between scans that are as far.
        unit_of: Unit vectors, float32, of the scans at some positions of the pool, between which distances are taken;
            None: the pool's own.
    """
    unit_of = unit_of or pool.unit_ND.__getitem__
    scans = OpenScans(pool, num, rng)
    unit_MD = unit_of(scans.rows_M)
    sqdist_M = np.full(len(unit_MD), 4.0, np.float32)  # the farthest two unit vectors can be
    covered = np.flatnonzero(pool.covered_N)
    for start in range(0, len(covered), LABELLED_AT_ONCE):
        unit_LD = unit_of(covered[start : start + LABELLED_AT_ONCE])
        np.minimum(sqdist_M, 2.0 - 2.0 * (unit_MD @ unit_LD.T).max(axis=1), out=sqdist_M)
    while scans.wants_more:
        place = scans.best(sqdist_M)
        scans.take(place, float(np.sqrt(max(sqdist_M[place], 0.0))))
        np.minimum(sqdist_M, 2.0 - 2.0 * (unit_MD @ unit_MD[place]), out=sqdist_M)
    return scans.picks
