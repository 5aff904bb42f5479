"""Uniformly random scans: the reference every strategy must beat, and the blind slice of every queue."""

import numpy as np

from pipeline.selection.strategies.base import Pick, SelectionPool


def select(pool: SelectionPool, num: int, rng: np.random.Generator) -> list[Pick]:
    """Candidates in random order, at most one of a group."""
    picks: list[Pick] = []
    used_groups: set[int] = set()
    for i in rng.permutation(np.flatnonzero(pool.candidate_N)):
        if len(picks) == num:
            break
        if int(pool.group_N[i]) not in used_groups:
            used_groups.add(int(pool.group_N[i]))
            picks.append(Pick(str(pool.ids_N[i])))
    return picks
