"""The scans of the set as the baselines see them: content, class, patient group, embeddings, what the file says."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.decoding.picture_keys import by_picture
from pipeline.audit import off_lung_features
from pipeline.contracts import config_file
from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import DUPLICATES, MANIFEST, POOL_LABELS
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.vectors import embed
from pipeline.vectors.matrix import Vectors

# N scans, D dimensions, M facts

log = logging.getLogger(__name__)
VGG16, VGG16_FILE = "torchvision:vgg16", "vgg16-397923af.pth"
VGG16_PX, _VGG16_CHANNELS = 224, 512  # other sizes do not fit its pooling to 7 x 7
_MATRIX = "bench-embeddings.npy"  # there only while vectors are gathered

Ints = np.ndarray


@dataclass(frozen=True)
class Material:
    """Usable scans, in the order of their content: the same on every machine.

    Attributes:
        ctx: Folder of the audit, configuration, engine.
        scans: Their rows of the manifest.
        class_N: Index among the findings.
        group_N: Patient with all copies of the patient's pictures.
    """

    ctx: StageContext
    scans: pa.Table
    class_N: Ints
    group_N: Ints

    def __len__(self) -> int:
        return len(self.scans)

    @cached_property
    def sha256(self) -> tuple[str, ...]:
        """Content of each scan, as its vectors are kept under it."""
        return tuple(by_picture(self.scans)["sha256"].to_pylist())

    @cached_property
    def uris(self) -> tuple[str, ...]:
        """Where each scan is read from."""
        return tuple(self.scans["uri"].to_pylist())

    @cached_property
    def emb_ND(self) -> np.ndarray:
        """What the audit's backbone makes of each scan."""
        vectors = Vectors.open(self.ctx.folder)
        return np.asarray(vectors.emb_ND[vectors.positions(self.scans["image_id"])], np.float32)

    @cached_property
    def facts(self) -> off_lung_features.PixelFacts:
        """What the files say, and embeddings of the scans without their lungs; the audit has left both."""
        return off_lung_features.measure(self.ctx, self.scans)

    def facts_named(self, names: Sequence[str]) -> np.ndarray:
        """Columns of the facts, (N, M)."""
        return self.facts.meta_NM[:, [self.facts.names.index(name) for name in names]]

    def vgg16(self, weights: Path) -> np.ndarray:
        """Embeddings (N, 512) of VGG16, its last feature map averaged."""
        options = {"backbone.name": VGG16, "backbone.weights": str(weights), "preprocess.size_px": VGG16_PX}
        options |= {"embed.features": "pooled"}
        config = config_file.load(self.ctx.folder / run_files.RESOLVED, options)
        ctx = replace(self.ctx, config=config)
        content = list(zip(self.sha256, self.uris, strict=True))
        job = embed.prepare(ctx, content)
        total = job.num_scans
        broken = embed.embed(ctx, job, lambda done: ctx.progress("vgg16", done, total))
        if broken:
            raise InputError(f"{len(broken)} scans can no longer be read: {broken[0][1]}", where="bench reference")
        path = ctx.folder / _MATRIX
        emb_ND = np.asarray(embed.gather(ctx, job, content, path), np.float32)
        path.unlink()
        return np.asarray(emb_ND.reshape(len(self), _VGG16_CHANNELS, -1).mean(axis=2))


def load(ctx: StageContext) -> Material:
    """What the audit's stages have left; a scan that could not be embedded is left out."""
    scans = scans_of(ctx)
    rows = np.flatnonzero(np.asarray(Vectors.open(ctx.folder).has(scans.scans["image_id"])))
    return replace(
        scans, scans=scans.scans.take(pa.array(rows)), class_N=scans.class_N[rows], group_N=scans.group_N[rows]
    )


def scans_of(ctx: StageContext) -> Material:
    """The usable scans of the folder."""
    table = run_files.read(ctx.folder, MANIFEST).append_column("label", POOL_LABELS.read(ctx.folder)["label"])
    copies = run_files.read(ctx.folder, DUPLICATES)
    for name in ("group_id", "canonical_id"):
        table = table.append_column(name, copies[name])
    table = table.filter(pc.equal(table["status"], "ok")).sort_by([("sha256", "ascending"), ("path", "ascending")])
    findings = pa.array(ctx.config.pool.findings or (), pa.string())
    class_N = np.asarray(pc.index_in(table["label"], value_set=findings), np.int64)
    group_N = np.asarray(pc.index_in(table["group_id"], pc.unique(table["group_id"])), np.int64)
    return Material(ctx, table, class_N, group_N)


def find_vgg16(wanted: Path | None) -> Path | None:
    """The file of VGG16's ImageNet weights: the one given, else where torch keeps what it downloads; None without.

    Raises:
        InputError: the file given is not there.
    """
    if wanted is not None:
        if not wanted.is_file():
            raise InputError("no such weights file", value=str(wanted), where="--vgg16", fix=f"give {VGG16_FILE}")
        return wanted
    path = vgg16_place()
    return path if path.is_file() else None


def vgg16_place() -> Path:
    """Where torch keeps VGG16's weights."""
    base = os.environ.get("TORCH_HOME")
    home = Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))) / "torch"
    return home / "hub" / "checkpoints" / VGG16_FILE
