"""The classifier's network: its last stages, or all of it, learn from the probabilities the head in use gives the pool.

The head on frozen embeddings is the teacher here: its calibrated probabilities, at balanced classes, are the soft
targets of every scan of the training pool (experts' scans have their labels), and it is what the network starts from.
One network for each patient-grouped fold gives out-of-fold scores, as for the heads; one learns from everything. Its
last stages see activations that were computed once (`train.adapt: partial`), or it sees pixels (`full`). With
`adapter` the same last stages keep their weights, and matrices of low rank learn beside them.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from embeddings import activations, backbones
from embeddings.activations import Early
from embeddings.decoding.picture_keys import by_picture
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError
from pipeline.contracts.object_store import is_url, local_path
from pipeline.contracts.options.learning import NetworkConfig
from pipeline.contracts.tables import MANIFEST
from pipeline.learn.heads.head import Head
from pipeline.learn.network import design as network_design
from pipeline.learn.network import predict_scans
from pipeline.learn.network.design import Design, Trained
from pipeline.learn.network.fits import Contents, Fold, Job, NetworkFit, finished, fit, read
from pipeline.learn.network.low_rank import LowRank
from pipeline.learn.scan_rows import ScanRows
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine, trainer_of, uses_gpu
from pipeline.vectors.embed import backbone_of

# N scans with a vector, H of them held out, C findings

log = logging.getLogger(__name__)


class Adapter:
    """Trains the networks of a round.

    Args:
        ctx: The stage's context.
        scans_N: Every scan with a vector.
        folder: Where a round's fits are kept until it is finished.
    """

    def __init__(self, ctx: StageContext, scans_N: ScanRows, folder: Path) -> None:
        self.ctx, self.config, self.folder, self.scans_N = ctx, ctx.config, folder, scans_N
        self.root = caches(ctx.config)
        manifest = by_picture(run_files.read(ctx.folder, MANIFEST, ["image_id", "uri", "sha256", "bit_depth"]))
        row_N = ScanRows.of(manifest["image_id"]).positions(scans_N)
        self.sha256_N, self.uri_N = (manifest[name].combine_chunks().take(row_N) for name in ("sha256", "uri"))

    def train(self, folds: Sequence[Fold], seed: int) -> list[NetworkFit]:
        """Train one network a fold, in the order given; the last one is that of everything."""
        design, early = self.prepare(folds)
        jobs = [
            Job(
                self.folder,
                f"fold-{number}" if number + 1 < len(folds) else "all",
                replace(design, head=fold.head),
                early,
                self.root,
                fold.lesson.renamed(self._contents),
                fold.sure_C,
                self._contents(fold.held_out),
                long_enough(self.config.network, len(fold.lesson.scans)),
                seed,
                self.config.engine.use_gpu,
                self.config.engine.threads_per_task,
                adapters_of(self.config),
            )
            for number, fold in enumerate(folds)
        ]
        return self._run(jobs)

    def prepare(self, folds: Sequence[Fold]) -> tuple[Design, Early]:
        """Compute the activations the cache lacks; returns the network and its early part."""
        design = self._design(folds[-1].head)
        early = activations.early_of(design.backbone, self.config, design.num_early)
        needed_N = np.zeros(len(self.scans_N), bool)
        for fold in folds:
            stop = fold.lesson.stop
            for scans in (fold.lesson.scans, fold.held_out, *([stop.scans] if stop else [])):
                needed_N[self.scans_N.positions(scans)] = True
        sha256, uri = (column_N.filter(pa.array(needed_N)).to_pylist() for column_N in (self.sha256_N, self.uri_N))
        fill(self.ctx, early, self.root, list(zip(sha256, uri, strict=True)))
        return design, early

    def predict(self, trained: Trained) -> np.ndarray:
        """Logits (N, C) of every scan with a vector, from its pixels."""
        path = self.folder / "whole.onnx"
        for _ in self.ctx.engine.map_shards(_export, [(trained, path)]):
            pass
        out = predict_scans.predict(self.ctx, path, self.uri_N.to_pylist(), "logit")
        path.unlink()
        return out

    def _design(self, head: Head) -> Design:
        backbone = backbone_of(self.ctx)
        return Design(backbone, num_early(self.ctx, backbone), self.config.preprocess.size_px, head)

    def _contents(self, scans: ScanRows) -> Contents:
        return Contents(self.sha256_N.take(self.scans_N.positions(scans)))

    def _run(self, jobs: list[Job]) -> list[NetworkFit]:
        engine, num_workers = self.ctx.engine, self.config.train.num_workers
        todo = [job for job in jobs if not finished(job)]
        engine.expect(num_networks=len(todo))
        on_gpu = uses_gpu(engine, self.config.engine, num_workers, "train.num_workers")
        if num_workers > 1:
            from pipeline.learn import ray_train

            for job in todo:
                ray_train.fit_network(job, num_workers)
        else:
            done = len(jobs) - len(todo)
            trainer = trainer_of(engine, on_gpu)
            for _ in trainer.map_shards(fit, todo, on_gpu=on_gpu):
                done += 1
                self.ctx.progress("networks", done, len(jobs))
        return [read(job) for job in jobs]


def caches(config: Config) -> Path:
    """Folder of the pixels and activations, shared by all runs."""
    store = config.embed.store
    return (local_path(store) if store and not is_url(store) else cache_folder()) / "scans"


def fill(ctx: StageContext, early: Early, root: Path, scans: Sequence[tuple[str, str]]) -> None:
    """Compute the activations, or decode the pixels, of (sha256, uri) pairs that the cache below `root` lacks."""
    model = None
    if early.num_stages and not _torch_on_gpu(ctx.config):
        model = root / f"{early.backbone.key}-{early.num_stages}-{early.size_px}.onnx"
        for _ in ctx.engine.map_shards(activations.export_early, [(early, model)]):
            pass
    shards = activations.plan(ctx.config, early, model, root, scans)
    total, done = sum(len(shard.sha256) for shard in shards), 0
    kind = "activations" if early.num_stages else "pixels"
    if total:
        log.info(
            "%s of %d scans, %d views each, are computed once and kept in %s",
            kind,
            total,
            early.num_views,
            early.cache(root).folder,
        )
    for _, num in ctx.engine.map_shards(activations.fill_shard, shards, on_gpu=True):
        done += num
        ctx.progress(kind, done, total)


def adapters_of(config: Config) -> LowRank | None:
    """Size of the adapters, where they are what learns."""
    network = config.network
    return LowRank(network.adapter_rank, network.adapter_alpha) if config.train.adapt == "adapter" else None


def count_stages(ctx: StageContext, backbone: backbones.Backbone) -> int:
    """Stages of a network, counted in a task: the driver never imports torch.

    Raises:
        InputError: it is no chain of stages.
    """
    request = backbone, ctx.config.preprocess.size_px
    return next(num for _, num in ctx.engine.map_shards(_num_stages, [request]))


def check(ctx: StageContext) -> None:
    """Refuse a backbone that cannot be adapted as configured; costs seconds, so that hours of work can come after.

    Raises:
        InputError: it is no chain of stages, or of too few.
    """
    if ctx.config.train.num_workers > 1 and isinstance(ctx.engine, SerialEngine):
        ctx.engine.start()  # says that several workers need Ray
    if ctx.config.train.adapt != "head":
        backbone = ctx.config.backbone
        here = backbones.pretrained_folder(backbone) is not None or backbone.weights is not None
        num_early(ctx, (backbones.resolve if here else backbones.untrained)(backbone))


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


def long_enough(config: NetworkConfig, num_scans: int) -> NetworkConfig:
    """The options with enough epochs to make `min_steps` steps."""
    steps_an_epoch = max(1, math.ceil(num_scans / config.batch_size))
    return config.model_copy(update={"epochs": max(config.epochs, math.ceil(config.min_steps / steps_an_epoch))})


def _export(request: tuple[Trained, Path]) -> None:
    trained, path = request
    num_classes = len(network_design.last_bias(trained.arrays))
    network_design.export(trained, path, 1.0, np.full(num_classes, 1.0 / num_classes))


def _num_stages(request: tuple[backbones.Backbone, int]) -> int:
    from embeddings import network_stages

    return len(network_stages.stages(*request))


def _torch_on_gpu(config: Config) -> bool:
    return config.engine.num_gpus_per_task > 0.0
