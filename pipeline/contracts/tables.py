"""The tables a run leaves on disk: columns, types, keys; checked when written and when read.

A table is a Parquet file. Extra columns are allowed only under a contract's `open_prefix`
(one probability column per finding, for instance).
"""

import logging
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.contracts import kept_tables
from pipeline.contracts.errors import ContractError, RunDirError
from pipeline.contracts.storage import patiently

log = logging.getLogger(__name__)

_START_AGAIN = "bring the file back from a backup, or start again with --overwrite, which keeps labels of people aside"
ROWS_A_GROUP = 131_072  # of a file: as many are packed, and may be read, at once
SPLITS = ("train", "holdout", "excluded")
VIEWS = ("PA", "AP", "LL", "unknown")


@dataclass(frozen=True)
class Contract:
    """Columns, key and allowed values of one table.

    Attributes:
        name: The table's name; the file is `<name>.parquet`.
        schema: Columns in order; a non-nullable field refuses nulls.
        key: Columns whose combination is unique; empty where rows repeat.
        values: Column to its allowed values.
        open_prefix: Prefix under which extra columns may stand.
    """

    name: str
    schema: pa.Schema
    key: tuple[str, ...] = ()
    values: tuple[tuple[str, tuple[str, ...]], ...] = ()
    open_prefix: str | None = None

    @property
    def file(self) -> str:
        """The file's name in its folder."""
        return f"{self.name}.parquet"

    def check(self, table: pa.Table, where: object = None) -> pa.Table:
        """Return `table` with this contract's column order, or raise `ContractError`."""
        where = where or self.name
        extra = self._check_schema(table.schema, where)
        return self._check_rows(table.select([*self.schema.names, *extra]), where)

    def _check_schema(self, schema: pa.Schema, where: object) -> list[str]:
        """Refuse columns that are missing, unknown or of another type; returns those beyond the contract's."""
        missing = [f.name for f in self.schema if f.name not in schema.names]
        if missing:
            raise ContractError(
                f"columns {missing} are missing",
                where=where,
                fix="it is of another version or was changed by hand; `cxr-ssl run --out RUN --resume` writes it again",
            )
        extra = [c for c in schema.names if c not in self.schema.names]
        stray = [c for c in extra if self.open_prefix is None or not c.startswith(self.open_prefix)]
        if stray:
            raise ContractError(f"unknown columns {stray}", where=where)
        for field in self.schema:
            kind = schema.field(field.name).type
            if kind != field.type:
                raise ContractError(f"column {field.name} is {kind}, not {field.type}", where=where)
        return extra

    def _check_rows(self, table: pa.Table, where: object) -> pa.Table:
        """Refuse what the columns of `table` must not hold; those of the contract that it lacks were not asked for."""
        names = table.column_names
        for field in self.schema:
            if field.name in names and not field.nullable and table.column(field.name).null_count:
                nulls = table.column(field.name).null_count
                raise ContractError(f"column {field.name} has {nulls} nulls", where=where)
        for name, allowed in self.values:
            values = set(pc.unique(table.column(name)).to_pylist()) - {None} if name in names else set()
            if values - set(allowed):
                raise ContractError(f"column {name} holds {sorted(values - set(allowed))}", where=where)
        has_key = bool(self.key) and all(name in names for name in self.key)
        if has_key and _num_distinct(table, self.key) != len(table):
            raise ContractError(f"rows repeat on {self.key}", where=where)
        return table

    def write(self, folder: Path, table: pa.Table) -> Path:
        """Check `table` and write it to `folder/<name>.parquet` in one atomic step."""
        path = folder / self.file
        write_parquet(path, self.check(table, path))
        return path

    def read(self, folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
        """Read and check `folder/<name>.parquet`.

        Args:
            folder: Where it lies.
            columns: Those wanted, in this order; no other is read. None: all.
        """
        path, part = folder / self.file, None if columns is None else tuple(columns)
        try:
            return kept_tables.read(path, lambda: self._read(path, part), self, part)
        except (OSError, pa.ArrowException) as error:
            reason = str(error).splitlines()[0]
            raise ContractError(f"the table cannot be read: {reason}", where=path, fix=_START_AGAIN) from error

    def _read(self, path: Path, columns: tuple[str, ...] | None) -> pa.Table:
        with opened(path) as stream:  # once: another process may put a new table in its place
            file = _file_of(stream)
            extra = self._check_schema(file.schema_arrow, path)
            known = [*self.schema.names, *extra]
            names = known if columns is None else list(columns)
            if unknown := [name for name in names if name not in known]:
                raise ContractError(f"columns {unknown} are missing", where=path)
            return self._check_rows(file.read(names).select(names), path)

    def empty(self) -> pa.Table:
        """A table of this contract without rows."""
        return self.schema.empty_table()


def _num_distinct(table: pa.Table, key: tuple[str, ...]) -> int:
    """Different values of a key; of one column without `group_by`, which would load pandas."""
    return len(pc.unique(table[key[0]]) if len(key) == 1 else table.group_by(list(key)).aggregate([]))


def _col(name: str, kind: pa.DataType, *, nullable: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable=nullable)


def _key(name: str) -> pa.Field:
    return _col(name, pa.string(), nullable=False)


MANIFEST = Contract(
    "manifest",
    pa.schema(
        [
            _key("image_id"),  # 16 hex digits of SHA-256 over the path inside the pool and the content's SHA-256
            _key("uri"),  # where the scan is read from; ends in #white=N where the pool decided what white is
            _key("path"),  # path inside the pool, for people
            _col("sha256", pa.string()),  # of the file's bytes; null when it could not be read
            _col("phash", pa.string()),  # 64-bit DCT perceptual hash, 16 hex digits; null when quarantined
            _col("picture_hash", pa.string()),  # 2 x 256 bits that only copies share, 128 hex digits; null likewise
            _col("width_px", pa.int32()),
            _col("height_px", pa.int32()),
            _col("bit_depth", pa.int16()),
            _col("format", pa.string()),
            _key("view"),
            _col("patient_id", pa.string()),  # pseudonym, a keyed hash; null = unknown
            _col("source", pa.string()),
            _col("population", pa.string()),
            _col("age_years", pa.float32()),
            _col("sex", pa.string()),
            _col("laterality", pa.string()),  # L, R or B; of DICOM, like the four that follow
            _col("study_id", pa.string()),  # pseudonym
            _col("series_id", pa.string()),  # pseudonym
            _col("manufacturer", pa.string()),  # of the machine
            _col("pixel_spacing_mm", pa.float32()),  # between two rows
            _col("white", pa.int32()),  # grey value shown white, where the file does not say it; else null
            _col("note", pa.string()),  # what a reader should know of how the file was read
            _key("status"),
            _col("reason", pa.string()),
        ]
    ),
    key=("image_id",),
    values=(("status", ("ok", "quarantined")), ("view", VIEWS)),
)

# What the pool itself says; kept apart from the manifest so that no stage sees a label by accident.
POOL_LABELS = Contract(
    "pool_labels",
    pa.schema([_key("image_id"), _col("label", pa.string()), _col("pool_split", pa.string())]),
    key=("image_id",),
)

# Who said what of a scan before this run: readings of several people, or one label and where it comes from.
POOL_READINGS = Contract(
    "pool_readings",
    pa.schema(
        [
            _key("image_id"),
            _col("reader", pa.string()),  # null: one label a scan, by nobody who has a name
            _col("label", pa.string()),
            _col("provenance", pa.string()),  # who, and of what: "physician, on the scan", "NLP, on the report", ...
        ]
    ),
    key=("image_id", "reader"),
)

DUPLICATES = Contract(
    "duplicates",
    pa.schema(
        [
            _key("image_id"),
            _key("group_id"),  # the unit that is never split: patient, exact and near duplicates joined
            _key("canonical_id"),  # first scan of the same picture in manifest order; itself when unique
            _key("kind"),
            _col("distance_bits", pa.int16()),  # picture hashes' distance to the canonical scan, 0 to 127
            _col("change", pa.string()),  # how a near copy differs from the canonical scan, such as: mirrored, cropped
        ]
    ),
    key=("image_id",),
    values=(("kind", ("unique", "exact", "near")),),
)

SPLIT_TABLE = Contract(
    "splits",
    pa.schema([_key("image_id"), _key("group_id"), _key("split"), _col("reason", pa.string())]),
    key=("image_id",),
    values=(("split", SPLITS),),
)

CLUSTERS = Contract(
    "clusters",
    pa.schema(
        [
            _key("image_id"),
            _col("cluster", pa.int32(), nullable=False),
            _col("similarity", pa.float32(), nullable=False),  # cosine to the centroid, -1..1
            _col("x", pa.float32(), nullable=False),  # 2-D projection for people
            _col("y", pa.float32(), nullable=False),
        ]
    ),
    key=("image_id",),
)

QUEUE = Contract(
    "queue",
    pa.schema(
        [
            _key("image_id"),
            _col("rank", pa.int32(), nullable=False),  # 1 = first
            _key("kind"),  # never shown to an annotator: the uniform slice must stay blind; see queues.KINDS
            _col("cluster", pa.int32()),
            _col("score", pa.float32()),  # the strategy's own score, e.g. typicality
            _col("proposed", pa.string()),  # pseudo-label proposed before the expert was asked; null = none
        ]
    ),
    key=("image_id",),
    values=(
        (
            "kind",
            (
                "representative",
                "uniform",
                "holdout",
                "recheck",
                "release-check",
                "dispute",
                "doubt",
                "wished",
                "report-check",
            ),
        ),
    ),
)

LABELS = Contract(
    "labels",
    pa.schema(
        [
            _key("image_id"),
            _key("finding"),
            _col("value", pa.float32(), nullable=False),  # 1 present, 0 absent, NaN no information
            _key("origin"),
            _key("annotator"),
            _col("answer", pa.int64(), nullable=False),  # rows of one answer share it; later is larger; -1 = pseudo
            _col("reply", pa.string()),  # as the expert put it: a class, or why there is none; null for a pseudo-label
            _col("certainty", pa.string()),  # sure or unsure; null where it was not said
            _col("round", pa.int32(), nullable=False),  # 0 = given with the pool
            _col("probability", pa.float32()),  # of a pseudo-label, calibrated; null for an expert
            _col("time", pa.timestamp("ms", tz="UTC")),
        ]
    ),
    values=(("origin", ("expert", "pseudo")), ("certainty", ("sure", "unsure"))),
)

PSEUDO = Contract(
    "pseudo",
    pa.schema(
        [
            _key("image_id"),
            _key("finding"),  # the class proposed
            _col("probability", pa.float32(), nullable=False),  # calibrated, of that class
            _col("threshold_prob", pa.float32(), nullable=False),  # of that class; > 1 when none is safe
            _key("decision"),  # accept: passes the estimate; queue: unsure, worth an expert; leave: neither
            _col("admitted", pa.bool_(), nullable=False),  # accepted and let through by the gate
        ]
    ),
    key=("image_id",),
    values=(("decision", ("accept", "queue", "leave")),),
)

RELEASE = Contract(
    "release",
    pa.schema(
        [
            _key("image_id"),
            _col("sha256", pa.string()),  # of the scan's file when the release was frozen
            _key("finding"),  # the class proposed
            _col("probability", pa.float32(), nullable=False),  # calibrated, of that class
            _key("tier"),  # surest: of the surer half; rest: of the other
            _col("position", pa.int32(), nullable=False),  # in the order of the checks, from 1
        ]
    ),
    key=("image_id",),
    values=(("tier", ("surest", "rest")),),
)

PREDICTIONS = Contract(
    "predictions",
    pa.schema(
        [
            _key("image_id"),
            _key("split"),
            _col("round", pa.int32(), nullable=False),
            _key("predicted"),  # finding chosen at the operating point
        ]
    ),
    key=("image_id",),
    values=(("split", SPLITS),),
    open_prefix="prob_",
)

CONTRACTS = (
    MANIFEST,
    POOL_LABELS,
    POOL_READINGS,
    DUPLICATES,
    SPLIT_TABLE,
    CLUSTERS,
    QUEUE,
    LABELS,
    PSEUDO,
    RELEASE,
    PREDICTIONS,
)


def opened(path: Path) -> pa.NativeFile:
    """A file for Arrow to read.

    Not one of Python: Arrow's threads may still hold that while the process ends, and then abort it (code 134).
    """
    return pa.OSFile(os.fsencode(path))


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A Parquet file whose pages are whole.

    Args:
        path: Of the file.
        columns: None: all.
    """
    with opened(path) as stream:
        return _file_of(stream).read(columns)


def _file_of(stream: pa.NativeFile) -> pq.ParquetFile:
    """A Parquet file that notices damaged pages; `pq.read_table` would load pandas first."""
    return pq.ParquetFile(stream, page_checksum_verification=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file in one atomic, durable step: temporary file, fsync, rename; done again where storage fails
    for a moment.

    Raises:
        OSError: see `storage.patiently`.
    """
    patiently(lambda: _write_bytes(path, data), path)


def _write_bytes(path: Path, data: bytes) -> None:
    with _replacing(path) as temporary, temporary.open("wb") as stream:
        stream.write(data)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file to write, which takes the place of `path` once it is whole and on the disk; what fails names `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, os.fsencode(temporary), str(temporary)):
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def copy_file(source: Path, path: Path) -> None:
    """Write what is in another file in one atomic, durable step, see `write_bytes`."""
    patiently(lambda: _copy_file(source, path), path)


def _copy_file(source: Path, path: Path) -> None:
    with _replacing(path) as temporary:
        shutil.copyfile(source, temporary)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text in one atomic, durable step."""
    write_bytes(path, text.encode("utf-8"))


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a Parquet file in one atomic, durable step, some rows at a time; the same table gives the same bytes."""
    patiently(lambda: _write_parquet(path, table), path)


def _write_parquet(path: Path, table: pa.Table) -> None:
    with (
        _replacing(path) as temporary,
        pa.OSFile(os.fsencode(temporary), "wb") as stream,
        # A checksum of each page: damage is noticed by who reads.
        pq.ParquetWriter(stream, table.schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for start in range(0, max(len(table), 1), ROWS_A_GROUP):
            writer.write_table(table.slice(start, ROWS_A_GROUP).combine_chunks())


BLIND_CHECKS = ("uniform", "recheck")  # drawn uniformly from what was proposed
RELEASE_CHECK = "release-check"  # next in the order drawn by chance over a frozen release
REPORT_CHECK = "report-check"  # drawn by chance from what radiology reports say and nobody has checked enough
NEVER_DOUBTED = (*BLIND_CHECKS, RELEASE_CHECK, REPORT_CHECK)  # what measures is never settled with the model's help

DISPUTE, DOUBT = "dispute", "doubt"
WISHED = "wished"  # somebody asked for the scan while looking at the pool: no sample of anything

SECOND_LOOKS = (DISPUTE, DOUBT)  # answered before


def appended_lines(path: Path, offset: int) -> tuple[list[bytes], int]:
    """The whole lines that were added to an append-only file behind an offset, and the offset behind them.

    Raises:
        RunDirError: the file has become shorter.
    """
    size = path.stat().st_size if path.exists() else 0
    if size < offset:
        raise RunDirError("is shorter than it was", where=path, fix="bring it back from a backup")
    if size == offset:
        return [], offset
    with path.open("rb") as stream:
        stream.seek(offset)
        data = stream.read()
    whole = data[: data.rfind(b"\n") + 1]  # a last line without its end was never acknowledged
    return whole.splitlines(), offset + len(whole)


def read_if_whole(path: Path) -> pa.Table | None:
    """A table that can be made again: None, with a warning, where it is damaged; None where it is not there."""
    if not path.exists():
        return None
    try:
        return pq.read_table(path, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        log.warning("%s cannot be read and is made again: %s", path, error)
        return None
