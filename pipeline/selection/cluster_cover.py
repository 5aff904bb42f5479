"""Cover the clusters that no label has reached, largest first: the frame of TypiClust and k-medoids."""

from collections.abc import Callable

import numpy as np

from pipeline.selection.open_scans import OpenScans
from pipeline.selection.pool import Pick, SelectionPool
from pipeline.vectors.clusters import spherical_kmeans

# N scans, P places among the candidates, M members of one cluster, D dimensions, K clusters

MAX_CLUSTERS = 500  # as in the reference implementation of TypiClust
Score = Callable[[SelectionPool, np.ndarray, np.random.Generator], np.ndarray]


def select(pool: SelectionPool, num: int, rng: np.random.Generator, score: Score) -> list[Pick]:
    """Pick the best-scored candidate of the cluster with the fewest labels, largest first, again and again.

    Args:
        pool: What may be seen.
        num: How many scans are wanted; fewer come back when the pool runs out.
        rng: Seeds the clustering.
        score: (pool, positions of a cluster's members, rng) -> score of each, higher is better.
    """
    scans = OpenScans(pool, num, rng)
    if not scans.wants_more:
        return []
    num_clusters = min(int(pool.covered_N.sum()) + num, MAX_CLUSTERS, len(pool.ids_N))
    _, cluster_N, _ = spherical_kmeans(pool.unit_ND, num_clusters, seed=int(rng.integers(2**31)), n_iter=25)
    num_clusters = int(cluster_N.max()) + 1
    covered_K = np.bincount(cluster_N[pool.covered_N], minlength=num_clusters)
    size_K = np.bincount(cluster_N, minlength=num_clusters)
    small_K = size_K < pool.config.min_cluster_size
    cluster_P = cluster_N[scans.rows_M]
    ranked: dict[int, list[tuple[int, float]]] = {}
    while scans.wants_more:
        has_open_K = np.bincount(cluster_P[scans.open_M], minlength=num_clusters) > 0
        cluster = int(np.lexsort((-size_K, covered_K, small_K, ~has_open_K))[0])
        if cluster not in ranked:
            ranked[cluster] = _ranked(pool, scans, np.flatnonzero(cluster_N == cluster), rng, score)
        best = next(((p, s) for p, s in ranked[cluster] if scans.open_M[p]), None)
        if best is None:  # a large cluster was compared in part, and that part is taken
            open_members = scans.rows_M[scans.open_M & (cluster_P == cluster)]
            ranked[cluster] = _ranked(pool, scans, open_members, rng, score)
            best = next((p, s) for p, s in ranked[cluster] if scans.open_M[p])
        covered_K[cluster] += 1
        scans.take(best[0], best[1], cluster)
    return scans.picks


def _ranked(
    pool: SelectionPool, scans: OpenScans, members_M: np.ndarray, rng: np.random.Generator, score: Score
) -> list[tuple[int, float]]:
    """Places and scores of the candidates among a cluster's members, best first."""
    if len(members_M) > pool.config.max_cluster_members:
        members_M = np.sort(rng.choice(members_M, pool.config.max_cluster_members, replace=False))
    score_M = score(pool, members_M, rng)
    place_M = scans.places(members_M)
    order = np.lexsort((place_M, -score_M))  # places are in random order, and decide between copies
    return [(int(place_M[i]), float(score_M[i])) for i in order if place_M[i] >= 0]
