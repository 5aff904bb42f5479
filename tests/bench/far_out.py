"""Where the default strategy looks for a rare class: far by angle, by distance, or by both in turn.

Pools as they are, and with their rarest class cut down to 2 %; no official test is read.
"""

import itertools
from argparse import Namespace
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np

from pipeline.baselines.curves import bench_pool
from pipeline.baselines.curves.asking import History
from pipeline.commands import request
from pipeline.contracts import config_file
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.config import Config
from pipeline.selection.strategies import rare_class_herding
from pipeline.vectors import clusters
from tests.bench import pools, tables
from tests.bench.kept_curves import ALL_CLASSES, BySeed, KeptCurves


class Far(NamedTuple):
    """What far means.

    Attributes:
        shared: See `rare_class_herding.SHARED`.
        views: Which of the strategy's two views count: by angle, by distance.
    """

    shared: float
    views: slice


BEFORE = "angle"  # the product's before
FAR = {
    BEFORE: Far(rare_class_herding.SHARED, slice(0, 1)),
    "distance": Far(rare_class_herding.SHARED, slice(1, 2)),
    "in turn": Far(rare_class_herding.SHARED, slice(0, 2)),
    "in turn, three lengths shared": Far(3.0, slice(0, 2)),
}
BUDGETS = (20, 40, 60, 80, 100, 200)
DEFAULT, RANDOM = Config().strategy.name, "random"
RARE = 0.02
EARLY = 40
CURVES = KeptCurves(tables.RESULTS / "far-out.json", BUDGETS)


def main(data: Path, given: Namespace) -> None:
    """Simulate what is missing, pool by pool, and write the table after each."""
    folder = cache_folder() / "bench" / "far-out"
    uris = pools.without_a_test(data, folder) | {"demo": str(config_file.load(request.quickstart(), {}).pool.uri)}
    for name, uri in uris.items():
        if given.pool in (None, name):
            path = folder / f"{name}.safetensors"
            ctx = pools.read(uri, folder / name)
            clusters.run(ctx)
            bench_pool.write(ctx, path)
            for rare, seed in itertools.product((None, RARE), range(given.seeds)):
                for title in (RANDOM, *FAR):
                    strategy = RANDOM if title == RANDOM else DEFAULT
                    history = History(
                        pool=path, name=name, rare=rare, strategy=strategy, seed=seed, budgets=BUDGETS, config=Config()
                    )
                    _complete(title, history)
            _write()


def _complete(title: str, history: History) -> None:
    views, far = rare_class_herding._views, FAR.get(title, FAR[BEFORE])
    with (
        mock.patch.object(rare_class_herding, "SHARED", far.shared),
        mock.patch.object(rare_class_herding, "_views", lambda pool: views(pool)[far.views]),
    ):
        CURVES.complete(title, history)


def _write() -> None:
    rows = []
    for pool in CURVES.pools():
        of_title = {title: CURVES.by_seed(pool, title) for title in (RANDOM, *FAR)}
        rows += [
            (pool, title, *CURVES.cells(of_seed, of_title[BEFORE]), _all_classes(of_seed))
            for title, of_seed in of_title.items()
            if of_seed
        ]
    tables.write(
        "far-out",
        "Where the default strategy looks for a rare class",
        "python -m tests.bench far_out --seeds 20",
        ("pool", "far by", *CURVES.header(), f"all classes by {EARLY}"),
        rows,
        f"The default strategy, head on expert labels alone, after {', '.join(map(str, BUDGETS))} labels; holdout: a "
        "fifth of the patients. While a class is rare and has few labels, the queue looks where no label is near. By "
        "*angle* scans near the middle of the pool lie as far apart as those that stand out; by *distance* they lie "
        "near each other, as all share a part of it. The product takes both *in turn*. `2 %`: the rarest finding "
        "cut down to that share, another draw for each seed. *Area gained*: under the AUROC over the logarithm of the "
        "budget, over the angle, paired by seed; wins: share of the seeds in which more. Mean ± 95 % t-interval. What "
        "the product does was chosen by thirty seeds of other queues (10, 10, 30, 50), among them these.",
    )


def _all_classes(of_seed: BySeed) -> str:
    """Share of the seeds in which every class had come after `EARLY` labels."""
    came = [row[ALL_CLASSES] is not None and row[ALL_CLASSES] <= EARLY for row in of_seed.values()]
    return f"{np.mean(came):.0%}".replace("%", " %")
