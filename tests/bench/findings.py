"""One network for all findings against one for each: AUROC on the holdout and CPU seconds, paired by seed.

Both ways learn from the same labels, heads and activations, in the same process; so the ratio of their times is one of
two measurements beside each other. The backbone is a tiny one of random weights, and the network is used wherever it
comes out, so that networks are compared and not the gate.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from pipeline import stages
from pipeline.contracts import config_file
from pipeline.learn.network.adapter import Adapter
from pipeline.per_finding import rounds
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from tests.bench import tables
from tests.support import tiny_backbone
from tests.support.picture_run import BEFORE_ROUNDS

FILE = tables.RESULTS / "findings.json"
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "head": ("heads alone", {"train.adapt": "head"}),
    "apart": ("a network for each", {"train.findings": "apart"}),
    "together": ("one network for all", {"train.findings": "together"}),
    "longer": ("one for all, twice the steps", {"train.findings": "together"}),
}
OPTIONS: dict[str, Any] = {
    "oracle": True,
    "engine.backend": "serial",
    "rounds.num": 1,
    "rounds.reference": False,
    "train.adapt": "partial",
    "calibrate.num_folds": 2,
    "evaluate.num_bootstrap": 0,
    "pseudo.rollback_auroc": 1.0,
    "embed.features": "pooled",
    "network.num_views": 2,
    "network.min_steps": 120,
}
NUM_TRAIN, NUM_TEST, NUM_SHAPES, SHAPE_PX = 300, 300, 14, 28


def main(data: Path, given: Namespace) -> None:
    """Run what is missing, pool after pool and seed after seed, and write the table after each."""
    for pool, prepare in POOLS.items():
        for seed in range(given.seeds):
            if f"{pool}/{seed}" not in _known():
                with (
                    tempfile.TemporaryDirectory() as folder,
                    mock.patch.dict(os.environ, CXR_SSL_CACHE=f"{folder}/cache"),
                ):
                    _keep(f"{pool}/{seed}", _both_ways(prepare(Path(folder), seed), Path(folder), seed))
    _write()


def _phantoms(folder: Path, seed: int) -> dict[str, Any]:
    """Three findings of a patient, some of them not noted."""
    spec = f"phantom:findings=independent,num_patients=600,severity=2.0,size_px=64,seed={seed}"
    return {"pool.uri": spec, "pool.findings_are": "independent", "preprocess.size_px": 64, "queue.budget": 120}


def _like_chestmnist(folder: Path, seed: int) -> dict[str, Any]:
    """The file of ChestMNIST in all but its pictures and their number: fourteen findings are fourteen spots."""
    rng = np.random.default_rng(seed)
    num = {"train": NUM_TRAIN, "val": 20, "test": NUM_TEST}
    place = [(6 + 5 * (k // 4), 3 + 6 * (k % 4)) for k in range(NUM_SHAPES)]
    arrays = {}
    for split, size in num.items():
        shown = rng.random((size, NUM_SHAPES)) < 0.2
        grey = rng.normal(90.0, 25.0, (size, SHAPE_PX, SHAPE_PX)) + rng.normal(0.0, 15.0, (size, 1, 1))
        for k, (top, left) in enumerate(place):
            grey[shown[:, k], top : top + 4, left : left + 4] += 45.0 + 6.0 * (k % 3)
        arrays |= {f"{split}_images": grey.clip(0, 255).astype(np.uint8), f"{split}_labels": shown.astype(np.uint8)}
    np.savez(folder / "chestmnist.npz", **arrays)
    (folder / "cache").mkdir()
    shutil.move(folder / "chestmnist.npz", folder / "cache" / "chestmnist.npz")
    given = {"pool.uri": "medmnist:chestmnist", "pool.findings_are": "independent"}
    return given | {"preprocess.size_px": 32, "queue.budget": 120, "network.min_steps": 64}


POOLS: dict[str, Callable[[Path, int], dict[str, Any]]] = {"phantoms": _phantoms, "like ChestMNIST": _like_chestmnist}


def _both_ways(pool: dict[str, Any], folder: Path, seed: int) -> dict[str, Any]:
    """The rounds of one prepared run with each way, and with heads alone."""
    weights = tiny_backbone.weights(folder / "weights", seed=seed)
    given = {"seed": seed, "embed.store": str(folder / "cache"), **weights, **OPTIONS, **pool}
    (folder / "run").mkdir()
    ctx = StageContext(config_file.load(None, given), folder / "run", SerialEngine())
    stages.run_stages(ctx, BEFORE_ROUNDS)
    rows = {}
    for way, (_, options) in WAYS.items():
        shutil.copytree(ctx.folder, folder / way)
        config = config_file.load(None, given | options | _steps(given, 2 if way == "longer" else 1))
        rows[way] = _learn(StageContext(config, folder / way, SerialEngine()))
        sys.stderr.write(f"{pool['pool.uri']} seed {seed} {way}: {json.dumps(rows[way])}\n")
    return rows


def _steps(given: dict[str, Any], times: int) -> dict[str, Any]:
    return {"network.min_steps": times * given["network.min_steps"]}


def _learn(ctx: StageContext) -> dict[str, Any]:
    """Mean AUROC of the findings on the holdout, CPU seconds of all learning and of the networks alone."""
    train, of_networks, of_cache = Adapter.train, [], []

    def timed(self: Adapter, folds: Sequence[Any], seed: int) -> Any:
        start = time.process_time()
        self.prepare(folds)  # the way that comes first fills the cache, which is no part of its learning
        of_cache.append(time.process_time() - start)
        out = train(self, folds, seed)
        of_networks.append(time.process_time() - start - of_cache[-1])
        return out

    start = time.process_time()
    with mock.patch.object(Adapter, "train", timed):
        rounds.run(ctx)
    seconds = time.process_time() - start - sum(of_cache)
    row = json.loads((ctx.folder / "metrics.jsonl").read_text().splitlines()[-1])
    per_finding = {finding: of["holdout"]["auroc"] for finding, of in row["findings"].items()}
    return {"auroc": row["holdout"]["auroc"], "seconds": seconds, "networks": of_networks, "per_finding": per_finding}


def _known() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
    return found


def _keep(key: str, row: dict[str, Any]) -> None:
    FILE.write_text(json.dumps(_known() | {key: row}, indent=1) + "\n", "utf-8")
    _write()


def _write() -> None:
    table, notes = [], []
    for pool in POOLS:
        rows = [row for key, row in _known().items() if key.startswith(f"{pool}/")]
        if not rows:
            continue
        num_findings = len(rows[0]["head"]["per_finding"])
        for way, (name, _) in WAYS.items():
            networks = [sum(row[way]["networks"]) for row in rows]
            table.append(
                (
                    pool,
                    num_findings,
                    name,
                    len(rows),
                    tables.mean_ci([row[way]["auroc"] for row in rows]),
                    tables.mean_ci(networks, 1) if any(networks) else "–",
                    tables.mean_ci([row[way]["seconds"] for row in rows], 1),
                )
            )
        notes.append(f"{pool}, {num_findings} findings: {_paired(rows)}")
    tables.write(
        "findings",
        "One network for all findings",
        "python -m tests.bench findings --seeds 5",
        ("pool", "findings", "what learns", "seeds", "mean AUROC", "CPU s of networks", "CPU s of all learning"),
        table,
        "Mean ± 95 % t-interval over seeds, on holdout scans of other patients. Paired by seed. "
        + " ".join(notes)
        + " "
        "The same labels, heads and cached activations; two folds and one network on all. The backbone has random "
        "weights. The second pool is a file as ChestMNIST's, with fourteen spots for findings. All learning: heads, "
        "networks, pseudo-labels, one exported model a finding, scores.",
    )


def _paired(rows: list[dict[str, Any]]) -> str:
    """One network against a network for each, of the same seeds."""

    def less(way: str, other: str) -> str:
        return tables.mean_ci([row[way]["auroc"] - row[other]["auroc"] for row in rows])

    def networks(row: dict[str, Any], way: str) -> list[float]:
        return [float(seconds) for seconds in row[way]["networks"]]

    of_one = [sum(networks(row, "together")) / np.mean(networks(row, "apart")) for row in rows]
    of_all = [sum(networks(row, "together")) / sum(networks(row, "apart")) for row in rows]
    whole = [row["together"]["seconds"] / row["apart"]["seconds"] for row in rows]
    return (
        f"mean AUROC of one network less that of a network for each {less('together', 'apart')}, with twice the steps "
        f"{less('longer', 'apart')}; of heads less that of a network for each {less('head', 'apart')}. One network "
        f"takes {tables.mean_ci(of_one, 2)} of the time of one finding's, {tables.mean_ci(of_all, 2)} of that of all "
        f"of them; all learning takes {tables.mean_ci(whole, 2)} of the time."
    )
