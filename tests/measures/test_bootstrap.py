import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from pipeline.measures import bootstrap
from pipeline.measures.bootstrap import (
    draws,
    percentile_interval,
    ranking_interval,
    replicates,
    share_interval,
    two_sided_p,
    wilson,
)
from pipeline.measures.holm import holm
from tests.bench import coverage


def test_a_draw_weighs_whole_groups_and_chunks_do_not_change_it(monkeypatch):
    group_of_N = np.array([0, 1, 1, 2, 0, 3])
    whole = np.concatenate(list(draws(group_of_N, 50, np.random.default_rng(0))))
    assert whole.shape == (50, 6) and (whole[:, [0, 1]] == whole[:, [4, 2]]).all()
    assert (whole[:, [0, 1, 3, 5]].sum(axis=1) == 4).all() and len(np.unique(whole, axis=0)) > 20
    monkeypatch.setattr(bootstrap, "CHUNK_CELLS", 20)
    parts = list(draws(group_of_N, 50, np.random.default_rng(0)))
    assert len(parts) == 17 and (np.concatenate(parts) == whole).all()
    monkeypatch.setattr(bootstrap, "CHUNK_CELLS", 1)  # less than one replicate: one at a time
    assert len(list(draws(group_of_N, 50, np.random.default_rng(0)))) == 50


def test_replicates_need_two_groups_and_a_number():
    def measure(weight_BN):
        return {"sum": weight_BN.sum(axis=1), "each": weight_BN}

    found = replicates(measure, np.array([0, 0, 1]), 7, np.random.default_rng(0))
    assert found["sum"].shape == (7,) and found["each"].shape == (7, 3)
    assert replicates(measure, np.zeros(3, int), 7, np.random.default_rng(0)) == {}
    assert replicates(measure, np.array([0, 1]), 0, np.random.default_rng(0)) == {}


@pytest.mark.parametrize(("hits", "num"), [(0, 5), (5, 5), (7, 20), (42, 300), (1, 2)])
def test_wilson_agrees_with_statsmodels(hits, num):
    want = proportion_confint(hits, num, method="wilson")
    assert wilson(hits / num, num, stats.norm.isf(0.025)) == pytest.approx(want, abs=1e-9)


def test_share_interval_is_wilsons_at_the_size_the_replicates_imply():
    # Variance of 100 independent scans at .8; 40 groups lose one fortieth, the quantile has 39 degrees.
    value_B = 0.8 + np.sqrt(0.8 * 0.2 / 100) * np.array([-1.0, 1.0])
    want = wilson(0.8, 100 * 39 / 40, stats.t.ppf(0.975, 39))
    assert share_interval(0.8, value_B, 40, 39) == pytest.approx(want, abs=1e-12)
    wide = share_interval(0.8, value_B, 40, 39, confidence=0.99)
    assert wide[0] < want[0] < 0.8 < want[1] < wide[1]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_without_a_mistake_a_patient_counts_as_one_scan(value):
    low, high = share_interval(value, np.full(100, value), 12, 30)
    assert [low, high] == pytest.approx(wilson(value, 12, stats.t.ppf(0.975, 30)))
    assert high - low > 0.2 and low <= value <= high


def test_ranking_interval_is_students_on_the_logit():
    value_B = 0.9 + 0.03 * np.array([-1.0, 1.0])
    half = stats.t.ppf(0.975, 22) * 0.03 * np.sqrt(12 / 11) / (0.9 * 0.1)
    want = 1 / (1 + np.exp(-(np.log(9) + np.array([-half, half]))))
    assert ranking_interval(0.9, value_B, 12) == pytest.approx(want, abs=1e-12)
    mirrored = ranking_interval(0.1, 1 - value_B, 12)
    assert mirrored == pytest.approx(1 - want[::-1], abs=1e-12)
    perfect = ranking_interval(1.0, np.ones(50), 12)
    assert perfect == pytest.approx(wilson(1.0, 12, stats.t.ppf(0.975, 22)))


def test_a_big_group_counts_for_less_than_many_small_ones():
    group_of_N = np.array([0, 1, 2, 2, 2, 3])
    assert bootstrap.effective_groups(group_of_N, np.ones(6)) == pytest.approx(36 / 12)
    assert bootstrap.effective_groups(group_of_N, [1, 1, 1, 0, 0, 1]) == 4
    assert bootstrap.effective_groups(group_of_N, group_of_N == 2) == 1
    assert bootstrap.effective_groups(group_of_N, group_of_N > 5) == 0
    assert bootstrap.num_in_group(group_of_N, [0, 1, 1, 1, 0, 0]) == 2


def test_no_interval_without_two_groups_or_half_of_the_replicates():
    half = np.array([0.5, 0.6, np.nan, np.nan])
    assert share_interval(0.5, half, 5, 4) is not None and percentile_interval(half, 5) is not None
    for value_B in (half[1:], [], [np.nan]):
        assert share_interval(0.5, value_B, 5, 4) is ranking_interval(0.5, value_B, 5) is None
        assert percentile_interval(value_B, 5) is None and two_sided_p(value_B, 5) is None
    assert share_interval(0.5, half, 1, 4) is None and share_interval(0.5, half, 2, 0) is None
    assert ranking_interval(0.5, half, 1) is ranking_interval(np.nan, half, 5) is None
    assert share_interval(np.nan, half, 5, 4) is None and percentile_interval(half, 1) is None


def test_percentile_interval_of_a_normal_is_a_t_interval():
    value_B = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)  # a bootstrap whose sd is sqrt((k - 1) / k) s
    half = stats.t.ppf(0.975, 9) * np.sqrt(10 / 9)
    assert percentile_interval(value_B, 10) == pytest.approx([-half, half], abs=0.01)
    assert percentile_interval(value_B, 10_000) == pytest.approx([-1.96, 1.96], abs=0.01)


@pytest.mark.parametrize("num_groups", [5, 20, 500])
@pytest.mark.parametrize("centre", [0.5, 1.7, -2.4])
def test_p_is_under_a_level_exactly_where_the_interval_leaves_out_zero(num_groups, centre):
    value_B = np.random.default_rng(0).normal(centre, 1, 9999)
    p = two_sided_p(value_B, num_groups)
    for level in (p * 0.93, min(p * 1.07, 0.999)):
        low, high = percentile_interval(value_B, num_groups, confidence=1 - level)
        assert (low > 0 or high < 0) == (level > p)
    assert two_sided_p(-value_B, num_groups) == pytest.approx(p)


def test_p_of_no_difference_is_one_and_never_zero():
    assert two_sided_p(np.zeros(100), 10) == 1.0
    assert two_sided_p(np.full(100, 1e-17), 10) == 1.0  # rounding is no difference
    assert 0 < two_sided_p(np.ones(999), 100) < 0.003


def test_holm_agrees_with_statsmodels():
    rng = np.random.default_rng(0)
    for size in (1, 2, 7, 40):
        p = rng.random(size) ** 3
        p[size // 2 :] = p[0]  # ties
        want = multipletests(p, method="holm")[1]
        assert holm(p.tolist()) == pytest.approx(want.tolist(), abs=1e-12)
    assert holm([0.01, None, 0.04, None]) == [0.02, None, 0.04, None]
    assert holm([]) == [] and holm([None]) == [None]
    with pytest.raises(ValueError, match=r"within 0\.\.1"):
        holm([0.5, 1.2])


def test_intervals_cover_where_the_naive_ones_do_not(monkeypatch):
    """A short form of the bench: 200 holdouts of 40 patients, and the mean over three metrics."""
    monkeypatch.setattr(coverage, "NUM_BOOTSTRAP", 150)
    found = coverage.cells(40, 0.3, 0.8, 200, np.random.default_rng(1))[1:4]
    ours, patients, scans = np.array([cell.split(" / ") for cell in found], float).T
    assert (ours >= 90).all() and ours.mean() <= 97.5
    assert scans.mean() < patients.mean() < ours.mean() and scans.mean() < 88
