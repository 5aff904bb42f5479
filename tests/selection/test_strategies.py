from dataclasses import replace

import numpy as np
import pytest
from skactiveml.pool._typi_clust import _typicality

from pipeline.contracts.errors import InputError
from pipeline.selection import strategies
from pipeline.selection.strategies.typiclust import typicality
from pipeline.vectors.matrix import unit_rows
from tests.support.selection_pools import blobs, pool_of, positions

DETERMINISTIC = {"max_herding", "facility_location", "margin", "entropy", "bald"} | {
    "uncertainty_herding",
    "rare_class_herding",
    "slice_stratified",
}


@pytest.mark.parametrize(("num", "k"), [(60, 5), (60, 20), (8, 20)])
def test_typicality_is_that_of_scikit_activeml(num, k):
    unit_MD = unit_rows(np.random.default_rng(1).normal(size=(num, 6)))
    theirs = _typicality(unit_MD.astype(np.float64), np.arange(num), k)
    np.testing.assert_allclose(typicality(unit_MD, k), theirs, rtol=1e-4)
    np.testing.assert_array_equal(np.argsort(-typicality(unit_MD, k)), np.argsort(-theirs))


def test_typicality_of_a_lone_scan_and_of_copies_is_finite():
    assert typicality(np.ones((1, 3), np.float32), 20).tolist() == [0.0]
    same = typicality(unit_rows(np.ones((4, 3))), 2)
    assert np.isfinite(same).all() and (same > 1000).all()


def num_covered(name):
    """Blobs of eight that eight picks reach, for twenty seeds."""
    unit_ND, blob_N = blobs()
    return [
        len(set(blob_N[positions(strategies.get(name)(pool_of(unit_ND), 8, np.random.default_rng(seed)))]))
        for seed in range(20)
    ]


@pytest.mark.parametrize("name", ["typiclust", "kmedoids"])
def test_covers_the_blobs(name):
    """Nearly one each: k-means starts at random and now and then takes two blobs for one."""
    found = num_covered(name)
    assert np.mean(found) > 7.0 and max(found) == 8


def test_random_does_not_cover_the_blobs():
    assert 4 < np.mean(num_covered("random")) < 6.5  # 8 draws from 8 blobs hit 8 * (1 - (7/8)^8) = 5.2 of them


def test_kmedoids_takes_the_scan_nearest_to_the_centre():
    unit_ND, blob_N = blobs(num_blobs=2, size=40)
    for pick in strategies.get("kmedoids")(pool_of(unit_ND), 2, np.random.default_rng(0)):
        row = positions([pick])[0]
        members = np.flatnonzero(blob_N == blob_N[row])
        centre_D = unit_ND[members].mean(0)
        cosine_M = unit_ND[members] @ (centre_D / np.linalg.norm(centre_D))
        assert row == members[cosine_M.argmax()]
        assert pick.score == pytest.approx(cosine_M.max(), abs=1e-5)


@pytest.mark.parametrize("name", ["typiclust", "kmedoids"])
def test_goes_where_no_label_is(name):
    unit_ND, blob_N = blobs()
    pool = pool_of(unit_ND, labelled=np.flatnonzero(blob_N < 5)[::30])  # one label in each of five blobs
    picks = strategies.get(name)(pool, 3, np.random.default_rng(0))
    assert sorted(blob_N[positions(picks)]) == [5, 6, 7]


def test_the_largest_uncovered_cluster_comes_first():
    rng = np.random.default_rng(3)
    blob_N = np.repeat([0, 1, 2], [20, 80, 40])
    unit_ND = unit_rows(np.eye(8)[blob_N] + 0.03 * rng.normal(size=(140, 8)))
    picks = strategies.get("typiclust")(pool_of(unit_ND), 3, rng)
    assert blob_N[positions(picks)].tolist() == [1, 2, 0]


def test_a_small_cluster_is_passed_over_while_others_are_left():
    rng = np.random.default_rng(3)
    blob_N = np.repeat([0, 1, 2], [60, 60, 3])
    unit_ND = unit_rows(np.eye(8)[blob_N] + 0.01 * rng.normal(size=(123, 8)))
    picks = strategies.get("typiclust")(pool_of(unit_ND, labelled=[0]), 2, rng)  # three clusters; blob 2 has 3 scans
    assert 2 not in blob_N[positions(picks)]
    unshy = pool_of(unit_ND, labelled=[0], min_cluster_size=2)
    with_small = [blob_N[positions(strategies.get("typiclust")(unshy, 2, rng))].tolist() for _ in range(10)]
    assert any(2 in blobs_reached for blobs_reached in with_small)  # k-means starts at random and may split a blob


@pytest.mark.parametrize("name", list(strategies.STRATEGIES))
def test_a_patient_comes_twice_only_when_all_have_come_and_candidates_alone(name):
    unit_ND, _ = blobs(num_blobs=4, size=20)
    pool = pool_of(unit_ND, group=np.arange(80) // 4)
    pool = replace(pool, candidate_N=np.arange(80) % 2 == 0)
    rows = np.array(positions(strategies.get(name)(pool, 30, np.random.default_rng(0))))
    assert len(set(rows)) == 30  # 20 patients of two candidates each
    assert len(set(pool.group_N[rows[:20]])) == 20
    assert np.bincount(pool.group_N[rows]).max() == 2
    assert pool.candidate_N[rows].all()


@pytest.mark.parametrize("name", list(strategies.STRATEGIES))
def test_patients_in_the_queue_already_come_last(name):
    unit_ND, _ = blobs(num_blobs=4, size=20)
    pool = pool_of(unit_ND, group=np.arange(80) // 4).queue(np.isin(np.arange(80), [0, 20, 40, 60]))
    rows = np.array(positions(strategies.get(name)(pool, 20, np.random.default_rng(0))))
    assert not {0, 20, 40, 60} & set(rows)
    assert not {0, 5, 10, 15} & set(pool.group_N[rows[:16]])
    assert len(set(pool.group_N[rows[:16]])) == 16


@pytest.mark.parametrize("name", list(strategies.STRATEGIES))
def test_more_wanted_than_there_are_gives_all(name):
    unit_ND, _ = blobs(num_blobs=3, size=5)
    picks = strategies.get(name)(pool_of(unit_ND, labelled=[0, 7]), 50, np.random.default_rng(0))
    assert sorted(positions(picks)) == [i for i in range(15) if i not in (0, 7)]


@pytest.mark.parametrize("name", list(strategies.STRATEGIES))
def test_copies_leave_clusters_empty_without_harm(name):
    """k-means cannot fill 12 clusters with 2 distinct rows."""
    unit_ND = unit_rows(np.repeat(np.eye(4)[:2], [3, 9], axis=0))
    picks = strategies.get(name)(pool_of(unit_ND), 12, np.random.default_rng(0))
    assert sorted(positions(picks)) == list(range(12))


@pytest.mark.parametrize("name", list(strategies.STRATEGIES))
def test_the_seed_decides(name):
    unit_ND = unit_rows(np.random.default_rng(5).normal(size=(200, 8)))

    def chosen(seed):
        return strategies.get(name)(pool_of(unit_ND), 15, np.random.default_rng(seed))

    assert chosen(1) == chosen(1)
    differ = {p.image_id for p in chosen(1)} != {p.image_id for p in chosen(2)}
    assert differ or name in DETERMINISTIC


def test_large_clusters_are_compared_in_part():
    unit_ND, _ = blobs(num_blobs=1, size=400)
    pool = pool_of(unit_ND, max_cluster_members=50)
    picks = strategies.get("typiclust")(pool, 1, np.random.default_rng(0))
    best = int(typicality(unit_ND, 20).argmax())
    assert len(picks) == 1
    others = {positions(strategies.get("typiclust")(pool, 1, np.random.default_rng(s)))[0] for s in range(6)}
    assert others != {best}  # a sample of the members, so not always the same scan


def test_an_unknown_name_lists_the_known():
    with pytest.raises(InputError, match=r"uncertainty_herding, .*typiclust, .*random") as caught:
        strategies.get("typiklust")
    assert caught.value.value == "typiklust" and caught.value.where == "strategy.name"
