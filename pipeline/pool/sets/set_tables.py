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
from pipeline.pool.finding_columns import SIGNS
from pipeline.pool.sets.public_set import ABSENT, PRESENT, UNKNOWN, SetFolder

# N rows, C findings

Columns = dict[str, pa.ChunkedArray]
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
    header = header_of(data)
    missing = [name for name in needed if name not in header]
    if missing:
        raise InputError(
            f"the set's table has no column {missing[0]!r}",
            where=where,
            fix=f"use the table as its owner ships it; there are {', '.join(header[:12])}",
        )
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
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise InputError(
            f"the set's table cannot be read as CSV: {error}", where=where, fix="download it again"
        ) from error
    return {name: vocabulary.text(table[name]) for name in chosen}


def header_of(data: bytes) -> list[str]:
    """Names of the columns, without the blanks around them."""
    head = data[: data.find(b"\n") if b"\n" in data else len(data)].decode("utf-8-sig", errors="replace")
    return [name.strip() for name in next(csv.reader([head.rstrip("\r")]), [])]


def header(folder: SetFolder, path: str) -> list[str]:
    """Names of the columns of a table."""
    return header_of(_unpacked(folder.read(path), f"{folder.root}/{path}"))


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
        sign = vocabulary.by_value(column, lambda value: SIGNS.get(value.casefold()), pa.string())
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
