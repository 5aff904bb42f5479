import numpy as np
import pyarrow as pa
import pytest

from pipeline.learn.scan_rows import ScanRows


def test_positions_are_those_of_the_order_they_are_asked_of():
    pool, asked = ScanRows.of(["c", "a", "d", "b"]), ScanRows.of(["b", "c"])
    np.testing.assert_array_equal(pool.positions(asked), [3, 0])
    assert pool.positions(asked).dtype == np.int64
    np.testing.assert_array_equal(pool.positions(ScanRows.of([])), [])


def test_a_scan_of_another_order_is_an_error_that_names_it():
    with pytest.raises(KeyError, match="2 of 3 scans are not among these 2, first: x"):
        ScanRows.of(["a", "b"]).positions(ScanRows.of(["b", "x", "y"]))


def test_a_mask_keeps_the_order():
    pool = ScanRows.of(pa.chunked_array([["c", "a"], ["d", "b"]]))
    mask = pool.among(ScanRows.of(["b", "c", "elsewhere"]))
    np.testing.assert_array_equal(mask, [True, False, False, True])
    assert pool.keep(mask).image_id.to_pylist() == ["c", "b"]


@pytest.mark.parametrize("not_a_mask_of_it", [np.array([0, 2]), np.array([True, False])])
def test_only_a_mask_over_these_very_scans_chooses_among_them(not_a_mask_of_it):
    with pytest.raises(AssertionError, match="a mask over these very scans"):
        ScanRows.of(["a", "b", "c"]).keep(not_a_mask_of_it)
