"""From the pool to one row per scan: identity, size, hashes; a broken file is a row with a reason."""

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from embeddings.decode import DecodeError, open_grey, read_bytes
from pipeline.contracts.errors import InputError, RunDirError
from pipeline.contracts.tables import MANIFEST, POOL_LABELS, QUEUE, write_parquet
from pipeline.pool import picture_hash
from pipeline.pool.sources import Pool, open_pool
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext, cache_folder

_log = logging.getLogger(__name__)

SHARD_SIZE = 256  # scans a task: some tenths of a second of work, so that few workers stay busy to the end
_SAVE_EVERY_SHARDS = 100
_NUM_HEX = 16
_OF_THE_FILE = ("sha256", "phash", "picture_hash", "width_px", "height_px", "bit_depth", "format")
_HASH_SIDE, _IMAGE_SIDE = 8, 32  # of imagehash.phash, whose bits these are
_READ = pa.schema(
    [
        ("path", pa.string()),
        ("image_id", pa.string()),
        ("sha256", pa.string()),
        ("width_px", pa.int32()),
        ("height_px", pa.int32()),
        ("bit_depth", pa.int16()),
        ("format", pa.string()),
        ("reason", pa.string()),
        ("phash", pa.string()),
        ("picture_hash", pa.string()),
    ]
)


@dataclass(frozen=True)
class Shard:
    """Scans that one task reads."""

    paths: Sequence[str]
    uris: Sequence[str]
    max_pixels: int


def run(ctx: StageContext) -> dict[str, int]:
    """Write `manifest` and `pool_labels` in the pool's order.

    Raises:
        InputError: the pool cannot be opened, or not one of its scans can be used.
    """
    pool = open_pool(ctx.config.pool, cache_folder())
    table = read_scans(ctx, pool)
    scans = pool.scans
    manifest = pa.table(
        {
            "image_id": table["image_id"],
            "uri": scans["uri"],
            "path": scans["path"],
            **{name: table[name] for name in _OF_THE_FILE},
            "view": scans["view"],
            "patient_id": hidden(scans["patient_id"], ctx.config.splits.salt),
            **{name: scans[name] for name in ("source", "population", "age_years", "sex")},
            "status": pc.if_else(pc.is_valid(table["reason"]), "quarantined", "ok"),
            "reason": table["reason"],
        },
        schema=MANIFEST.schema,
    )
    labels = {"image_id": table["image_id"], "label": scans["label"], "pool_split": scans["pool_split"]}
    num_quarantined = _report(pool, manifest)
    _refuse_other_pool(ctx.folder, manifest)
    MANIFEST.write(ctx.folder, manifest)
    POOL_LABELS.write(ctx.folder, pa.table(labels, schema=POOL_LABELS.schema))
    return {
        "num_scans": len(manifest),
        "num_quarantined": num_quarantined,
        "num_patients": len(pc.unique(manifest["patient_id"].drop_null())),
        "num_labelled": len(manifest) - scans["label"].null_count,
    }


def _refuse_other_pool(folder: Path, manifest: pa.Table) -> None:
    """A run goes on with its own pool, which may have grown: what it has queued must still be there.

    Raises:
        RunDirError: before anything of the run is overwritten.
    """
    ids = manifest["image_id"].combine_chunks()
    for place in (run_files.round_folder(folder, r) for r in run_files.drawn_rounds(folder)):
        queued = QUEUE.read(place)["image_id"]
        gone = queued.filter(pc.invert(pc.is_in(queued, value_set=ids)))
        if len(gone):
            raise RunDirError(
                f"{len(gone)} scans that this run has queued are not in the pool",
                value=gone[0].as_py(),
                where=place / QUEUE.file,
                fix="give the pool of before (it may have grown), or start a new run with another --out",
            )


def read_scans(ctx: StageContext, pool: Pool) -> pa.Table:
    """Read every scan of the pool, shard by shard; the rows come back in the pool's order.

    A file read before and unchanged since (same place, size and time of change) is not read again.
    """
    stamps = _stamps(pool.scans["uri"].to_pylist())
    known = _read_before(ctx.folder, pool.scans["path"].to_pylist(), stamps)
    todo = [i for i, row in enumerate(known) if row is None]
    shards = []
    for start in range(0, len(todo), SHARD_SIZE):
        part = pool.scans.take(pa.array(todo[start : start + SHARD_SIZE], pa.int64()))
        shards.append(Shard(part["path"].to_pylist(), part["uri"].to_pylist(), ctx.config.pool.max_pixels))
    done = 0
    ctx.progress("manifest", 0, len(todo))
    for num_finished, (index, result) in enumerate(ctx.engine.map_shards(read_shard, shards), 1):
        places = todo[index * SHARD_SIZE : (index + 1) * SHARD_SIZE]
        for place, row in zip(places, result.to_pylist(), strict=True):
            known[place] = row
        done += len(result)
        ctx.progress("manifest", done, len(todo))
        if num_finished % _SAVE_EVERY_SHARDS == 0:
            _keep(ctx.folder, known, stamps)
    _keep(ctx.folder, known, stamps)
    return pa.Table.from_pylist([row for row in known if row is not None], schema=_READ)


def _stamps(uris: Sequence[str]) -> list[str | None]:
    """Place, size and time of change of each local file; None where it cannot be told."""
    stamps: list[str | None] = []
    for uri in uris:
        try:
            file_stat = Path(uri).stat()
            stamps.append(f"{uri}|{file_stat.st_size}|{file_stat.st_mtime_ns}")
        except (OSError, ValueError):
            stamps.append(None)
    return stamps


def _read_before(folder: Path, paths: Sequence[str], stamps: Sequence[str | None]) -> list[dict[str, Any] | None]:
    path = folder / run_files.SCANS_READ
    if not path.exists():
        return [None] * len(stamps)
    table = pq.read_table(path)
    rows = dict(zip(table["stamp"].to_pylist(), table.drop_columns(["stamp"]).to_pylist(), strict=True))
    known = [None if stamp is None else rows.get(f"{path}|{stamp}") for path, stamp in zip(paths, stamps, strict=True)]
    return [row if row is not None and row["reason"] is None and row.get("picture_hash") else None for row in known]


def _keep(folder: Path, rows: Sequence[dict[str, Any] | None], stamps: Sequence[str | None]) -> None:
    kept = [
        row | {"stamp": f"{row['path']}|{stamp}"}
        for row, stamp in zip(rows, stamps, strict=True)
        if row is not None and stamp is not None
    ]
    schema = _READ.append(pa.field("stamp", pa.string()))
    write_parquet(folder / run_files.SCANS_READ, pa.Table.from_pylist(kept, schema=schema))


def read_shard(shard: Shard) -> pa.Table:
    """Hash and decode the scans of a shard; one that fails has a reason instead of a picture."""
    rows: list[dict[str, Any]] = []
    small = np.zeros((len(shard.paths), _IMAGE_SIDE, _IMAGE_SIDE), np.uint8)
    medium = np.zeros((len(shard.paths), picture_hash.SIDE_PX, picture_hash.SIDE_PX), np.uint8)
    for i, (path, uri) in enumerate(zip(shard.paths, shard.uris, strict=True)):
        row: dict[str, Any] = {"path": path, "image_id": image_id(path, None)}
        rows.append(row)
        try:
            data = read_bytes(uri)
            row["sha256"] = hashlib.sha256(data).hexdigest()
            row["image_id"] = image_id(path, row["sha256"])
            grey = open_grey(data, max_pixels=shard.max_pixels)
            picture = grey.eight_bit()
            small[i] = _shrunk(picture, _IMAGE_SIDE, Image.Resampling.LANCZOS)
            medium[i] = _shrunk(picture, picture_hash.SIDE_PX, Image.Resampling.BILINEAR)
            row["width_px"], row["height_px"] = grey.image.size
            row["bit_depth"], row["format"] = grey.bit_depth, grey.format
        except DecodeError as error:
            row["reason"] = str(error).removesuffix(".")
        except Exception as error:  # noqa: BLE001 - one bad scan must not end a run; counted and logged by `_report`
            row["reason"] = f"unexpected {type(error).__name__}: {str(error)[:120]}"
    long_hashes = [one_B.tobytes().hex() for one_B in picture_hash.picture_hashes(medium)]
    for row, short, long in zip(rows, phashes(small), long_hashes, strict=True):
        row["phash"], row["picture_hash"] = (short, long) if row.get("reason") is None else (None, None)
    return pa.Table.from_pylist(rows, schema=_READ)


def image_id(path: str, sha256: str | None) -> str:
    """16 hex digits, unique per path inside the pool and content, the same on every machine."""
    key = path if sha256 is None else f"{path}\0{sha256}"
    return hashlib.sha256(key.encode()).hexdigest()[:_NUM_HEX]


def hidden(patients: pa.ChunkedArray, salt: str) -> pa.Array:
    """Salted hashes of patient ids, 16 hex digits; null stays null."""
    known = pc.unique(patients).drop_null()
    hashes = [hashlib.sha256(f"{salt}\0{p}".encode()).hexdigest()[:_NUM_HEX] for p in known.to_pylist()]
    return pc.take(pa.array(hashes, pa.string()), pc.index_in(patients, known)).combine_chunks()


def phashes(images_NHW: NDArray[np.uint8]) -> list[str]:
    """DCT perceptual hashes of 32x32 pictures, equal to `str(imagehash.phash(picture))`, all at once."""
    angle = np.pi * (2 * np.arange(_IMAGE_SIDE) + 1) / (2 * _IMAGE_SIDE)
    basis_KH = 2 * np.cos(np.arange(_HASH_SIDE)[:, None] * angle[None])
    low_NKK = basis_KH @ images_NHW.astype(np.float64) @ basis_KH.T
    low_NB = low_NKK.reshape(len(images_NHW), _HASH_SIDE**2)
    bits_NB = low_NB > np.median(low_NB, axis=1, keepdims=True)
    return [row.tobytes().hex() for row in np.packbits(bits_NB, axis=1)]


def _shrunk(picture: Image.Image, side: int, filter_: Image.Resampling) -> NDArray[np.uint8]:
    return np.asarray(picture.resize((side, side), filter_))


def _report(pool: Pool, manifest: pa.Table) -> int:
    reasons = Counter(manifest["reason"].drop_null().to_pylist())
    num_quarantined = reasons.total()
    common = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(3))
    if num_quarantined == len(manifest):
        raise InputError(
            f"not one of the {len(manifest)} scans can be used: {common}",
            where=pool.root,
            fix="check that the paths are relative to the manifest and that the files are images",
        )
    if num_quarantined:
        _log.warning("%d of %d scans are quarantined: %s", num_quarantined, len(manifest), common)
    return num_quarantined
