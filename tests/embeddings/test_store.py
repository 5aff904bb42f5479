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
