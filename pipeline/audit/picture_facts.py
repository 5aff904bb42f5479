"""What a scan looks like at a glance, without a network: colour, contrast, noise, grey levels, shape, a thumbnail.

Radiographs are grey, full of grey levels, smooth at the scale of a thumbnail, and about as wide as high.

Legend: N scans, F facts, S side of the square, X pixels of the grid.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from embeddings import decode
from embeddings.alterations import lungs
from embeddings.decoding import files
from embeddings.shrunk import shrunk_files
from pipeline.contracts.tables import read_if_whole, write_parquet
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext

Floats = NDArray[np.float32]

FACTS = ("colour", "contrast", "neighbour", "entropy_bits", "elongation")  # the last: longer side over shorter
GRID = 24  # side of the thumbnail by which scans are held against the pool's usual one
_VERSION = b"1"  # raise it whenever a fact is computed in another way
_SHARD_SIZE = 64
_SIDE_PX = 96
_COLOUR_SIDE_PX = 64


@dataclass(frozen=True)
class Shard:
    """Scans of one task."""

    sha256: tuple[str, ...]
    uris: tuple[str, ...]
    max_pixels: int


def measure(ctx: StageContext, scans: pa.Table) -> tuple[Floats, Floats]:
    """Facts (N, F) and thumbnails (N, X) of rows of the manifest; kept in the run's folder by content.

    Findings of one run and a second audit ask for the same scans: they are read once.
    """
    sha256, uris = scans["sha256"].to_pylist(), scans["uri"].to_pylist()
    known = _read(ctx)
    todo = {sha: uri for sha, uri in zip(sha256, uris, strict=True) if sha not in known}
    names, places = list(todo), list(todo.values())
    starts = range(0, len(places), _SHARD_SIZE)
    parts = [slice(start, start + _SHARD_SIZE) for start in starts]
    shards = [Shard(tuple(names[part]), tuple(places[part]), ctx.config.pool.max_pixels) for part in parts]
    for index, (fact_NF, grid_NX) in ctx.engine.map_shards(look, shards):
        both = np.hstack([fact_NF, grid_NX])
        known |= dict(zip(names[starts[index] : starts[index] + len(both)], both, strict=True))
    if todo:
        _write(ctx, known)
    both_NV = np.stack([known[sha] for sha in sha256])
    return both_NV[:, : len(FACTS)], both_NV[:, len(FACTS) :]


def _read(ctx: StageContext) -> dict[str, Floats]:
    path = run_files.path(ctx.folder, run_files.AUDIT_PICTURES)
    table = read_if_whole(path)
    if table is None or (table.schema.metadata or {}).get(b"version") != _VERSION:
        return {}
    values = table["values"].combine_chunks()
    both_NV = values.values.to_numpy().reshape(len(table), -1).astype(np.float32)
    return dict(zip(table["sha256"].to_pylist(), both_NV, strict=True))


def _write(ctx: StageContext, known: dict[str, Floats]) -> None:
    """Sorted by content: the same scans give the same bytes."""
    content = sorted(known)
    values = pa.array(np.concatenate([known[sha] for sha in content]), pa.float32())
    width = len(FACTS) + GRID * GRID
    columns = {"sha256": pa.array(content), "values": pa.FixedSizeListArray.from_arrays(values, width)}
    table = pa.table(columns).replace_schema_metadata({b"version": _VERSION})
    write_parquet(run_files.path(ctx.folder, run_files.AUDIT_PICTURES), table)


def look(shard: Shard) -> tuple[Floats, Floats]:
    """One task: facts (n, F) and thumbnails without slow changes (n, X); NaN where a scan cannot be read."""
    fact_NF = np.full((len(shard.uris), len(FACTS)), np.nan, np.float32)
    grid_NX = np.full((len(shard.uris), GRID * GRID), np.nan, np.float32)
    for row, (sha256, uri) in enumerate(zip(shard.sha256, shard.uris, strict=True)):
        try:
            data = files.read_bytes(uri)
            square_SS, sides_px = _square(data, sha256, uri, shard.max_pixels)
            fact_NF[row] = [_colour(data), *_of_square(square_SS), max(sides_px) / max(min(sides_px), 1)]
            grid_NX[row] = grid(square_SS)
        except Exception:  # noqa: BLE001 - what cannot be read is the business of quarantined-scans
            continue
    return fact_NF, grid_NX


def _square(data: bytes, sha256: str, uri: str, max_pixels: int) -> tuple[Floats, tuple[int, int]]:
    """A small square of the scan, kept or made, and the sides of the picture itself in pixels."""
    scan = shrunk_files.kept(sha256, uri, _SIDE_PX)
    if scan is not None:
        return scan.square(_SIDE_PX), (scan.width_px, scan.height_px)
    grey = decode.open_grey(data, max_pixels=max_pixels, white=files.white_of(uri))
    return grey.square(_SIDE_PX), grey.image.size


def _colour(data: bytes) -> float:
    """Mean difference of the strongest and the weakest channel, 0..1; 0 of what is no ordinary picture."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode not in ("RGB", "RGBA", "P", "CMYK", "YCbCr"):
                return 0.0
            small = image.convert("RGB").resize((_COLOUR_SIDE_PX, _COLOUR_SIDE_PX))
    except (UnidentifiedImageError, OSError, ValueError):
        return 0.0
    pixel_SS3 = np.asarray(small, np.float32) / 255
    return float((pixel_SS3.max(axis=2) - pixel_SS3.min(axis=2)).mean())


def _of_square(square_SS: Floats) -> Sequence[float]:
    """Contrast (5 to 95 %), correlation of neighbouring pixels, and entropy of the grey levels, inside flat borders."""
    top, bottom, left, right = lungs.inner_box(square_SS)
    inner_HW = square_SS[top:bottom, left:right]
    low, high = np.percentile(inner_HW, (5, 95))
    spread = float(inner_HW.std())
    near = 1.0 if spread < 1e-4 else float(np.corrcoef(inner_HW[:, 1:].ravel(), inner_HW[:, :-1].ravel())[0, 1])
    share_256 = np.bincount((inner_HW.ravel() * 255).astype(np.int64), minlength=256) / inner_HW.size
    entropy_bits = float(-(share_256[share_256 > 0] * np.log2(share_256[share_256 > 0])).sum())
    return float(high - low), near, entropy_bits


def grid(square_SS: Floats) -> Floats:
    """A thumbnail of mean 0 and norm 1, clipped so that markers do not outweigh a chest, (X,)."""
    small_GG = decode.resize(np.ascontiguousarray(square_SS), GRID)
    centred_GG = np.clip(small_GG - small_GG.mean(), -0.3, 0.3)
    return np.asarray(centred_GG.ravel() / max(float(np.linalg.norm(centred_GG)), 1e-6), np.float32)
