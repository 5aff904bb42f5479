"""Do rounds help, and is a certificate earned? The product's default loop on several pools, seed after seed.

Every run's numbers are kept in `results/rounds.json`; a run that is in there is not repeated. Kermany's holdout is its
official test, or a fifth of the patients of its training part; the NIH part's is a patient-grouped fold of its own for
each seed. All are read once a round and decide nothing. Kermany's scans are read and compared once for all seeds, and
its runs are the rounds alone: audit and report change no number here, and take most of a run's time.
"""

import json
import shutil
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from pipeline import stages
from pipeline.commands import request, run
from pipeline.contracts import config_file
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.tables import POOL_LABELS, RELEASE, SPLIT_TABLE, write_text
from pipeline.rounds import loop
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from tests.bench import folds, pools, tables

QUICKSTART, KERMANY, OWN, NIH = (
    "quickstart",
    "Kermany, official test",
    "Kermany, its own patients",
    "NIH part, five folds",
)
SPREAD = ", labels spread"  # `pseudo.propagate=1`, the default of before
SEEDS = {QUICKSTART: 10, QUICKSTART + SPREAD: 10, KERMANY: 5, KERMANY + SPREAD: 5, NIH: 5, OWN: 5}
SPREAD_LEARNED = "Labels spread: with `pseudo.propagate=1`, on standardised features, the default of before."
METRICS = ("auroc", "accuracy", "ece")
FALL = 0.005  # a mean that falls by more between two rounds is a round that harms
NUM_ROUNDS, BUDGET = 5, 20
FILE = tables.RESULTS / "rounds.json"


def main(data: Path, given: Namespace) -> None:
    """Run what is missing, pool after pool, and write the tables after each run."""
    for pool in [given.pool] if given.pool else SEEDS:
        for seed in range(SEEDS[pool]):
            if f"{pool}/{seed}" not in _known():
                row = _run(data, pool, seed)
                sys.stderr.write(f"{pool} seed {seed}: {json.dumps(row)}\n")
                write_text(FILE, json.dumps(_known() | {f"{pool}/{seed}": row}, indent=1) + "\n")
                _write()
    _write()


def _overrides(data: Path, pool: str, seed: int, folder: Path) -> dict[str, Any]:
    """What names the pool; nothing for the quickstart, which is what a run without a pool is."""
    if pool.endswith(SPREAD):
        return _overrides(data, pool.removesuffix(SPREAD), seed, folder) | {"pseudo.propagate": 1.0}
    if pool == QUICKSTART:
        return {}
    if pool == KERMANY:
        return {"pool.uri": pools.uri(data, "kermany")}
    if pool == OWN:
        return {"pool.uri": str(pools.without_official_test(data, folder))}
    findings = folds.TASKS["NIH part, 2 classes"]
    folds.write_manifest(data / "covid3", findings, seed, folder / "manifest.csv")
    return {"pool.uri": str(folder / "manifest.csv"), "pool.findings": findings}


def _run(data: Path, pool: str, seed: int) -> dict[str, Any]:
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        if pool.removesuffix(SPREAD) in (KERMANY, OWN):
            rows = _rounds_alone(data, pool, seed, place)
        else:
            overrides = _options(seed) | _overrides(data, pool, seed, Path(folder))
            rows = run.execute(request.Request(overrides=overrides, out=place, quiet=True))["metrics"]
        released = _released(place)
    return {
        **{name: [row["holdout"][name] for row in rows] for name in METRICS},
        "num_expert": [row["num_expert"] for row in rows],
        "precision_estimated": [row["pseudo_precision_estimated"] for row in rows],
        "precision_realised": [row["pseudo_precision"] for row in rows],
        "release": released,
        "minutes": (time.perf_counter() - start) / 60.0,
    }


def _options(seed: int) -> dict[str, Any]:
    return {
        "oracle": True,
        "seed": seed,
        "rounds.reference": False,
        "rounds.num": NUM_ROUNDS,
        "queue.budget": BUDGET,
        "engine.backend": "serial",
    }


def _rounds_alone(data: Path, pool: str, seed: int, place: Path) -> list[dict[str, Any]]:
    """The rows of a run's rounds, in a folder of its own; nothing else is written there but what they need."""
    folder = cache_folder() / "bench" / "rounds"
    read = folder / ("own" if pool == OWN else "official")
    overrides = _overrides(data, pool, seed, folder)
    if not (read / run_files.FEATURES).exists():
        first = config_file.load(None, _options(0) | overrides)
        read.mkdir(parents=True, exist_ok=True)
        run_dir.write_config(read, first)
        stages.run_stages(StageContext(first, read, SerialEngine()), stages.READ)
    shutil.copytree(read, place)
    ctx = StageContext(config_file.load(None, _options(seed) | overrides), place, SerialEngine())
    # Each seed holds other patients out, and spread labels need neighbours.
    for name in ("splits", "embed", "clusters") if pool == OWN else ("clusters",) if pool.endswith(SPREAD) else ():
        stages.function(name, ctx.config)(ctx)
    loop.run(ctx)
    return run_files.finished_rows(place, NUM_ROUNDS)


def _released(folder: Path) -> dict[str, Any] | None:
    """State of the run's latest release, and the precision each tier really has; None: nothing was frozen."""
    state: dict[str, Any] | None = run_files.finished_rows(folder, NUM_ROUNDS)[-1]["release"]
    if state is None:
        return None
    table = RELEASE.read(run_files.release_folder(folder, run_files.releases(folder)[-1]))
    truth = POOL_LABELS.read(folder)
    truth = truth["label"].take(pc.index_in(table["image_id"], value_set=truth["image_id"].combine_chunks()))
    right_N = pc.equal(truth, table["finding"]).to_numpy(zero_copy_only=False).astype(bool)
    surest_N = pc.equal(table["tier"], "surest").to_numpy(zero_copy_only=False)
    num_train = pc.sum(pc.equal(run_files.read(folder, SPLIT_TABLE)["split"], "train")).as_py()
    return {
        "state": state["state"],
        "round": state["round"],
        "certified_tier": state["certified_tier"],
        "bound": state["bound"],
        "checks": state["tiers"][0]["num_checked"],
        "errors": state["tiers"][0]["num_errors"],
        "begin_with": state["begin_with"],
        "share_of_pool": {"surest": float(surest_N.sum()) / num_train, "whole": len(table) / num_train},
        "precision": {"surest": float(right_N[surest_N].mean()), "whole": float(right_N.mean())},
    }


def _known() -> dict[str, Any]:
    known: dict[str, Any] = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
    return known


def _write() -> None:
    """Two tables: the rounds, and the promises."""
    known = _known()
    learning, promises = [], []
    for pool in SEEDS:
        runs = [row for key, row in known.items() if key.rpartition("/")[0] == pool]
        if runs:
            learning += [(pool, len(runs), name, *_by_round(runs, name), _falls(runs, name)) for name in METRICS]
            promises.append((pool, len(runs), *_promise(runs)))
    rounds = [f"round {number + 1}" for number in range(NUM_ROUNDS)]
    tables.write(
        "rounds",
        "Five rounds of twenty labels",
        "python -m tests.bench rounds",
        ("pool", "seeds", "holdout", *rounds, "steps that harm"),
        learning,
        f"Default options, frozen backbone. {SPREAD_LEARNED} "
        "Mean over seeds, in the last round with a 95 % t-interval. "
        "ECE: expected calibration error of the class that is called. Steps that harm: share of all steps from one "
        f"round to the next, over seeds, in which the figure gets worse by more than {FALL}; in brackets the steps of "
        "the mean. Kermany's official test has other patients, and another share of pneumonia, than its training part.",
    )
    tables.write(
        "promises",
        "What five rounds of twenty labels may promise",
        "python -m tests.bench rounds",
        (
            "pool",
            "seeds",
            "precision estimated",
            "realised",
            "release certified",
            "bound of those",
            "surest tier really",
            "whole really",
            "released share of the pool",
        ),
        promises,
        f"Default options. {SPREAD_LEARNED} "
        "The promise is .90 at confidence .95. Precision estimated and realised: of the "
        "pseudo-labels used in training, mean over rounds and seeds. Release certified: seeds in which the first tier "
        "or the whole was. Really: share of right labels in the frozen tier, which only the pool's own labels tell, "
        "mean over seeds. Released share: scans of the certified tier, of those in the training pool; 0 where nothing "
        "was certified.",
    )


def _by_round(runs: list[dict[str, Any]], name: str) -> list[str]:
    of_round = list(zip(*(run[name] for run in runs), strict=True))
    return [f"{np.mean(values):.3f}" for values in of_round[:-1]] + [tables.mean_ci(of_round[-1])]


def _falls(runs: list[dict[str, Any]], name: str) -> str:
    value_SR = np.array([run[name] for run in runs]) * (-1 if name == "ece" else 1)  # S seeds, R rounds
    of_mean = (np.diff(value_SR.mean(0)) < -FALL).sum()
    return f"{(np.diff(value_SR, axis=1) < -FALL).mean():.0%} ({of_mean})"


def _promise(runs: list[dict[str, Any]]) -> list[str]:
    pairs = [
        pair
        for run in runs
        for pair in zip(run["precision_estimated"], run["precision_realised"], strict=True)
        if None not in pair
    ]
    means = [f"{np.mean(values):.3f}" for values in zip(*pairs, strict=True)] or ["–", "–"]
    frozen = [run["release"] for run in runs if run["release"]]
    certified = [release for release in frozen if release["certified_tier"]]
    shares = [release["share_of_pool"][release["certified_tier"]] for release in certified]
    really = [
        f"{np.mean([release['precision'][tier] for release in frozen]):.3f}" if frozen else ""
        for tier in ("surest", "whole")
    ]
    bounds = f"{np.mean([release['bound'] for release in certified]):.3f}" if certified else ""
    return [
        *means,
        f"{len(certified)} of {len(runs)}",
        bounds,
        *really,
        f"{sum(shares) / len(runs):.0%}",
    ]
