"""DropQuery: scans whose class changes when features are dropped, one from each of their clusters.

Gupte, Aklilu, Nirschl, Yeung-Levy: Revisiting Active Learning in the Era of Vision Foundation Models (TMLR 2024, arXiv
2401.14555): a scan is a candidate when most of three predictions with features dropped differ from the plain one; the
candidates are clustered, and the scan nearest to each centre is asked for. Where expert labels name fewer than two
classes, or findings are independent, the queue is that of k-medoids, as the paper starts.
"""

import numpy as np

from pipeline.selection import small_head, uncertainty
from pipeline.selection.open_scans import OpenScans
from pipeline.selection.pool import Pick, SelectionPool
from pipeline.selection.strategies import kmedoids
from pipeline.vectors.clusters import spherical_kmeans
from pipeline.vectors.row_blocks import row_blocks

# M candidates, S of them shaky, D dimensions, C classes, K clusters

NUM_DROPS = 3
DROP_SHARE = 0.75  # of the features


def select(pool: SelectionPool, num: int, rng: np.random.Generator) -> list[Pick]:
    """Up to `num` scans; the score is the cosine to the centre of the cluster."""
    lessons = small_head.lessons(pool)
    if lessons is None:
        uncertainty.say_fallback("drop_query", "no two classes are labelled, or findings are independent", "kmedoids")
        return kmedoids.select(pool, num, rng)
    scans = OpenScans(pool, num, rng)
    if not scans.wants_more:
        return []
    rows_L, class_L = lessons
    changed_M = _changes(pool.unit_ND[scans.rows_M], *small_head.fit(pool.unit_ND[rows_L], class_L), rng)
    num_shaky = min(max(int((changed_M > 0.5).sum()), num), len(changed_M))
    shaky_S = np.argsort(-changed_M, kind="stable")[:num_shaky]
    centre_KD, cluster_S, cosine_S = spherical_kmeans(
        pool.unit_ND[scans.rows_M[shaky_S]], num, seed=int(rng.integers(2**31)), n_iter=25
    )
    for cluster in range(len(centre_KD)):
        score_M = np.full(len(changed_M), -np.inf)
        score_M[shaky_S[cluster_S == cluster]] = cosine_S[cluster_S == cluster]
        if scans.wants_more and (np.isfinite(score_M) & scans.open_M).any():
            place = scans.best(score_M)
            scans.take(place, float(score_M[place]), cluster)
    return scans.picks + _rest(pool, scans, rng)


def _changes(unit_MD: np.ndarray, weight_CD: np.ndarray, bias_C: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Share of the predictions with features dropped that differ from the plain one, (M,)."""
    plain_M = (unit_MD @ weight_CD.T + bias_C).argmax(axis=1)
    changed_M = np.zeros(len(unit_MD))
    for _ in range(NUM_DROPS):
        for rows in row_blocks(len(unit_MD)):
            kept = rng.random(unit_MD[rows].shape, dtype=np.float32) >= DROP_SHARE
            dropped = ((unit_MD[rows] * kept) @ weight_CD.T + bias_C).argmax(axis=1)
            changed_M[rows] += (dropped != plain_M[rows]) / NUM_DROPS
    return changed_M


def _rest(pool: SelectionPool, scans: OpenScans, rng: np.random.Generator) -> list[Pick]:
    """What is wanted beyond the clusters: empty ones, and patients that came already, leave some open."""
    missing = scans.num - len(scans.picks)
    if missing <= 0:
        return []
    taken_N = np.isin(pool.ids_N, np.array([pick.image_id for pick in scans.picks]))
    return kmedoids.select(pool.queue(taken_N), missing, rng)
