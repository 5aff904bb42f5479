"""Every greedy strategy against its definition, written out: the same picks, one by one."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from pipeline.selection import coverage, strategies, uncertainty
from pipeline.selection.coverage import Coverage
from pipeline.selection.open_scans import OpenScans
from pipeline.selection.strategies import badge, prob_cover
from tests.support.selection_pools import blobs, cloud, pool_of, positions, probabilities


def picked(name, pool, num, seed=0):
    return positions(strategies.get(name)(pool, num, np.random.default_rng(seed)))


def sqdist(unit_ND):
    unit_ND = unit_ND.astype(np.float64)
    return np.maximum(((unit_ND[:, None] - unit_ND[None]) ** 2).sum(-1), 0.0)


def greedy_coverage(similarity_NN, weight_N, labelled, num):
    """Scans in the order in which each adds most to the weighted coverage."""
    chosen = []
    for _ in range(num):
        covered_N = similarity_NN[[*labelled, *chosen]].max(0) if labelled or chosen else np.zeros(len(weight_N))
        gain_N = np.array([weight_N @ np.maximum(row - covered_N, 0) for row in similarity_NN])
        gain_N[[*labelled, *chosen]] = -1
        chosen.append(int(gain_N.argmax()))
    return chosen


@pytest.mark.parametrize("labelled", [(), (3, 50, 120)])
@pytest.mark.parametrize("bandwidth", [0.3, 0.5, 1.0])
def test_max_herding_is_the_greedy_cover_under_a_gaussian(labelled, bandwidth):
    unit_ND = cloud(200)
    expected = greedy_coverage(np.exp(-sqdist(unit_ND) / (2 * bandwidth**2)), np.ones(200), labelled, 25)
    assert picked("max_herding", pool_of(unit_ND, labelled=labelled, bandwidth=bandwidth), 25) == expected


@pytest.mark.parametrize("labelled", [(), (3, 50, 120)])
def test_uncertainty_herding_weighs_the_cover_by_the_margin(labelled):
    unit_ND, prob_NC = cloud(200), probabilities(200)
    top_NC = np.sort(prob_NC, axis=1)
    weight_N = 1 - (top_NC[:, -1] - top_NC[:, -2])
    expected = greedy_coverage(np.exp(-sqdist(unit_ND) / 0.5), weight_N, labelled, 25)
    pool = pool_of(unit_ND, labelled=labelled, prob_NC=prob_NC)
    assert picked("uncertainty_herding", pool, 25) == expected
    assert expected != picked("max_herding", pool, 25)


def test_uncertainty_herding_is_max_herding_before_there_are_probabilities_and_says_so(caplog):
    pool = pool_of(cloud(200))
    with caplog.at_level(logging.INFO):
        first = picked("uncertainty_herding", pool, 20)
    assert first == picked("max_herding", pool, 20)
    assert "uncertainty_herding: there is no classifier yet" in caplog.text
    sure = replace(pool, prob_NC=np.tile([1.0, 0.0], (200, 1)))  # sure of everything: all weigh the same
    assert picked("uncertainty_herding", sure, 20) == first


@pytest.mark.parametrize("labelled", [(), (3, 50, 120)])
def test_facility_location_is_the_greedy_cover_under_the_cosine(labelled):
    unit_ND = cloud(200)
    similarity_NN = np.maximum(unit_ND.astype(np.float64) @ unit_ND.T, 0)
    expected = greedy_coverage(similarity_NN, np.ones(200), labelled, 25)
    assert picked("facility_location", pool_of(unit_ND, labelled=labelled), 25) == expected


def test_prob_cover_adds_as_much_as_the_best_ball_at_every_step(monkeypatch):
    """Counts tie, so steps are compared by what they add, not by name."""
    monkeypatch.setattr(prob_cover, "radius", lambda pool, rng: 0.7)
    unit_ND, labelled = cloud(200), [3, 50, 120]
    inside_NN = sqdist(unit_ND) <= 0.7**2
    picks = strategies.get("prob_cover")(pool_of(unit_ND, labelled=labelled), 25, np.random.default_rng(0))
    covered_N = inside_NN[labelled].any(0)
    for pick, row in zip(picks, positions(picks), strict=True):
        added_N = (inside_NN & ~covered_N).sum(1)
        assert added_N[row] == added_N.max()
        assert pick.score == pytest.approx(added_N[row] / 200, abs=1e-6)
        covered_N |= inside_NN[row]


def test_the_radius_of_prob_cover_keeps_most_balls_pure():
    unit_ND, blob_N = blobs(num_blobs=2, size=100)
    radius = prob_cover.radius(pool_of(unit_ND), np.random.default_rng(0))
    foreign = np.sqrt(np.where(blob_N[:, None] == blob_N, np.inf, sqdist(unit_ND)).min(1))
    assert (foreign > radius).mean() >= 0.95 and radius == pytest.approx(1.3, abs=0.1)  # blobs lie 1.41 apart
    loose = prob_cover.radius(pool_of(cloud(200), min_purity=0.2), np.random.default_rng(0))
    assert loose > prob_cover.radius(pool_of(cloud(200), min_purity=0.95), np.random.default_rng(0))


def test_core_set_takes_the_farthest_scan():
    unit_ND, chosen = cloud(200), [3, 50]
    for row in picked("core_set", pool_of(unit_ND, labelled=chosen), 25):
        nearest_N = sqdist(unit_ND)[:, chosen].min(1)
        assert nearest_N[row] == pytest.approx(nearest_N.max(), rel=1e-4)
        chosen.append(row)


def test_badge_measures_distances_of_outer_products(monkeypatch):
    """With the likeliest draw in place of a random one, it is farthest-first on the gradients themselves."""
    monkeypatch.setattr(badge, "_drawn", lambda mass_M, scans, rng: int(mass_M.argmax()))
    unit_ND, prob_NC = cloud(80), probabilities(80)
    residual_NC = prob_NC - np.eye(3)[prob_NC.argmax(1)]
    gradient_NX = (residual_NC[:, :, None] * unit_ND[:, None, :]).reshape(80, -1)
    expected = [int((gradient_NX**2).sum(1).argmax())]
    for _ in range(14):
        nearest_N = ((gradient_NX[:, None] - gradient_NX[expected]) ** 2).sum(-1).min(1)
        expected.append(int(nearest_N.argmax()))
    assert picked("badge", pool_of(unit_ND, prob_NC=prob_NC), 15) == expected


def test_badge_draws_in_proportion_to_the_squared_distance():
    unit_ND, blob_N = blobs(num_blobs=4, size=25)
    pool = pool_of(unit_ND, prob_NC=np.tile([0.6, 0.4], (100, 1)))
    reached = [len(set(blob_N[picked("badge", pool, 4, seed)])) for seed in range(20)]
    assert np.mean(reached) > 3.8  # a second scan of a blob is nearly at distance 0


@pytest.mark.parametrize("name", ["margin", "entropy"])
def test_the_least_certain_come_first(name):
    prob_NC = probabilities(200)
    unsure_N = getattr(uncertainty, name)(pool_of(cloud(200), prob_NC=prob_NC))
    assert picked(name, pool_of(cloud(200), prob_NC=prob_NC), 10) == np.argsort(-unsure_N)[:10].tolist()


def test_margin_and_entropy_by_hand():
    pool = pool_of(cloud(3), prob_NC=np.array([[0.5, 0.5], [1.0, 0.0], [0.8, 0.2]]))
    np.testing.assert_allclose(uncertainty.margin(pool), [1.0, 0.0, 0.4])
    np.testing.assert_allclose(uncertainty.entropy(pool), [1.0, 0.0, 0.7219], atol=1e-4)
    findings = pool_of(cloud(2), prob_NC=np.array([[0.5, np.nan, 1.0], [0.25, np.nan, 0.0]]), exclusive=False)
    np.testing.assert_allclose(uncertainty.margin(findings), [0.5, 0.25])
    np.testing.assert_allclose(uncertainty.entropy(findings), [0.5, 0.4056], atol=1e-4)
    assert uncertainty.margin(replace(findings, prob_NC=np.full((2, 3), np.nan))) is None


@pytest.mark.parametrize("name", ["bald", "drop_query"])
def test_committees_go_to_the_border_between_the_classes(name):
    """Two classes along one direction: what lies between them is asked before what lies deep inside."""
    rng = np.random.default_rng(0)
    x_N = rng.uniform(-1, 1, 300)
    emb_ND = np.outer(x_N, rng.choice([-1.0, 1.0], 64)) + 0.4 * rng.normal(size=(300, 64))
    unit_ND = emb_ND / np.linalg.norm(emb_ND, axis=1, keepdims=True)
    labelled = np.flatnonzero(np.abs(x_N) > 0.7)[:20]
    class_N = np.full(300, -1)
    class_N[labelled] = x_N[labelled] > 0
    rows = picked(name, pool_of(unit_ND, labelled=labelled, class_N=class_N), 20)
    assert np.abs(x_N[rows]).mean() < 0.7 * np.abs(x_N).mean()


def test_a_slice_without_labels_comes_first_then_shares_follow_sizes():
    slice_N = np.repeat([0, 1, 2], [150, 40, 10])
    pool = pool_of(cloud(200), labelled=[0, 1, 2, 3], slice_N=slice_N)
    order = slice_N[picked("slice_stratified", pool, 36)].tolist()
    assert order[:2] == [1, 2]  # nobody has labelled these; the larger one first
    assert np.bincount(order).tolist() == [26, 8, 2]  # with the four labelled: 30, 8 and 2 of 40
    assert picked("uncertainty_herding", pool, 36) == picked(
        "slice_stratified", pool_of(cloud(200), labelled=[0, 1, 2, 3]), 36
    )


def test_bounds_of_gains_are_exact_where_it_counts():
    """The lazy search finds the gain that computing all of them finds."""
    pool = pool_of(cloud(400))
    scans = OpenScans(pool, 30, np.random.default_rng(0))
    lazy = Coverage(pool, scans, coverage.gaussian(0.5), np.random.default_rng(0))
    for _ in range(30):
        place = lazy.best()
        exact_M = np.where(scans.open_M, lazy._gains(scans.rows_M), -1)
        assert exact_M[place] == pytest.approx(exact_M.max(), rel=1e-4)
        scans.take(place)
        lazy.add(place)


def test_coverage_on_a_sample_of_the_pool_is_near_that_on_all_of_it():
    unit_ND = cloud(3000, dim=4)
    similarity_NN = np.exp(-sqdist(unit_ND) / 0.5)

    def covered(rows):
        return similarity_NN[rows].max(0).mean()

    whole = covered(picked("max_herding", pool_of(unit_ND, max_reference=3000), 20))
    sampled = covered(picked("max_herding", pool_of(unit_ND, max_reference=300), 20))
    random = covered(picked("random", pool_of(unit_ND), 20))
    assert whole >= sampled > random + 0.7 * (whole - random)
