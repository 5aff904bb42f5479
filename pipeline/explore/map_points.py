"""The scans on the map as bytes: thinned where there are more than a screen can tell apart, coloured by a column.

Numbers are little-endian, arrays follow each other: count n and the number of scans meant (uint32), row (uint32 n),
x and y (uint16 n each), colour (uint8 n).

Legend: N scans of the table, n of them that are sent.
"""

import numpy as np

from pipeline.explore.columns import Column
from pipeline.explore.scan_table import ScanTable

MAX_POINTS = 100_000
NO_COLOR = 255  # not known
NUM_SHADES = 200  # of a number, from the lowest to the highest


def encoded(table: ScanTable, rows: np.ndarray, column: Column | None, max_points: int = MAX_POINTS) -> bytes:
    """Some scans as bytes; of too many those whose turn is first, so that a smaller choice keeps its points.

    Args:
        table: The pool.
        rows: The scans meant.
        column: What colours them; None: nothing does.
        max_points: Most points that are sent.
    """
    sent = rows
    if len(rows) > max_points:
        sent = np.sort(rows[np.argpartition(table.turn_N[rows], max_points)[:max_points]])
    color = np.full(len(sent), NO_COLOR, np.uint8) if column is None else shades(column)[sent]
    parts = (
        np.array([len(sent), len(rows)], "<u4"),
        sent.astype("<u4"),
        table.xy_N2[sent, 0].astype("<u2"),
        table.xy_N2[sent, 1].astype("<u2"),
        color,
    )
    return b"".join(part.tobytes() for part in parts)


def shades(column: Column) -> np.ndarray:
    """Colour of each scan (N,), uint8: place of a word, counted again from 0 beyond 254; shade of a number."""
    if column.names is not None:
        return np.where(column.known_N, column.value_N % NO_COLOR, NO_COLOR).astype(np.uint8)
    low, high = limits(column)
    share_N = (np.nan_to_num(column.value_N.astype(np.float64), nan=low) - low) / max(high - low, 1e-12)
    shade_N = np.clip(share_N * (NUM_SHADES - 1), 0, NUM_SHADES - 1)
    return np.where(column.known_N, np.rint(shade_N), NO_COLOR).astype(np.uint8)


def limits(column: Column) -> tuple[float, float]:
    """Numbers at the ends of the colours: a hundredth on each side lies beyond; (0, 1) where nothing is known."""
    known = column.value_N[column.known_N]
    if not len(known):
        return 0.0, 1.0
    low, high = np.quantile(known, [0.01, 0.99])
    return float(low), float(high)
