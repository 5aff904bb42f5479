"""What white is in the scans of a pool whose files leave it open: decided once for all, recorded, said aloud."""

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.decoding import grey_range
from embeddings.decoding.files import with_white
from pipeline.contracts.tables import MANIFEST
from pipeline.runtime import run_files

_log = logging.getLogger(__name__)


def wanted(table: pa.Table, asked: int | None) -> pa.ChunkedArray:
    """The white of each scan that leaves it open; of any other what its row has.

    Args:
        table: With `open_bits` (see `embeddings.decoding.grey.Grey`), `white` and `reason`.
        asked: The white that the configuration names; None: the largest values of all scans tell.
    """
    is_open = pc.and_(pc.is_valid(table["open_bits"]), pc.is_null(table["reason"]))
    counted = pc.value_counts(table["open_bits"].filter(is_open)).to_pylist()
    read_with = grey_range.decide({row["values"]: row["counts"] for row in counted})
    white_of = {bits: asked or grey_range.white_of_bits(read) for bits, read in read_with.items()}
    return pc.if_else(is_open, _mapped(table["open_bits"], white_of), table["white"])


def addresses(uris: pa.ChunkedArray, table: pa.Table) -> pa.ChunkedArray:
    """Where each scan is read from, with its white where that is not what its own values say."""
    is_own = pc.or_(pc.is_null(table["open_bits"]), pc.fill_null(pc.equal(table["white"], _own(table)), False))
    rows = np.flatnonzero(~is_own.to_numpy())
    if not len(rows):
        return uris
    others = zip(uris.take(rows).to_pylist(), table["white"].take(rows).to_pylist(), strict=True)
    return pc.replace_with_mask(
        uris.combine_chunks(), pc.invert(is_own).combine_chunks(), pa.array([with_white(*pair) for pair in others])
    )


def _own(table: pa.Table, column: str = "open_bits") -> pa.ChunkedArray:
    """The white that goes with the bits in a column."""
    known = pc.unique(table[column]).drop_null().to_pylist()
    return _mapped(table[column], {bits: grey_range.white_of_bits(bits) for bits in known})


def _mapped(bits: pa.ChunkedArray, white_of: dict[int, int]) -> pa.ChunkedArray:
    place = pc.index_in(bits, value_set=pa.array(list(white_of), bits.type), skip_nulls=True)
    return pa.chunked_array([pa.array(list(white_of.values()), pa.int32())]).take(place)


def of_run(folder: Path, asked: str | int | tuple[int, ...]) -> str | int | tuple[int, ...]:
    """`pool.white` for another pool that is to be read as a run's own: what was asked for, else what the run decided.

    Args:
        folder: Of the run.
        asked: Its `pool.white`.
    """
    if asked != "auto":
        return asked
    return (
        tuple(sorted(pc.unique(run_files.read(folder, MANIFEST, ["white"])["white"]).drop_null().to_pylist())) or asked
    )


def report(table: pa.Table, asked: str | int | tuple[int, ...]) -> dict[str, int]:
    """Warn of scans whose white was decided; returns how many have each white.

    Args:
        table: What was read of every scan.
        asked: `pool.white`.
    """
    kept = table.filter(pc.and_(pc.is_valid(table["white"]), pc.is_null(table["reason"])))
    counted = {row["values"]: row["counts"] for row in pc.value_counts(kept["white"]).to_pylist()}
    counts = {str(white): count for white, count in sorted(counted.items())}
    if not isinstance(asked, int):
        _warn_of_parts(kept, counts, len(table))
    else:
        num_over = pc.sum(pc.greater(kept["open_bits"], asked.bit_length())).as_py()
        if num_over:
            _log.warning("%d scans hold values above pool.white, %s: they are shown white", num_over, asked)
    return counts


def _warn_of_parts(kept: pa.Table, counts: dict[str, int], num_scans: int) -> None:
    num_part = pc.sum(pc.less(kept["white"], _own(kept, "bit_depth"))).as_py()
    if num_part:
        _log.warning(
            "%d of %d scans use only a part of the range of their files, which do not say so; by their largest values "
            "white is %s (pool.white says it otherwise)",
            num_part,
            num_scans,
            ", ".join(f"{white} in {count}" for white, count in counts.items()),
        )
    wider = kept.filter(pc.greater(kept["white"], _own(kept)))
    if not len(wider):
        return
    wider = wider.group_by(["open_bits", "white"]).aggregate([([], "count_all")])
    for row in wider.sort_by([("open_bits", "ascending"), ("white", "ascending")]).to_pylist():
        bits, white, count = row["open_bits"], row["white"], row["count_all"]
        _log.warning(
            "%d of %d scans hold values of %d bits and are read with white %d, as the others are: if they look too "
            "dark, say pool.white=[%s]",
            count,
            num_scans,
            bits,
            white,
            ", ".join(map(str, sorted({grey_range.white_of_bits(bits), *map(int, counts)}))),
        )
