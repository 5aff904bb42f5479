"""The map: the same each time, neighbours stay neighbours, landmarks stand for the rest."""

import numpy as np
import pytest

from pipeline.explore import neighbor_map
from pipeline.vectors.matrix import unit_rows


def groups(num=240, dim=12, num_groups=4, seed=0):
    """Vectors of a few groups that lie apart, and the group of each."""
    rng = np.random.default_rng(seed)
    group_N = rng.integers(num_groups, size=num)
    return unit_rows(4.0 * np.eye(num_groups, dim)[group_N] + rng.normal(size=(num, dim))), group_N


def share_of_own(xy_N2, group_N, num_neighbors=5):
    """How many of the nearest on the map are of the same group."""
    square_NN = ((xy_N2[:, None] - xy_N2[None]) ** 2).sum(2)
    np.fill_diagonal(square_NN, np.inf)
    nearest_NK = np.argsort(square_NN, axis=1)[:, :num_neighbors]
    return (group_N[nearest_NK] == group_N[:, None]).mean()


@pytest.fixture(scope="module")
def drawn():
    unit_ND, group_N = groups()
    return unit_ND, group_N, neighbor_map.place(unit_ND, np.random.default_rng(0), max_landmarks=120)


def test_groups_stay_together_also_where_landmarks_stand_for_the_rest(drawn):
    unit_ND, group_N, xy_N2 = drawn
    assert xy_N2.shape == (240, 2) and xy_N2.dtype == np.float32
    assert share_of_own(xy_N2, group_N) > 0.95
    assert share_of_own(unit_ND[:, :2], group_N) < 0.9  # two axes of the vectors do not tell four groups


def test_the_same_vectors_give_the_same_bytes(drawn):
    unit_ND, _, xy_N2 = drawn
    assert neighbor_map.place(unit_ND, np.random.default_rng(0), max_landmarks=120).tobytes() == xy_N2.tobytes()


@pytest.mark.parametrize("num", [0, 1, 2, 4])
def test_a_handful_of_scans_has_a_map_too(num):
    xy_N2 = neighbor_map.place(groups(8)[0][:num], np.random.default_rng(0))
    assert xy_N2.shape == (num, 2) and np.isfinite(xy_N2).all()


def test_a_broken_vector_breaks_no_other_and_copies_of_one_scan_are_mapped():
    unit_ND = np.repeat(groups(1)[0], 12, axis=0)
    unit_ND[3] = np.nan
    xy_N2 = neighbor_map.place(unit_ND, np.random.default_rng(0))
    assert np.isfinite(xy_N2).all() and (xy_N2[3] == 0).all()
    assert np.isnan(neighbor_map.distances(unit_ND, np.random.default_rng(0))).tolist() == [i == 3 for i in range(12)]


def test_who_is_like_nobody_is_far_from_its_nearest_landmarks():
    unit_ND, _ = groups()
    odd_ND = np.concatenate([unit_ND, -unit_ND[:1]])
    distance_N = neighbor_map.distances(odd_ND, np.random.default_rng(0))
    assert distance_N.argmax() == 240
