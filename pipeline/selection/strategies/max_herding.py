"""MaxHerding: the scans that cover the pool best under a smooth kernel, beside what is labelled.

Bae, Noh, Sutherland: Generalized Coverage for More Robust Low-Budget Active Learning (ECCV 2024, arXiv 2407.12212),
algorithm 1 with a Gaussian kernel.
"""

import numpy as np

from pipeline.selection import coverage
from pipeline.selection.pool import Pick, SelectionPool


def select(pool: SelectionPool, num: int, rng: np.random.Generator) -> list[Pick]:
    """See `coverage.select`; the score is the coverage added."""
    return coverage.select(pool, num, rng, coverage.gaussian(pool.config.bandwidth))
