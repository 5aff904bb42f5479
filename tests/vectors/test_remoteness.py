"""What is of another kind lies far from the nearest others of its pool."""

import numpy as np
import pytest

from pipeline.vectors import remoteness


def pool(num, num_foreign=0, seed=0):
    """Embeddings of scans of one kind, and of some of another behind them."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(num, 40))
    foreign = rng.normal(size=(num_foreign, 40)) + 6 * rng.choice((-1, 1), 40)
    return np.vstack([own, foreign]).astype(np.float32)


@pytest.mark.parametrize("num_foreign", [1, 3, 8])
def test_foreign_scans_are_remote_alone_and_together(num_foreign):
    emb_ND = pool(300, num_foreign)
    remote = remoteness.measure(emb_ND, np.arange(len(emb_ND)), np.arange(len(emb_ND)), np.random.default_rng(0))
    assert remote.distance_R[300:].min() > 1.3 * remote.distance_R[:300].max()
    assert np.median(remote.distance_R) == pytest.approx(1) and np.median(remote.angle_R) == pytest.approx(1)


def test_a_scan_is_not_its_own_neighbour_and_each_is_measured_by_itself():
    emb_ND = pool(100, 1)
    every = remoteness.measure(emb_ND, np.arange(101), np.arange(101), np.random.default_rng(0))
    some = remoteness.measure(emb_ND, np.array([100, 4]), np.arange(101), np.random.default_rng(0))
    assert every.distance_R.min() > 0.5
    assert np.allclose(some.distance_R, every.distance_R[[100, 4]], rtol=1e-4)
    assert np.allclose(some.angle_R, every.angle_R[[100, 4]], rtol=1e-4)


def test_a_large_pool_is_compared_with_a_part_of_it(monkeypatch):
    monkeypatch.setattr(remoteness, "MAX_REFERENCE", 200)
    emb_ND = pool(1000, 2)
    remote = remoteness.measure(emb_ND, np.array([0, 1, 1000, 1001]), np.arange(1002), np.random.default_rng(0))
    assert remote.distance_R[2:].min() > 1.3 * remote.distance_R[:2].max()
