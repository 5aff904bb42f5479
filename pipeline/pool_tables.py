"""A CSV or Parquet manifest of a pool: read as text, columns mapped, every row with a path of its own."""

import csv
import difflib
import io

import pyarrow as pa
import pyarrow.compute as pc

from embeddings.decode import read_uri
from pipeline import pool_values
from pipeline.config import KNOWN_COLUMNS, PoolConfig
from pipeline.errors import InputError

MANIFEST_ENDINGS = (".csv", ".parquet")
_MAX_SHOWN = 5


def read_table(uri: str, config: PoolConfig) -> pa.Table:
    """Read a manifest, local or remote, into those known columns that it has, all of them text.

    Raises:
        InputError: unreadable, a column is missing, or two rows have the same path.
    """
    file = uri.rpartition("/")[2].lower()
    if not file.endswith(MANIFEST_ENDINGS):
        raise InputError(
            "this file is neither a CSV nor a Parquet manifest",
            value=uri,
            where="pool.uri",
            fix="give a folder, or a manifest that ends in .csv or .parquet",
        )
    data = _read(uri)
    own_names = {known: config.columns.get(known, known) for known in KNOWN_COLUMNS}
    read = _read_csv if file.endswith(".csv") else _read_parquet
    table = read(uri, data, own_names, config)
    paths = _plain(table.column("image_path"), uri.rpartition("/")[0])
    if paths.null_count:
        blank = pc.indices_nonzero(pc.is_null(paths)).to_pylist()
        _refuse_rows(uri, data, blank, "the path of the image is blank")
    copies = pc.value_counts(paths)
    repeated = copies.filter(pc.greater(copies.field("counts"), 1)).field("values")
    if len(repeated):
        rows = pc.indices_nonzero(pc.is_in(paths, repeated)).to_pylist()
        _refuse_rows(uri, data, rows, f"{len(repeated)} paths repeat, the first is {repeated[0].as_py()!r}")
    return table.set_column(table.column_names.index("image_path"), "image_path", paths)


def _read(uri: str) -> bytes:
    try:
        return read_uri(uri)
    except OSError as error:
        raise InputError(
            f"the manifest cannot be read: {error.strerror or error}",
            where=uri,
            fix="check the name and your access",
        ) from error


def _read_csv(uri: str, data: bytes, own_names: dict[str, str], config: PoolConfig) -> pa.Table:
    from pyarrow import csv as pa_csv

    try:
        head = data.partition(b"\n")[0].decode("utf-8-sig").rstrip("\r")
        separator = max(",;\t", key=head.count)
        header = next(csv.reader([head], delimiter=separator), [])
        columns = _columns(uri, header, own_names, config)
        return _renamed(
            pa_csv.read_csv(
                pa.BufferReader(data),
                read_options=pa_csv.ReadOptions(column_names=header, skip_rows=1),
                parse_options=pa_csv.ParseOptions(delimiter=separator, newlines_in_values=True),
                convert_options=pa_csv.ConvertOptions(
                    include_columns=list(dict.fromkeys(columns.values())),
                    column_types=dict.fromkeys(header, pa.string()),
                ),
            ),
            columns,
        )
    except UnicodeDecodeError as error:
        raise InputError("the manifest is not UTF-8 text", where=uri, fix="save it as UTF-8") from error
    except pa.ArrowInvalid as error:
        raise InputError(
            f"the manifest cannot be read as CSV: {error}",
            where=uri,
            fix="give every row the header's columns",
        ) from error


def _read_parquet(uri: str, data: bytes, own_names: dict[str, str], config: PoolConfig) -> pa.Table:
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        columns = _columns(uri, list(file.schema_arrow.names), own_names, config)
        return _renamed(file.read(columns=list(dict.fromkeys(columns.values()))), columns)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise InputError(f"the manifest cannot be read as Parquet: {error}", where=uri) from error


def _columns(uri: str, header: list[str], own_names: dict[str, str], config: PoolConfig) -> dict[str, str]:
    """Known column -> its name in the file, for those the file has."""
    if not any(header):
        raise InputError(
            "the manifest is empty",
            where=uri,
            fix=f"its first line names the columns: {', '.join(KNOWN_COLUMNS)}",
        )
    if len(set(header)) < len(header):
        twice = sorted({name for name in header if header.count(name) > 1})
        raise InputError(f"columns {twice} stand twice in the header", where=uri, fix="rename one of them")
    for known, own in own_names.items():
        if own in header or (known not in config.columns and known != "image_path"):
            continue
        near = difflib.get_close_matches(own, header, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(
            f"no column {own!r}" + (f" for pool.columns.{known}" if known in config.columns else ""),
            where=uri,
            fix=f"{hint}Its columns are {', '.join(header)}; name the right one in pool.columns.{known}",
        )
    return {known: own for known, own in own_names.items() if own in header}


def _renamed(table: pa.Table, columns: dict[str, str]) -> pa.Table:
    return pa.table({known: pool_values.text(table.column(own)) for known, own in columns.items()})


def _refuse_rows(uri: str, data: bytes, rows: list[int], what: str) -> None:
    numbers = [row + 1 for row in rows]
    unit = "rows"
    if uri.lower().endswith(".csv"):
        # Quoted fields may span lines and blank lines are skipped: only a second reading can count them.
        reader, unit = csv.reader(io.StringIO(data.decode("utf-8-sig"))), "lines"
        ends = [reader.line_num for fields in reader if fields]
        numbers = [ends[row + 1] for row in rows]
    shown = ", ".join(str(number) for number in numbers[:_MAX_SHOWN]) + (" ..." if len(rows) > _MAX_SHOWN else "")
    raise InputError(f"{what} ({unit} {shown})", where=uri, fix="keep one row per scan, each with its path")


def _plain(paths: pa.ChunkedArray, root: str) -> pa.ChunkedArray:
    """One spelling per path: forward slashes, no `./`, no empty folders, relative where below `root`."""
    for pattern, plain in ((r"\\", "/"), (r"(^|/)(\./)+", r"\1"), (r"([^:/])//+", r"\1/")):
        paths = pc.replace_substring_regex(paths, pattern, plain)
    below = pc.starts_with(paths, f"{root}/")
    return pc.if_else(below, pc.utf8_slice_codeunits(paths, len(root) + 1), paths)
