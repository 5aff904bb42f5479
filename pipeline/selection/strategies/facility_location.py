"""Facility location: every scan of the pool near to a chosen one, by cosine.

The classic submodular objective (Wei, Iyer, Bilmes: Submodularity in Data Subset Selection and Active Learning, ICML
2015): the sum over the pool of the highest similarity to a labelled or chosen scan; the similarity is the cosine of
the centred features where it is positive.
"""

import numpy as np

from pipeline.selection import coverage
from pipeline.selection.pool import Pick, SelectionPool


def select(pool: SelectionPool, num: int, rng: np.random.Generator) -> list[Pick]:
    """See `coverage.select`; the score is the similarity added."""
    return coverage.select(pool, num, rng, coverage.clipped_cosine)
