"""What the pooled stages of a network weigh beside each other: in the classifier, and in what makes scans alike.

A dimension's scale may decide alone (the embedding as it is), say nothing (standardised), or half of it. The default
strategy and random selection ask for labels on pools that are drawn alike for all, and the head learns from them.
Kermany is its training part alone, with a fifth of its patients held out: no official test is read.
"""

import itertools
import json
import shutil
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from pipeline import stages
from pipeline.baselines.curves import bench_pool, figures, selection_curve
from pipeline.baselines.curves.asking import History
from pipeline.contracts import config_file
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.config import Config
from pipeline.contracts.tables import write_text
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from pipeline.vectors import clusters, principal_components
from tests.bench import pools, tables


class View(NamedTuple):
    """How features are made of an embedding.

    Attributes:
        own_share: See `principal_components.OWN_SHARE`.
        for_queues: Queues go by them as well, and not by the network's last embedding.
    """

    own_share: float
    for_queues: bool = False


BEFORE = "standardised"  # the product's before
VIEWS = {
    "halfway": View(principal_components.OWN_SHARE),
    "halfway, for queues as well": View(principal_components.OWN_SHARE, for_queues=True),
    "as it is": View(1.0),
    "as it is, for queues as well": View(1.0, for_queues=True),
    BEFORE: View(0.0),
}
STRATEGIES = (Config().strategy.name, "random")
BUDGETS = (10, 20, 50, 100, 200)
RARES = (None, 0.02)
FILE = tables.RESULTS / "features.json"


def main(data: Path, given: Namespace) -> None:
    """Simulate what is missing, pool by pool, and write the table after each."""
    folder = cache_folder() / "bench" / "features"
    for name, uri in pools.without_a_test(data, folder).items():
        if given.pool in (None, name):
            _measure(name, uri, folder / name, given.seeds)


def _measure(name: str, uri: str, folder: Path, num_seeds: int) -> None:
    config = config_file.load(None, {"pool.uri": uri, "engine.backend": "serial"})
    folder.mkdir(parents=True, exist_ok=True)
    run_dir.write_config(folder, config)
    ctx = StageContext(config, folder, SerialEngine())
    stages.run_stages(ctx, stages.READ)
    for number, (title, view) in enumerate(VIEWS.items()):
        with mock.patch.object(principal_components, "OWN_SHARE", view.own_share):
            clusters.run(ctx)
        if view.for_queues:
            shutil.copyfile(folder / run_files.FEATURES, folder / run_files.SIMILARITY)
        path = folder.with_name(f"{name}-{number}.safetensors")
        bench_pool.write(ctx, path)
        for strategy, rare, seed in itertools.product(STRATEGIES, RARES, range(num_seeds)):
            history = History(
                pool=path,
                name=name,
                rare=rare,
                strategy=strategy,
                seed=seed,
                budgets=BUDGETS,
                config=config.model_copy(update={"pool": Config().pool}),
            )
            _complete(f"{history.pool_name}/{title}/{strategy}/{seed}", history)
    _write()


def _complete(key: str, history: History) -> None:
    """Add a curve to the results, unless it is there."""
    if key not in _known():
        [curve] = selection_curve.simulate([history])
        write_text(FILE, json.dumps(_known() | {key: curve["auroc"]}) + "\n")
        sys.stderr.write(f"{key}: {curve['auroc']}\n")


def _known() -> dict[str, list[float]]:
    known: dict[str, list[float]] = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
    return known


def _write() -> None:
    known = _known()
    rows = []
    for pool in dict.fromkeys(key.split("/")[0] for key in known):
        for strategy in STRATEGIES:
            of_view = {title: _by_seed(known, pool, title, strategy) for title in VIEWS}
            rows += [
                (pool, strategy, title, *_cells(of_seed, of_view[BEFORE]))
                for title, of_seed in of_view.items()
                if of_seed
            ]
    budgets = ", ".join(map(str, BUDGETS))
    tables.write(
        "features",
        "What the pooled stages of a network weigh beside each other",
        "python -m tests.bench features --seeds 10",
        (
            "pool",
            "labels asked for by",
            "features",
            "seeds",
            *(f"AUROC @{budget}" for budget in BUDGETS),
            "area",
            "area gained",
            "wins",
        ),
        rows,
        f"Head on expert labels alone, after {budgets} labels; holdout: a fifth of the patients (kermany: of its "
        "training part). `2 %`: the rarest finding of the pool cut down to that share, another draw for each seed. "
        "*Halfway*: a dimension's share of the variance is the mean of its own and an equal one, the product's; "
        "*standardised*: the product's before. Queues go by the network's last embedding where nothing else is said. "
        "*Gained*: over standardised, paired by seed; wins: share of the seeds in which more. Area: under the AUROC "
        "over the logarithm of the budget. Mean ± 95 % t-interval.",
    )


def _by_seed(known: dict[str, list[float]], pool: str, title: str, strategy: str) -> dict[int, list[float]]:
    start = f"{pool}/{title}/{strategy}/"
    return {int(key.removeprefix(start)): curve for key, curve in known.items() if key.startswith(start)}


def _cells(of_seed: dict[int, list[float]], before: dict[int, list[float]]) -> list[Any]:
    curves_SB = np.array([of_seed[seed] for seed in sorted(of_seed)])
    areas = [figures.area(BUDGETS, curve_B) for curve_B in curves_SB]
    both = sorted(set(of_seed) & set(before))
    gained = [figures.area(BUDGETS, of_seed[seed]) - figures.area(BUDGETS, before[seed]) for seed in both]
    gain = [tables.mean_ci(gained), f"{np.mean([value > 0.0 for value in gained]):.2f}"] if gained else ["–", "–"]
    if of_seed is before:
        gain = ["–", "–"]
    return [len(of_seed), *(f"{value:.3f}" for value in curves_SB.mean(0)), tables.mean_ci(areas), *gain]
