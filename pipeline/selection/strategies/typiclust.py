"""TypiClust: the most typical scan of each cluster no label has reached.

Hacohen, Dekel, Weinshall: Active learning on a budget: opposite strategies suit high and low budgets (ICML 2022),
algorithm 1 and eq. 4: typicality = 1 / mean distance to the K nearest neighbours.
"""

import numpy as np

from pipeline.selection import cluster_cover
from pipeline.selection.pool import Pick, SelectionPool

# M members of one cluster, D dimensions


def select(pool: SelectionPool, num: int, rng: np.random.Generator) -> list[Pick]:
    """See `cluster_cover.select`; the score is the typicality within the cluster."""
    return cluster_cover.select(pool, num, rng, _score)


def typicality(unit_MD: np.ndarray, num_neighbors: int) -> np.ndarray:
    """Inverse mean Euclidean distance to the nearest neighbours within the rows, (M,); 0 for a lone row."""
    num = len(unit_MD)
    wanted = min(num_neighbors, num - 1)
    if wanted < 1:
        return np.zeros(num, np.float32)
    sqdist_MM = np.maximum(2.0 - 2.0 * (unit_MD @ unit_MD.T), 0.0)
    np.fill_diagonal(sqdist_MM, np.inf)
    nearest = np.sqrt(np.partition(sqdist_MM, wanted - 1, axis=1)[:, :wanted])
    return np.asarray(1.0 / np.maximum(nearest.mean(1), 1e-6), dtype=np.float32)


def _score(pool: SelectionPool, members_M: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return typicality(pool.unit_ND[members_M], pool.config.num_neighbors)
