"""The pretrain stage: the backbone learns from the pool's scans, without their labels, before anything is embedded.

Only the training pool is looked at, never the sealed holdout. Labels that the pool already has are used for nothing
but the probes that are printed on the way.
"""

import json
import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embeddings import backbones
from embeddings.backbones import CARD, Backbone
from embeddings.decoding.picture_keys import by_picture
from embeddings.pretrain import checkpoint, loop, pixel_matrix, ray_workers
from embeddings.pretrain.task import Task
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import MANIFEST, POOL_LABELS, SPLIT_TABLE, write_text
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import Engine, trainer_of, uses_gpu
from pipeline.runtime.growth import record
from pipeline.vectors import pretrain_probe
from pipeline.vectors.pretrain_watch import Watch

log = logging.getLogger(__name__)

MAX_SMALL_SHARE = 0.05  # more scans than this that are smaller than the views: the views are too large for the pool


@dataclass(frozen=True)
class Chosen:
    """Scans to learn from, one a content.

    Attributes:
        table: Their rows of the manifest.
        num_sealed: Scans left out because they, their picture or their patient are in the holdout.
        num_small: Scans left out because they are smaller than the views.
    """

    table: pa.Table
    num_sealed: int
    num_small: int


def run(ctx: StageContext) -> dict[str, Any]:
    """Train for `pretrain.epochs`, nothing for 0; the backbone and its card go to `pretrain/` of the run.

    Raises:
        InputError: before any work, for what cannot be trained here.
    """
    options = ctx.config.pretrain
    if options.epochs == 0:
        write_text(ctx.folder / run_files.PRETRAINING, json.dumps({"epochs": 0}))
        return {"epochs": 0}
    kept = _kept(ctx)
    if kept is not None:
        return kept
    on_gpu = uses_gpu(ctx.engine, ctx.config.engine, options.num_workers, "pretrain.num_workers")
    chosen = _chosen(ctx)
    task = _task(ctx, chosen.table, on_gpu)
    task.check()
    card = _finished(task)
    num_broken = 0
    if card is None:
        trainer = trainer_of(ctx.engine, on_gpu)
        for _ in trainer.map_shards(loop.rehearse, [task], on_gpu=on_gpu):
            pass  # the network, the method and the size of the views fit, or an error says why not
        task, num_broken = _decoded(ctx, task)
        task.check()
        task = _with_looks(ctx, task, chosen.table)
        card = _trained(ctx, trainer, task)
    history = [json.loads(line) for line in (task.folder / loop.HISTORY).read_text("utf-8").splitlines()]
    counts = {
        "epochs": options.epochs,
        "method": options.method,
        "num_scans": card["num_scans"],
        "num_sealed": chosen.num_sealed,
        "num_small": chosen.num_small,
        "num_broken": num_broken,
    }
    write_text(ctx.folder / run_files.PRETRAINING, json.dumps(counts | {"history": history, "card": card}, indent=1))
    seen = {key: history[-1][key] for key in ("loss", "spread", "rank", *pretrain_probe.NAMES) if key in history[-1]}
    return counts | seen


def _kept(ctx: StageContext) -> dict[str, Any] | None:
    """What the stage left before other pools joined the run: its backbone stays; None where there is none to keep."""
    counts_file = run_files.path(ctx.folder, run_files.PRETRAINING)
    card = run_files.path(ctx.folder, run_files.PRETRAINED) / backbones.CARD
    if not (record.parts(ctx.folder) and counts_file.exists() and card.exists()):
        return None
    log.info("the backbone stays as it was pretrained before the run grew")
    counts: dict[str, Any] = json.loads(counts_file.read_text("utf-8"))
    return {name: value for name, value in counts.items() if name not in ("history", "card")}


def backbone_of(config: Config) -> Backbone:
    """What the training begins with."""
    if config.pretrain.start == "random":
        return backbones.untrained(config.backbone)
    return backbones.resolve(config.backbone)


# --- which scans ------------------------------------------------------------------------------------------------------


def _chosen(ctx: StageContext) -> Chosen:
    wanted = ["image_id", "uri", "sha256", "bit_depth", "width_px", "height_px", "patient_id", "status"]
    manifest = run_files.read(ctx.folder, MANIFEST, wanted)
    usable = pc.equal(manifest["status"], "ok")
    open_ = usable
    if run_files.path(ctx.folder, SPLIT_TABLE.file).exists():  # the stage alone, without a split, takes every scan
        splits = run_files.read(ctx.folder, SPLIT_TABLE, ["image_id", "split"])
        train_ids = splits.filter(pc.equal(splits["split"], "train"))["image_id"]
        open_ = pc.is_in(manifest["image_id"], value_set=train_ids.combine_chunks())
    num_sealed = pc.sum(pc.and_not(usable, open_)).as_py() or 0
    if num_sealed:
        log.info("%d scans of the holdout, its patients and its copies are left out", num_sealed)
    table = by_picture(manifest.filter(pc.and_(usable, open_)))
    first = np.unique(np.array(table["sha256"].to_pylist(), dtype=object).astype(str), return_index=True)[1]
    table = table.take(pa.array(first))  # in the order of the content: no file name has a part in the training
    table, num_small = _large_enough(table, ctx.config.pretrain.size_px)
    return Chosen(table, num_sealed, num_small)


def _large_enough(table: pa.Table, size_px: int) -> tuple[pa.Table, int]:
    """Without the scans that a view of this side would only blow up.

    Raises:
        InputError: when these are many.
    """
    side = pc.min_element_wise(table["width_px"], table["height_px"])
    small = pc.less(side, size_px)
    num_small = pc.sum(small).as_py() or 0
    if num_small > MAX_SMALL_SHARE * len(table):
        fitting = int(np.quantile(np.asarray(side), MAX_SMALL_SHARE))
        raise InputError(
            f"{num_small} of {len(table)} scans are smaller than the views",
            value=size_px,
            where="pretrain.size_px",
            fix=f"set it to {fitting} or less" if fitting >= 32 else "use larger scans",
        )
    if num_small:
        log.warning("%d scans are smaller than the views of %d pixels and are left out", num_small, size_px)
    return table.filter(pc.invert(small)), num_small


# --- the work ---------------------------------------------------------------------------------------------------------


def _task(ctx: StageContext, table: pa.Table, on_gpu: bool) -> Task:
    config = ctx.config
    return Task(
        cache=pixel_matrix.open_cache(cache_folder() / "scans", config.pretrain.size_px),
        sha256=tuple(table["sha256"].to_pylist()),
        backbone=backbone_of(config),
        options=config.pretrain,
        seed=config.seed,
        folder=ctx.folder / run_files.PRETRAINED,
        use_gpu=on_gpu,
        num_threads=config.engine.threads_per_task,
    )


def _decoded(ctx: StageContext, task: Task) -> tuple[Task, int]:
    """Decode what the cache lacks; the task without the scans that fail."""
    manifest = run_files.read(ctx.folder, MANIFEST, ["sha256", "uri", "bit_depth"])
    scans = by_picture(manifest).select(["sha256", "uri"]).to_pydict()
    wanted = set(task.sha256)
    pairs = [pair for pair in zip(scans["sha256"], scans["uri"], strict=True) if pair[0] in wanted]
    config = ctx.config
    shards = pixel_matrix.plan(
        task.cache, pairs, config.pretrain.size_px, config.pool.max_pixels, config.embed.shard_size
    )
    done, total = 0, sum(len(shard.sha256) for shard in shards)
    broken: list[tuple[str, str]] = []
    for index, failed in ctx.engine.map_shards(pixel_matrix.decode_shard, shards):
        broken += failed
        done += len(shards[index].sha256)
        ctx.progress("pixels", done, total)
    if broken:
        log.warning("%d scans cannot be read and are left out, first: %s", len(broken), broken[0][1])
    failed_sha = {sha for sha, _ in broken}
    return replace(task, sha256=tuple(sha for sha in task.sha256 if sha not in failed_sha)), len(broken)


def _with_looks(ctx: StageContext, task: Task, table: pa.Table) -> Task:
    """The task with the scans that are looked at on the way, labelled ones where the pool has labels to show."""
    hidden = ctx.config.oracle or ctx.config.pool.asks_several  # from us as well; a probe needs classes
    label = {} if hidden else _labels(ctx)
    image_id = dict(zip(table["sha256"].to_pylist(), table["image_id"].to_pylist(), strict=True))
    patient = dict(zip(table["sha256"].to_pylist(), table["patient_id"].to_pylist(), strict=True))
    label_N = [label.get(image_id[sha]) for sha in task.sha256]
    first: dict[str, str] = {}  # the name of a group must not depend on the run's secret
    group_N = [first.setdefault(patient[sha] or sha, sha) for sha in task.sha256]
    look_at, probe = pretrain_probe.plan(label_N, group_N, task.options.max_probe_scans, ctx.rng("pretrain"))
    return replace(task, look_at=tuple(look_at), probe=probe)


def _labels(ctx: StageContext) -> dict[str, str]:
    table = POOL_LABELS.read(ctx.folder)
    pairs = zip(table["image_id"].to_pylist(), table["label"].to_pylist(), strict=True)
    return {image_id: label for image_id, label in pairs if label is not None}


def _trained(ctx: StageContext, trainer: Engine, task: Task) -> dict[str, Any]:
    task.folder.mkdir(parents=True, exist_ok=True)
    if not (task.folder / checkpoint.FILE).exists():  # a fresh start: what is told begins anew
        (task.folder / loop.HISTORY).unlink(missing_ok=True)
    with Watch(task.folder, ctx.progress, task.options.epochs):
        if task.options.num_workers > 1:
            ray_workers.train(task)
        else:
            for _ in trainer.map_shards(loop.train, [task], on_gpu=bool(task.use_gpu)):
                pass
    card = _finished(task)
    assert card is not None, "a training ends with its card"
    return card


def _finished(task: Task) -> dict[str, Any] | None:
    """The card of this very training, if it was finished before."""
    path = task.folder / CARD
    if not path.exists() or not (task.folder / loop.HISTORY).exists():
        return None
    card: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return card if card.get("settings") == task.settings else None
