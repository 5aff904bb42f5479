"""Bias and temperature against the losses their docstrings state, minimised by other means."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from pipeline.measures.calibrate import (
    BIAS_SD,
    LOG_TEMPERATURE_SD,
    TARGET_SMOOTHING,
    apply_temperature,
    at_prevalence,
    fit_bias,
    fit_temperature,
    shift_prior,
)


def sample(num, num_classes, seed, *, tilt=0.0):
    """Logits that favour the first class by `tilt`, of truths drawn from them without it."""
    rng = np.random.default_rng(seed)
    logit_NC = rng.normal(size=(num, num_classes)) * 1.5
    truth_N = np.array([rng.choice(num_classes, p=p) for p in softmax(logit_NC, axis=1)])
    logit_NC[:, 0] += tilt
    return logit_NC, truth_N, rng.uniform(0.2, 3.0, num)


def effective(weight_N):
    """Weights that add up to the effective size."""
    return weight_N * weight_N.sum() / np.square(weight_N).sum()


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_bias_is_where_the_stated_loss_is_least(num_classes, weighted):
    logit_NC, truth_N, weight_N = sample(60, num_classes, 1, tilt=1.0)
    weight_N = weight_N if weighted else np.ones(60)
    scaled_N = effective(weight_N)

    def loss(bias_C):
        log_prob_NC = log_softmax(logit_NC + bias_C, axis=1)
        return -scaled_N @ log_prob_NC[np.arange(60), truth_N] + bias_C @ bias_C / (2 * BIAS_SD**2)

    expected_C = minimize(loss, np.zeros(num_classes), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}).x
    found_C = fit_bias(logit_NC, truth_N, weight_N if weighted else None)
    assert found_C == pytest.approx(expected_C - expected_C.mean(), abs=1e-5)
    assert found_C.sum() == pytest.approx(0.0, abs=1e-12) and found_C[0] == found_C.min() < -0.1


def test_the_bias_takes_back_what_favours_a_class():
    logit_NC, truth_N, _ = sample(4000, 3, 2, tilt=0.6)
    assert fit_bias(logit_NC, truth_N) == pytest.approx([-0.4, 0.2, 0.2], abs=0.1)
    fair_NC, truth_N, _ = sample(4000, 3, 3)
    assert fit_bias(fair_NC, truth_N) == pytest.approx([0, 0, 0], abs=0.1)


def test_few_labels_move_the_bias_little_and_no_label_not_at_all():
    logit_NC, truth_N, _ = sample(400, 2, 4, tilt=2.0)
    moved = [abs(fit_bias(logit_NC[:num], truth_N[:num])[0]) for num in (4, 40, 400)]
    assert moved[0] < moved[1] < moved[2] and moved[0] < 0.5 * moved[2]
    assert fit_bias(np.zeros((0, 3)), np.zeros(0, int)).tolist() == [0, 0, 0]
    assert fit_bias(logit_NC, truth_N, np.zeros(400)).tolist() == [0, 0]


def test_a_class_without_a_label_keeps_its_place_between_the_others():
    """Its bias is not fitted: it moves by the common shift alone, that the biases sum to 0."""
    logit_NC, truth_N, _ = sample(50, 2, 5, tilt=1.0)
    three_NC = np.column_stack([logit_NC, np.full(50, -30.0)])
    two_C, three_C = fit_bias(logit_NC, truth_N), fit_bias(three_NC, truth_N)
    assert three_C[0] - three_C[1] == pytest.approx(two_C[0] - two_C[1], abs=1e-5)
    assert three_C.sum() == pytest.approx(0.0, abs=1e-12) and three_C[0] < three_C[2] < three_C[1]


def test_a_single_label_of_a_class_counts():
    logit_NC, truth_N = np.zeros((3, 2)), np.array([0, 0, 1])
    assert fit_bias(logit_NC, truth_N)[0] > 0.05
    assert fit_bias(logit_NC, truth_N) == pytest.approx(-fit_bias(logit_NC, 1 - truth_N), abs=1e-6)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_temperature_is_where_the_stated_loss_is_least(seed):
    logit_NC, truth_N, weight_N = sample(25, 3, seed)
    scaled_N = effective(weight_N)
    count_C = np.array([scaled_N[truth_N == c].sum() for c in range(3)])
    rest_N = TARGET_SMOOTHING / (count_C[truth_N] + 3 * TARGET_SMOOTHING)
    target_NC = np.where(np.eye(3)[truth_N] > 0, 1 - 2 * rest_N[:, None], rest_N[:, None])
    grid = np.geomspace(0.3, 7.5, 2001)
    losses = [
        -scaled_N @ (target_NC * log_softmax(logit_NC / t, axis=1)).sum(axis=1)
        + np.log(t) ** 2 / (2 * LOG_TEMPERATURE_SD**2)
        for t in grid
    ]
    assert fit_temperature(logit_NC, truth_N, weight_N) == pytest.approx(grid[np.argmin(losses)], rel=2e-3)


def test_at_prevalence_moves_the_probabilities_of_equal_classes_there():
    logit_NC, *_ = sample(9, 3, 6)
    prevalence_C = np.array([0.7, 0.2, 0.1])
    found_NC = at_prevalence(logit_NC, 1.7, prevalence_C)
    assert found_NC == pytest.approx(shift_prior(apply_temperature(logit_NC, 1.7), np.full(3, 1 / 3), prevalence_C))
    by_hand_NC = softmax(logit_NC / 1.7, axis=1) * prevalence_C
    assert found_NC == pytest.approx(by_hand_NC / by_hand_NC.sum(axis=1, keepdims=True))
    assert at_prevalence(np.ones((2, 3), int), 1.0, prevalence_C) == pytest.approx(np.tile(prevalence_C, (2, 1)))
