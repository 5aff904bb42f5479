"""Do TypiClust, ProbCover, core-set and MaxHerding pick what scikit-activeml picks? On real embeddings."""

import warnings
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from pipeline.baselines.curves import bench_pool
from pipeline.baselines.curves.bench_pool import BenchPool
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.options.labelling import StrategyConfig
from pipeline.selection import cluster_cover, strategies
from pipeline.selection.pool import SelectionPool
from pipeline.selection.strategies import prob_cover
from pipeline.vectors.matrix import unit_rows
from tests.bench import tables

NUM, NUM_LABELLED, NUM_SCANS, RADIUS = 30, 10, 600, 0.8
WHY = {
    "max_herding": "none: the same objective, ours summed over all scans and theirs over the candidates",
    "core_set": "none from a labelled scan on",
    "prob_cover": "several balls hold as many scans: both draw among them; counted up to the first such tie",
    "typiclust": "in the same clusters; without our rule that passes over clusters of fewer than five",
}


def main(data: Path, given: Namespace) -> None:
    """Write `results/selection-oracles.md`; the pools are those that `strategies` has left in the cache."""
    rows = []
    for path in sorted((cache_folder() / "bench" / "strategies" / "pools").glob("*.safetensors")):
        for name, compare in COMPARISONS.items():
            overlap = [compare(_pool(bench_pool.load(path), seed)) for seed in range(given.seeds)]
            known = [found for found, num in overlap if num > 0]  # none compared says nothing
            shown = (f"{np.mean(known):.3f}", f"{min(known):.3f}") if known else ("–", "–")
            rows.append((path.stem, name, *shown, min(num for _, num in overlap), WHY[name]))
    notes = (
        f"Jaccard index of {NUM} picks from {NUM_SCANS} scans, {NUM_LABELLED} of them labelled, drawn anew for each of "
        f"{given.seeds} seeds. Both see the same centred rows of unit norm."
    )
    header = ("pool", "strategy", "Jaccard, mean", "least", "picks compared, least", "differences")
    command = f"python -m tests.bench selection_oracles --seeds {given.seeds}"
    tables.write("selection-oracles", "The same picks as scikit-activeml", command, header, rows, notes)


def _pool(pool: BenchPool, seed: int) -> SelectionPool:
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(len(pool.class_T), NUM_SCANS, replace=False))
    labelled_N = np.isin(np.arange(NUM_SCANS), rng.choice(NUM_SCANS, NUM_LABELLED, replace=False))
    return SelectionPool(
        ids_N=np.arange(NUM_SCANS).astype(str),
        unit_ND=unit_rows(pool.x_TP[rows]),
        labelled_N=labelled_N,
        candidate_N=~labelled_N,
        group_N=np.arange(NUM_SCANS),
        config=StrategyConfig(min_cluster_size=1),
    )


def _ours(name: str, pool: SelectionPool) -> list[int]:
    return [int(pick.image_id) for pick in strategies.get(name)(pool, NUM, np.random.default_rng(0))]


def _theirs(strategy: Any, pool: SelectionPool) -> tuple[list[int], np.ndarray]:
    label_N = np.where(pool.labelled_N, 0.0, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for a better radius than the one given
        rows, utility = strategy.query(pool.unit_ND.astype(float), label_N, batch_size=NUM, return_utilities=True)
    return rows.tolist(), utility


def _jaccard(ours: list[int], theirs: list[int]) -> float:
    return len(set(ours) & set(theirs)) / len(set(ours) | set(theirs))


def _max_herding(pool: SelectionPool) -> tuple[float, int]:
    from skactiveml.pool import MaxHerding

    gamma = 1.0 / (2.0 * pool.config.bandwidth**2)
    theirs, _ = _theirs(MaxHerding(metric_dict={"gamma": gamma}, random_state=0), pool)
    return _jaccard(_ours("max_herding", pool), theirs), NUM


def _core_set(pool: SelectionPool) -> tuple[float, int]:
    from skactiveml.pool import CoreSet

    theirs, _ = _theirs(CoreSet(random_state=0), pool)
    return _jaccard(_ours("core_set", pool), theirs), NUM


def _prob_cover(pool: SelectionPool) -> tuple[float, int]:
    from skactiveml.pool import ProbCover

    theirs, utility_BN = _theirs(ProbCover(deltas=[RADIUS], random_state=0), pool)
    ties = [int((utility_N == np.nanmax(utility_N)).sum()) for utility_N in utility_BN]
    num_sure = next((i for i, num in enumerate(ties) if num > 1), NUM)
    with mock.patch.object(prob_cover, "radius", lambda pool, rng: RADIUS):
        ours = _ours("prob_cover", pool)
    return (_jaccard(ours[:num_sure], theirs[:num_sure]) if num_sure else float("nan")), num_sure


def _typiclust(pool: SelectionPool) -> tuple[float, int]:
    from skactiveml.pool import TypiClust

    seen: dict[int, Any] = {}
    own = cluster_cover.spherical_kmeans  # type: ignore[attr-defined]

    class OurClusters:
        def __init__(self, n_clusters: int) -> None:
            self.n_clusters = n_clusters

        def fit_predict(self, rows_ND: np.ndarray) -> np.ndarray:
            seen[self.n_clusters] = own(rows_ND.astype(np.float32), self.n_clusters, seed=1, n_iter=25)
            return np.asarray(seen[self.n_clusters][1])

    theirs, _ = _theirs(TypiClust(cluster_algo=OurClusters, k=pool.config.num_neighbors, random_state=0), pool)
    with mock.patch.object(cluster_cover, "spherical_kmeans", lambda rows_ND, num, **options: seen[num]):
        ours = _ours("typiclust", pool)
    return _jaccard(ours, theirs), NUM


COMPARISONS: dict[str, Callable[[SelectionPool], tuple[float, int]]] = {
    "typiclust": _typiclust,
    "prob_cover": _prob_cover,
    "core_set": _core_set,
    "max_herding": _max_herding,
}
