"""Parquet tables: typed columns, lists as lists of findings."""

import json
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.errors import InputError
from pipeline.tables.notes import Notes
from pipeline.tables.table import Record, Table

MAGIC = b"PAR1"
_MAX_WHOLE = 2**53  # beyond it floating numbers leave whole ones out


def open_parquet(name: str, data: bytes, notes: Notes) -> Table:
    """Open a Parquet file.

    Raises:
        InputError: it cannot be read.
    """
    import pyarrow.parquet as pq

    def refused(error: Exception) -> InputError:
        return InputError(f"cannot be read as Parquet: {error}", where=name, fix="write or copy it again")

    try:
        file = pq.ParquetFile(pa.BufferReader(data))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise refused(error) from error
    names = list(file.schema_arrow.names)

    def typed(columns: Sequence[int]) -> list[pa.ChunkedArray]:
        try:
            table = file.read(columns=list(dict.fromkeys(names[i] for i in columns)))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise refused(error) from error
        columns_as_text = (_as_text(table.column(names[i]), names[i], name) for i in columns)
        return [
            _whole(_without_objects(_without_lists(column), names[i], name))
            for i, column in zip(columns, columns_as_text, strict=True)
        ]

    def records() -> Iterator[Record]:
        columns = [column.cast(pa.string()).to_pylist() for column in typed(range(len(names)))]
        for number, row in enumerate(zip(*columns, strict=True), 1):
            yield number, ["" if cell is None else cell for cell in row]

    objects = frozenset(i for i, field in enumerate(file.schema_arrow) if _is_of_objects(field.type))
    return Table(name, "row", tuple(" ".join(n.split()) for n in names), records, notes, typed, objects)


def _is_of_objects(kind: pa.DataType) -> bool:
    return bool(pa.types.is_struct(kind) or pa.types.is_map(kind))


def _as_text(column: pa.ChunkedArray, column_name: str, name: str) -> pa.ChunkedArray:
    """A column of bytes as text; others as they are.

    Raises:
        InputError: the bytes are no UTF-8.
    """
    if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
        return column
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid as error:
        raise InputError(
            "a column holds no UTF-8 text", value=column_name, where=name, fix="write it as UTF-8 text"
        ) from error


def _without_objects(column: pa.ChunkedArray, column_name: str, name: str) -> pa.ChunkedArray:
    """A column of objects (structs, maps) as text, in JSON.

    Raises:
        InputError: the objects hold bytes, as a data set that keeps its pictures in the table does.
    """
    if not _is_of_objects(column.type):
        return column
    try:
        texts = [None if row is None else json.dumps(row, ensure_ascii=False) for row in column.to_pylist()]
    except TypeError:
        raise InputError(
            "a column holds objects, and no text",
            value=column_name,
            where=name,
            fix="write pictures out as files, and their paths into a column",
        ) from None
    return pa.chunked_array([pa.array(texts, pa.string())])


def _whole(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whole numbers that a blank among them made floating: 12345678901.0 is no 1.2345678901e+10."""
    if not pa.types.is_floating(column.type) or len(column) == column.null_count:
        return column
    if pa.types.is_float16(column.type):  # few functions know them
        column = column.cast(pa.float32())
    column = pc.if_else(pc.is_nan(column), None, column)
    is_whole = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), float(_MAX_WHOLE)))
    return column.cast(pa.int64()) if pc.all(is_whole).as_py() else column


def _without_lists(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of lists as text, in JSON; an empty list is no value."""
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        return column

    def text(row: list[object] | None) -> str | None:
        return json.dumps([str(item) for item in row if item is not None], ensure_ascii=False) if row else None

    texts = [text(row) for row in column.to_pylist()]
    return pa.chunked_array([pa.array(texts, pa.string())])
