"""Core-set: the scan farthest from all that are labelled or chosen, again and again (greedy k-center).

Sener, Savarese: Active Learning for Convolutional Neural Networks: A Core-Set Approach (ICLR 2018, arXiv 1708.00489),
algorithm 1.
"""

import numpy as np

from pipeline.selection.open_scans import OpenScans
from pipeline.selection.pool import Pick, SelectionPool

# M candidates, L labelled or queued, D dimensions

LABELLED_AT_ONCE = 256


def select(pool: SelectionPool, num: int, rng: np.random.Generator) -> list[Pick]:
    """Up to `num` scans; the score is the distance to the nearest labelled or chosen scan, 0 to 2.

    The first one of a pool without labels is random.
    """
    scans = OpenScans(pool, num, rng)
    unit_MD = pool.unit_ND[scans.rows_M]
    sqdist_M = np.full(len(unit_MD), 4.0, np.float32)  # the farthest two unit vectors can be
    covered = np.flatnonzero(pool.covered_N)
    for start in range(0, len(covered), LABELLED_AT_ONCE):
        unit_LD = pool.unit_ND[covered[start : start + LABELLED_AT_ONCE]]
        np.minimum(sqdist_M, 2.0 - 2.0 * (unit_MD @ unit_LD.T).max(axis=1), out=sqdist_M)
    while scans.wants_more:
        place = scans.best(sqdist_M)
        scans.take(place, float(np.sqrt(max(sqdist_M[place], 0.0))))
        np.minimum(sqdist_M, 2.0 - 2.0 * (unit_MD @ unit_MD[place]), out=sqdist_M)
    return scans.picks
