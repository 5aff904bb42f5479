"""What a prediction is worked out by: distances, the threshold of what is outside, the interval of the calibration."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from pipeline.predict import formulas


def test_the_distance_is_that_to_the_kth_nearest():
    rng = np.random.default_rng(0)
    x, reference = rng.normal(size=(700, 6)), rng.normal(size=(90, 6))
    expected = np.sort(cdist(x, reference), axis=1)
    for k in (1, 5, 90):
        np.testing.assert_allclose(formulas.kth_distances(x, reference, k), expected[:, k - 1], atol=1e-9)
    np.testing.assert_allclose(formulas.kth_distances(x, reference[:3], 5), expected_of(x, reference[:3]), atol=1e-9)


def expected_of(x, reference):
    return cdist(x, reference).max(1)


def test_the_own_patient_is_not_compared_with():
    x = np.array([[0.0], [0.1], [5.0]])
    patient = np.array([0, 0, 1])
    distances = formulas.kth_distances(x, x, 1, patient, patient)
    np.testing.assert_allclose(distances, [5.0, 4.9, 4.9], atol=1e-12)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
def test_no_more_than_the_rate_of_scans_that_belong_is_called_outside(rate):
    rng = np.random.default_rng(1)
    alarms = []
    for _ in range(400):
        held_out, fresh = np.sort(rng.gamma(3.0, size=150)), rng.gamma(3.0, size=50)
        alarms.append((fresh > formulas.threshold(held_out, rate)).mean())
    assert np.mean(alarms) <= rate + 3 * np.std(alarms) / 20
    assert np.mean(alarms) >= rate - 2 / 151 - 3 * np.std(alarms) / 20  # and no less than it must be


def test_too_few_held_out_scans_promise_nothing():
    held_out = np.arange(1.0, 20.0)
    assert formulas.threshold(held_out, 0.05) == 19.0
    assert formulas.threshold(held_out[:-1], 0.05) is None and formulas.threshold(np.empty(0), 0.5) is None


def test_the_interval_holds_the_probability_and_the_middle_of_the_redraws():
    rng = np.random.default_rng(2)
    logit = rng.normal(size=(600, 3)) * 2
    prior = np.array([0.5, 0.3, 0.2])
    prob = np.exp(formulas.log_softmax(logit + np.log(prior)))
    num = 300
    temperature, bias = np.exp(rng.normal(size=num) * 0.2), rng.normal(size=(num, 3)) * 0.1
    log_prior = np.log(rng.dirichlet(prior * 40, num))
    low, high = formulas.calibration_interval(logit, prob, temperature, bias, log_prior)
    assert ((low <= prob) & (prob <= high)).all()
    redrawn = np.array(
        [np.exp(formulas.log_softmax(logit / t + b + p)) for t, b, p in zip(temperature, bias, log_prior, strict=True)]
    )
    inside = ((redrawn >= low) & (redrawn <= high)).mean(0)
    assert inside.min() >= 0.94 and inside.mean() < 0.98
    exact = formulas.calibration_interval(logit, prob, np.ones(5), np.zeros((5, 3)), np.tile(np.log(prior), (5, 1)))
    np.testing.assert_allclose(exact[0], exact[1], atol=1e-12)
