"""Where the default strategy looks for a rare class: far by angle alone, or from the middle of the pool as well.

The pools are those that hold a rare class, or whose rarest is cut down to 2 %; no official test is read.
"""

import itertools
from argparse import Namespace
from pathlib import Path
from unittest import mock

from pipeline.baselines.curves import bench_pool
from pipeline.baselines.curves.asking import History
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.config import Config
from pipeline.selection.strategies import rare_class_herding
from pipeline.vectors import clusters
from tests.bench import pools, tables
from tests.bench.kept_curves import KeptCurves

ANGLE = 0.0  # of all scans nothing is shared
SHARED = (ANGLE, 0.35, rare_class_herding.MIDDLE, 1.0, 3.0)
BUDGETS = (20, 40, 60, 80, 100, 200)
DEFAULT, RANDOM = Config().strategy.name, "random"
RARE = 0.02
CURVES = KeptCurves(tables.RESULTS / "far-out.json", BUDGETS)


def main(data: Path, given: Namespace) -> None:
    """Simulate what is missing, pool by pool, and write the table after each."""
    folder = cache_folder() / "bench" / "far-out"
    uris = pools.without_a_test(data, folder) | {"demo": "phantom:num_patients=500,severity=1.5"}
    for name, uri in uris.items():
        if given.pool in (None, name):
            path = folder / f"{name}.safetensors"
            ctx = pools.read(uri, folder / name)
            clusters.run(ctx)
            bench_pool.write(ctx, path)
            for rare, seed in itertools.product((None, RARE), range(given.seeds)):
                for strategy, shared in [(RANDOM, ANGLE), *((DEFAULT, shared) for shared in SHARED)]:
                    history = History(
                        pool=path, name=name, rare=rare, strategy=strategy, seed=seed, budgets=BUDGETS, config=Config()
                    )
                    with mock.patch.object(rare_class_herding, "MIDDLE", shared):
                        CURVES.complete(_title(strategy, shared), history)
            _write()


def _title(strategy: str, shared: float) -> str:
    if strategy == RANDOM:
        return RANDOM
    return "angle alone" if shared == ANGLE else f"{shared:g} typical lengths"


def _write() -> None:
    titles = [RANDOM, *(_title(DEFAULT, shared) for shared in SHARED)]
    rows = []
    for pool in CURVES.pools():
        of_title = {title: CURVES.by_seed(pool, title) for title in titles}
        before = of_title[_title(DEFAULT, ANGLE)]
        rows += [(pool, title, *CURVES.cells(of_seed, before)) for title, of_seed in of_title.items()]
    tables.write(
        "far-out",
        "Where the default strategy looks for a rare class",
        "python -m tests.bench far_out --seeds 40",
        ("pool", "all scans share", *CURVES.header()),
        rows,
        f"The default strategy, head on expert labels alone, after {', '.join(map(str, BUDGETS))} labels; holdout: a "
        "fifth of the patients. While a class is rare and has few labels, the queue looks where no label is near. By "
        "*angle alone*, scans near the middle of the pool lie as far apart as those that stand out; what all scans "
        "share, in typical lengths of the centred embedding, brings them near each other. `2 %`: the rarest finding "
        "cut down to that share, another draw for each seed. *Area gained*: under the AUROC over the logarithm of the "
        "budget, over the angle alone, paired by seed; wins: share of the seeds in which more. Mean ± 95 % "
        "t-interval. The first twenty of the seeds chose, the others were drawn afterwards.",
    )
