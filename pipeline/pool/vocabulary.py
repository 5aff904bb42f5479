"""What a pool's own words mean: blanks, views, sexes, ages, split names; one call per distinct value."""

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.pool.dicom.words import age_years, view

VALIDATION_NAMES = frozenset({"val", "valid", "validation"})
TRAIN_NAMES = frozenset({"train", "training"}) | VALIDATION_NAMES
HOLDOUT_NAMES = frozenset({"test", "testing", "holdout"})
SPLIT_NAMES = TRAIN_NAMES | HOLDOUT_NAMES

BLANKS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")
_SEXES = {"m": "M", "male": "M", "man": "M", "f": "F", "female": "F", "w": "F", "woman": "F"}


def text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Any column as trimmed strings; blanks and the usual words for "no value" become null."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    trimmed = pc.utf8_trim_whitespace(column.cast(pa.string()))
    return pc.if_else(pc.is_in(trimmed, pa.array(BLANKS)), None, trimmed)


def views(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """PA, AP, LL or unknown; never null."""
    return pc.fill_null(by_value(column, view, pa.string()), "unknown")


def sexes(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """M, F or null."""
    return by_value(column, lambda value: _SEXES.get(value.lower()), pa.string())


def ages(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Years, float32; null when unreadable or outside 0..120."""
    return by_value(column, age_years, pa.float32())


def by_value(
    column: pa.ChunkedArray, function: Callable[[str], str | float | None], kind: pa.DataType
) -> pa.ChunkedArray:
    """What `function` makes of each value, called once per distinct one; null stays null."""
    values = pc.unique(column).drop_null()
    meant = pa.array([function(value) for value in values.to_pylist()], kind)
    return pc.take(meant, pc.index_in(column, values))
