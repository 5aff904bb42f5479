import multiprocessing
import pickle

import numpy as np
import pytest

from embeddings.store import EmbeddingStore


@pytest.fixture
def store(tmp_path):
    return EmbeddingStore(tmp_path / "store", "abcd", "squash-64")


def vectors(*numbers):
    return np.array([[n, n + 0.5, -n] for n in numbers], dtype=np.float32)


def test_gather_keeps_the_order_and_repeats_duplicates(store, tmp_path):
    store.write(["a", "b"], vectors(1, 2))
    store.write(["c"], vectors(3))
    found = store.gather(["c", "a", "c", "b"], tmp_path / "emb.npy")
    np.testing.assert_array_equal(found, vectors(3, 1, 3, 2))
    assert found.dtype == np.float16
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 0
    np.testing.assert_array_equal(np.load(tmp_path / "emb.npy"), found)


def test_a_scan_without_a_vector_is_named_and_nothing_is_replaced(store, tmp_path):
    store.write(["a"], vectors(1))
    store.gather(["a"], tmp_path / "emb.npy")
    with pytest.raises(KeyError, match="2 scans have no embedding, first x"):
        store.gather(["a", "x", "y"], tmp_path / "emb.npy")
    assert np.load(tmp_path / "emb.npy").shape == (1, 3)
    with pytest.raises(KeyError, match="1 scans have no embedding"):
        EmbeddingStore(tmp_path, "empty", "").gather(["a"], tmp_path / "other.npy")


def test_a_repeated_part_replaces_itself(store):
    first = store.write(["a", "b"], vectors(1, 2))
    assert store.write(["a", "b"], vectors(1, 2)) == first
    assert [p.name for p in store.folder.iterdir()] == [first.name]
    assert store.known() == {"a", "b"}


def test_a_scan_of_two_parts_has_one_vector(store, tmp_path):
    store.write(["a", "b"], vectors(1, 2))
    store.write(["b", "c"], vectors(2, 3))
    np.testing.assert_array_equal(store.gather(["c", "b", "a"], tmp_path / "e.npy"), vectors(3, 2, 1))


def test_another_backbone_or_preprocessing_is_another_store(tmp_path):
    stores = [EmbeddingStore(tmp_path, *key) for key in (("w1", "64"), ("w2", "64"), ("w1", "96"))]
    stores[0].write(["a"], vectors(1))
    assert [s.known() for s in stores] == [{"a"}, set(), set()]


def test_an_unfinished_part_is_not_read(store):
    store.write(["a"], vectors(1))
    (store.folder / ".part-x.parquet.1234.tmp").write_bytes(b"half")
    assert store.known() == {"a"}


def fill(root, numbers, start):
    """What one of two runs does: embed what is lacking; a damaged part is found on the way."""
    store = EmbeddingStore(root, "abcd", "squash-64")
    start.wait()
    for _ in range(5):
        lacking = [n for n in numbers if str(n) not in store.known()]
        for first in range(0, len(lacking), 3):
            part = lacking[first : first + 3]
            store.write([str(n) for n in part], vectors(*part))
    store.gather([str(n) for n in numbers], root / f"{numbers[0]}.npy")


def test_two_runs_fill_one_store_at_once(store):
    store.write(["1", "2"], vectors(1, 2))
    damaged = store.write(["3"], vectors(3))
    damaged.write_bytes(damaged.read_bytes()[:-9])
    processes = multiprocessing.get_context("spawn")
    start = processes.Barrier(2)
    ranges = (range(1, 30), range(5, 40))
    runs = [processes.Process(target=fill, args=(store.folder.parent, list(numbers), start)) for numbers in ranges]
    for run in runs:
        run.start()
    for run in runs:
        run.join(60)
    assert [run.exitcode for run in runs] == [0, 0]
    for numbers in ranges:
        found = np.load(store.folder.parent / f"{numbers[0]}.npy")
        np.testing.assert_array_equal(found, vectors(*numbers))
    assert store.known() == {str(n) for n in range(1, 40)}
    assert [path.name for path in store.folder.glob("*.damaged")] == [damaged.name + ".damaged"]


@pytest.mark.parametrize("harm", ["cut", "flip", "empty"])
def test_a_damaged_part_is_set_aside_and_its_scans_are_lacking(store, tmp_path, harm, caplog):
    store.write(["a"], vectors(1))
    part = store.write(["b", "c"], np.arange(4000, dtype=np.float32).reshape(2, 2000))
    data = bytearray(part.read_bytes())
    data[len(data) // 3] ^= 1
    part.write_bytes({"cut": bytes(data[:-20]), "flip": bytes(data), "empty": b""}[harm])
    with pytest.raises(KeyError):
        store.gather(["b"], tmp_path / "e.npy")
    assert store.known() == {"a"}
    assert f"{part} is damaged" in caplog.text


@pytest.mark.objectstore
def test_machines_that_share_a_url_and_no_disk_share_the_vectors(tmp_path, monkeypatch):
    here, there = str(tmp_path / "here"), str(tmp_path / "there")
    monkeypatch.setenv("CXR_SSL_CACHE", here)
    on_the_worker = pickle.loads(pickle.dumps(EmbeddingStore("memory://vectors/store", "abcd", "squash-64")))
    on_the_worker.write(["a", "b"], vectors(1, 2))
    on_the_worker.write_layout(2)
    monkeypatch.setenv("CXR_SSL_CACHE", there)
    driver = EmbeddingStore("memory://vectors/store", "abcd", "squash-64")
    assert driver.known() == {"a", "b"} and driver.own_dim(3) == 2
    np.testing.assert_array_equal(driver.gather(["b", "a"], tmp_path / "emb.npy"), vectors(2, 1))
    assert driver.folder.is_relative_to(there) and on_the_worker.folder == driver.folder
    damaged = next(driver.folder.glob("part-*.parquet"))
    damaged.write_bytes(b"half")
    assert driver.known() == set()
    assert driver.known() == {"a", "b"}, "fetched again"
