"""Tables as text: what separates the cells, which line is the header, and the rows with the lines they begin in."""

import csv
import io
import itertools
import re
from collections.abc import Iterator

from pipeline.contracts.errors import InputError
from pipeline.tables.notes import Notes, counted
from pipeline.tables.table import IsHeader, Record, Table

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_SEP_LINE = re.compile(rb"\s*\"?sep=(.)\"?[ ,;\t]*(\r\n|\n|\r)", re.IGNORECASE)
_LOOKED_AT = 30  # records in which the header is looked for
_HEAD_BYTES = 2**18
_MAX_CELL = 2**21  # characters; a radiology report is a cell, and one that is too long is told by its length
csv.field_size_limit(_MAX_CELL)


def open_delimited(name: str, data: bytes, is_header: IsHeader, notes: Notes) -> Table:
    """Open text as a table.

    Args:
        name: Of the file, for messages.
        data: UTF-8, see `characters.as_utf8`.
        is_header: Whether cells are the header; where no line is, the first that holds anything counts.
        notes: Takes what is forgiven.

    Raises:
        InputError: it holds nothing.
    """
    start, separator = _separator(data, is_header, notes)
    head = list(itertools.islice(_filled(name, data[start : start + _HEAD_BYTES], separator, lenient=True), _LOOKED_AT))
    if not head:
        next(_filled(name, data[start:], separator), None)  # says what is wrong with it
        raise InputError("is empty", where=name, fix="its first line names the columns")
    place = next((i for i, (_, cells) in enumerate(head) if is_header(cells)), 0)
    if place:
        # Their words are not told: they may be a report's, or a patient's name.
        notes.warn(f"{counted(place, 'line')} above the header {'is' if place == 1 else 'are'} no part of the table")
    if b"\n" not in data and b"\r" in data:
        notes.mention("its lines end in CR alone")
    line_skipped = data[:start].count(b"\n") or int(start > 0)

    def records() -> Iterator[Record]:
        rows = _filled(name, data[start:], separator, notes=notes, first_line=1 + line_skipped)
        for _ in range(place + 1):
            next(rows)
        num_headers = 0
        for begins, cells in rows:
            if cells == head[place][1]:
                num_headers += 1
            else:
                yield begins, cells
        if num_headers:
            notes.warn(f"the header stands again in {counted(num_headers, 'row')}, which are skipped")

    header = tuple(" ".join(cell.split()) for cell in head[place][1])
    return Table(name, "line", header, records, notes)


def _separator(data: bytes, is_header: IsHeader, notes: Notes) -> tuple[int, str]:
    """Where the table begins, and what separates its cells: as `sep=` says, else what makes a header of a line."""
    named = _SEP_LINE.match(data)
    if named is not None:
        notes.mention(f"its first line says that {named[1].decode()!r} separates the cells")
        return named.end(), named[1].decode()
    widths: dict[str, tuple[bool, int]] = {}
    for separator in SEPARATORS:
        head = itertools.islice(_filled("", data[:_HEAD_BYTES], separator, lenient=True), _LOOKED_AT)
        lines = [cells for _, cells in head]
        fitting = [cells for cells in lines if is_header(cells)]
        if separator == "|" and not fitting:
            continue  # bars also separate findings in a cell
        widths[separator] = (bool(fitting), len((fitting or lines or [[]])[0]))
    if not any(fits for fits, _ in widths.values()):
        head = itertools.islice(_filled("", data[:_HEAD_BYTES], " ", lenient=True), _LOOKED_AT)
        if any(is_header(cells) for _, cells in head):
            notes.mention("blanks separate its cells")
            return 0, " "
    return 0, max(widths, key=lambda separator: widths[separator])


def _filled(
    name: str, data: bytes, separator: str, *, lenient: bool = False, notes: Notes | None = None, first_line: int = 1
) -> Iterator[Record]:
    """Records with the line each begins in, without those that hold nothing.

    A quotation mark that is never closed would swallow the rows behind it: refused, unless `lenient`.
    """
    stream = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", errors="replace", newline="")
    reader = csv.reader(stream, delimiter=separator, strict=not lenient, skipinitialspace=True)
    begins, num_blank = first_line, 0
    has_marks = b'="' in data
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            if lenient:
                return
            raise _refused(name, begins, reader.line_num + first_line - 1, error) from error
        if cells is None:
            break
        if separator == " ":  # blanks at the end of a line separate nothing
            while cells and not cells[-1]:
                cells.pop()
        if has_marks:  # ="0012": how a spreadsheet keeps the zeros
            cells = [cell[2:-1] if cell.startswith('="') and cell.endswith('"') else cell for cell in cells]
        if any(cell and not cell.isspace() for cell in cells):
            yield begins, cells
        elif cells:
            num_blank += 1
        begins = first_line + reader.line_num
    if num_blank and notes is not None:
        notes.mention(f"{counted(num_blank, 'row')} of blank cells are skipped")


def _refused(name: str, begins: int, ends: int, error: csv.Error) -> InputError:
    if "field limit" in str(error):
        what = f"a quotation mark is never closed, or a cell is longer than {_MAX_CELL:,} characters"
    elif "unexpected end" in str(error):
        what = f"a quotation mark is never closed, {error}"
    else:
        what = f"{error}; inside a cell it is doubled"
    lines = f"; the row goes on to line {ends}" if ends > begins else ""
    return InputError(f"is no CSV table ({what}{lines})", where=f"{name}:{begins}", fix="save it as CSV, UTF-8")
