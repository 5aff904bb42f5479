"""A CSV or Parquet manifest of a pool: read as text, columns mapped, every row with a path of its own."""

import csv
import difflib
import io
from collections.abc import Sequence
from functools import partial
from typing import NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from embeddings.decoding.files import read_uri
from pipeline.contracts.config import KNOWN_COLUMNS, PoolConfig
from pipeline.contracts.errors import InputError
from pipeline.pool import finding_columns, vocabulary
from pipeline.pool.sets.repeated_rows import OneRowAScan, one_row_a_scan

MANIFEST_ENDINGS = (".csv", ".parquet")
_MAX_SHOWN = 5
_ONE_ROW = "keep one row per scan, each with its path"


def read_table(uri: str, config: PoolConfig) -> OneRowAScan:
    """Read a manifest, local or remote, into those known columns that it has, all of them text, a row a scan.

    Of independent findings `label` is a line of all of them, however the manifest says it.

    Raises:
        InputError: unreadable, a column is missing, rows of a scan contradict each other, or a label is not understood.
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
    header, read = (_open_csv if file.endswith(".csv") else _open_parquet)(uri, data)
    columns = _columns(uri, header, own_names, config)
    several = config.findings_are == "independent"
    own = finding_columns.columns(uri, header, columns, config, read) if several else {}
    cells = read([*columns.values(), *own.values()])
    table = pa.table({known: cells[name] for known, name in columns.items()})
    paths = _plain(table.column("image_path"), uri.rpartition("/")[0])
    if paths.null_count:
        blank = pc.indices_nonzero(pc.is_null(paths)).to_pylist()
        _refuse_rows(uri, data, blank, "the path of the image is blank", _ONE_ROW)
    table = table.set_column(table.column_names.index("image_path"), "image_path", paths)
    refuse = partial(_refuse_rows, uri, data)
    if not several:
        return one_row_a_scan(table, config, refuse)
    label = table["label"] if "label" in columns else None
    lines = finding_columns.labels(label, {finding: cells[name] for finding, name in own.items()}, config, refuse)
    plain = table if label is None else table.drop_columns(["label"])
    return one_row_a_scan(plain if lines is None else plain.append_column("label", lines), config, refuse)


def _read(uri: str) -> bytes:
    try:
        return read_uri(uri)
    except OSError as error:
        raise InputError(
            f"the manifest cannot be read: {error.strerror or error}",
            where=uri,
            fix="check the name and your access",
        ) from error


def _open_csv(uri: str, data: bytes) -> tuple[list[str], finding_columns.Read]:
    """The header, and what reads columns of it as text."""
    from pyarrow import csv as pa_csv

    try:
        head = data.partition(b"\n")[0].decode("utf-8-sig").rstrip("\r")
    except UnicodeDecodeError as error:
        raise _not_utf8(uri) from error
    separator = max(",;\t", key=head.count)
    header = next(csv.reader([head], delimiter=separator), [])

    def read(names: Sequence[str]) -> pa.Table:
        try:
            return _plain_text(
                pa_csv.read_csv(
                    pa.BufferReader(data),
                    read_options=pa_csv.ReadOptions(column_names=header, skip_rows=1),
                    parse_options=pa_csv.ParseOptions(delimiter=separator, newlines_in_values=True),
                    convert_options=pa_csv.ConvertOptions(
                        include_columns=list(dict.fromkeys(names)), column_types=dict.fromkeys(header, pa.string())
                    ),
                )
            )
        except UnicodeDecodeError as error:
            raise _not_utf8(uri) from error
        except pa.ArrowInvalid as error:
            raise InputError(
                f"the manifest cannot be read as CSV: {error}",
                where=uri,
                fix="give every row the header's columns",
            ) from error

    return header, read


def _not_utf8(uri: str) -> InputError:
    return InputError("the manifest is not UTF-8 text", where=uri, fix="save it as UTF-8")


def _open_parquet(uri: str, data: bytes) -> tuple[list[str], finding_columns.Read]:
    """The header, and what reads columns of it as text."""
    import pyarrow.parquet as pq

    def refused(error: Exception) -> InputError:
        return InputError(f"the manifest cannot be read as Parquet: {error}", where=uri)

    def read(names: Sequence[str]) -> pa.Table:
        try:
            return _plain_text(file.read(columns=list(dict.fromkeys(names))))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise refused(error) from error

    try:
        file = pq.ParquetFile(pa.BufferReader(data))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise refused(error) from error
    return list(file.schema_arrow.names), read


def _plain_text(table: pa.Table) -> pa.Table:
    return pa.table({name: vocabulary.text(table.column(name)) for name in table.column_names})


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


def _refuse_rows(uri: str, data: bytes, rows: Sequence[int], what: str, fix: str) -> NoReturn:
    numbers = [row + 1 for row in rows]
    unit = "rows"
    if uri.lower().endswith(".csv"):
        # Quoted fields may span lines and blank lines are skipped: only a second reading can count them.
        reader, unit = csv.reader(io.StringIO(data.decode("utf-8-sig"))), "lines"
        ends = [reader.line_num for fields in reader if fields]
        numbers = [ends[row + 1] for row in rows]
    shown = ", ".join(str(number) for number in numbers[:_MAX_SHOWN]) + (" ..." if len(rows) > _MAX_SHOWN else "")
    raise InputError(f"{what} ({unit} {shown})", where=uri, fix=fix)


def _plain(paths: pa.ChunkedArray, root: str) -> pa.ChunkedArray:
    """One spelling per path: forward slashes, no `./`, no empty folders, relative where below `root`."""
    for pattern, plain in ((r"\\", "/"), (r"(^|/)(\./)+", r"\1"), (r"([^:/])//+", r"\1/")):
        paths = pc.replace_substring_regex(paths, pattern, plain)
    below = pc.starts_with(paths, f"{root}/")
    return pc.if_else(below, pc.utf8_slice_codeunits(paths, len(root) + 1), paths)
