"""What white is in the scans of a pool whose files leave it open: decided once for all, recorded, said aloud."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from embeddings.decoding import grey_range
from embeddings.decoding.files import with_white
from pipeline.contracts.tables import MANIFEST
from pipeline.runtime import run_files

_log = logging.getLogger(__name__)


def wanted(rows: Sequence[dict[str, Any]], asked: int | None) -> list[int | None]:
    """The white of each scan that leaves it open; of any other what its row has.

    Args:
        rows: With `open_bits` (see `embeddings.decoding.grey.Grey`), `white` and `reason`.
        asked: The white that the configuration names; None: the largest values of all scans tell.
    """
    is_open = [row["open_bits"] is not None and row["reason"] is None for row in rows]
    read_with = grey_range.decide(Counter(row["open_bits"] for row, is_ in zip(rows, is_open, strict=True) if is_))
    return [
        (asked or grey_range.white_of_bits(read_with[row["open_bits"]])) if is_ else row["white"]
        for row, is_ in zip(rows, is_open, strict=True)
    ]


def addresses(uris: pa.ChunkedArray, table: pa.Table) -> pa.Array:
    """Where each scan is read from, with its white where that is not what its own values say."""
    rows = zip(uris.to_pylist(), table["open_bits"].to_pylist(), table["white"].to_pylist(), strict=True)
    return pa.array(
        [
            uri if bits is None or white == grey_range.white_of_bits(bits) else with_white(uri, white)
            for uri, bits, white in rows
        ],
        pa.string(),
    )


def of_run(folder: Path, asked: str | int | tuple[int, ...]) -> str | int | tuple[int, ...]:
    """`pool.white` for another pool that is to be read as a run's own: what was asked for, else what the run decided.

    Args:
        folder: Of the run.
        asked: Its `pool.white`.
    """
    if asked != "auto":
        return asked
    return tuple(sorted(pc.unique(run_files.read(folder, MANIFEST)["white"]).drop_null().to_pylist())) or asked


def report(table: pa.Table, asked: str | int | tuple[int, ...]) -> dict[str, int]:
    """Warn of scans whose white was decided; returns how many have each white.

    Args:
        table: What was read of every scan.
        asked: `pool.white`.
    """
    kept = table.filter(pc.and_(pc.is_valid(table["white"]), pc.is_null(table["reason"])))
    counts = {str(white): count for white, count in sorted(Counter(kept["white"].to_pylist()).items())}
    if not isinstance(asked, int):
        _warn_of_parts(kept, counts, len(table))
    else:
        num_over = pc.sum(pc.greater(kept["open_bits"], asked.bit_length())).as_py()
        if num_over:
            _log.warning("%d scans hold values above pool.white, %s: they are shown white", num_over, asked)
    return counts


def _warn_of_parts(kept: pa.Table, counts: dict[str, int], num_scans: int) -> None:
    rows = list(zip(*(kept[name].to_pylist() for name in ("white", "bit_depth", "open_bits")), strict=True))
    num_part = sum(white < grey_range.white_of_bits(depth) for white, depth, _ in rows)
    if num_part:
        _log.warning(
            "%d of %d scans use only a part of the range of their files, which do not say so; by their largest values "
            "white is %s (pool.white says it otherwise)",
            num_part,
            num_scans,
            ", ".join(f"{white} in {count}" for white, count in counts.items()),
        )
    wider = Counter((bits, white) for white, _, bits in rows if white > grey_range.white_of_bits(bits))
    for (bits, white), count in sorted(wider.items()):
        _log.warning(
            "%d of %d scans hold values of %d bits and are read with white %d, as the others are: if they look too "
            "dark, say pool.white=[%s]",
            count,
            num_scans,
            bits,
            white,
            ", ".join(map(str, sorted({grey_range.white_of_bits(bits), *map(int, counts)}))),
        )
