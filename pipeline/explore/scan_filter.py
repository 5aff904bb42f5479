"""Which scans somebody means: by values of columns, by a lasso on the map, by name; and in which order.

Legend: N scans of the table, V corners of the lasso.
"""

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pipeline.contracts.errors import InputError
from pipeline.explore.columns import Column
from pipeline.explore.scan_table import ScanTable

MAX_CORNERS, MAX_CLAUSES, MAX_NAMED = 500, 40, 5_000
Key = Annotated[str, Field(max_length=300)]
Side = Annotated[int, Field(ge=-65_536, le=131_072)]


class Strict(BaseModel):
    """What a page sends: nothing but what is expected."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Clause(Strict):
    """What one column must say.

    Attributes:
        column: Its key.
        values: Of a category: any of these words; null: not known.
        low: Of a number: no less.
        high: No more.
    """

    column: Key
    values: Annotated[tuple[Annotated[str, Field(max_length=300)] | None, ...], Field(max_length=2_000)] | None = None
    low: Annotated[float, Field(allow_inf_nan=False)] | None = None
    high: Annotated[float, Field(allow_inf_nan=False)] | None = None


class Choice(Strict):
    """The scans that fulfil all of this.

    Attributes:
        where: What columns must say.
        lasso: Corners (x, y) on the map within which a scan must lie.
        named: The scans themselves.
    """

    where: Annotated[tuple[Clause, ...], Field(max_length=MAX_CLAUSES)] = ()
    lasso: Annotated[tuple[tuple[Side, Side], ...], Field(max_length=MAX_CORNERS)] = ()
    named: Annotated[tuple[Annotated[str, Field(pattern="^[0-9a-f]{16}$")], ...], Field(max_length=MAX_NAMED)] = ()


class Order(Strict):
    """By what scans are sorted: a column's key, `copies` side by side, or by chance (empty)."""

    by: Key = ""
    descending: bool = True


SORT_COPIES: Literal["copies"] = "copies"


def rows_of(table: ScanTable, choice: Choice) -> np.ndarray:
    """Rows of the scans that are meant, rising.

    Raises:
        InputError: naming a column that the run does not have.
    """
    keep_N = np.ones(len(table), bool)
    for clause in choice.where:
        keep_N &= _fulfils(table, clause)
    if choice.named:
        named_N = np.zeros(len(table), bool)
        named_N[[table.row_of[i] for i in choice.named if i in table.row_of]] = True
        keep_N &= named_N
    rows = np.flatnonzero(keep_N)
    if choice.lasso:
        rows = rows[inside(table.xy_N2[rows], np.array(choice.lasso, np.float64))]
    return rows


def sort(table: ScanTable, rows: np.ndarray, order: Order, most: int | None = None) -> np.ndarray:
    """The rows in an order; what is not known comes last, ties by chance.

    Args:
        table: The pool.
        rows: Of it.
        order: By what.
        most: So many of the first are wanted, and no more need be right; None: all of them.

    Raises:
        InputError: naming a column that the run does not have.
    """
    turn = table.turn_N[rows]
    if not order.by:
        return _sorted(rows, turn, turn, most)
    if order.by == SORT_COPIES:
        return _sorted(rows, table.picture_N[rows], rows, most)
    column = column_of(table, order.by)
    value = column.value_N[rows].astype(np.float64)
    known = column.known_N[rows]
    key = np.where(known, -value if order.descending else value, np.inf)
    return _sorted(rows, key, turn, most)


def _sorted(rows: np.ndarray, key: np.ndarray, tie: np.ndarray, most: int | None) -> np.ndarray:
    """Rows by a key, then by another; of a million the first page is found without sorting the rest."""
    if most is not None and most < len(rows):
        wanted = np.flatnonzero(key <= np.partition(key, most)[most])
        rows, key, tie = rows[wanted], key[wanted], tie[wanted]
    return np.asarray(rows[np.lexsort((tie, key))])


def inside(xy_N2: np.ndarray, corner_V2: np.ndarray) -> np.ndarray:
    """Whether points lie inside a polygon (N,): a ray to the right crosses its sides an odd number of times."""
    x_N, y_N = xy_N2[:, 0].astype(np.float64), xy_N2[:, 1].astype(np.float64)
    is_in_N = np.zeros(len(xy_N2), bool)
    in_box = np.flatnonzero(
        (x_N >= corner_V2[:, 0].min())
        & (x_N <= corner_V2[:, 0].max())
        & (y_N >= corner_V2[:, 1].min())
        & (y_N <= corner_V2[:, 1].max())
    )
    x_N, y_N = x_N[in_box], y_N[in_box]
    crossed_N = np.zeros(len(in_box), bool)
    for (x0, y0), (x1, y1) in zip(corner_V2, np.roll(corner_V2, -1, axis=0), strict=True):
        if y0 != y1:
            spans_N = (y0 > y_N) != (y1 > y_N)
            crossed_N ^= spans_N & (x_N < (x1 - x0) * (y_N - y0) / (y1 - y0) + x0)
    is_in_N[in_box] = crossed_N
    return is_in_N


def within(table: ScanTable, rows: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """Those of some rows that lie in a part of the map: left, bottom, right, top."""
    x_n, y_n = table.xy_N2[rows, 0].astype(np.int64), table.xy_N2[rows, 1].astype(np.int64)
    left, bottom, right, top = box
    return np.asarray(rows[(x_n >= left) & (x_n <= right) & (y_n >= bottom) & (y_n <= top)])


def column_of(table: ScanTable, key: str) -> Column:
    """A column by its key.

    Raises:
        InputError: when the run does not have it.
    """
    column = table.columns.get(key)
    if column is None:
        raise InputError("this run has no such column", value=key[:80], fix="reload the page: the run may have changed")
    return column


def _fulfils(table: ScanTable, clause: Clause) -> np.ndarray:
    column = column_of(table, clause.column)
    keep_N = np.ones(len(table), bool)
    if clause.values is not None:
        if column.names is None:
            keep_N = ~column.known_N if None in clause.values else np.zeros(len(table), bool)
        else:
            codes = [column.names.index(word) for word in clause.values if word in column.names]
            keep_N = np.isin(column.value_N, codes) | (~column.known_N if None in clause.values else False)
    if column.names is None and (clause.low is not None or clause.high is not None):
        low, high = (-np.inf if clause.low is None else clause.low), (np.inf if clause.high is None else clause.high)
        keep_N &= (column.value_N >= np.float32(low)) & (column.value_N <= np.float32(high))
    return np.asarray(keep_N)
