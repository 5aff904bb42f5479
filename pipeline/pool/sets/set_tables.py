"""Tables of public sets: columns by their exact names, as trimmed text; and what cells say of findings."""

import csv
import gzip
import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv as pa_csv

from pipeline.contracts.errors import InputError
from pipeline.pool import vocabulary
from pipeline.pool.finding_columns import sign_of
from pipeline.pool.sets.public_set import ABSENT, PRESENT, UNKNOWN, SetFolder
from pipeline.tables import columns as table_columns
from pipeline.tables import workbook
from pipeline.tables.notes import Notes
from pipeline.tables.opening import open_table

# N rows, C findings

Columns = dict[str, pa.ChunkedArray]
_HEAD_BYTES = 4096
_CODES = {"1": PRESENT, "0": ABSENT, "?": UNKNOWN}


def columns(folder: SetFolder, path: str, needed: Sequence[str], wanted: Sequence[str] = ()) -> Columns:
    """Columns of a table of a set, as trimmed text, null where blank.

    Args:
        folder: The set.
        path: The table, CSV, also `.csv.gz` or a CSV alone in a ZIP archive.
        needed: Columns that must be there.
        wanted: Columns that are read where they are there.

    Raises:
        InputError: unreadable, or a needed column is missing.
    """
    where = f"{folder.root}/{path}"
    data = _unpacked(folder.read(path), where)
    header = _plain_header(data)
    if any(name not in header for name in needed):
        return _saved_again(where, data, needed, wanted)
    chosen = [name for name in dict.fromkeys((*needed, *wanted)) if name in header]
    unique = [name if header.index(name) == place else f"{name}\0{place}" for place, name in enumerate(header)]
    try:
        table = pa_csv.read_csv(
            pa.BufferReader(data),
            read_options=pa_csv.ReadOptions(column_names=unique, skip_rows=1),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                include_columns=chosen, column_types=dict.fromkeys(chosen, pa.string())
            ),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return _saved_again(where, data, needed, wanted)
    return {name: _text(name, table[name]) for name in chosen}


def _text(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Trimmed text; an id that a program made a decimal number (50414267.0) is a whole one, as in the other tables."""
    text = vocabulary.text(column)
    is_id = table_columns.compact(name).endswith("id")
    return pc.replace_substring_regex(text, r"^(\d+)\.0+$", r"\1") if is_id else text


def _saved_again(where: str, data: bytes, needed: Sequence[str], wanted: Sequence[str]) -> Columns:
    """Columns of a table that a spreadsheet or a script has saved in another form than its owner's; it is said.

    Raises:
        InputError: unreadable, or a needed column is missing.
    """
    notes = Notes(where)
    own = {table_columns.compact(name) for name in needed}
    table = open_table(where, data, lambda cells: own <= set(map(table_columns.compact, cells)), notes)
    places = {name: table_columns.find(table.header, name, where) for name in dict.fromkeys((*needed, *wanted))}
    missing = [name for name in needed if places[name] is None]
    if missing:
        near = table_columns.near(missing[0], table.header)
        raise InputError(
            f"the set's table has no column {missing[0]!r}",
            where=where,
            fix=(f"did you mean {near!r}? " if near else "")
            + f"Use the table as its owner ships it; there are {', '.join(table.header[:12])}",
        )
    known = {name: place for name, place in places.items() if place is not None}
    notes.mention("it is not in its owner's form, and is read all the same")
    loaded = table.load(list(known.values()))
    return {name: _text(name, column) for name, column in zip(known, loaded.columns, strict=True)}


def header_of(data: bytes) -> list[str]:
    """Names of the columns, without the blanks around them."""
    head = data[: data.find(b"\n") if b"\n" in data else len(data)].decode("utf-8-sig", errors="replace")
    return [name.strip() for name in next(csv.reader([head.rstrip("\r")]), [])]


def header(folder: SetFolder, path: str) -> list[str]:
    """Names of the columns of a table, whatever form it was saved in."""
    where = f"{folder.root}/{path}"
    data = _unpacked(folder.read(path), where)
    return _plain_header(data) or list(open_table(where, data, lambda cells: len(cells) > 1, Notes(where)).header)


def _plain_header(data: bytes) -> list[str]:
    """The header of a CSV with commas in UTF-8; empty of any other form."""
    if b"\0" in data[:_HEAD_BYTES] or workbook.is_workbook(data):
        return []
    try:
        names = header_of(data)
    except csv.Error:
        return []
    return names if len(names) > 1 else []


def rows(folder: SetFolder, path: str) -> list[list[str]]:
    """The rows of a small table below its header, as long as each is: some owners' rows are shorter than the header."""
    text = _unpacked(folder.read(path), f"{folder.root}/{path}").decode("utf-8-sig", errors="replace")
    return list(csv.reader(io.StringIO(text)))[1:]


def signs(cells: Mapping[str, pa.ChunkedArray], where: str) -> tuple[NDArray[np.int8], int]:
    """What columns of 1, 0, -1 and blanks say of each finding (N, C), and how many cells say uncertain.

    Raises:
        InputError: a cell says something else.
    """
    num_uncertain, present_CN = 0, []
    for finding, column in cells.items():
        sign = vocabulary.by_value(column, sign_of, pa.string())
        strange = pc.indices_nonzero(pc.and_(pc.is_valid(column), pc.is_null(sign)))
        if len(strange):
            raise InputError(
                f"the column {finding!r} says {column[strange[0].as_py()].as_py()!r}",
                where=where,
                fix="use the table as its owner ships it: 1, 0, -1 or nothing",
            )
        num_uncertain += pc.sum(pc.equal(sign, "?")).as_py() or 0
        code = vocabulary.by_value(sign, _CODES.get, pa.int8())
        present_CN.append(pc.fill_null(code, UNKNOWN).to_numpy())
    return np.stack(present_CN, axis=1).astype(np.int8), num_uncertain


def constant(value: str | None, num: int) -> pa.ChunkedArray:
    """A column that says the same of every row."""
    return pa.chunked_array([pa.array([value], pa.string()).take(pa.array(np.zeros(num, np.int64)))])


def coded(column: pa.ChunkedArray) -> tuple[list[str], NDArray[np.int64]]:
    """The distinct values of a column in the order of their first rows, and each row's place among them."""
    values = pc.unique(column)
    return values.to_pylist(), np.asarray(pc.index_in(column, values), np.int64)


def _unpacked(data: bytes, where: str) -> bytes:
    try:
        if data[:2] == b"\x1f\x8b":
            return gzip.decompress(data)
        if data[:4] == b"PK\x03\x04":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                tables = [entry for entry in archive.namelist() if entry.lower().endswith(".csv")]
                return archive.read(tables[0]) if len(tables) == 1 else data
    except (OSError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(f"the table cannot be unpacked: {error}", where=where, fix="download it again") from error
    return data
