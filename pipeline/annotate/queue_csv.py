"""Queues as CSV, and filled ones read back: one row a scan, the label column to fill."""

import csv
import datetime as dt
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from pipeline.annotate import answer_choices
from pipeline.annotate.filled_row import Filled
from pipeline.contracts.errors import InputError
from pipeline.contracts.spreadsheet import defused, restored
from pipeline.tables import columns as table_columns
from pipeline.tables.delimited import open_delimited
from pipeline.tables.notes import Notes, listed
from pipeline.tables.printed_lists import parts_of_list
from pipeline.tables.table import Table

COLUMNS = ("image_id", "rank", "file", "label", "choices", "certainty", "annotator", "round", "run")
_READ = ("image_id", "label", "certainty", "annotator", "seconds", "labelled_at", "round", "run")
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


def is_header(cells: Sequence[str]) -> bool:
    """Whether these are the columns of a filled queue, or of an export of Label Studio."""
    names = set(map(table_columns.compact, cells))
    return bool(names & {"imageid", "file"}) and bool(names & {"label", "annotationid"})


def read_csv(name: str, text: str) -> list[Filled]:
    """The rows of a filled queue given as text; see `read_table`."""
    return read_table(open_delimited(name, text.removeprefix("\ufeff").encode(), is_header, Notes(name)))


def read_table(table: Table, *, several: bool = False) -> list[Filled]:
    """The rows of a filled queue. Blanks, case and `_` in the names of columns do not matter.

    `seconds` and `labelled_at` stand in tables that the page of a bundle saved.

    Args:
        table: As it was opened.
        several: Whether an answer may name several findings; then it may be a list that a program printed.

    Raises:
        InputError: when a column is missing, or a cell of `seconds`, `labelled_at` or `round` cannot be read.
    """
    places = {name: table_columns.find(table.header, name, table.name) for name in (*_READ, "file")}
    known = {name: place for name, place in places.items() if place is not None}
    missing = ["label"] if "label" not in known else []
    missing = ["image_id", *missing] if not known.keys() & {"image_id", "file"} else missing
    if missing:
        has = ", ".join(table.header)[:200] or "none"
        near = table_columns.near(missing[0], table.header)
        hint = f"did you mean {near!r}? " if near else ""
        raise InputError(f"columns {missing} are missing", where=table.name, fix=f"{hint}it has {has}")
    for name, place in known.items():
        if alike := table_columns.others_alike(table.header, place):
            table.notes.warn(f"the column {table.header[place]!r} is read as {name}, and {listed(alike)} beside it not")
    unread = [name for i, name in enumerate(table.header) if name and i not in known.values() and name not in COLUMNS]
    for name in ("annotator", "certainty"):
        near = table_columns.near(name, unread) if name not in known else None
        if near is not None:
            table.notes.warn(f"the column {near!r} is not read; did you mean {name}? Then call it so")
    return [_filled(table, place, cells, known, several=several) for place, cells in table.records()]


def is_filled(name: str, text: str) -> bool:
    """Whether somebody has written a label into this table, or it may be so: it cannot be read."""
    try:
        return any(row.reply.strip() for row in read_csv(name, text))
    except InputError:
        return True


def _filled(table: Table, place: int, cells: Sequence[str], known: Mapping[str, int], *, several: bool) -> Filled:
    where = table.where(place)
    cell = {name: _plain(cells[i]) if i < len(cells) else "" for name, i in known.items()}
    reply = cell.get("label", "")
    parts = parts_of_list(reply) if several else None
    return Filled(
        where=where,
        image_id=_image_id(cell.get("image_id", ""), cell.get("file", "")),
        reply="|".join(parts) if parts else reply,
        reader=cell.get("annotator", ""),
        certainty=cell.get("certainty", ""),
        seconds=_seconds(cell.get("seconds", ""), where),
        time=_time(cell.get("labelled_at", ""), where),
        round_index=_number(cell.get("round", ""), where),
        run=cell.get("run", ""),
        beyond=" ".join(text.strip() for text in cells[len(table.header) :] if text.strip()),
    )


def _image_id(text: str, file: str) -> str:
    """The scan; by its picture where it has no id, or where a spreadsheet took that for a number (1 in 770).

    An id may be written in capitals, or as the name of its picture.
    """
    stem = PurePosixPath(file.replace("\\", "/")).stem
    if (not text or _NUMBER.fullmatch(text)) and _SCAN.fullmatch(stem):
        return stem
    own = PurePosixPath(text.replace("\\", "/")).name.partition(".")[0].lower()
    return own if _SCAN.fullmatch(own) else text


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
    text = text.removesuffix(".0")  # as a spreadsheet may save it
    if not text.isdecimal() or len(text) > 6:
        raise InputError("is no round", value=text, where=f"{where}, round", fix="leave the column as it was exported")
    return int(text)
