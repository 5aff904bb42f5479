"""Excel workbooks: the one sheet that is the table, its cells as the text that a CSV would hold."""

import datetime as dt
import io
import itertools
import re
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.contracts.errors import InputError
from pipeline.tables.characters import INVISIBLE
from pipeline.tables.notes import Notes, counted, listed
from pipeline.tables.table import IsHeader, Record, Table

_LOOKED_AT = 30
_MAX_BYTES, _MAX_RATIO = 2**30, 500
_INVISIBLE = dict.fromkeys(map(ord, INVISIBLE))
_MAX_MERGED = 100_000  # cells of one merged range
# A cell of text may be worked out and empty.
_NEVER_WORKED_OUT = re.compile(
    rb'<c(?![^>]* t="str")(?: [^>]*)?>\s*<f(?: [^>]*)?(?:/>|>[^<]*</f>)\s*(?:<v\s*/>|<v>\s*</v>)?\s*</c>'
)


def is_workbook(data: bytes) -> bool:
    """Whether bytes are an Excel workbook (.xlsx, .xlsm), whatever the file is called."""
    if not data.startswith(b"PK\x03\x04"):
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return "xl/workbook.xml" in archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError):  # the second: of a version never made
        return b"xl/workbook.xml" in data[:65_536]


def open_workbook(name: str, data: bytes, is_header: IsHeader, notes: Notes) -> Table:
    """Open the sheet that holds the table.

    Raises:
        InputError: it is damaged, holds nothing, or several sheets could be the table.
    """
    sheets = _sheets(name, data, notes)
    filled = {title: rows for title, rows in sheets.items() if rows}
    if not filled:
        _refuse_hidden(name, data, is_header, notes)
        raise InputError("the workbook is empty", where=name, fix="its first row names the columns")
    fitting = [title for title, rows in filled.items() if any(is_header(c) for _, c in rows[:_LOOKED_AT])]
    if not fitting:
        _refuse_hidden(name, data, is_header, notes)
    chosen = fitting or list(filled)
    if len(chosen) > 1:
        raise InputError(
            f"{len(chosen)} sheets of the workbook could be the table: {listed(chosen)}",
            where=name,
            fix="keep one of them in the file, or save the one that is meant as CSV UTF-8",
        )
    rows = filled[chosen[0]]
    if len(sheets) > 1:
        others = [title for title in sheets if title != chosen[0]]
        notes.warn(f"of {counted(len(sheets), 'sheet')} {chosen[0]!r} is read, {listed(others)} not")
    place = next((i for i, (_, cells) in enumerate(rows[:_LOOKED_AT]) if is_header(cells)), 0)
    if place:
        notes.warn(f"{counted(place, 'row')} above the header are no part of the table")
    header = tuple(" ".join(cell.split()) for cell in rows[place][1])
    while header and not header[-1]:
        header = header[:-1]
    return Table(name, "row", header, lambda: _iterate(rows[place + 1 :]), notes)


def _refuse_hidden(name: str, data: bytes, is_header: IsHeader, notes: Notes) -> None:
    """Refuse a workbook whose table stands in a sheet that nobody sees."""
    for title, rows in _sheets(name, data, notes, hidden=True).items():
        if any(is_header(cells) for _, cells in rows[:_LOOKED_AT]):
            raise InputError("the table stands in a hidden sheet", value=title, where=name, fix="show that sheet")


def _iterate(rows: Sequence[Record]) -> Iterator[Record]:
    yield from rows


def _sheets(name: str, data: bytes, notes: Notes, *, hidden: bool = False) -> dict[str, list[Record]]:
    """The filled rows of each sheet that is visible, or of each that is not."""
    from python_calamine import SheetTypeEnum, SheetVisibleEnum, load_workbook

    try:
        inside = _inspected(name, data)
        book = load_workbook(io.BytesIO(data))
        sheets = {
            sheet.name: list(_rows(_with_merged(book.get_sheet_by_name(sheet.name))))
            for sheet in book.sheets_metadata
            if sheet.typ == SheetTypeEnum.WorkSheet and (sheet.visible == SheetVisibleEnum.Visible) is not hidden
        }
    except InputError:
        raise
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise InputError(
            f"the workbook cannot be read ({type(error).__name__}: {str(error)[:120]})",
            where=name,
            fix="open and save it again, without a password, or save it as CSV UTF-8",
        ) from error
    for number, what in () if hidden else inside:
        if number:
            notes.warn(what.format(counted(number, "cell"), "holds" if number == 1 else "hold"))
    return sheets


def _with_merged(sheet: Any) -> Iterator[Sequence[Any]]:
    """The rows of a sheet; what stands in merged cells stands in each of them."""
    value_of: dict[tuple[int, int], tuple[int, int]] = {}
    left = sheet.start[1] if sheet.start else 0
    for (top, first), (bottom, last) in sheet.merged_cell_ranges or ():
        cells = itertools.product(range(top, bottom + 1), range(first, last + 1))
        value_of |= dict.fromkeys(itertools.islice(cells, _MAX_MERGED), (top, first))
    filled: dict[tuple[int, int], Any] = {}
    sources = set(value_of.values())
    rows_merged = {row for row, _ in value_of}
    for number, row in enumerate(sheet.iter_rows()):
        if number in rows_merged:
            filled |= {(number, left + i): value for i, value in enumerate(row) if (number, left + i) in sources}
            row = [filled.get(value_of.get((number, left + i), (-1, -1)), value) for i, value in enumerate(row)]
        yield row


def _inspected(name: str, data: bytes) -> list[tuple[int, str]]:
    """How many cells are read as blank or hidden, and what to say of them.

    Raises:
        InputError: it unpacks to more than a workbook of people does.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
        if size > _MAX_BYTES or (size > 2**26 and size > _MAX_RATIO * len(data)):
            raise InputError(f"unpacks to {size:,} bytes, {size / len(data):.0f} times its size", where=name)
        sheets = [entry for entry in archive.namelist() if entry.startswith("xl/worksheets/")]
        contents = [archive.read(entry) for entry in sheets]
        return [
            (
                sum(sheet.count(b' t="e"') for sheet in contents),
                "{} of the workbook {} an error such as #N/A: read as blank",
            ),
            (
                sum(len(_NEVER_WORKED_OUT.findall(sheet)) for sheet in contents),
                "{} of the workbook {} a formula that was saved without its result: read as blank; open it in a "
                "spreadsheet and save it again",
            ),
        ]


def _rows(rows: Iterator[Sequence[Any]]) -> Iterator[Record]:
    for number, row in zip(itertools.count(1), rows, strict=False):
        if any(value != "" for value in row):
            cells = [_text(value) for value in row]
            if any(cell and not cell.isspace() for cell in cells):
                while cells and not cells[-1]:
                    cells.pop()
                yield number, cells


def _text(value: Any) -> str:
    """A cell as the spreadsheet would show it without any format."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, dt.datetime) and value.time() == dt.time(0):
        return value.date().isoformat()
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    return str(value).translate(_INVISIBLE)
