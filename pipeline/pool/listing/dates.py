"""Dates in a pool's table that cannot be: counted by reason, never shown, for a date may tell who somebody is."""

import datetime as dt
import re
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.pool.dicom import words
from pipeline.tables.columns import compact
from pipeline.tables.notes import Notes, counted

_NAMES = re.compile(r"((?<!candi)(?<!man)(?<!up)(?<!vali)date|datum|dob)$|^(date|datum|dob)")
_OF_BIRTH = re.compile(r"birth|born|dob|geb")


def columns(header: Sequence[str]) -> list[str]:
    """The columns that hold dates, by their names; they are read for nothing else."""
    return [name for name in dict.fromkeys(header) if _NAMES.search(compact(name))]


def say_impossible(name: str, column: pa.ChunkedArray, notes: Notes) -> None:
    """Count the dates of a column that cannot be.

    Args:
        name: Of the column.
        column: Its values as text; null where there is none.
        notes: Told of them.
    """
    today = dt.datetime.now(dt.UTC).date()
    is_film = not _OF_BIRTH.search(compact(name))
    doubts: Counter[str] = Counter()
    for row in pc.value_counts(column.drop_null()).to_pylist():
        doubt = words.doubt_of_date(str(row["values"]), today, is_film=is_film)
        if doubt is not None:
            doubts[doubt] += row["counts"]
    num_known = len(column) - column.null_count
    if doubts[words.IN_THE_FUTURE] > words.MOST * num_known:
        moved = counted(doubts.pop(words.IN_THE_FUTURE), "date")
        notes.mention(f"{moved} of {name!r} {words.MOVED}")
    if doubts:
        shown = ", ".join(f"{num:,} {doubt}" for doubt, num in doubts.most_common())
        notes.warn(f"{counted(doubts.total(), 'date')} of {name!r} {words.CANNOT_BE}: {shown}")
