"""ProbCover: the scans whose balls of a fixed radius hold most of the pool that no label covers yet.

Yehuda, Dekel, Hacohen, Weinshall: Active Learning Through a Covering Lens (NeurIPS 2022, arXiv 2205.11320),
algorithm 1. The radius is the largest one at which `strategy.min_purity` of the balls are pure, that is hold scans of
one cluster alone, with as many k-means clusters as there are classes (section 3.3).
"""

import numpy as np

from pipeline.selection import coverage
from pipeline.selection.pool import Pick, SelectionPool
from pipeline.vectors.clusters import spherical_kmeans

# N scans of the pool, S of them sampled, D dimensions

RADII = np.arange(0.05, 1.45, 0.05)  # unit vectors without anything in common are 1.41 apart
SAMPLE = 2000


def select(pool: SelectionPool, num: int, rng: np.random.Generator) -> list[Pick]:
    """See `coverage.select`; the score is the share of the pool newly covered."""
    return coverage.select(pool, num, rng, coverage.ball(radius(pool, rng)))


def radius(pool: SelectionPool, rng: np.random.Generator) -> float:
    """The largest radius whose balls are pure, or the smallest one tried where none are."""
    rows = np.arange(len(pool.ids_N))
    if len(rows) > SAMPLE:
        rows = np.sort(rng.choice(rows, SAMPLE, replace=False))
    unit_SD = pool.unit_ND[rows]
    _, cluster_S, _ = spherical_kmeans(unit_SD, pool.num_classes, seed=int(rng.integers(2**31)), n_iter=25)
    cosine_SS = unit_SD @ unit_SD.T
    cosine_SS[cluster_S[:, None] == cluster_S[None, :]] = -1.0
    foreign_S = np.sqrt(np.maximum(2.0 - 2.0 * cosine_SS.max(axis=1), 0.0))  # to the next scan of another cluster
    pure = [float(r) for r in RADII if (foreign_S > r).mean() >= pool.config.min_purity]
    return max(pure, default=float(RADII[0]))
