"""Entropy: the scans whose calibrated probabilities of the last round are spread widest.

Settles: Active Learning Literature Survey (2009), section 3.1. Before there are probabilities the queue is that of
MaxHerding.
"""

import numpy as np

from pipeline.selection import uncertainty
from pipeline.selection.open_scans import OpenScans
from pipeline.selection.pool import Pick, SelectionPool
from pipeline.selection.strategies import max_herding


def select(pool: SelectionPool, num: int, rng: np.random.Generator) -> list[Pick]:
    """The `num` scans of the highest entropy; the score is the entropy over its maximum."""
    unsure_N = uncertainty.entropy(pool)
    if unsure_N is None:
        uncertainty.say_fallback("entropy", "there is no classifier yet", "max_herding")
        return max_herding.select(pool, num, rng)
    scans = OpenScans(pool, num, rng)
    return scans.take_highest(unsure_N[scans.rows_M])
