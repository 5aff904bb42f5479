import json
from pathlib import Path

import numpy as np
import pytest

from embeddings import scan_cache
from embeddings.scan_cache import ScanCache


def shas(*numbers):
    return [f"sha-{number}" for number in numbers]


def arrays(*numbers):
    """(N, 2 views, 3), different for every scan and view."""
    return np.array([[[n, v, n * v + 0.5] for v in range(2)] for n in numbers], np.float16)


def take(cache, numbers, view):
    rows = cache.rows(shas(*numbers))
    return rows.take(np.arange(len(numbers)), np.full(len(numbers), view))


def test_what_was_written_comes_back_in_the_order_asked_for(tmp_path):
    cache = ScanCache(tmp_path, "kind")
    cache.write(shas(1, 2, 3), arrays(1, 2, 3))
    cache.write(shas(4), arrays(4))
    assert cache.known() == set(shas(1, 2, 3, 4))
    for view in (0, 1):
        found = take(cache, [4, 1, 3], view)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, arrays(4, 1, 3)[:, view])


def test_each_scan_gets_its_own_view_and_position(tmp_path):
    cache = ScanCache(tmp_path, "kind")
    cache.write(shas(1, 2, 3), arrays(1, 2, 3))
    rows = cache.rows(shas(3, 2, 1))
    assert (len(rows), rows.num_views, rows.are_pixels) == (3, 2, False)
    found = rows.take(np.array([2, 0, 0]), np.array([1, 0, 1]))
    np.testing.assert_array_equal(found, [arrays(1)[0, 1], arrays(3)[0, 0], arrays(3)[0, 1]])


def test_pixels_of_eight_bits_come_back_between_zero_and_one(tmp_path):
    cache = ScanCache(tmp_path, "pixels")
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 1, 16, 16)
    cache.write(shas(1), pixels)
    rows = cache.rows(shas(1))
    found = rows.take(np.array([0]), np.array([0]))
    assert rows.are_pixels and found.shape == (1, 1, 16, 16) and found.dtype == np.float32
    assert (found.min(), found.max()) == (0.0, 1.0)
    np.testing.assert_array_equal(np.round(found * 255).astype(np.uint8), pixels[:, 0])


def test_kinds_do_not_mix(tmp_path):
    one, other = ScanCache(tmp_path, "96 px"), ScanCache(tmp_path, "128 px")
    one.write(shas(1), arrays(1))
    assert other.known() == set()
    with pytest.raises(KeyError, match="1 of 1 scans"):
        other.rows(shas(1))


def test_missing_scans_are_counted_with_the_place(tmp_path):
    cache = ScanCache(tmp_path, "kind")
    cache.write(shas(1, 2), arrays(1, 2))
    with pytest.raises(KeyError, match=f"2 of 3 scans are not in the cache {cache.folder}"):
        cache.rows(shas(1, 7, 8))


def test_a_part_counts_only_when_it_is_whole(tmp_path, monkeypatch):
    """Whatever step is the last before the power goes: before the index is there, the part is not."""
    cache = ScanCache(tmp_path, "kind")

    def full_disk(place, array):
        place.write_bytes(b"half an array") if isinstance(place, Path) else place.write(b"half an array")
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(np, "save", full_disk)
        with pytest.raises(OSError, match="no space"):
            cache.write(shas(1), arrays(1))
    assert cache.known() == set() and list(cache.folder.iterdir()) == []
    with monkeypatch.context() as patched:
        patched.setattr("embeddings.scan_cache.write_text", lambda path, text: full_disk(path.with_suffix(".x"), text))
        with pytest.raises(OSError, match="no space"):
            cache.write(shas(1), arrays(1))
    assert cache.known() == set()
    cache.write(shas(1), arrays(1))
    np.testing.assert_array_equal(take(cache, [1], 1), arrays(1)[:, 1])


def test_a_repeated_shard_replaces_itself(tmp_path):
    cache = ScanCache(tmp_path, "kind")
    for _ in range(2):
        cache.write(shas(1, 2), arrays(1, 2))
    assert len(list(cache.folder.glob("*.npy"))) == len(list(cache.folder.glob("*.json"))) == 1


def test_a_scan_of_two_parts_is_one_scan(tmp_path):
    """Two runs may cut their shards differently; the content is the same, so either part will do."""
    cache = ScanCache(tmp_path, "kind")
    cache.write(shas(1, 2), arrays(1, 2))
    cache.write(shas(2, 3), arrays(2, 3))
    np.testing.assert_array_equal(take(cache, [3, 2, 1], 0), arrays(3, 2, 1)[:, 0])


def test_arrays_stay_on_disk(tmp_path):
    cache = ScanCache(tmp_path, "kind")
    cache.write(shas(1), arrays(1))
    assert all(isinstance(scan_cache._mapped(part), np.memmap) for part in cache.rows(shas(1)).parts)


def test_the_list_of_a_part_is_plain_json(tmp_path):
    cache = ScanCache(tmp_path, "kind")
    cache.write(shas(2, 1), arrays(2, 1))
    index = next(cache.folder.glob("*.json"))
    assert json.loads(index.read_text()) == shas(2, 1)
    assert np.load(index.with_suffix(".npy"), allow_pickle=False).shape == (2, 2, 3)


@pytest.mark.parametrize("ending", ["npy", "json"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_part_that_is_cut_off_is_set_aside_and_its_scans_are_lacking(tmp_path, ending, share, caplog):
    cache = ScanCache(tmp_path, "kind")
    cache.write(shas(1, 2), arrays(1, 2))
    cache.write(shas(3), arrays(3))
    damaged = next(path for path in cache.folder.glob("*.json") if "sha-1" in path.read_text()).with_suffix(
        f".{ending}"
    )
    damaged.write_bytes(damaged.read_bytes()[: int(share * damaged.stat().st_size)])
    assert cache.known() == {"sha-3"}
    assert "is damaged" in caplog.text
    cache.write(shas(1, 2), arrays(1, 2))
    np.testing.assert_array_equal(take(cache, [2, 3], 1), arrays(2, 3)[:, 1])
