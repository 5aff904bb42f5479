"""Cover the clusters that no label has reached, largest first: the frame of TypiClust and k-medoids."""

from collections.abc import Callable

import numpy as np

from pipeline.selection.strategies.base import Pick, SelectionPool
from pipeline.vectors.clusters import spherical_kmeans

# N scans, M members of one cluster, D dimensions

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
    num_clusters = min(int(pool.labelled_N.sum()) + num, MAX_CLUSTERS, len(pool.ids_N))
    _, cluster_N, _ = spherical_kmeans(pool.unit_ND, num_clusters, seed=int(rng.integers(2**31)), n_iter=25)
    num_clusters = int(cluster_N.max()) + 1
    covered_K = np.bincount(cluster_N[pool.labelled_N], minlength=num_clusters)
    size_K = np.bincount(cluster_N, minlength=num_clusters)
    small_K = size_K < pool.config.min_cluster_size
    ranked: dict[int, list[tuple[int, float]]] = {}
    used_groups: set[int] = set()
    exhausted_K = np.zeros(num_clusters, bool)
    picks: list[Pick] = []
    while len(picks) < num and not exhausted_K.all():
        cluster = int(np.lexsort((-size_K, covered_K, small_K, exhausted_K))[0])
        if cluster not in ranked:
            ranked[cluster] = _ranked(pool, np.flatnonzero(cluster_N == cluster), rng, score)
        best = next(((i, s) for i, s in ranked[cluster] if int(pool.group_N[i]) not in used_groups), None)
        if best is None:
            exhausted_K[cluster] = True
            continue
        used_groups.add(int(pool.group_N[best[0]]))
        covered_K[cluster] += 1
        picks.append(Pick(str(pool.ids_N[best[0]]), best[1], cluster))
    return picks


def _ranked(
    pool: SelectionPool, members_M: np.ndarray, rng: np.random.Generator, score: Score
) -> list[tuple[int, float]]:
    if len(members_M) == 0:  # k-means left the cluster empty
        return []
    if len(members_M) > pool.config.max_cluster_members:
        members_M = np.sort(rng.choice(members_M, pool.config.max_cluster_members, replace=False))
    score_M = score(pool, members_M, rng)
    order = np.argsort(-score_M, kind="stable")
    return [(int(members_M[i]), float(score_M[i])) for i in order if pool.candidate_N[members_M[i]]]
