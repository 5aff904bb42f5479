"""The classifier's network: its last stages, or all of it, learn from what the head in use makes of the whole pool.

The head on frozen embeddings is the teacher here: its calibrated probabilities, at balanced classes, are the soft
targets of every scan of the training pool (experts' scans have their labels), and it is what the network starts from.
One network for each patient-grouped fold gives out-of-fold scores, as for the heads; one learns from everything. Its
last stages see activations that were computed once (`train.adapt: partial`), or it sees pixels (`full`).
"""

import logging
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from embeddings import activations, backbones
from embeddings.activations import Early
from pipeline.contracts.config import Config, NetworkConfig
from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import MANIFEST
from pipeline.learn import network, predict_scans
from pipeline.learn.head import Head
from pipeline.learn.network import Design, Trained
from pipeline.learn.network_fits import Fold, Job, finished, fit, moved, read
from pipeline.learn.network_loop import Curves
from pipeline.measures import calibrate
from pipeline.runtime.context import StageContext, cache_folder
from pipeline.runtime.engine import trainer_of, uses_gpu
from pipeline.vectors.embed import backbone_of

# N scans with a vector, T of them in the training pool, E expert-labelled, C findings

log = logging.getLogger(__name__)


class Adapter:
    """Trains the networks of a round.

    Args:
        ctx: The stage's context.
        ids_N: image_id of every scan with a vector.
        folder: Where a round's fits are kept until it is finished.
    """

    def __init__(self, ctx: StageContext, ids_N: np.ndarray, folder: Path) -> None:
        self.ctx, self.config, self.folder = ctx, ctx.config, folder
        self.root = caches(ctx.config)
        manifest = MANIFEST.read(ctx.folder)
        place = pc.index_in(ids_N.astype(object).tolist(), value_set=manifest["image_id"].combine_chunks())
        self.sha256_N = manifest["sha256"].take(place).to_pylist()
        self.uri_N = manifest["uri"].take(place).to_pylist()

    def train(self, folds: Sequence[Fold], seed: int) -> list[tuple[Trained, np.ndarray, Curves]]:
        """Train one network a fold; returns each with its logits (H, C) of the held-out scans, and its curves."""
        design, early, needed_N = self.prepare(folds)
        at = {int(row): i for i, row in enumerate(needed_N)}
        jobs = [
            Job(
                self.folder,
                f"fold-{number}" if number + 1 < len(folds) else "all",
                replace(design, head=fold.head),
                tuple(self.sha256_N[row] for row in needed_N),
                early,
                self.root,
                moved(fold, at),
                long_enough(self.config.network, len(fold.row_L)),
                seed,
                self.config.engine.use_gpu,
                self.config.engine.threads_per_task,
            )
            for number, fold in enumerate(folds)
        ]
        return self._run(jobs)

    def prepare(self, folds: Sequence[Fold]) -> tuple[Design, Early, np.ndarray]:
        """Compute the activations the cache lacks; returns the network, its early part, and the scans the folds use."""
        design = self._design(folds[-1].head)
        early = activations.early_of(design.backbone, self.config, design.num_early)
        needed_N = np.unique(np.concatenate([self._needed(fold) for fold in folds]))
        fill(self.ctx, early, self.root, [(self.sha256_N[row], self.uri_N[row]) for row in needed_N])
        return design, early, needed_N

    def predict(self, trained: Trained) -> np.ndarray:
        """Logits (N, C) of every scan with a vector, from its pixels."""
        path = self.folder / "whole.onnx"
        for _ in self.ctx.engine.map_shards(_export, [(trained, path)]):
            pass
        out = predict_scans.predict(self.ctx, path, self.uri_N, "logit")
        path.unlink()
        return out

    def clean(self) -> None:
        """Remove the fits; the round keeps its own model."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _design(self, head: Head) -> Design:
        backbone = backbone_of(self.ctx)
        return Design(backbone, num_early(self.ctx, backbone), self.config.preprocess.size_px, head)

    def _needed(self, fold: Fold) -> np.ndarray:
        return np.concatenate([fold.row_L, fold.held_out, *([fold.val[0]] if fold.val else [])])

    def _run(self, jobs: list[Job]) -> list[tuple[Trained, np.ndarray, Curves]]:
        engine, num_workers = self.ctx.engine, self.config.train.num_workers
        on_gpu = uses_gpu(engine, self.config.engine, num_workers, "train.num_workers")
        todo = [job for job in jobs if not finished(job)]
        if num_workers > 1:
            from pipeline.learn import ray_train

            for job in todo:
                ray_train.fit_network(job, num_workers)
        else:
            done = len(jobs) - len(todo)
            trainer = trainer_of(engine, self.config.engine, on_gpu)
            for _ in trainer.map_shards(fit, todo, on_gpu=on_gpu):
                done += 1
                self.ctx.progress("networks", done, len(jobs))
        return [read(job) for job in jobs]


def caches(config: Config) -> Path:
    """Folder of the pixels and activations, shared by all runs."""
    return (Path(config.embed.store) if config.embed.store else cache_folder()) / "scans"


def fill(ctx: StageContext, early: Early, root: Path, scans: Sequence[tuple[str, str]]) -> None:
    """Compute the activations, or decode the pixels, of (sha256, uri) pairs that the cache below `root` lacks."""
    model = None
    if early.num_stages and not _torch_on_gpu(ctx.config):
        model = root / f"{early.backbone.weights_hash}-{early.num_stages}-{early.size_px}.onnx"
        for _ in ctx.engine.map_shards(activations.export_early, [(early, model)]):
            pass
    shards = activations.plan(ctx.config, early, model, root, scans)
    total, done = sum(len(shard.sha256) for shard in shards), 0
    what = "activations" if early.num_stages else "pixels"
    if total:
        log.info(
            "%s of %d scans, %d views each, are computed once and kept in %s",
            what,
            total,
            early.num_views,
            early.cache(root).folder,
        )
    for _, num in ctx.engine.map_shards(activations.fill_shard, shards, on_gpu=True):
        done += num
        ctx.progress(what, done, total)


def count_stages(ctx: StageContext, backbone: backbones.Backbone) -> int:
    """Stages of a network, counted in a task: the driver never imports torch.

    Raises:
        InputError: it is no chain of stages.
    """
    return next(found for _, found in ctx.engine.map_shards(_num_stages, [backbone]))


def check(ctx: StageContext) -> None:
    """Refuse a backbone that cannot be adapted as configured; costs seconds, so that hours of work can come after.

    Raises:
        InputError: it is no chain of stages, or of too few.
    """
    if ctx.config.train.num_workers > 1 and ctx.config.engine.backend == "serial":
        ctx.engine.start()  # says that several workers need Ray
    if ctx.config.train.adapt != "head":
        written = backbones.pretrained_folder(ctx.config.backbone) is not None
        num_early(ctx, (backbones.resolve if written else backbones.untrained)(ctx.config.backbone))


def num_early(ctx: StageContext, backbone: backbones.Backbone) -> int:
    """Stages of the network that do not learn.

    Raises:
        InputError: see `check`.
    """
    num_stages = count_stages(ctx, backbone)
    if ctx.config.train.adapt == "full":
        return 0
    learning = ctx.config.network.last_stages
    if learning >= num_stages:
        raise InputError(
            f"{backbone.name} has {num_stages} stages, so at most {num_stages - 1} can be its last ones",
            value=learning,
            where="network.last_stages",
            fix="choose fewer, or train.adapt=full",
        )
    return num_stages - learning


def fold_of(
    head: Head,
    prob_TC: np.ndarray,
    material: Any,
    rows_E: np.ndarray,
    admitted_T: np.ndarray,
    sure_C: np.ndarray,
    config: Config,
    seed: int,
    val: np.ndarray | None,
) -> Fold:
    """The lesson of one fold: soft targets of the pool, hard ones of its experts, none of the other folds' scans.

    Args:
        head: Calibrated head on features, of this fold.
        prob_TC: Its probabilities of the training pool at balanced classes.
        material: What the round learns from.
        rows_E: Which experts' scans this fold may see.
        admitted_T: Scans with an admitted pseudo-label.
        sure_C: See `Fold`.
        config: Options.
        seed: Of the sample where the pool is larger than `train.max_rows`.
        val: Those of `rows_E` to stop by, as a mask over them; None: no early stopping.
    """
    expert_E, class_E = material.expert_E[rows_E], material.class_E[rows_E]
    num_classes = prob_TC.shape[1]
    place = np.full(int(material.train_T.max()) + 1, -1, np.int64)
    place[material.train_T] = np.arange(len(material.train_T))
    target_TC = prob_TC.astype(np.float64)
    target_TC[place[expert_E]] = np.eye(num_classes)[class_E]
    whole_pool = config.pseudo.gate == "estimated" and config.pseudo.propagate > 0.0
    use_T = np.full(len(target_TC), whole_pool) | admitted_T
    use_T[place[material.rejected_R]] = False
    use_T[place[np.setdiff1d(material.expert_E, expert_E)]] = False
    use_T[place[expert_E]] = True
    found = None
    if val is not None:
        use_T[place[expert_E[val]]] = False
        weight = calibrate.class_weights(class_E, num_classes)[class_E[val]]
        found = (expert_E[val], np.eye(num_classes)[class_E[val]], weight)
    keep = np.flatnonzero(use_T)
    if len(keep) > config.train.max_rows:
        chosen = np.random.default_rng(seed).choice(keep, config.train.max_rows, replace=False)
        keep = np.intersect1d(np.union1d(chosen, place[expert_E]), keep)
    is_expert_T = np.zeros(len(target_TC), bool)
    is_expert_T[place[expert_E]] = True
    return Fold(
        head,
        material.train_T[keep],
        target_TC[keep],
        ~(is_expert_T | admitted_T)[keep],
        sure_C,
        material.expert_E[~rows_E],
        found,
    )


def long_enough(config: NetworkConfig, num_scans: int) -> NetworkConfig:
    """The options with enough epochs to make `min_steps` steps."""
    steps_an_epoch = max(1, math.ceil(num_scans / config.batch_size))
    return config.model_copy(update={"epochs": max(config.epochs, math.ceil(config.min_steps / steps_an_epoch))})


def calibrated(head: Head, basis: tuple[np.ndarray, np.ndarray], temperature: float, bias_C: np.ndarray) -> Head:
    """A head on features as one on embeddings whose softmax is calibrated at balanced classes."""
    return network.first_head(head.shifted(bias_C), *basis, temperature)


def _export(request: tuple[Trained, Path]) -> None:
    trained, path = request
    num_classes = len(network.last_bias(trained.arrays))
    network.export(trained, path, 1.0, np.full(num_classes, 1.0 / num_classes))


def _num_stages(backbone: backbones.Backbone) -> int:
    from embeddings import network_stages

    return len(network_stages.stages(backbone))


def _torch_on_gpu(config: Config) -> bool:
    return config.engine.num_gpus_per_task > 0.0
