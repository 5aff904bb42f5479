"""The same scans as scikit-activeml picks; it need not be there."""

import numpy as np
import pytest

from pipeline.selection import cluster_cover, strategies
from pipeline.selection.strategies import prob_cover
from tests.support.selection_pools import blobs, cloud, pool_of, positions

oracle = pytest.importorskip("skactiveml.pool")
NUM = 25


def jaccard(ours, theirs):
    return len(set(ours) & set(theirs)) / len(set(ours) | set(theirs))


def asked(strategy, unit_ND, labelled, **options):
    label_N = np.full(len(unit_ND), np.nan)
    label_N[list(labelled)] = 0.0
    return strategy.query(unit_ND.astype(np.float64), label_N, batch_size=NUM, **options).tolist()


def picked(name, pool):
    return positions(strategies.get(name)(pool, NUM, np.random.default_rng(0)))


@pytest.mark.parametrize("labelled", [(), range(8)])
def test_max_herding(labelled):
    unit_ND = cloud(300)
    theirs = asked(oracle.MaxHerding(metric_dict={"gamma": 2.0}, random_state=0), unit_ND, labelled)  # 1 / (2 * .5^2)
    assert jaccard(picked("max_herding", pool_of(unit_ND, labelled=labelled)), theirs) >= 0.95


def test_core_set():
    """From two labelled scans on; where there is none both start at a random one."""
    unit_ND = cloud(300)
    theirs = asked(oracle.CoreSet(random_state=0), unit_ND, (0, 1))
    assert jaccard(picked("core_set", pool_of(unit_ND, labelled=(0, 1))), theirs) >= 0.95


@pytest.mark.filterwarnings("ignore:The maximum purity was -1")  # theirs does not look for a radius when given one
def test_prob_cover(monkeypatch):
    """As far as the best ball is the only best one: where several hold as many scans, both draw among them."""
    radius, unit_ND, labelled = 0.9, cloud(300, dim=5), [0, 1, 2]
    monkeypatch.setattr(prob_cover, "radius", lambda pool, rng: radius)
    strategy = oracle.ProbCover(deltas=[radius], random_state=0)
    label_N = np.full(len(unit_ND), np.nan)
    label_N[labelled] = 0.0
    theirs, utility_BN = strategy.query(unit_ND.astype(float), label_N, batch_size=NUM, return_utilities=True)
    ties = [int((utility_N == np.nanmax(utility_N)).sum()) for utility_N in utility_BN]
    num_sure = next((i for i, num in enumerate(ties) if num > 1), NUM)
    ours = picked("prob_cover", pool_of(unit_ND, labelled=labelled))
    assert num_sure >= 3 and ours[:num_sure] == theirs[:num_sure].tolist()
    inside_NN = ((unit_ND[:, None] - unit_ND[None]) ** 2).sum(-1) <= radius**2
    covered = [inside_NN[[*labelled, *rows]].any(0).sum() for rows in (ours, theirs)]
    assert covered[0] == pytest.approx(covered[1], rel=0.02)


def test_typiclust(monkeypatch):
    """In the same clusters; without the rule of ours that passes over small ones."""
    unit_ND, _ = blobs(num_blobs=30, size=12, dim=40, spread=0.15)
    labelled = [0, 12, 24, 36, 48]
    seen = {}

    class Ours:
        """Our k-means as an estimator; both strategies see its clusters."""

        def __init__(self, n_clusters):
            self.n_clusters = n_clusters

        def fit_predict(self, rows_ND):
            seen[self.n_clusters] = real(rows_ND.astype(np.float32), self.n_clusters, seed=1, n_iter=25)
            return seen[self.n_clusters][1]

    real = cluster_cover.spherical_kmeans
    theirs = asked(oracle.TypiClust(cluster_algo=Ours, k=20, random_state=0), unit_ND, labelled)
    monkeypatch.setattr(cluster_cover, "spherical_kmeans", lambda rows_ND, num, **options: seen[num])
    ours = picked("typiclust", pool_of(unit_ND, labelled=labelled, min_cluster_size=1))
    assert jaccard(ours, theirs) >= 0.95
