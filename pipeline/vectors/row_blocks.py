"""Arrays with a row for each scan of the pool, a block of rows at a time: no copy of the whole is held."""

# N rows

ROWS_AT_ONCE = 16_384
NUMBERS_AT_ONCE = 2**21  # of a block of wide rows: 4 MiB as they are mapped


def row_blocks(num: int, width: int | None = None) -> list[slice]:
    """Rows of each block; where they begin depends on these numbers alone. Of no rows it is one empty block.

    Args:
        num: N.
        width: Numbers in a row, where rows may be wide: of wide ones fewer come at once.
    """
    size = ROWS_AT_ONCE if width is None else max(1, min(ROWS_AT_ONCE, NUMBERS_AT_ONCE // max(width, 1)))
    return [slice(start, min(start + size, num)) for start in range(0, max(num, 1), size)]
