"""k-means medoids: the scan nearest to the centre of each cluster no label has reached."""

import numpy as np

from pipeline.selection import cluster_cover
from pipeline.selection.pool import Pick, SelectionPool

# M members of one cluster, D dimensions


def select(pool: SelectionPool, num: int, rng: np.random.Generator) -> list[Pick]:
    """See `cluster_cover.select`; the score is the cosine to the mean of the cluster."""
    return cluster_cover.select(pool, num, rng, _score)


def _score(pool: SelectionPool, members_M: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    unit_MD = pool.unit_ND[members_M]
    centre_D = unit_MD.mean(0)
    return np.asarray(unit_MD @ (centre_D / max(float(np.linalg.norm(centre_D)), 1e-12)), dtype=np.float32)
