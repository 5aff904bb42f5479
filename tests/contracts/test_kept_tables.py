"""A table is read once while its file stays the same, and anew after every change."""

import os
import time

import pyarrow as pa
import pytest

from pipeline.contracts import kept_tables
from pipeline.contracts.errors import ContractError
from pipeline.contracts.tables import SPLIT_TABLE, read_parquet, write_parquet


def table(*values):
    return pa.table({"value": pa.array(values, pa.int64())})


@pytest.fixture
def path(tmp_path):
    """A file that was written a while ago."""
    path = tmp_path / "table.parquet"
    write_parquet(path, table(1, 2))
    settle(path)
    return path


def settle(path):
    """Wait until the file is no longer young, and its time is none of whole seconds."""
    written = path.stat()
    while not kept_tables._is_settled(kept_tables._state(path)):
        time.sleep(0.02)
        if written.st_mtime_ns % 10**9 == 0:
            os.utime(path)


@pytest.fixture
def counted():
    """Reads a file, and notes that it did."""
    reads = []

    def reader(path):
        def read():
            reads.append(path)
            return read_parquet(path)

        return kept_tables.read(path, read)

    return reader, reads


def test_a_file_that_stays_the_same_is_read_once(path, counted, monkeypatch):
    read, reads = counted
    assert read(path) is read(path)
    monkeypatch.chdir(path.parent)
    assert read(type(path)(path.name)).equals(table(1, 2))
    assert reads == [path]


def test_a_new_file_in_its_place_is_read(path, counted):
    read, reads = counted
    assert read(path).equals(table(1, 2))
    write_parquet(path, table(3, 4))
    assert read(path).equals(table(3, 4)) and len(reads) == 2


def test_a_file_that_is_changed_in_place_is_read_as_it_is(path, counted):
    read, _ = counted
    read(path)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 4] ^= 255
    path.write_bytes(damaged)
    with pytest.raises(OSError):
        read(path)


def test_a_file_that_was_just_written_is_read_again(tmp_path, counted, monkeypatch):
    read, reads = counted
    monkeypatch.setattr(kept_tables, "YOUNG_SECONDS", 600.0)
    write_parquet(tmp_path / "new.parquet", table(1))
    read(tmp_path / "new.parquet"), read(tmp_path / "new.parquet")
    assert len(reads) == 2


def test_times_of_whole_seconds_are_no_proof(path, counted):
    read, reads = counted
    ahead = 10**9 * (int(time.time()) + 10)  # later than the time of the change, which nobody can set
    os.utime(path, ns=(ahead, ahead))
    read(path), read(path)
    assert len(reads) == 2


def test_a_file_that_changes_while_it_is_read_is_not_kept(path):
    def meanwhile():
        before = read_parquet(path)
        write_parquet(path, table(5, 6))
        return before

    assert kept_tables.read(path, meanwhile).equals(table(1, 2))
    settle(path)
    assert kept_tables.read(path, lambda: read_parquet(path)).equals(table(5, 6))


def test_a_file_that_is_gone_is_missed(path, counted):
    read, _ = counted
    read(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        read(path)


def test_no_more_is_kept_than_the_bound_allows(tmp_path, counted, monkeypatch):
    read, reads = counted
    monkeypatch.setattr(kept_tables, "_kept", type(kept_tables._kept)())
    paths = [tmp_path / f"{i}.parquet" for i in range(3)]
    for path in paths:
        write_parquet(path, table(*range(100)))
        settle(path)
    monkeypatch.setattr(kept_tables, "MAX_BYTES", 2 * read_parquet(paths[0]).nbytes)
    for path in (*paths[:2], paths[0], paths[2], paths[0], paths[1]):  # the second was not asked for the longest
        read(path)
    assert reads == [*paths, paths[1]]


def test_what_a_contract_refuses_is_refused_every_time(path):
    write_parquet(path.parent / SPLIT_TABLE.file, table(1))
    settle(path.parent / SPLIT_TABLE.file)
    for _ in range(2):
        with pytest.raises(ContractError, match=r"columns .* are missing"):
            SPLIT_TABLE.read(path.parent)


def test_a_table_beyond_all_room_leaves_the_others_where_they_are(path, tmp_path, counted, monkeypatch):
    read, reads = counted
    large = tmp_path / "large.parquet"
    write_parquet(large, table(*range(1000)))
    settle(large)
    small = read(path)
    monkeypatch.setattr(kept_tables, "MAX_BYTES", 4000)
    for _ in range(2):
        assert len(read(large)) == 1000
    assert read(path) is small and reads == [path, large, large]


def test_a_part_of_a_table_is_kept_beside_the_whole(tmp_path, monkeypatch):
    rows = {"image_id": ["a", "b"], "group_id": ["g", "g"], "split": ["train", "holdout"], "reason": [None, "broken"]}
    written = pa.table(rows, schema=SPLIT_TABLE.schema)
    settle(SPLIT_TABLE.write(tmp_path, written))
    for _ in range(2):
        assert SPLIT_TABLE.read(tmp_path, ["split"]).column_names == ["split"]
        assert SPLIT_TABLE.read(tmp_path, ["split", "image_id"]).column_names == ["split", "image_id"]
        assert SPLIT_TABLE.read(tmp_path) == written
    monkeypatch.setattr(type(SPLIT_TABLE), "_read", None)  # nothing is read again
    assert SPLIT_TABLE.read(tmp_path, ("split",)) == written.select(["split"])
