"""Redraws of a calibration: centred on it, wider where fewer patients were labelled."""

import numpy as np
import pytest

from pipeline.measures import calibrate
from pipeline.predict import calibration


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Enough to tell widths apart."""
    monkeypatch.setattr(calibration, "NUM_REDRAWS", 40)


def labels(num_patients, seed=0):
    """Two scans a patient, of one class; calibrated logits at balanced classes."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(num_patients), 2)
    truth = (group % 2).astype(np.int64)
    margin = rng.normal(size=len(group)) * 1.5 + np.where(truth == 1, 1.2, -1.2)
    return np.column_stack([-margin / 2, margin / 2]), truth, group


def widths(num_patients, num_uniform):
    logit, truth, group = labels(num_patients)
    prior = np.array([0.7, 0.3])
    redraws = calibration.redrawn(logit, truth, group, prior, num_uniform, np.random.default_rng(1))
    prob = calibrate.at_prevalence(logit, 1.0, prior)
    low, high = redraws.interval(logit, prob)
    assert (low[:, 1] <= prob[:, 1]).all() and (prob[:, 1] <= high[:, 1]).all()
    np.testing.assert_allclose(low[:, 0], 1 - high[:, 1], atol=1e-9)  # two classes say the same
    return float((high - low).mean())


def test_more_labels_and_more_uniform_ones_narrow_it():
    few, many = widths(20, 20), widths(120, 120)
    assert many < 0.7 * few
    assert widths(60, 400) < widths(60, 10)


def test_the_same_seed_gives_the_same_redraws():
    logit, truth, group = labels(15)
    once, twice = (
        calibration.redrawn(logit, truth, group, np.array([0.5, 0.5]), 10, np.random.default_rng(3)) for _ in range(2)
    )
    np.testing.assert_array_equal(once.temperature_B, twice.temperature_B)
    np.testing.assert_array_equal(once.bias_BC, twice.bias_BC)


def test_one_patient_moves_the_prevalence_alone():
    logit, truth, _ = labels(4)
    one = calibration.redrawn(
        logit, truth, np.zeros(len(truth), np.int64), np.array([0.5, 0.5]), 5, np.random.default_rng(0)
    )
    assert (one.temperature_B == 1.0).all() and (one.bias_BC == 0.0).all() and one.log_prior_BC.std() > 0
