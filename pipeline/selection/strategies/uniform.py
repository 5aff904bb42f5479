"""Uniformly random scans: the reference every strategy must beat, and the blind slice of every queue."""

import numpy as np

from pipeline.selection.open_scans import OpenScans
from pipeline.selection.pool import Pick, SelectionPool


def select(pool: SelectionPool, num: int, rng: np.random.Generator) -> list[Pick]:
    """Candidates in random order, a patient once before any comes twice."""
    scans = OpenScans(pool, num, rng)
    while scans.wants_more:
        scans.take(int(np.argmax(scans.open_M)))  # they lie in random order
    return scans.picks
