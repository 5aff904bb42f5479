"""Class shares and accuracy without labels, where the truth is known."""

import numpy as np
import pytest
from scipy import stats

from pipeline.monitor import label_shift
from pipeline.monitor.label_shift import Judged

PRIOR_C = np.array([0.7, 0.3])


def scans(rng, num, share):
    """Truth, calibrated probabilities at `PRIOR_C`, answers."""
    truth_N = (rng.random(num) < share).astype(int)
    x_N = rng.normal(size=num) + 2.0 * truth_N
    odds_N = np.exp(2.0 * x_N - 2.0) * PRIOR_C[1] / PRIOR_C[0]
    prob_NC = np.column_stack([1 / (1 + odds_N), odds_N / (1 + odds_N)])
    return truth_N, prob_NC, prob_NC.argmax(1)


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_both_methods_find_the_share_and_their_intervals_hold_it(share):
    errors, held = [], 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        truth_N, prob_NC, answer_N = scans(rng, 600, share)
        weight_BN = label_shift.redraws(np.arange(600), rng)
        known_N, _, known_answer_N = scans(rng, 800, 0.3)
        confusion_CC = np.zeros((2, 2))
        np.add.at(confusion_CC, (known_N, known_answer_N), 1)
        by_errors_BC = label_shift.bbse_shares(answer_N, confusion_CC, weight_BN, rng)
        for share_BC in (label_shift.em_shares(prob_NC, PRIOR_C, weight_BN), by_errors_BC):
            estimate = label_shift.estimates(share_BC)[1]
            errors.append(estimate.value - truth_N.mean())
            held += estimate.low <= truth_N.mean() <= estimate.high
    assert abs(np.mean(errors)) < 0.03 and held >= 13


def test_errors_that_tell_nothing_are_no_basis():
    weight_BN = np.ones((3, 4))
    for confusion_CC in (np.array([[5.0, 5.0], [5.0, 5.0]]), np.array([[9.0, 1.0], [0.0, 0.0]])):
        assert label_shift.bbse_shares(np.zeros(4, int), confusion_CC, weight_BN, np.random.default_rng(0)) is None


def test_accuracy_falls_with_confidence():
    rng = np.random.default_rng(0)
    judged = Judged(0.9, 0.01, np.eye(2))
    flat_B, lower_B = np.full(200, 0.95), np.full(200, 0.85)
    same = label_shift.accuracy(flat_B, flat_B, judged, rng)
    worse = label_shift.accuracy(flat_B, lower_B, judged, rng)
    assert same.value == pytest.approx(0.9) and same.low < 0.9 < same.high
    assert worse.value == pytest.approx(0.8) and worse.high < same.low


def test_the_part_of_the_reference_that_is_like_the_batch_has_its_mix():
    rng = np.random.default_rng(1)
    _, prob_NC, _ = scans(rng, 3000, 0.3)
    _, there_NC, _ = scans(rng, 3000, 0.6)
    weight_N = prob_NC @ (np.array([0.4, 0.6]) / PRIOR_C)
    rows = label_shift.like_the_batch(weight_N, np.arange(3000), rng)
    assert stats.ks_2samp(prob_NC[rows, 1], there_NC[:, 1]).pvalue > 0.05 > stats.ks_2samp(prob_NC, there_NC).pvalue[1]


def test_redraws_keep_patients_together():
    weight_BN = label_shift.redraws(np.array([4, 4, 9]), np.random.default_rng(0), 20)
    assert (weight_BN[0] == 1).all() and (weight_BN[:, 0] == weight_BN[:, 1]).all()
    assert (weight_BN[1:, 0] + weight_BN[1:, 2] == 2).all()
