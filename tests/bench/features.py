"""What the pooled stages of a network weigh beside each other: in the classifier, and in what makes scans alike.

A dimension's scale may decide alone (the embedding as it is), say nothing (standardised), or half of it. The default
strategy and random selection ask for labels on pools that are drawn alike for all, and the head learns from them.
Kermany is its training part alone, with a fifth of its patients held out: no official test is read.
"""

import itertools
import shutil
from argparse import Namespace
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from pipeline.baselines.curves import bench_pool
from pipeline.baselines.curves.asking import History
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.config import Config
from pipeline.runtime import run_files
from pipeline.vectors import clusters, principal_components
from tests.bench import pools, tables
from tests.bench.kept_curves import KeptCurves


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
CURVES = KeptCurves(tables.RESULTS / "features.json", BUDGETS)


def main(data: Path, given: Namespace) -> None:
    """Simulate what is missing, pool by pool, and write the table after each."""
    folder = cache_folder() / "bench" / "features"
    for name, uri in pools.without_a_test(data, folder).items():
        if given.pool in (None, name):
            _measure(name, uri, folder / name, given.seeds)


def _measure(name: str, uri: str, folder: Path, num_seeds: int) -> None:
    ctx = pools.read(uri, folder)
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
                config=Config(),
            )
            CURVES.complete(f"{title}/{strategy}", history)
    _write()


def _write() -> None:
    rows = []
    for pool in CURVES.pools():
        for strategy in STRATEGIES:
            of_view = {title: CURVES.by_seed(pool, f"{title}/{strategy}") for title in VIEWS}
            rows += [
                (pool, strategy, title, *CURVES.cells(of_seed, of_view[BEFORE]))
                for title, of_seed in of_view.items()
                if of_seed
            ]
    budgets = ", ".join(map(str, BUDGETS))
    tables.write(
        "features",
        "What the pooled stages of a network weigh beside each other",
        "python -m tests.bench features --seeds 10",
        ("pool", "labels asked for by", "features", *CURVES.header()),
        rows,
        f"Head on expert labels alone, after {budgets} labels; holdout: a fifth of the patients (kermany: of its "
        "training part). `2 %`: the rarest finding of the pool cut down to that share, another draw for each seed. "
        "*Halfway*: a dimension's share of the variance is the mean of its own and an equal one, the product's; "
        "*standardised*: the product's before. Queues go by the network's last embedding where nothing else is said. "
        "*Gained*: over standardised, paired by seed; wins: share of the seeds in which more. Area: under the AUROC "
        "over the logarithm of the budget. Mean ± 95 % t-interval.",
    )
