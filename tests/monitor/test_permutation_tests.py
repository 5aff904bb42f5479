"""Permutations of patients: right where nothing moved, also with several scans a patient, and seeing what did."""

import numpy as np
import pytest
from scipy import stats

from pipeline.monitor import permutation_tests as tests_of


def two_samples(rng, num_patients=60, scans=1, shift=0.0):
    """Values with a level of their own for each patient; the first half of the patients is the batch."""
    level_G = rng.normal(size=num_patients)
    group_N = np.repeat(np.arange(num_patients), scans)
    is_batch_N = group_N < num_patients // 2
    value_N = level_G[group_N] + 0.1 * rng.normal(size=len(group_N)) + shift * is_batch_N
    return value_N, is_batch_N, group_N


def test_the_statistics_are_those_of_scipy():
    rng = np.random.default_rng(0)
    value_N, is_batch_N, group_N = two_samples(rng)
    value_N = np.round(value_N, 1)  # with ties
    side_BN = tests_of.sides(is_batch_N, group_N, 99, rng)
    assert side_BN.shape == (100, 60) and (side_BN.sum(1) == 30).all()
    expected = stats.ks_2samp(value_N[is_batch_N], value_N[~is_batch_N]).statistic
    assert tests_of.kolmogorov_smirnov(value_N, side_BN)[0] == pytest.approx(expected)
    category_N = (value_N > 0).astype(int) + (value_N > 1)
    counts = [np.bincount(category_N[side], minlength=3) for side in (is_batch_N, ~is_batch_N)]
    expected = stats.chi2_contingency(counts, correction=False).statistic
    assert tests_of.chi_square(category_N, 3, side_BN)[0] == pytest.approx(expected)


def test_patients_with_many_scans_raise_no_false_alarms():
    rng = np.random.default_rng(1)
    p_values, naive = [], []
    for _ in range(80):
        value_N, is_batch_N, group_N = two_samples(rng, num_patients=20, scans=10)
        side_BN = tests_of.sides(is_batch_N, group_N, 99, rng)
        p_values.append(tests_of.p_value(tests_of.kolmogorov_smirnov(value_N, side_BN)))
        naive.append(stats.ks_2samp(value_N[is_batch_N], value_N[~is_batch_N]).pvalue)
    assert np.mean(np.array(p_values) <= 0.05) <= 0.13 < np.mean(np.array(naive) <= 0.05)


def test_what_moved_is_seen():
    rng = np.random.default_rng(2)
    value_N, is_batch_N, group_N = two_samples(rng, shift=2.0)
    side_BN = tests_of.sides(is_batch_N, group_N, 199, rng)
    assert tests_of.p_value(tests_of.kolmogorov_smirnov(value_N, side_BN)) == 0.005
    x_NQ = np.column_stack([value_N, rng.normal(size=60)])
    assert tests_of.p_value(tests_of.mean_discrepancy(x_NQ, side_BN)) == 0.005
    category_N = np.where(is_batch_N & (rng.random(60) < 0.6), 2, rng.integers(0, 2, 60))
    growth_B, growth_K = tests_of.largest_growth(category_N, 3, side_BN)
    assert tests_of.p_value(growth_B) == 0.005 and growth_K.argmax() == 2


def test_scans_outside_are_counted_against_what_the_held_out_scans_promise():
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(400):
        held_out, new = rng.random(99), rng.random(40)
        threshold = np.sort(held_out)[int(np.ceil(100 * 0.9)) - 1]
        alarms += tests_of.too_many_outside(int((new > threshold).sum()), 40, 99, 0.1) <= 0.05
    assert alarms / 400 < 0.08
    assert tests_of.too_many_outside(0, 40, 99, 0.1) == pytest.approx(1.0)
    assert tests_of.too_many_outside(30, 40, 99, 0.1) < 1e-6
