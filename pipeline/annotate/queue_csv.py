"""Queues as CSV, and filled ones read back: one row a scan, the label column to fill."""

import csv
import datetime as dt
import io
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from pipeline.annotate import answer_choices
from pipeline.annotate.filled_row import Filled
from pipeline.contracts.errors import InputError
from pipeline.contracts.spreadsheet import defused, restored

COLUMNS = ("image_id", "rank", "file", "label", "choices", "certainty", "annotator", "round", "run")
_NUMBER = re.compile(r"[0-9.,]+([eE][+-]?[0-9]+)?")
_SCAN = re.compile("[0-9a-f]{16}")


class Row(NamedTuple):
    """One scan of a queue as an annotator gets it: `rank` is her own order, `file` relative to the table."""

    image_id: str
    rank: int
    file: str


class Origin(NamedTuple):
    """Where a handed-out list comes from: whose it is (empty: anybody's), the round that asks, the run's code."""

    annotator: str
    round_index: int
    run: str


def write_csv(rows: Iterable[Row], findings: Sequence[str], origin: Origin) -> str:
    """A queue to fill."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    choices = " | ".join(
        " ".join(name.split()) for name in answer_choices.offered(findings)
    )  # a line break would end the row
    for row in rows:
        cells = (row.image_id, row.rank, row.file, "", choices, "", *origin)
        writer.writerow([defused(str(cell)) for cell in cells])
    return stream.getvalue()


def read_csv(name: str, text: str) -> list[Filled]:
    """The rows of a filled queue, also with semicolons or tabs, as some spreadsheets write them.

    `seconds` and `labelled_at` stand in tables that the page of a bundle saved.

    Raises:
        InputError: when a column is missing, or a cell of `seconds`, `labelled_at` or `round` cannot be read.
    """
    header = text.partition("\n")[0]
    # Strict: a quotation mark that is never closed would swallow the rows behind it.
    reader = csv.DictReader(io.StringIO(text), delimiter=max(",;\t", key=header.count), strict=True)
    try:
        columns = [column.strip() for column in reader.fieldnames or []]
        reader.fieldnames = columns
        repeated = [column for column in ("image_id", "label") if columns.count(column) > 1]
        if repeated:
            raise InputError(
                f"has {columns.count(repeated[0])} columns {repeated[0]!r}",
                where=name,
                fix="keep the one that holds the answers, and rename or delete the others",
            )
        missing = [column for column in ("image_id", "label") if column not in columns]
        if missing:
            has = ", ".join(columns)[:200] or "none"
            raise InputError(f"columns {missing} are missing", where=name, fix=f"it has {has}")
        return [_filled(f"{name}:{reader.line_num}", row) for row in reader]
    except csv.Error as error:
        raise InputError(
            f"is no CSV table ({error})", where=f"{name}:{reader.line_num}", fix="save it as CSV, UTF-8"
        ) from error


def is_filled(name: str, text: str) -> bool:
    """Whether somebody has written a label into this table, or it may be so: it cannot be read."""
    try:
        return any(row.reply.strip() for row in read_csv(name, text))
    except InputError:
        return True


def _filled(where: str, row: dict[str | None, Any]) -> Filled:
    cell = {key: _plain(value) for key, value in row.items() if key is not None and isinstance(value, str)}
    return Filled(
        where=where,
        image_id=_image_id(cell.get("image_id", ""), cell.get("file", "")),
        reply=cell.get("label", ""),
        reader=cell.get("annotator", ""),
        certainty=cell.get("certainty", ""),
        seconds=_seconds(cell.get("seconds", ""), where),
        time=_time(cell.get("labelled_at", ""), where),
        round_index=_number(cell.get("round", ""), where),
        run=cell.get("run", ""),
        beyond=" ".join(text.strip() for text in row.get(None) or () if text.strip()),
    )


def _image_id(text: str, file: str) -> str:
    """The scan; by its picture where a spreadsheet took its id for a number, as it does with 1 in 770."""
    stem = PurePosixPath(file).stem
    return stem if _NUMBER.fullmatch(text) and _SCAN.fullmatch(stem) else text


def _plain(text: str) -> str:
    return restored(text.strip(" "))


def _seconds(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = math.nan
    if not 0.0 <= value < math.inf:
        raise InputError("is no number of seconds", value=text, where=f"{where}, seconds", fix="leave it blank")
    return value


def _time(text: str, where: str) -> dt.datetime | None:
    if not text:
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
        return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise InputError(
            "is no time", value=text, where=f"{where}, labelled_at", fix="write 2026-01-31T12:00:00Z, or leave it blank"
        ) from None


def _number(text: str, where: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal() or len(text) > 6:
        raise InputError("is no round", value=text, where=f"{where}, round", fix="leave the column as it was exported")
    return int(text)
