"""Whose scan it is: placeholders are nobody, and an id that holds far more scans than any person has is pointed at."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.pool import vocabulary
from pipeline.tables.notes import Notes, counted

_WHOLE_FLOAT, _SHORTENED = r"^(\d+)\.0+$", r"^\d(?:[.,]\d+)?[eE]\+\d{1,3}$"
_FEWEST_SCANS, _TIMES_MEDIAN, _FEWEST_SHARE = 10, 10, 0.02


def known_ids(ids: pa.ChunkedArray, notes: Notes) -> pa.ChunkedArray:
    """Ids without placeholders and as whole numbers; each scan of nobody is a group of its own."""
    is_float = pc.match_substring_regex(ids, _WHOLE_FLOAT)
    if num_float := pc.sum(is_float).as_py():
        notes.mention(f"{counted(num_float, 'patient id')} such as 12.0 are whole numbers, and read as 12")
        ids = pc.replace_substring_regex(ids, _WHOLE_FLOAT, r"\1")
    if num_short := pc.sum(pc.match_substring_regex(ids, _SHORTENED)).as_py():
        notes.warn(
            f"{counted(num_short, 'patient id')} are numbers that a spreadsheet shortened, such as 1.23E+11: several "
            "patients may have become one; write the ids as text"
        )
    return vocabulary.without_placeholders(ids, "patient ids", notes)


def warn_of_large(ids: pa.ChunkedArray, notes: Notes, place: Callable[[Sequence[int]], str] | None = None) -> None:
    """Warn of ids that hold an implausible share of the scans; the id itself is not printed, it may be a real one.

    Args:
        ids: N ids; null where nobody is known.
        notes: Takes the warning.
        place: Says where rows stand in the table, for the warning.
    """
    counts = pc.value_counts(ids.drop_null())
    if len(counts) == 1 and len(ids) >= _FEWEST_SCANS and not ids.null_count:
        notes.warn(f"all {len(ids):,} scans have one patient id: is it a placeholder? They count as one person's")
    if len(counts) < 3:
        return
    size_K = np.asarray(counts.field("counts"), np.int64)
    limit = max(_FEWEST_SCANS, _TIMES_MEDIAN * float(np.median(size_K)), _FEWEST_SHARE * float(size_K.sum()))
    for index in np.flatnonzero(size_K > limit)[:3].tolist():
        first = pc.index(ids, counts.field("values")[index]).as_py()
        where = f" ({place([first])})" if place is not None else ""
        size = int(size_K[index])
        notes.warn(
            f"one patient id{where} holds {counted(size, 'scan')} of {len(ids):,}, where most hold "
            f"{np.median(size_K):g}: is it a placeholder? Its scans count as one person's and are never split"
        )
