"""From the pool to one row per scan: identity, size, hashes, tags; a broken file is a row with a reason."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embeddings.decoding.files import archive_of, read_bytes
from embeddings.decoding.grey_range import white_of_bits
from embeddings.decoding.unusable import DecodeError
from embeddings.shrunk import shrunk_files
from embeddings.shrunk.shrunk_scan import SIDES_PX
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.config import Config
from pipeline.contracts.damaged_files import set_aside
from pipeline.contracts.errors import InputError, RunDirError
from pipeline.contracts.tables import MANIFEST, POOL_LABELS, POOL_READINGS, QUEUE, opened, write_parquet, write_text
from pipeline.pool import outside, picture_hash, whites
from pipeline.pool.dicom import rules
from pipeline.pool.growth import joined
from pipeline.pool.growth.joined import Tables
from pipeline.pool.listing import chosen, patient_forms
from pipeline.pool.reading import FEW_GREYS, IMAGE_SIDE, Read, ReadingOptions, read_scan, split_key
from pipeline.pool.sources import Pool, open_pool
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import LazyShards
from pipeline.runtime.growth import record
from pipeline.runtime.private_files import pseudonym, salt_of
from pipeline.tables.notes import listed

_log = logging.getLogger(__name__)

SHARD_SIZE = 256  # scans a task: some tenths of a second of work, so that few workers stay busy to the end
_SAVE_EVERY_SHARDS = 100
_ROWS_AT_ONCE = 65_536  # of Python's own objects
_NUM_HEX = 16
_OF_THE_FILE = ("sha256", "phash", "picture_hash", "width_px", "height_px", "bit_depth", "format")
_OF_THE_TAGS = ("laterality", "study_id", "series_id", "manufacturer", "pixel_spacing_mm", "white", "note")
_HASH_SIDE = 8  # of imagehash.phash, whose bits these are
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
        ("open_bits", pa.int16()),  # where the file does not say its white, the bits that it seems to have
        ("white", pa.int32()),
        ("note", pa.string()),
        ("view", pa.string()),
        ("age_years", pa.float32()),
        ("sex", pa.string()),
        ("patient_id", pa.string()),  # pseudonyms, as the other ids
        ("study_id", pa.string()),
        ("series_id", pa.string()),
        ("laterality", pa.string()),
        ("manufacturer", pa.string()),
        ("pixel_spacing_mm", pa.float32()),
        ("split_key", pa.string()),
    ]
)
_STAMP = pa.field("stamp", pa.string())


@dataclass(frozen=True)
class Shard:
    """Scans that one task reads.

    Attributes:
        paths: Inside the pool.
        uris: Where to read each.
        options: How.
        whites: The white of each that the pool decided; None: `options` say it, or the file.
        root: What no path may leave, see `pipeline.pool.outside`; None: that is not looked at.
        max_kept_bytes: That all shrunk scans of a machine may take, see `embeddings.shrunk`.
    """

    paths: Sequence[str]
    uris: Sequence[str]
    options: ReadingOptions
    whites: Sequence[int | None] | None = None
    root: str | None = None
    max_kept_bytes: int = 0


def options_of(config: Config, salt: str) -> ReadingOptions:
    """How a configuration has files read, with the run's secret."""
    pool = config.pool
    limits = {name: getattr(pool, name) for name in ("max_bytes", "max_memory_mb", "max_frames", "allow_outside")}
    return ReadingOptions(
        pool.max_pixels,
        pool.max_seconds,
        pool.white if isinstance(pool.white, int) else None,
        pool.white if isinstance(pool.white, tuple) else (),
        salt,
        config.splits.draw,
        pool.set_aside,
        **limits,
    )


def run(ctx: StageContext) -> dict[str, Any]:
    """Write `manifest` and `pool_labels` in the pool's order.

    Raises:
        InputError: the pool cannot be opened, or not one of its scans can be used.
    """
    pool = open_pool(ctx.config.pool, cache_folder())
    if pool.refusal is not None:
        raise pool.refusal
    ctx.listed(pc.unique(pool.scans["label"]).to_pylist())
    salt = salt_of(ctx.folder, ctx.config.splits.salt)
    table = read_scans(ctx, pool, salt)
    scans = pool.scans
    pseudonyms = hidden(scans["patient_id"], salt)
    ages, sexes = (pc.coalesce(scans[name], table[name]) for name in ("age_years", "sex"))
    view = _view(scans["view"], table["view"])
    tags = {"view": view, "age": ages, "sex": sexes, **{n: table[n] for n in ("laterality", "manufacturer")}}
    reason = _with_unchosen(table["reason"], tags, ctx.config)
    manifest = pa.table(
        {
            "image_id": table["image_id"],
            "uri": whites.addresses(scans["uri"], table),
            "path": scans["path"],
            **{name: table[name] for name in _OF_THE_FILE},
            "view": view,
            "patient_id": pc.coalesce(pseudonyms, table["patient_id"]),
            **{name: scans[name] for name in ("source", "population")},
            "age_years": ages,
            "sex": sexes,
            **{name: table[name] for name in _OF_THE_TAGS},
            "status": pc.if_else(pc.is_valid(reason), "quarantined", "ok"),
            "reason": reason,
        },
        schema=MANIFEST.schema,
    )
    label = _of_usable_classes(scans["label"], reason, ctx.config)
    columns = {"image_id": table["image_id"], "label": label, "pool_split": scans["pool_split"]}
    _report(pool, manifest)
    decided = whites.report(table, ctx.config.pool.white)
    own = Tables(
        manifest,
        pa.table(columns, schema=POOL_LABELS.schema),
        _split_keys(ctx, scans["patient_id"], table),
        _statements(pool, table["image_id"]),
        patient_forms.forms_of(scans["patient_id"], pseudonyms, scans["path"], partial(hidden, salt=salt)),
    )
    tables, part_N = joined.with_parts(ctx.folder, own)
    manifest = tables.manifest
    _refuse_other_pool(ctx.folder, manifest)
    if part_N.any():
        record.write_scans(ctx.folder, manifest["image_id"], part_N)
    _write(ctx.folder, tables)
    _write_notes(ctx.folder, pool)
    return _counts(pool, tables, int((part_N > 0).sum()), decided)


def _counts(pool: Pool, tables: Tables, num_joined: int, decided: dict[str, int]) -> dict[str, Any]:
    """What the stage tells of itself; what did not happen is not named."""
    num_not_chosen = sum(count for _, count in pool.not_chosen)
    num_readings = len(tables.readings) - tables.readings["reader"].null_count
    return {
        "num_scans": len(tables.manifest),
        "num_quarantined": int(pc.sum(pc.equal(tables.manifest["status"], "quarantined")).as_py() or 0),
        "num_patients": len(pc.unique(tables.manifest["patient_id"].drop_null())),
        "num_labelled": len(tables.manifest) - tables.labels["label"].null_count,
        **({"num_joined": num_joined} if num_joined else {}),
        **({"num_not_chosen": num_not_chosen} if num_not_chosen else {}),
        **({"whites": decided} if decided else {}),
        **({"num_readings": num_readings} if num_readings else {}),
        **({"num_rows_left_out": sum(number for _, number in pool.left_out)} if pool.left_out else {}),
    }


def _with_unchosen(reason: pa.ChunkedArray, tags: dict[str, pa.ChunkedArray], config: Config) -> pa.ChunkedArray:
    """Why scans are set aside, also those that `pool.where` leaves out by what only their files say."""
    asked = {name: condition for name, condition in chosen.conditions(config.pool.where).items() if name in tags}
    if not asked:
        return reason
    why = chosen.reasons(asked, {name: chosen.text_of(tags[name]).to_pylist() for name in asked})
    unchosen = pa.array(
        [None if words is None else f"{rules.PREFIX}{words} (pool.where)" for words in why], pa.string()
    )
    return pc.coalesce(reason, pa.chunked_array([unchosen]))


def _of_usable_classes(label: pa.ChunkedArray, reason: pa.ChunkedArray, config: Config) -> pa.ChunkedArray:
    """Labels without classes that only unusable scans have: the last row of a table (`Total`) is no scan."""
    if config.pool.findings_are != "exclusive":
        return label
    usable = pc.unique(label.filter(pc.is_null(reason)).drop_null()).to_pylist()
    is_lost = pc.and_(
        pc.is_valid(label), pc.invert(pc.is_in(label, pa.array([*usable, *(config.pool.findings or ())], pa.string())))
    )
    lost = pc.unique(label.filter(is_lost)).to_pylist()
    if not lost or not usable:
        return label
    _log.warning("only scans that cannot be used have the labels %s: they are no classes", listed(sorted(lost)))
    return pc.if_else(is_lost, None, label)


def _write_notes(folder: Path, pool: Pool) -> None:
    """What was forgiven or left out while the pool was listed, for the report."""
    content = {
        "notes": pool.notes.lines,
        "not_chosen": [{"reason": reason, "count": count} for reason, count in pool.not_chosen],
    }
    write_text(folder / run_files.POOL_NOTES, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _statements(pool: Pool, image_id: pa.ChunkedArray) -> pa.Table:
    """Who said what of which scan, where the pool tells."""
    if pool.statements is None:
        return POOL_READINGS.empty()
    place = pc.index_in(pool.statements["image_path"], value_set=pool.scans["path"].combine_chunks())
    own = {name: pool.statements[name] for name in POOL_READINGS.schema.names[1:]}
    return pa.table({"image_id": image_id.take(place), **own}).filter(pc.is_valid(place)).cast(POOL_READINGS.schema)


def _write(folder: Path, tables: Tables) -> None:
    write_parquet(folder / run_files.PATIENT_FORMS, tables.patient_forms)
    MANIFEST.write(folder, tables.manifest)
    POOL_LABELS.write(folder, tables.labels)
    write_parquet(folder / run_files.SPLIT_KEYS, tables.split_keys)
    (folder / Path(run_files.SCANS_READ).name).unlink(missing_ok=True)  # where older versions kept it
    if len(tables.readings):
        POOL_READINGS.write(folder, tables.readings)
    else:
        (folder / POOL_READINGS.file).unlink(missing_ok=True)


def _view(of_pool: pa.ChunkedArray, of_tags: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.equal(of_pool, "unknown"), pc.fill_null(of_tags, "unknown"), of_pool)


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


def read_scans(ctx: StageContext, pool: Pool, salt: str) -> pa.Table:
    """Read every scan of the pool, shard by shard; the rows come back in the pool's order.

    A file read before and unchanged since (same place, size and time of change) is not read again. Where the pool
    decides on another white than a scan's own values, that scan is read once more.
    """
    ctx.engine.expect(len(pool.scans))
    options = replace(options_of(ctx.config, salt), keep_sides_px=_sides_to_keep(ctx.config))
    places = pool.scans.select(["path", "uri"]).combine_chunks()  # or each shard would join the chunks anew
    reading = _Reading(ctx, pool.root, places, options, _stamps(places, options.key))
    table = reading.rows(*_read_before(ctx.folder, places["path"], reading.stamp_N))
    if not options.whites:
        wanted_N = whites.wanted(table, options.white)
        is_other = pc.not_equal(pc.fill_null(table["white"], -1), pc.fill_null(wanted_N, -1))
        others = np.flatnonzero(is_other.to_numpy())
        if len(others):
            table = reading.rows(table, others, wanted_N.combine_chunks())
    _keep(ctx.folder / run_files.SCANS_READ, table, reading.stamp_N)
    for part in (ctx.folder / run_files.SCANS_READ_SO_FAR).glob("part-*.parquet"):
        part.unlink()
    return table


def _sides_to_keep(config: Config) -> tuple[int, ...]:
    """Of the squares that later stages ask for; none where no shrunk scans are kept."""
    of_pretraining = [config.pretrain.size_px] if config.pretrain.epochs else []
    sides = {*SIDES_PX, config.preprocess.size_px, *of_pretraining}
    return tuple(sorted(sides)) if config.engine.shrunk_gb else ()


@dataclass(frozen=True)
class _Reading:
    """How the N scans of a pool are read.

    Attributes:
        ctx: The stage's context.
        root: See `Shard`.
        scans: Their places: columns path and uri.
        options: How.
        stamp_N: Of each, see `_stamps`.
    """

    ctx: StageContext
    root: str
    scans: pa.Table
    options: ReadingOptions
    stamp_N: pa.Array

    def rows(self, known: pa.Table | None, todo: NDArray[np.int64], wanted_N: pa.Array | None = None) -> pa.Table:
        """Rows of `_READ` in the pool's order.

        Args:
            known: N rows, of which those of `todo` do not count; None: all are to do.
            todo: Places of the scans to read, rising.
            wanted_N: The white of each that the pool decided; None: `options` say it, or the file.
        """
        shards = LazyShards(lambda index: self._shard(_places(todo, index), wanted_N), -(-len(todo) // SHARD_SIZE))
        read: dict[int, pa.Table] = {}
        unkept: list[int] = []
        done = num_failed = 0
        self.ctx.progress("manifest", 0, len(todo))
        for num_finished, (index, result) in enumerate(self.ctx.engine.map_shards(read_shard, shards), 1):
            read[index] = result
            done += len(result)
            num_failed += len(result) - result["reason"].null_count
            self.ctx.failed("manifest", num_failed)
            self.ctx.progress("manifest", done, len(todo))
            unkept.append(index)
            if num_finished % _SAVE_EVERY_SHARDS == 0:
                stamps = self.stamp_N.take(pa.array(np.concatenate([_places(todo, i) for i in unkept])))
                _keep(_next_part(self.ctx.folder), pa.concat_tables([read[i] for i in unkept]), stamps)
                unkept = []
        return _with_rows(known, todo, [read[index] for index in range(len(shards))])

    def _shard(self, places: NDArray[np.int64], wanted_N: pa.Array | None) -> Shard:
        part = self.scans.take(pa.array(places))
        own = None if wanted_N is None else wanted_N.take(pa.array(places)).to_pylist()
        max_bytes = round(self.ctx.config.engine.shrunk_gb * 1e9)
        return Shard(part["path"].to_pylist(), part["uri"].to_pylist(), self.options, own, self.root, max_bytes)


def _places(todo: NDArray[np.int64], index: int) -> NDArray[np.int64]:
    """Those of one shard."""
    return todo[index * SHARD_SIZE : (index + 1) * SHARD_SIZE]


def _with_rows(known: pa.Table | None, places: NDArray[np.int64], read: Sequence[pa.Table]) -> pa.Table:
    """The rows known, with those read in their places; a column at a time, so that few are held twice."""
    fresh = pa.concat_tables([_READ.empty_table(), *read])
    if known is None:
        return fresh
    if not len(places):
        return known
    source_N = np.arange(len(known))
    source_N[places] = len(known) + np.arange(len(places))
    columns = {}
    for name in _READ.names:
        both = pa.chunked_array([*known[name].chunks, *fresh[name].chunks], fresh[name].type)
        columns[name] = both.take(pa.array(source_N))
    return pa.table(columns, schema=_READ)


def _stamps(scans: pa.Table, key: str) -> pa.Array:
    """Path, place, size and times of change of each local file, and how it is read; null where it cannot be told."""
    parts = []
    for batch in scans.to_batches(_ROWS_AT_ONCE):
        pairs = zip(batch["path"].to_pylist(), batch["uri"].to_pylist(), strict=True)
        parts.append(pa.array([_stamp(path, uri, key) for path, uri in pairs], pa.string()))
    return pa.chunked_array(parts, pa.string()).combine_chunks()


def _stamp(path: str, uri: str, key: str) -> str | None:
    try:
        member = archive_of(uri)
        file_stat = Path(uri if member is None else member[0]).stat()
    except (OSError, ValueError):
        return None
    when = f"{file_stat.st_mtime_ns}|{file_stat.st_ctime_ns}"  # who sets the first back cannot set the second
    return f"{path}|{uri}|{file_stat.st_size}|{when}|{key}"


def _read_before(folder: Path, path_N: pa.ChunkedArray, stamp_N: pa.Array) -> tuple[pa.Table | None, NDArray[np.int64]]:
    """What an earlier try read of the files, and which are to be read; how many have changed since is said.

    Returns:
        N rows of `_READ`, empty where nothing is known, and the places of the scans to read; None: nothing is known.
    """
    tables = [table for path in _kept_files(folder) if (table := _read_kept(path)) is not None]
    if not tables:
        return None, np.arange(len(path_N))
    table = pa.concat_tables(tables[::-1])  # the newest first, which is the one that counts
    place_N = pc.index_in(stamp_N, value_set=table["stamp"].combine_chunks(), skip_nulls=True)
    is_changed = pc.and_(pc.is_null(place_N), pc.is_in(path_N, value_set=table["path"].combine_chunks()))
    changed = path_N.filter(is_changed)
    if len(changed):
        _log.warning(
            "%d files of the pool have changed since this run read them, or are to be read in another way, and are "
            "read again, first %s",
            len(changed),
            changed[0].as_py(),
        )
    known = _taken(table.drop_columns([_STAMP.name]), place_N)
    has_picture = pc.greater(pc.utf8_length(pc.fill_null(known["picture_hash"], "")), 0)
    is_good = pc.and_(pc.is_valid(place_N), pc.and_(pc.is_null(known["reason"]), has_picture))
    return known, np.flatnonzero(~is_good.to_numpy())


def _taken(table: pa.Table, place_N: pa.Array) -> pa.Table:
    """Rows by their places, a column at a time; the table itself, where those are all of it in order."""
    if not place_N.null_count and np.array_equal(place_N.to_numpy(), np.arange(len(table))):
        return table
    return pa.table({name: table[name].take(place_N) for name in table.column_names})


def _kept_files(folder: Path) -> list[Path]:
    """What earlier tries kept, the newest last."""
    kept = folder / run_files.SCANS_READ
    return [*([kept] if kept.exists() else []), *sorted((folder / run_files.SCANS_READ_SO_FAR).glob("part-*.parquet"))]


def _next_part(folder: Path) -> Path:
    """Where to keep what has been read since the last part: rows kept before are not written again."""
    parts = folder / run_files.SCANS_READ_SO_FAR
    return parts / f"part-{len(list(parts.glob('part-*.parquet'))):06d}.parquet"


def _read_kept(path: Path) -> pa.Table | None:
    try:
        with opened(path) as stream:
            whole = pq.ParquetFile(stream, page_checksum_verification=True).read()
            return whole.select([*_READ.names, _STAMP.name])
    except (OSError, KeyError, pa.ArrowException) as error:
        set_aside(path, error)
        return None


def _keep(path: Path, rows: pa.Table, stamps: pa.Array) -> None:
    """Write what was read of files that can be known again."""
    kept = rows.append_column(_STAMP, stamps)
    write_parquet(path, kept.filter(pc.is_valid(stamps)) if stamps.null_count else kept)  # a filter copies all of it


def read_shard(shard: Shard) -> pa.Table:
    """Hash and decode the scans of a shard; one that fails has a reason instead of a picture."""
    rows: list[dict[str, Any]] = []
    small = np.zeros((len(shard.paths), IMAGE_SIDE, IMAGE_SIDE), np.uint8)
    medium = np.zeros((len(shard.paths), picture_hash.SIDE_PX, picture_hash.SIDE_PX), np.uint8)
    whites = shard.whites or [shard.options.white] * len(shard.paths)
    for i, (path, uri, white) in enumerate(zip(shard.paths, shard.uris, whites, strict=True)):
        row: dict[str, Any] = {"path": path, "image_id": image_id(path, None)}
        rows.append(row)
        try:
            if shard.root is not None:
                outside.refuse(path, uri, shard.root, shard.options.allow_outside)
            data = read_bytes(uri, shard.options.max_bytes)
        except DecodeError as error:
            row["reason"] = str(error).removesuffix(".")
            continue
        row["sha256"] = hashlib.sha256(data).hexdigest()
        row["image_id"] = image_id(path, row["sha256"])
        read: Read = read_scan(data, replace(shard.options, white=white))
        row |= read.facts
        if read.small_SS is not None and read.medium_SS is not None:
            small[i], medium[i] = read.small_SS, read.medium_SS
        if read.shrunk is not None:
            shrunk_files.keep(_name_to_keep(row), read.shrunk, shard.max_kept_bytes)
    long_hashes = [one_B.tobytes().hex() for one_B in picture_hash.picture_hashes(medium)]
    for row, short, long in zip(rows, phashes(small), long_hashes, strict=True):
        row["phash"], row["picture_hash"] = (short, long) if row.get("reason") is None else (None, None)
    return pa.Table.from_pylist(rows, schema=_READ)


def _name_to_keep(row: dict[str, Any]) -> str:
    """The name under which later stages look for what is kept: as they address the scan, see `whites.addresses`."""
    bits, white = row["open_bits"], row["white"]
    is_own = bits is None or white == white_of_bits(bits)
    return shrunk_files.name_of(row["sha256"], None if is_own else white)


def image_id(path: str, sha256: str | None) -> str:
    """16 hex digits, unique per path inside the pool and content, the same on every machine."""
    key = path if sha256 is None else f"{path}\0{sha256}"
    return hashlib.sha256(key.encode()).hexdigest()[:_NUM_HEX]


def hidden(patients: pa.ChunkedArray, salt: str) -> pa.Array:
    """Pseudonyms of patient ids, 16 hex digits; null stays null."""
    known = pc.unique(patients).drop_null()
    hashes = [pseudonym(patient, salt) for patient in known.to_pylist()]
    return pc.take(pa.array(hashes, pa.string()), pc.index_in(patients, known)).combine_chunks()


def _split_keys(ctx: StageContext, patients: pa.ChunkedArray, table: pa.Table) -> pa.Table:
    """What decides a patient's side: a secret of the run must not, or two runs would seal different patients."""
    draw = ctx.config.splits.draw
    known = pc.unique(patients).drop_null()
    keys = pa.array([split_key(patient, draw) for patient in known.to_pylist()], pa.string())
    of_pool = pc.take(keys, pc.index_in(patients, known))
    return pa.table({"image_id": table["image_id"], "split_key": pc.coalesce(of_pool, table["split_key"])})


def phashes(images_NHW: NDArray[np.uint8]) -> list[str]:
    """DCT perceptual hashes of 32x32 pictures, equal to `str(imagehash.phash(picture))`, all at once."""
    angle = np.pi * (2 * np.arange(IMAGE_SIDE) + 1) / (2 * IMAGE_SIDE)
    basis_KH = 2 * np.cos(np.arange(_HASH_SIDE)[:, None] * angle[None])
    low_NKK = basis_KH @ images_NHW.astype(np.float64) @ basis_KH.T
    low_NB = low_NKK.reshape(len(images_NHW), _HASH_SIDE**2)
    bits_NB = low_NB > np.median(low_NB, axis=1, keepdims=True)
    return [row.tobytes().hex() for row in np.packbits(bits_NB, axis=1)]


def _report(pool: Pool, manifest: pa.Table) -> None:
    """Say how many scans cannot be used and why; by a rule, or because they are broken.

    Raises:
        InputError: not one can be used.
    """
    reasons = Counter(manifest["reason"].drop_null().to_pylist())
    by_rule = Counter({r: n for r, n in reasons.items() if r.startswith(rules.PREFIX)})
    broken = reasons - by_rule
    if reasons.total() == len(manifest):
        is_ruled = by_rule.total() > broken.total()
        raise InputError(
            f"not one of the {len(manifest)} scans can be used: {_common(reasons)}",
            where=pool.root,
            fix="point pool.uri at frontal chest X-rays, or name in pool.set_aside only the rules that you want"
            if is_ruled
            else "check that the paths are relative to the manifest and that the files are images",
        )
    if broken:
        _log.warning("%d of %d scans are quarantined: %s", broken.total(), len(manifest), _common(broken))
    if by_rule:
        shown = _common(Counter({r.removeprefix(rules.PREFIX): n for r, n in by_rule.items()}), most=None)
        _log.warning("%d of %d files are set aside (pool.set_aside): %s", by_rule.total(), len(manifest), shown)
    notes = Counter(note for text in manifest["note"].drop_null().to_pylist() for note in text.split("; "))
    if num := notes.pop(FEW_GREYS, 0):
        _log.warning(
            "%d of %d scans: %s, as where a conversion kept the wrong bits or left the window out; look at them",
            num,
            len(manifest),
            FEW_GREYS,
        )
    if notes:
        _log.info("of %d scans: %s", len(manifest), _common(notes, most=10))


def _common(counts: Counter[str], most: int | None = 3) -> str:
    return "; ".join(f"{count} x {what}" for what, count in counts.most_common(most))
