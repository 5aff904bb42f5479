"""Margin: the scans between two classes, by the calibrated probabilities of the last round.

Scheffer, Decomain, Wrobel: Active Hidden Markov Models for Information Extraction (2001). Before there are
probabilities the queue is that of MaxHerding.
"""

import numpy as np

from pipeline.selection import uncertainty
from pipeline.selection.open_scans import OpenScans
from pipeline.selection.pool import Pick, SelectionPool
from pipeline.selection.strategies import max_herding


def select(pool: SelectionPool, num: int, rng: np.random.Generator) -> list[Pick]:
    """The `num` scans of the smallest margin; the score is 1 less the margin."""
    unsure_N = uncertainty.margin(pool)
    if unsure_N is None:
        uncertainty.say_fallback("margin", "there is no classifier yet", "max_herding")
        return max_herding.select(pool, num, rng)
    scans = OpenScans(pool, num, rng)
    return scans.take_highest(unsure_N[scans.rows_M])
