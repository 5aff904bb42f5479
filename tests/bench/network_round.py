"""One round on a pool up to the moment at which its network learns, and what a candidate is worth there.

The holdout is a share of the pool's patients, other ones for each seed, and Kermany is its training part alone, so no
official test is read. Scans are read and compared once for all seeds of a pool.
"""

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from embeddings import activations
from pipeline import stages
from pipeline.contracts import config_file
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.config import Config
from pipeline.contracts.tables import write_text
from pipeline.labels.holdout import holdout_truth
from pipeline.learn import rollback, self_training
from pipeline.learn.candidate import Candidate
from pipeline.learn.lesson import learn_masks
from pipeline.learn.material import Material
from pipeline.learn.network import adapter as network_adapter
from pipeline.learn.network import design, student
from pipeline.learn.network.adapter import Adapter
from pipeline.learn.network.design import Trained
from pipeline.learn.network.fits import Fold
from pipeline.learn.network.student import FrozenHeads
from pipeline.learn.network.training_loop import logits_of
from pipeline.learn.self_training import Taught
from pipeline.measures import calibrate
from pipeline.measures.holdout_metrics import expected_calibration_error
from pipeline.rounds import loop
from pipeline.rounds.run_scans import Dataset
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from pipeline.vectors.matrix import Vectors
from tests.bench import pools

POOLS = {"kermany": 0.5, "nih": 0.3, "covid3": 0.3, "phantom": 0.3}  # and the share of its patients that is held out
FINDINGS = {"kermany": "normal pneumonia", "nih": "no_finding pneumonia", "covid3": "no_finding pneumonia covid"}
LABELS = (100, 50)
NUM_FOLDS, SIZE_PX = 3, 128  # fewer and smaller than by default: a fifth of the time
MEASURES = ("auroc", "accuracy", "brier", "ece")
Row = dict[str, Any]


class _KnownError(Exception):
    """What was asked for is known; nothing more is wanted of the run."""

    def __init__(self, row: Row) -> None:
        super().__init__()
        self.row = row


@dataclass(frozen=True)
class Begun:
    """A round whose heads have learned, and whose network has not."""

    ctx: StageContext
    taught: Taught
    adapter: Adapter
    rng: np.random.Generator

    @property
    def material(self) -> Material:
        """What it learns from."""
        return self.taught.heads.material


Measure = Callable[[Begun], Row]


def complete(file: Path, run: str, data: Path, measure: Measure, what: str = "") -> None:
    """Add a run to a file of results, unless it is there."""
    key = run + what
    if key not in known_rows(file):
        pool, labels, seed = run.split("/")
        start = time.perf_counter()
        row = of_one_round(data, pool, int(labels), int(seed), measure)
        row["minutes"] = (time.perf_counter() - start) / 60.0
        sys.stderr.write(f"{key}: {json.dumps(row)}\n")
        write_text(file, json.dumps(known_rows(file) | {key: row}, indent=1) + "\n")


def known_rows(file: Path) -> dict[str, Row]:
    known: dict[str, Row] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    return known


def of_one_round(data: Path, pool: str, labels: int, seed: int, measure: Measure) -> Row:
    """What `measure` makes of the first round of a run on a pool that was read before."""
    options = _options(data, pool) | {"queue.budget": labels, "seed": seed, "splits.draw": f"seed-{seed}"}
    options["preprocess.size_px"] = SIZE_PX
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        shutil.copytree(_read(data, pool), place)
        ctx = StageContext(config_file.load(None, options), place, SerialEngine())
        for name in ("splits", "embed", "clusters"):
            stages.function(name, ctx.config)(ctx)

        def learn(
            material: Material, config: Config, engine: Any, num: int, admitted: Any, rng: Any, adapter: Any
        ) -> None:
            taught = self_training.teach(material, config, engine, num, admitted, rng)
            raise _KnownError(measure(Begun(ctx, taught, adapter, rng)))

        with mock.patch.object(self_training, "learn", learn):
            try:
                loop.run(ctx)
            except _KnownError as known:
                return known.row
    raise AssertionError("the round learns")


def _read(data: Path, pool: str) -> Path:
    """A folder in which the scans of a pool were read and compared, once for all seeds."""
    place = cache_folder() / "bench" / "network_gate" / pool
    if not (place / run_files.FEATURES).exists():
        config = config_file.load(None, _options(data, pool))
        place.mkdir(parents=True, exist_ok=True)
        run_dir.write_config(place, config)
        stages.run_stages(StageContext(config, place, SerialEngine()), stages.READ)
    return place


def _options(data: Path, pool: str) -> dict[str, Any]:
    folder = cache_folder() / "bench" / "network_gate"
    return {
        "pool.uri": pools.without_a_test(data, folder)[pool],
        "oracle": True,
        "rounds.num": 1,
        "rounds.reference": False,
        "train.adapt": "partial",
        "calibrate.num_folds": NUM_FOLDS,
        "splits.holdout_fraction": POOLS[pool],
        "engine.backend": "serial",
        **({"pool.findings": FINDINGS[pool].split()} if pool in FINDINGS else {}),
    }


def folds(heads: FrozenHeads, config: Config, seed: int) -> list[Fold]:
    """What the networks of the folds learn, and last the one that answers; as `student.adapted` has it."""
    folds = []
    for number, learn_E in enumerate(learn_masks(heads.fold_E)):
        lesson = student.fold_lesson(heads, number, config, learn_E, None, config.train.max_rows, seed)
        held_out = heads.material.expert_E.keep(~learn_E)
        first = student.first_head([heads], [number], seed)
        folds.append(Fold(first, lesson, heads.acceptance.learning_threshold_C, held_out))
    return folds


def predict(adapter: Adapter, trained: Trained) -> np.ndarray:
    """Logits (N, C) of every scan with a vector, from the activations of its plain view."""
    early = activations.early_of(trained.design.backbone, adapter.config, trained.design.num_early)
    sha256 = adapter.sha256_N.to_pylist()
    network_adapter.fill(adapter.ctx, early, adapter.root, list(zip(sha256, adapter.uri_N.to_pylist(), strict=True)))
    rows = early.cache(adapter.root).rows(sha256)
    return logits_of(lambda: design.late(trained.design), trained.arrays, rows, adapter.config.network, False)


@dataclass(frozen=True)
class Both:
    """Stands for a model that is two; nothing is asked of it."""

    def shifted(self, bias_C: np.ndarray) -> "Both":
        """Itself: the logits are shifted apart from it."""
        return self


def worth(begun: Begun, candidate: Candidate) -> Row:
    """A candidate's measures out of fold and on the holdout, with the product's calibration and operating point."""
    learned = begun.taught.learned(candidate)
    findings = Dataset.open(begun.ctx).findings
    model = learned.classifier(findings)
    prob_EC, prob_NC = (model.probabilities(of) for of in (learned.oof_logit_EC, learned.student_logit_NC))
    truth = holdout_truth(begun.ctx.folder, findings)
    prob_HC = prob_NC[Vectors.open(begun.ctx.folder).positions(truth.ids)]
    return {
        "out_of_fold": _measures(prob_EC, model.classes(prob_EC), begun.material.class_E),
        "holdout": _measures(prob_HC, model.classes(prob_HC), truth.class_N),
        "temperature": learned.temperature,
    }


def _measures(prob_NC: np.ndarray, called_N: np.ndarray, truth_N: np.ndarray) -> dict[str, float]:
    right_N = called_N == truth_N
    return {
        "auroc": rollback.oof_auroc(prob_NC, truth_N) or 0.5,
        "accuracy": float(right_N.mean()),
        "balanced_accuracy": float(np.mean([right_N[truth_N == c].mean() for c in np.unique(truth_N)])),
        "brier": float(0.5 * np.square(prob_NC - np.eye(prob_NC.shape[1])[truth_N]).sum(1).mean()),
        "ece": expected_calibration_error(prob_NC.max(1), prob_NC.argmax(1) == truth_N),
    }


def auroc_of_first_head(begun: Begun, heads: FrozenHeads) -> float:
    """On the holdout, before the network learned."""
    first = student.first_head([heads], [-1], 0)
    return holdout_auroc(begun, first.logits(np.asarray(Vectors.open(begun.ctx.folder).own_ND, np.float32)))


def holdout_auroc(begun: Begun, logit_NC: np.ndarray) -> float:
    truth = holdout_truth(begun.ctx.folder, Dataset.open(begun.ctx).findings)
    rows = Vectors.open(begun.ctx.folder).positions(truth.ids)
    return rollback.oof_auroc(calibrate.apply_temperature(logit_NC[rows], 1.0), truth.class_N) or 0.5
