"""`partial` against `full`: the same lesson, the same number of epochs; seconds an epoch and the official test.

The lesson is that of the fifth round on kermany (100 expert labels): soft labels of the whole pool. No folds here: both
networks learn from everything once, and are scored by AUROC, which needs no operating point.
"""

import contextlib
import json
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from sklearn.metrics import roc_auc_score

from pipeline.commands import request, run
from pipeline.contracts.config import Config
from pipeline.contracts.tables import POOL_LABELS
from pipeline.learn.network.adapter import Adapter
from pipeline.learn.network.fits import Fold
from pipeline.rounds import learn_round
from pipeline.rounds.run_scans import Dataset
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from tests.bench import pools, tables

FILE = tables.RESULTS / "network.json"
WAYS = ("partial", "full")


class _StopError(Exception):
    """The lesson is known; nothing more is wanted of the run."""


class _Recorder(Adapter):
    """Keeps the lesson instead of learning it."""

    kept: "tuple[StageContext, Fold, int] | None" = None

    def train(self, folds: Sequence[Fold], seed: int) -> Any:
        """Keep what would have been learned from everything."""
        _Recorder.kept = (self.ctx, folds[-1], seed)
        raise _StopError


def main(data: Path, given: Namespace) -> None:
    """Learn the same lesson both ways, seed after seed."""
    for seed in range(given.seeds):
        missing = [way for way in WAYS if f"{way}/{seed}" not in _known()]
        if missing:
            with tempfile.TemporaryDirectory() as folder:
                ctx, fold, fit_seed = _lesson(data, seed, Path(folder) / "run")
                for way in missing:
                    row = _learn(ctx, fold, fit_seed, way)
                    sys.stderr.write(f"{way} seed {seed}: {json.dumps(row)}\n")
                    FILE.write_text(json.dumps(_known() | {f"{way}/{seed}": row}, indent=1) + "\n", "utf-8")
                    _write()


def _lesson(data: Path, seed: int, out: Path) -> tuple[StageContext, Fold, int]:
    overrides = {
        "pool.uri": pools.uri(data, "kermany"),
        "oracle": True,
        "seed": seed,
        "rounds.reference": False,
        "train.adapt": "partial",
        "engine.backend": "serial",
        **pools.OVERRIDES["kermany"],
    }
    with mock.patch.object(learn_round, "Adapter", _Recorder), contextlib.suppress(_StopError):
        run.execute(request.Request(overrides=overrides, out=out, quiet=True))
    assert _Recorder.kept is not None, "the last round trains a network"
    return _Recorder.kept


def _learn(ctx: StageContext, fold: Fold, seed: int, way: str) -> dict[str, Any]:
    train = ctx.config.train.model_copy(update={"adapt": way})
    config: Config = ctx.config.model_copy(update={"train": train})
    ctx = StageContext(config, ctx.folder, SerialEngine())
    data = Dataset.open(ctx)
    adapter = Adapter(ctx, data.scans_N, ctx.folder / way)
    adapter.prepare([fold])
    start = time.process_time()
    [(trained, _, curves)] = adapter.train([fold], seed)
    seconds = time.process_time() - start
    label = dict(zip(*(POOL_LABELS.read(ctx.folder)[name].to_pylist() for name in ("image_id", "label")), strict=True))
    ids_N = data.scans_N.image_id.to_pylist()
    test_N = np.array(data.sides(data.scans_N)) == "holdout"
    truth_N = np.array([label[image_id] == "pneumonia" for image_id in ids_N])
    logit_NC = adapter.predict(trained)
    auroc = roc_auc_score(truth_N[test_N], (logit_NC[:, 1] - logit_NC[:, 0])[test_N])
    return {
        "auroc": float(auroc),
        "seconds_an_epoch": seconds / len(curves.loss),
        "num_scans": len(fold.lesson.scans),
        "epochs": len(curves.loss),
    }


def _known() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
    return found


def _write() -> None:
    found = _known()
    rows = {way: {k.split("/")[1]: v for k, v in found.items() if k.startswith(way)} for way in WAYS}
    table = [
        (
            way,
            len(of),
            tables.mean_ci([row["auroc"] for row in of.values()]),
            tables.mean_ci([row["seconds_an_epoch"] for row in of.values()], 0),
            tables.mean_ci([row["num_scans"] / row["seconds_an_epoch"] for row in of.values()], 1),
        )
        for way, of in rows.items()
        if of
    ]
    both = sorted(set(rows["partial"]) & set(rows["full"]))
    ratio = [rows["full"][s]["seconds_an_epoch"] / rows["partial"][s]["seconds_an_epoch"] for s in both]
    gain = [rows["partial"][s]["auroc"] - rows["full"][s]["auroc"] for s in both]
    notes = "One epoch over the same scans and soft labels, CPU seconds of one thread. "
    if both:
        notes += (
            f"Paired by seed: partial is {tables.mean_ci(ratio, 1)} times as fast an epoch, its AUROC less that of "
            f"full is {tables.mean_ci(gain)}. Filling the cache of activations comes once and is not in it."
        )
    tables.write(
        "network",
        "Last stages or the whole network (kermany, 100 expert labels, official test)",
        "python -m tests.bench network --seeds 2",
        ("what learns", "seeds", "AUROC", "CPU seconds an epoch", "scans/s"),
        table,
        notes,
    )
