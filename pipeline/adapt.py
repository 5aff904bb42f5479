"""The classifier's network: its last stages, or all of it, learn from what the head in use makes of the whole pool.

The head on frozen embeddings is the teacher here: its calibrated probabilities, at balanced classes, are the soft
targets of every scan of the training pool (experts' scans have their labels), and it is what the network starts from.
One network for each patient-grouped fold gives out-of-fold scores, as for the heads; one learns from everything. Its
last stages see activations that were computed once (`train.adapt: partial`), or it sees pixels (`full`).
"""

import hashlib
import json
import logging
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from embeddings import activations, backbones
from embeddings.activations import Early
from pipeline import calibrate, network, run_dir
from pipeline.config import Config, NetworkConfig
from pipeline.context import StageContext, cache_folder
from pipeline.contracts import MANIFEST, write_bytes, write_text
from pipeline.embedding import backbone_of
from pipeline.errors import InputError
from pipeline.learn_network import Curves, Lesson, learn_network, logits_of
from pipeline.network import Design, Trained
from pipeline.train import Head, Worker

# N scans with a vector, T of them in the training pool, E expert-labelled, C findings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fold:
    """What one network learns from; positions are rows of the run's feature matrix.

    Attributes:
        head: The head it starts from, on features; logits at temperature 1, bias included.
        row_L: Scans to learn from.
        target_LC: Their class probabilities at balanced classes.
        open_L: Whether neither an expert nor an admitted pseudo-label stands behind the target.
        sure_C: Probability, at balanced classes, from which on an open scan's own answer counts.
        held_out: Scans of experts to score when it has learned.
        val: Optional (positions, targets, weights) of other patients to stop by.
    """

    head: Head
    row_L: np.ndarray
    target_LC: np.ndarray
    open_L: np.ndarray
    sure_C: np.ndarray
    held_out: np.ndarray
    val: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None


@dataclass(frozen=True)
class Job:
    """One network to train: a task. The result is files in `folder`, named `name`."""

    folder: Path
    name: str
    design: Design
    sha256: tuple[str, ...]
    early: Early
    root: Path
    fold: Fold
    config: NetworkConfig
    seed: int
    use_gpu: bool | None
    num_threads: int


class Adapter:
    """Trains the networks of a round.

    Args:
        ctx: The stage's context.
        ids_N: image_id of every scan with a vector.
        folder: Where a round's fits are kept until it is finished.
    """

    def __init__(self, ctx: StageContext, ids_N: np.ndarray, folder: Path) -> None:
        self.ctx, self.config, self.folder = ctx, ctx.config, folder
        self.root = (Path(ctx.config.embed.store) if ctx.config.embed.store else cache_folder()) / "scans"
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
                self.folder, f"fold-{number}" if number + 1 < len(folds) else "all", replace(design, head=fold.head),
                tuple(self.sha256_N[row] for row in needed_N), early, self.root, _moved(fold, at),
                long_enough(self.config.network, len(fold.row_L)), seed, self.config.engine.use_gpu,
                self.config.engine.threads_per_task,
            )
            for number, fold in enumerate(folds)
        ]  # fmt: skip
        return self._run(jobs)

    def prepare(self, folds: Sequence[Fold]) -> tuple[Design, Early, np.ndarray]:
        """Compute the activations the cache lacks; returns the network, its early part, and the scans the folds use."""
        design = self._design(folds[-1].head)
        early = activations.early_of(design.backbone, self.config, design.num_early)
        needed_N = np.unique(np.concatenate([self._needed(fold) for fold in folds]))
        self._fill(early, needed_N)
        return design, early, needed_N

    def predict(self, trained: Trained) -> np.ndarray:
        """Logits (N, C) of every scan with a vector, from its pixels."""
        path = self.folder / "whole.onnx"
        for _ in self.ctx.engine.map_shards(_export, [(trained, path)]):
            pass
        out = predict(self.ctx, path, self.uri_N, "logit")
        path.unlink()
        return out

    def clean(self) -> None:
        """Remove the fits; the round keeps its own model."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _design(self, head: Head) -> Design:
        backbone = backbone_of(self.ctx)
        return Design(backbone, num_early(self.ctx, backbone), self.config.preprocess.size_px, head)

    def _fill(self, early: Early, needed_N: np.ndarray) -> None:
        """Compute the activations the cache lacks."""
        engine = self.ctx.engine
        scans = [(self.sha256_N[row], self.uri_N[row]) for row in needed_N]
        model = None
        if early.num_stages and not _torch_on_gpu(self.config):
            name = f"{early.backbone.weights_hash}-{early.num_stages}-{early.size_px}.onnx"
            for _ in engine.map_shards(activations.export_early, [(early, self.root / name)]):
                model = self.root / name
        shards = activations.plan(self.config, early, model, self.root, scans)
        total, done = sum(len(shard.sha256) for shard in shards), 0
        if total:
            what = "activations" if early.num_stages else "pixels"
            log.info("%s of %d scans, %d views each, are computed once and kept in %s", what, total,
                     early.num_views, early.cache(self.root).folder)  # fmt: skip
        for _, num in engine.map_shards(activations.fill_shard, shards, on_gpu=True):
            done += num
            self.ctx.progress("activations", done, total)

    def _needed(self, fold: Fold) -> np.ndarray:
        return np.concatenate([fold.row_L, fold.held_out, *([fold.val[0]] if fold.val else [])])

    def _run(self, jobs: list[Job]) -> list[tuple[Trained, np.ndarray, Curves]]:
        if self.config.train.num_workers > 1:
            from pipeline import distributed

            self.ctx.engine.start()
            for job in jobs:
                if not finished(job):
                    distributed.fit_network(job, self.config.train.num_workers)
        else:
            done = sum(finished(job) for job in jobs)
            for _ in self.ctx.engine.map_shards(fit, [job for job in jobs if not finished(job)], on_gpu=True):
                done += 1
                self.ctx.progress("networks", done, len(jobs))
        return [read(job) for job in jobs]


def check(ctx: StageContext) -> None:
    """Refuse a backbone that cannot be adapted as configured; costs seconds, so that hours of work can come after.

    Raises:
        InputError: it is no chain of stages, or of too few.
    """
    if ctx.config.train.adapt != "head":
        written = backbones.pretrained_folder(ctx.config.backbone) is not None
        num_early(ctx, (backbones.resolve if written else backbones.untrained)(ctx.config.backbone))


def num_early(ctx: StageContext, backbone: backbones.Backbone) -> int:
    """Stages of the network that do not learn.

    Raises:
        InputError: see `check`.
    """
    num_stages = next(found for _, found in ctx.engine.map_shards(_num_stages, [backbone]))
    if ctx.config.train.adapt == "full":
        return 0
    learning = ctx.config.network.last_stages
    if learning >= num_stages:
        raise InputError(
            f"{backbone.name} has {num_stages} stages, so at most {num_stages - 1} can be its last ones",
            value=learning, where="network.last_stages", fix="choose fewer, or train.adapt=full",
        )  # fmt: skip
    return num_stages - learning


def fold_of(
    head: Head, prob_TC: np.ndarray, material: Any, rows_E: np.ndarray, admitted_T: np.ndarray, sure_C: np.ndarray,
    config: Config, seed: int, val: np.ndarray | None,
) -> Fold:  # fmt: skip
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
        head, material.train_T[keep], target_TC[keep], ~(is_expert_T | admitted_T)[keep], sure_C,
        material.expert_E[~rows_E], found,
    )  # fmt: skip


def long_enough(config: NetworkConfig, num_scans: int) -> NetworkConfig:
    """The options with enough epochs to make `min_steps` steps."""
    steps_an_epoch = max(1, math.ceil(num_scans / config.batch_size))
    return config.model_copy(update={"epochs": max(config.epochs, math.ceil(config.min_steps / steps_an_epoch))})


def calibrated(head: Head, basis: tuple[np.ndarray, np.ndarray], temperature: float, bias_C: np.ndarray) -> Head:
    """A head on features as one on embeddings whose softmax is calibrated at balanced classes."""
    return network.first_head(head.shifted(bias_C), *basis, temperature)


def fit(job: Job) -> None:
    """Train one network in this process, from its last epoch if there is one; writes its files."""
    checkpoint = job.folder / f"{job.name}.pt"
    mine = fingerprint(job)
    worker = Worker(
        report=lambda epoch, loss, state: _save_state(checkpoint, state | {"fingerprint": mine}),
        state=_load_state(checkpoint, mine),
    )
    arrays, curves = learn(job, worker)
    write(job, arrays, curves)
    checkpoint.unlink(missing_ok=True)


def learn(job: Job, worker: Worker) -> tuple[network.Arrays, Curves]:
    """Train one network, alone or as one of several workers.

    Raises:
        InputError: when the loss is not finite.
    """
    scans = job.early.cache(job.root).rows(job.sha256)
    fold = job.fold
    lesson = Lesson(
        scans, fold.row_L, fold.target_LC, np.ones(len(fold.row_L)), fold.open_L, fold.sure_C, fold.val
    )  # fmt: skip
    try:
        return learn_network(
            lambda: network.late(job.design), lesson, job.config, job.seed, use_gpu=job.use_gpu, worker=worker
        )
    except FloatingPointError as error:
        raise InputError(
            f"the network cannot be trained: {error}", value=job.config.lr, where="network.lr",
            fix=f"choose a smaller one and --resume; the last good epoch is kept in {job.folder}",
        ) from error  # fmt: skip


def write(job: Job, arrays: network.Arrays, curves: Curves) -> None:
    """Write what a fit gave: the network, its logits of the held-out scans, its curves (last: now it counts)."""
    from safetensors.numpy import save

    logit_HC = np.zeros((0, job.fold.target_LC.shape[1]), np.float32)
    if len(job.fold.held_out):
        scans = job.early.cache(job.root).rows(job.sha256)
        build = lambda: network.late(job.design)  # noqa: E731
        logit_HC = logits_of(build, arrays, scans, job.fold.held_out, job.config, job.use_gpu)
    write_bytes(job.folder / f"{job.name}.safetensors", save(arrays))
    found = {
        "loss": curves.loss,
        "val": curves.val,
        "trace": curves.trace,
        "logit": logit_HC.tolist(),
        "fingerprint": fingerprint(job),
    }
    write_text(job.folder / f"{job.name}.json", json.dumps(found))


def finished(job: Job) -> bool:
    """Whether this very fit was done before."""
    path = job.folder / f"{job.name}.json"
    return path.exists() and json.loads(path.read_text("utf-8"))["fingerprint"] == fingerprint(job)


def read(job: Job) -> tuple[Trained, np.ndarray, Curves]:
    """What `write` wrote."""
    from safetensors.numpy import load_file

    found = json.loads((job.folder / f"{job.name}.json").read_text("utf-8"))
    logit_HC = np.array(found["logit"], np.float32).reshape(-1, job.fold.target_LC.shape[1])
    arrays = load_file(job.folder / f"{job.name}.safetensors")
    return (
        Trained(job.design, arrays),
        logit_HC,
        Curves(tuple(found["loss"]), tuple(found["val"]), tuple(found["trace"])),
    )


def _digest(*arrays: bytes) -> str:
    return hashlib.sha256(b"".join(arrays)).hexdigest()


def fingerprint(job: Job) -> str:
    """What decides the outcome of a fit."""
    fold = job.fold
    return run_dir.fingerprint(
        {
            "scans": _digest("".join(job.sha256).encode()),
            "arrays": _digest(
                fold.row_L.tobytes(), fold.target_LC.tobytes(), fold.open_L.tobytes(), fold.sure_C.tobytes(),
                fold.held_out.tobytes(), *(part.tobytes() for part in fold.val or ()),
                *(fold.head.arrays[name].tobytes() for name in sorted(fold.head.arrays)),
            ),
            "config": job.config.model_dump(), "seed": job.seed, "weights": job.design.backbone.weights_hash,
            "early": job.design.num_early, "size_px": job.design.size_px,
        }
    )  # fmt: skip


@dataclass(frozen=True)
class _Scans:
    """Scans of one prediction task."""

    model: Path
    uris: tuple[str, ...]
    output: str
    size_px: int
    max_pixels: int
    num_threads: int


def predict(ctx: StageContext, model: Path, uris: Sequence[str], output: str) -> np.ndarray:
    """Run an exported network over scans, shard by shard: (N, C) of the named output."""
    config, size = ctx.config, ctx.config.embed.shard_size
    shards = [
        _Scans(
            model, tuple(uris[start : start + size]), output, config.preprocess.size_px, config.pool.max_pixels,
            config.engine.threads_per_task,
        )
        for start in range(0, len(uris), size)
    ]  # fmt: skip
    out: dict[int, np.ndarray] = {}
    for index, found in ctx.engine.map_shards(_predict_shard, shards):
        out[index] = found
        ctx.progress("predict", len(out), len(shards))
    return np.concatenate([out[index] for index in range(len(shards))])


def _predict_shard(shard: _Scans) -> np.ndarray:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = shard.num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(shard.model), options, providers=["CPUExecutionProvider"])

    def scans() -> Iterator[np.ndarray]:
        for uri in shard.uris:
            yield activations.load(uri, shard.size_px, shard.max_pixels)[None]

    return np.concatenate([session.run([shard.output], {"scan": scan})[0] for scan in scans()])


def _export(request: tuple[Trained, Path]) -> None:
    trained, path = request
    num_classes = len(network.last_bias(trained.arrays))
    network.export(trained, path, 1.0, np.full(num_classes, 1.0 / num_classes))


def _num_stages(backbone: backbones.Backbone) -> int:
    from embeddings import chain

    return len(chain.stages(backbone))


def _moved(fold: Fold, at: dict[int, int]) -> Fold:
    """The fold with positions among the scans of its job."""

    def move(rows: np.ndarray) -> np.ndarray:
        return np.array([at[int(row)] for row in rows], np.int64)

    val = None if fold.val is None else (move(fold.val[0]), *fold.val[1:])
    return replace(fold, row_L=move(fold.row_L), held_out=move(fold.held_out), val=val)


def _torch_on_gpu(config: Config) -> bool:
    return config.engine.num_gpus_per_task > 0.0


def _save_state(path: Path, state: dict[str, Any]) -> None:
    import io

    import torch

    stream = io.BytesIO()
    torch.save(state, stream)
    write_bytes(path, stream.getvalue())


def _load_state(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """The last epoch of this very fit; None where there is none."""
    import torch

    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state if state["fingerprint"] == fingerprint else None
