"""What white is decided for scans that leave it open, against a reading of the rule scan by scan."""

import numpy as np
import pyarrow as pa
import pytest

from embeddings.decoding import grey_range
from pipeline.pool import whites


def read_of(rows):
    """Rows as the manifest stage reads them: (open_bits, white, reason)."""
    names = ("open_bits", "white", "reason")
    kinds = (pa.int16(), pa.int32(), pa.string())
    arrays = [pa.array([row[i] for row in rows], kind) for i, kind in enumerate(kinds)]
    halves = [pa.chunked_array([array[: len(rows) // 2], array[len(rows) // 2 :]]) for array in arrays]
    return pa.table(halves, names=names)


@pytest.mark.parametrize("asked", [None, 2047])
def test_every_scan_gets_the_white_of_the_rule(asked):
    rng = np.random.default_rng(0)
    bits = rng.choice([None, 10, 12, 16], 400, p=[0.3, 0.01, 0.5, 0.19])
    rows = [(b, None if b is None else 2**b - 1, "cut off" if rng.random() < 0.1 else None) for b in bits]
    read_with = grey_range.decide({b: sum(row[0] == b and row[2] is None for row in rows) for b in (10, 12, 16)})
    assert read_with[10] != 10, "few scans of ten bits are read as those of twelve"
    wanted = [
        white if b is None or reason else (asked or grey_range.white_of_bits(read_with[b])) for b, white, reason in rows
    ]
    assert whites.wanted(read_of(rows), asked).to_pylist() == wanted


def test_a_pool_of_plain_files_leaves_every_white_as_it_is():
    rows = [(None, None, None)] * 3
    assert whites.wanted(read_of(rows), None).to_pylist() == [None] * 3
    assert whites.addresses(pa.chunked_array([["a", "b", "c"]]), read_of(rows)).to_pylist() == ["a", "b", "c"]


def test_an_address_names_the_white_where_it_is_not_the_scans_own():
    rows = [(None, None, None), (12, 4095, None), (10, 4095, None), (None, None, "cut off"), (16, 4095, None)]
    uris = pa.chunked_array([["a.png", "b.png"], ["c.png", "d.png", "e.png"]])
    told = ["a.png", "b.png", "c.png#white=4095", "d.png", "e.png#white=4095"]
    assert whites.addresses(uris, read_of(rows)).to_pylist() == told
