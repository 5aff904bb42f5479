"""One thing that is known of each scan, as an array that can be filtered, sorted and drawn in colour.

Legend: N scans.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MISSING = -1  # of a category; NaN of a number
NO, YES = "no", "yes"
Group = Literal["scan", "pool", "answers", "model", "audit", "marks"]


@dataclass(frozen=True)
class Column:
    """What is known of each scan.

    Attributes:
        title: For people.
        group: What it comes from.
        value_N: Place in `names` (int32, `MISSING` where not known), or a number (float32, NaN where not known).
        names: Values of a category; None of a number.
        meaning: What it says, where the title does not.
        about_labels: Whether it tells what somebody or the model thinks the scan shows: never shown of a sealed scan.
        unknown: What the page calls a scan of which it is not known.
    """

    title: str
    group: Group
    value_N: np.ndarray
    names: tuple[str, ...] | None = None
    meaning: str = ""
    about_labels: bool = False
    unknown: str = "not known"

    @property
    def known_N(self) -> np.ndarray:
        """Whether it is known of each scan."""
        return np.asarray(np.isfinite(self.value_N) if self.names is None else self.value_N >= 0)

    def text(self, row: int) -> str | None:
        """Of one scan, as words; None where it is not known."""
        value = self.value_N[row]
        if self.names is None:
            return f"{value:.4g}" if np.isfinite(value) else None
        return self.names[int(value)] if value >= 0 else None

    def without(self, hidden_N: np.ndarray) -> "Column":
        """The same, not shown of some scans."""
        nothing = np.float32(np.nan) if self.names is None else np.int32(MISSING)
        value_N = np.where(hidden_N, nothing, self.value_N)
        unknown = f"sealed or {self.unknown}" if hidden_N.any() else self.unknown
        return replace(self, value_N=value_N, unknown=unknown)


def category(
    title: str, group: Group, values: pa.Array | pa.ChunkedArray, meaning: str = "", *, about_labels: bool = False
) -> Column:
    """A column of words, in the order of the alphabet; null is not known."""
    plain = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    coded = pc.dictionary_encode(plain.cast(pa.string()))
    names = coded.dictionary.to_pylist()
    order = sorted(range(len(names)), key=lambda i: _sort_key(names[i]))
    place = np.full(len(names) + 1, MISSING, np.int32)  # the last place is that of null
    place[order] = np.arange(len(names), dtype=np.int32)
    value_N = place[pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False)]
    return Column(title, group, value_N, tuple(names[i] for i in order), meaning, about_labels)


def number(title: str, group: Group, value_N: np.ndarray, meaning: str = "", *, about_labels: bool = False) -> Column:
    """A column of numbers; NaN is not known."""
    return Column(title, group, np.asarray(value_N, np.float32), None, meaning, about_labels)


def flag(
    title: str,
    group: Group,
    is_N: np.ndarray,
    meaning: str = "",
    *,
    known_N: np.ndarray | None = None,
    about_labels: bool = False,
) -> Column:
    """A column of yes and no; `known_N` says where it is known, default everywhere."""
    yes_N = is_N.astype(np.int32)
    value_N = yes_N if known_N is None else np.where(known_N, yes_N, np.int32(MISSING))
    return Column(title, group, value_N, (NO, YES), meaning, about_labels)


def looked_up(ids_N: pa.Array, of: Mapping[str, str | None]) -> pa.Array:
    """Words for each scan from a dictionary; null where it holds nothing."""
    place = pc.index_in(ids_N, value_set=pa.array(list(of), pa.string()))
    return pa.array(list(of.values()), pa.string()).take(place)


def is_among(ids_N: pa.Array, some: Sequence[str]) -> np.ndarray:
    """Whether each scan is one of some (N,)."""
    return np.asarray(pc.is_in(ids_N, value_set=pa.array(list(some), pa.string())), dtype=bool)


def aligned(table: pa.Table, ids_N: pa.Array, names: Sequence[str]) -> pa.Table:
    """Some columns of a table by scan, in the order of `ids_N`; null where it has no row."""
    return table.select(list(names)).take(pc.index_in(ids_N, value_set=table["image_id"].combine_chunks()))


def floats(values: pa.ChunkedArray) -> np.ndarray:
    """Numbers of a table's column as float32 (N,), NaN for null."""
    return np.asarray(pc.fill_null(values, float("nan")).to_numpy(), np.float32)


def _sort_key(name: str) -> tuple[int, float, str]:
    """Numbers by their size, then words by the alphabet."""
    return (0, float(name), "") if name.isdigit() else (1, 0.0, name.casefold())
