"""The embed stage: every decodable scan of the manifest gets its row in the run's matrix."""

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embeddings import backbones, extract, onnx_file
from embeddings.alterations.alteration import Alteration
from embeddings.backbones import Backbone
from embeddings.decoding.picture_keys import by_picture
from embeddings.store import EmbeddingStore
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.vectors import BackboneConfig, Features
from pipeline.contracts.shared_folder import SharedFolder
from pipeline.contracts.tables import MANIFEST, SPLIT_TABLE, write_parquet, write_text
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.vectors.matrix import save_ids

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What is to be embedded, and where the vectors go.

    Attributes:
        backbone: What embeds.
        store: Where the vectors of all scans asked for will be.
        shards: What the store lacks.
        alteration: What is taken out of the scans first.
    """

    backbone: Backbone
    store: EmbeddingStore
    shards: tuple[extract.Shard, ...]
    alteration: Alteration = "none"

    @property
    def num_scans(self) -> int:
        """Scans that the network has yet to see."""
        return sum(len(shard.sha256) for shard in self.shards)


def backbone_of(ctx: StageContext) -> Backbone:
    """The run's backbone: the one its pretrain stage wrote, where `pretrain.epochs` asks for one.

    Raises:
        InputError: when it is asked for and not there: only `run` and `pretrain` have that stage.
    """
    if ctx.config.pretrain.epochs == 0:
        return backbones.resolve(ctx.config.backbone)
    folder = run_files.path(ctx.folder, run_files.PRETRAINED)
    if not (folder / backbones.CARD).is_file():
        raise InputError(
            "the backbone is to be pretrained, and has not been in this folder",
            value=ctx.config.pretrain.epochs,
            where="pretrain.epochs",
            fix="set it to 0; with the folder of `cxr-ssl pretrain` in backbone.name for a pretrained one",
        )
    return backbones.resolve(BackboneConfig(name=str(folder)))


def _say_if_another_size(ctx: StageContext, backbone: Backbone) -> None:
    """Features learned at one size are worth less at another (measured on kermany: AUROC .958 at it, .932 beside)."""
    if backbone.size_px not in (None, ctx.config.preprocess.size_px):
        log.warning(
            "the backbone was pretrained at %d pixels and embeds at %d: preprocess.size_px=%d would suit it better",
            backbone.size_px,
            ctx.config.preprocess.size_px,
            backbone.size_px,
        )


def prepare(ctx: StageContext, content: Sequence[tuple[str, str]], *, alteration: Alteration = "none") -> Job:
    """Find the run's backbone, its store, and which of the (sha256, uri) pairs have no vector yet.

    Args:
        ctx: Configuration and engine; the network is exported to ONNX here, once.
        content: Scans, copies included.
        alteration: What is taken out of the scans first; altered scans have a store of their own.
    """
    ctx.engine.expect(len(content))
    root = _root(ctx.config)
    backbone = backbone_of(ctx)
    store = extract.open_store(ctx.config, backbone, root, alteration=alteration)
    model = _onnx(ctx, backbone, root) if _use_onnx(ctx.config) else None
    shards = extract.plan(ctx.config, backbone, model, store, content, alteration=alteration)
    return Job(backbone, store, tuple(shards), alteration)


def embed(ctx: StageContext, job: Job, report: Callable[[int], None]) -> list[tuple[str, str]]:
    """Embed all shards; `report` is called with the scans done so far. Returns (sha256, reason) of broken scans."""
    done = 0
    broken: list[tuple[str, str]] = []
    for _, result in ctx.engine.map_shards(extract.embed_shard, job.shards, on_gpu=True):
        done += result.num_embedded + len(result.broken)
        broken += result.broken
        ctx.failed("embed", len(broken))
        report(done)
    return broken


def gather(ctx: StageContext, job: Job, content: Sequence[tuple[str, str]], path: Path) -> NDArray[np.float16]:
    """The vectors (N, D) of a finished job's (sha256, uri) pairs, in that order, mapped from `path`.

    Where a part of the store turns out damaged, its scans are embedded once more.

    Raises:
        InputError: a scan among them can no longer be read as it was.
    """
    sha256 = [sha for sha, _ in content]
    try:
        return job.store.gather(sha256, path)
    except KeyError:
        again = prepare(ctx, content, alteration=job.alteration)
        broken = embed(ctx, again, lambda _: None)
        if broken:
            raise InputError(
                f"{len(broken)} scans whose embeddings were damaged cannot be read any more: {broken[0][1]}",
                where=job.store.folder,
                fix="put the files back, and go on with --resume",
            ) from None
        return again.store.gather(sha256, path)


def run(ctx: StageContext) -> dict[str, Any]:
    """Embed what the store lacks, then gather `embeddings.npy` in manifest order."""
    manifest = run_files.read(ctx.folder, MANIFEST, ["image_id", "uri", "sha256", "bit_depth", "status"])
    scans = by_picture(manifest.filter(pc.equal(manifest["status"], "ok")))
    job = prepare(ctx, list(zip(scans["sha256"].to_pylist(), scans["uri"].to_pylist(), strict=True)))
    _say_if_another_size(ctx, job.backbone)
    total = job.num_scans
    ctx.progress("embed", 0, total)
    if job.shards:
        ctx.engine.num_slots()  # starts Ray, which is not the network's time
    start = time.perf_counter()
    broken = embed(ctx, job, lambda done: ctx.progress("embed", done, total))
    seconds = time.perf_counter() - start
    kept = scans
    if broken:
        log.warning("%d scans could not be embedded and are left out, first: %s", len(broken), broken[0][1])
        failed = pa.array([sha for sha, _ in broken])
        kept = scans.filter(pc.invert(pc.is_in(scans["sha256"], value_set=failed)))
    if len(kept) == 0:
        raise InputError("no scan could be embedded", where="embed", fix=broken[0][1] if broken else None)
    write_parquet(
        ctx.folder / run_files.NOT_EMBEDDED,
        pa.table(
            {
                "sha256": pa.array([s for s, _ in broken], pa.string()),
                "reason": pa.array([r for _, r in broken], pa.string()),
            }
        ),
    )
    content = list(zip(kept["sha256"].to_pylist(), kept["uri"].to_pylist(), strict=True))
    emb_ND = gather(ctx, job, content, ctx.folder / run_files.EMBEDDINGS)
    save_ids(ctx.folder, kept["image_id"])
    weights = job.backbone.weights_file
    card = asdict(job.backbone) | {"weights_file": weights.name if weights else None}
    card |= {"dim": emb_ND.shape[1], "size_px": ctx.config.preprocess.size_px, "features": ctx.config.embed.features}
    card |= {"own_dim": job.store.own_dim(emb_ND.shape[1])}
    card |= {"num_holdout_seen": _num_holdout_seen(ctx, job.backbone, manifest)}
    write_text(ctx.folder / run_files.BACKBONE, json.dumps(card))
    return {
        "num_embedded": total - len(broken),
        "num_reused": len(kept) - (total - len(broken)),
        "num_failed": len(broken),
        "dim": emb_ND.shape[1],
        "scans_per_second": round(total / seconds, 1) if total else None,
    }


def _num_holdout_seen(ctx: StageContext, backbone: Backbone, manifest: pa.Table) -> int:
    """Scans of the sealed holdout that a pretraining elsewhere has looked at, without labels; said out loud."""
    if not run_files.path(ctx.folder, SPLIT_TABLE.file).exists():
        return 0
    splits = run_files.read(ctx.folder, SPLIT_TABLE, ["image_id", "split"])
    holdout = splits.filter(pc.equal(splits["split"], "holdout"))["image_id"]
    sealed = by_picture(manifest.filter(pc.is_in(manifest["image_id"], value_set=holdout.combine_chunks())))
    num = len(backbones.seen(backbone, sealed["sha256"].to_pylist()))
    if num:
        log.warning(
            "the backbone was pretrained, without labels, on %d of the %d scans of this run's sealed holdout: its "
            "figures will look better than on new scans; pretrain on the training pool alone (pretrain.epochs in run)",
            num,
            len(sealed),
        )
    return num


def embedder_of(ctx: StageContext) -> tuple[Backbone, Path | None]:
    """What has embedded a run's scans: its backbone, and its ONNX file, written where it is not in the cache.

    Where the file is there, the weights themselves are neither wanted nor looked at: its name holds their hash.

    Returns:
        The backbone, and the file; None: the network runs in torch.

    Raises:
        InputError: see `unchanged`.
    """
    root = _root(ctx.config)
    size_px, features = ctx.config.preprocess.size_px, ctx.config.embed.features
    if _use_onnx(ctx.config):
        backbone = _backbone_of_card(run_files.path(ctx.folder, run_files.BACKBONE))
        model = extract.model_here(root, extract.model_path(backbone, features, size_px, Path()).name)
        if model.exists():
            return backbone, model
    backbone = unchanged(ctx)
    return backbone, _onnx(ctx, backbone, root) if _use_onnx(ctx.config) else None


def unchanged(ctx: StageContext) -> Backbone:
    """The backbone of a run that has embedded its scans, with its weights.

    Raises:
        InputError: they cannot be had, or are other ones by now.
    """
    backbone = backbone_of(ctx)
    own = _backbone_of_card(run_files.path(ctx.folder, run_files.BACKBONE))
    if backbone.key != own.key:
        raise InputError(
            "the weights behind the backbone's name are other ones than when the run was made",
            value=f"{backbone.weights_hash}, the run has {own.weights_hash}",
            where="backbone",
            fix="put the old weights back",
        )
    return backbone


def _backbone_of_card(path: Path) -> Backbone:
    """What `backbone.json` says of the backbone; its file of weights may lie elsewhere."""
    card = json.loads(path.read_text("utf-8"))
    kept = {field.name: card.get(field.name) for field in fields(Backbone)}
    if kept["weights_file"] is not None:
        kept["weights_file"] = Path(kept["weights_file"])
    if kept["normalisation"] is not None:
        mean, std = kept["normalisation"]
        kept["normalisation"] = tuple(mean), tuple(std)
    return Backbone(**kept | {"pooling": kept["pooling"] or "auto"})


def _root(config: Config) -> SharedFolder:
    """Folder of all stores of vectors, and of the networks that make them."""
    return SharedFolder(config.embed.store or cache_folder() / "embeddings")


def _use_onnx(config: Config) -> bool:
    if config.embed.runtime == "auto":
        return config.engine.num_gpus_per_task == 0.0
    return config.embed.runtime == "onnx"


def _onnx(ctx: StageContext, backbone: Backbone, root: SharedFolder) -> Path:
    """Export once, in a task, so that the driver never imports torch."""
    size_px, features = ctx.config.preprocess.size_px, ctx.config.embed.features
    name = extract.model_path(backbone, features, size_px, Path()).name
    path = extract.model_here(root, name)
    if onnx_file.is_whole(path):
        return path
    log.info("exporting %s to ONNX, once", backbone.name)
    for _ in ctx.engine.map_shards(export, [(backbone, features, size_px, root)]):
        pass
    return extract.model_here(root, name)  # the task may have run on another machine


def export(request: tuple[Backbone, Features, int, SharedFolder]) -> str:
    """One task: write the ONNX file of a backbone, and its hash, where all who embed find it."""
    backbone, features, size_px, root = request
    path = extract.export_onnx(backbone, features, size_px, root.here / extract.MODELS)
    root.give(path, onnx_file.hash_path(path))
    return str(path)
