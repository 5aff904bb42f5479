"""Arrays with a row for each scan of the pool, a block of rows at a time: no copy of the whole is held.

A block is worked on in this process, or, where there is much to do, sent to a task of the engine: its rows are the
task's input, so that workers need no disk that they share. See `docs/decisions/13-blocks-that-travel.md`.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np

from pipeline.runtime.engine import Engine, LazyShards

# N rows, D dimensions, M rows wanted, B rows of a block

R = TypeVar("R")

ROWS_AT_ONCE = 16_384
NUMBERS_AT_ONCE = 2**22  # of a block of wide rows: 8 MiB as embeddings are kept
MIN_PRODUCTS = 150_000_000_000  # eight seconds of one core, of which two workers save one


def row_blocks(num: int, width: int | None = None) -> list[slice]:
    """Rows of each block; where they begin depends on these numbers alone. Of no rows it is one empty block.

    Args:
        num: N.
        width: Numbers in a row, where rows may be wide: of wide ones fewer come at once.
    """
    size = ROWS_AT_ONCE if width is None else max(1, min(ROWS_AT_ONCE, NUMBERS_AT_ONCE // max(width, 1)))
    return [slice(start, min(start + size, num)) for start in range(0, max(num, 1), size)]


def map_blocks(
    engine: Engine | None,
    function: Callable[[np.ndarray], R],
    emb_ND: np.ndarray,
    num_products: int,
    rows_M: np.ndarray | None = None,
) -> Iterator[tuple[slice, R]]:
    """Yield places among the rows wanted, and what a function makes of those rows; in any order.

    The blocks are the same wherever they are worked on, and so is what comes of them, on processors of one kind.

    Args:
        engine: Tasks of it get the blocks where there are `MIN_PRODUCTS` or more; None: never.
        function: Of a block of rows; travels to the tasks, with what it holds.
        emb_ND: Rows; may be memory-mapped.
        num_products: Multiplications that a row takes.
        rows_M: The rows wanted, in the order wanted; None: all.
    """
    num = len(emb_ND) if rows_M is None else len(rows_M)
    blocks = row_blocks(num, emb_ND.shape[1])

    def read(index: int) -> np.ndarray:
        rows = blocks[index]
        return np.ascontiguousarray(emb_ND[rows if rows_M is None else rows_M[rows]])

    if engine is None or num * num_products < MIN_PRODUCTS:
        for index, rows in enumerate(blocks):
            yield rows, function(read(index))
        return
    for index, result in engine.map_shards(function, LazyShards(read, len(blocks))):
        yield blocks[index], result
