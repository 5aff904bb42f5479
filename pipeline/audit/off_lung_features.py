"""What the files and the rims of scans say without a lung: file facts, grey levels, the network on erased lungs.

All of it depends on a scan's content alone. It is kept in the run's folder by content, and so are the vectors of
erased scans in the store: a second audit of the same scans reads no file.

Legend: N scans of the table asked for, M facts, D dimensions, S side of the square.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embeddings.alterations import lungs
from embeddings.decoding.picture_keys import by_picture
from embeddings.shrunk.read_shrunk import shrunk_scan
from embeddings.shrunk.shrunk_scan import ShrunkScan
from pipeline.audit import altered_vectors
from pipeline.contracts.tables import read_if_whole, write_parquet
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.vectors import embed

Floats = NDArray[np.float32]

FILE_FACTS = (
    "width_px",
    "height_px",
    "aspect",
    "megapixels",
    "bit_depth",
    "is_png",
    "is_jpeg",
    "is_tiff",
    "bytes_per_pixel",
)
GREY_FACTS = ("grey_mean", "grey_sd", "grey_p01", "grey_p50", "grey_p99", "black_share", "white_share")
RIM_FACTS = (
    "rim_mean",
    "border_px",
    "corner_top_left",
    "corner_top_right",
    "corner_bottom_left",
    "corner_bottom_right",
)
NAMES = FILE_FACTS + GREY_FACTS + RIM_FACTS

_VERSION = 1  # raise it whenever a fact is computed in another way
_SHARD_SIZE = 256
_RIM_SIDE_PX, _RIM_PX = 224, 8


@dataclass(frozen=True)
class PixelFacts:
    """Facts of scans, in the order of the table asked for.

    Attributes:
        image_ids: Identity of each row.
        names: What the columns of `meta_NM` are.
        meta_NM: File, grey levels and rim of each scan; NaN where it could not be read.
        masked_emb_ND: The run's backbone on the scan without its lungs; NaN where it could not be read.
        quality_N: How well a schematic chest fits the scan (`lungs.Region`), 0..1; NaN where it could not be read.
        ok_N: Whether everything is known of a scan.
    """

    image_ids: tuple[str, ...]
    names: tuple[str, ...]
    meta_NM: Floats
    masked_emb_ND: Floats
    quality_N: Floats
    ok_N: NDArray[np.bool_]


@dataclass(frozen=True)
class Shard:
    """Scans of one task."""

    sha256: tuple[str, ...]
    uris: tuple[str, ...]
    max_pixels: int
    size_px: int


def measure(ctx: StageContext, scans: pa.Table) -> PixelFacts:
    """Look at scans without their lungs; one that cannot be read is logged and not `ok`, never an error.

    Args:
        ctx: Where to work, with which backbone.
        scans: Rows of the manifest whose status is ok.
    """
    scans = by_picture(scans)
    sha256 = scans["sha256"].to_pylist()
    unique = dict(zip(reversed(sha256), reversed(scans["uri"].to_pylist()), strict=True))  # the first uri wins
    known = _read(ctx)
    todo = [sha for sha in dict.fromkeys(sha256) if sha not in known]
    job = altered_vectors.prepare(ctx, scans, "lungs-erased")
    total = len(todo) + job.num_scans
    ctx.progress("audit", 0, total)
    new, broken = _facts(ctx, todo, [unique[sha] for sha in todo], total)
    known |= new
    if new:
        _write(ctx, known)
    broken |= dict(embed.embed(ctx, job, lambda done: ctx.progress("audit", len(todo) + done, total)))
    altered_vectors.say_broken(broken)
    ok_N = np.array([sha not in broken for sha in sha256], np.bool_)
    fact_NM = np.full((len(sha256), len(NAMES) + 1), np.nan, np.float32)
    for row in np.flatnonzero(ok_N):
        fact_NM[row] = known[sha256[row]]
    return PixelFacts(
        image_ids=tuple(scans["image_id"].to_pylist()),
        names=NAMES,
        meta_NM=fact_NM[:, :-1],
        masked_emb_ND=altered_vectors.gather(ctx, job, scans, ok_N),
        quality_N=fact_NM[:, -1],
        ok_N=ok_N,
    )


def look(shard: Shard) -> tuple[Floats, tuple[str | None, ...]]:
    """One task: facts and mask quality of its scans, (n, M + 1), and why a scan has none (NaN)."""
    fact_NM = np.full((len(shard.uris), len(NAMES) + 1), np.nan, np.float32)
    reasons: list[str | None] = []
    for row, (key, uri) in enumerate(zip(shard.sha256, shard.uris, strict=True)):
        try:
            scan = shrunk_scan(uri, key, shard.max_pixels, shard.size_px)
            fact_NM[row] = [
                *_file_facts(scan),
                *_grey_facts(scan.num_by_grey_256.astype(np.float64)),
                *_rim_facts(scan),
                lungs.lung_region(scan.square(shard.size_px)).quality,
            ]
            reasons.append(None)
        except Exception as error:  # noqa: BLE001 - one bad scan must not end an audit; it is counted and reported
            reasons.append(f"{type(error).__name__}: {error}")
    return fact_NM, tuple(reasons)


def _file_facts(scan: ShrunkScan) -> Sequence[float]:
    width_px, height_px, num_pixels = scan.width_px, scan.height_px, scan.width_px * scan.height_px
    kinds = [float(scan.format == kind) for kind in ("PNG", "JPEG", "TIFF")]
    bytes_a_pixel = scan.num_bytes / num_pixels
    return width_px, height_px, width_px / height_px, num_pixels / 1e6, scan.bit_depth, *kinds, bytes_a_pixel


def _grey_facts(count_256: NDArray[np.float64]) -> Sequence[float]:
    """Of the whole picture, in parts of full scale, from its histogram."""
    share_256 = count_256 / count_256.sum()
    value_256 = np.arange(256) / 255
    mean = float(share_256 @ value_256)
    sd = float(np.sqrt(share_256 @ (value_256 - mean) ** 2))
    levels = np.searchsorted(np.cumsum(share_256), (0.01, 0.50, 0.99)) / 255
    return mean, sd, *levels.tolist(), float(share_256[0]), float(share_256[-1])


def _rim_facts(scan: ShrunkScan) -> Sequence[float]:
    """Mean of the outermost pixels and of the corners of a 224 square; mean width of black borders in file pixels."""
    square_SS, rim = scan.square(_RIM_SIDE_PX), _RIM_PX
    rim_SS = np.ones(square_SS.shape, np.bool_)
    rim_SS[rim:-rim, rim:-rim] = False
    ends = (slice(None, rim), slice(-rim, None))
    corners = [float(square_SS[down, across].mean()) for down in ends for across in ends]
    return float(square_SS[rim_SS].mean()), float(np.mean(scan.dark_lines_px)), *corners


def _facts(
    ctx: StageContext, sha256: list[str], uris: list[str], total: int
) -> tuple[dict[str, Floats], dict[str, str]]:
    """Facts by content, and why some contents have none."""
    ctx.engine.expect(len(uris))
    starts = range(0, len(uris), _SHARD_SIZE)
    cut = partial(Shard, max_pixels=ctx.config.pool.max_pixels, size_px=ctx.config.preprocess.size_px)
    ends = [slice(start, start + _SHARD_SIZE) for start in starts]
    shards = [cut(tuple(sha256[part]), tuple(uris[part])) for part in ends]
    facts: dict[str, Floats] = {}
    broken: dict[str, str] = {}
    done = 0
    for index, (fact_NM, reasons) in ctx.engine.map_shards(look, shards):
        content = sha256[starts[index] : starts[index] + len(reasons)]
        facts |= {sha: row for sha, row, reason in zip(content, fact_NM, reasons, strict=True) if reason is None}
        broken |= {sha: reason for sha, reason in zip(content, reasons, strict=True) if reason is not None}
        done += len(reasons)
        ctx.progress("audit", done, total)
    return facts, broken


def _made_by(ctx: StageContext) -> dict[bytes, bytes]:
    return {b"made_by": f"{_VERSION}-lungs{lungs.VERSION}-{ctx.config.preprocess.size_px}".encode()}


def _read(ctx: StageContext) -> dict[str, Floats]:
    """Facts of an earlier audit of this folder; none where they were made in another way or cannot be read."""
    path: Path = run_files.path(ctx.folder, run_files.PIXELS)
    table = read_if_whole(path)
    if table is None or table.schema.metadata != _made_by(ctx):
        return {}
    fact_NM = np.stack([table[name].to_numpy() for name in (*NAMES, "quality")], axis=1)
    return dict(zip(table["sha256"].to_pylist(), fact_NM, strict=True))


def _write(ctx: StageContext, known: dict[str, Floats]) -> None:
    """Sorted by content: the same facts give the same bytes, in whatever order they were found."""
    content = sorted(known)
    fact_NM = np.stack([known[sha] for sha in content])
    columns = {"sha256": pa.array(content, pa.string())}
    columns |= {name: pa.array(fact_NM[:, m]) for m, name in enumerate((*NAMES, "quality"))}
    table = pa.table(columns).replace_schema_metadata(_made_by(ctx))
    write_parquet(run_files.path(ctx.folder, run_files.PIXELS), table)
