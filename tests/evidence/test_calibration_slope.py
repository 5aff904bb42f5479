import warnings

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.special import expit, logit

from pipeline.evidence.calibration_slope import calibration, fit


def statsmodels_fit(prob_N, positive_N, weight_N):
    x_N = logit(np.clip(prob_N, 1e-6, 1 - 1e-6))
    glm = {"family": sm.families.Binomial(), "freq_weights": weight_N}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own making, on probabilities near 0
        slope = sm.GLM(positive_N, sm.add_constant(x_N), **glm).fit(tol=1e-14, maxiter=200).params[1]
        intercept = sm.GLM(positive_N, np.ones(len(x_N)), offset=x_N, **glm).fit(tol=1e-14, maxiter=200).params[0]
    return slope, intercept


def draw(num_scans, slope, intercept, seed=0):
    rng = np.random.default_rng(seed)
    eta_N = rng.normal(size=num_scans) * 1.5
    prob_N = expit((eta_N - intercept) / slope)
    return prob_N, (rng.random(num_scans) < expit(eta_N)).astype(np.int64)


@pytest.mark.parametrize("seed", range(6))
def test_fits_agree_with_statsmodels_under_weights(seed):
    prob_N, positive_N = draw(30 + 40 * seed, 0.6 + 0.2 * seed, 0.3, seed)
    prob_N[:2] = 0.0, 1.0  # clipped
    rng = np.random.default_rng(seed)
    weight_BN = np.concatenate([rng.integers(0, 4, (4, len(prob_N))), rng.random((4, len(prob_N)))])
    slope_B, intercept_B = fit(prob_N, positive_N, weight_BN)
    for b, weight_N in enumerate(weight_BN):
        slope, intercept = statsmodels_fit(prob_N, positive_N, weight_N)
        assert slope_B[b] == pytest.approx(slope, abs=1e-9)
        assert intercept_B[b] == pytest.approx(intercept, abs=1e-9)


def test_a_hard_start_still_converges():
    # Confident and wrong: full Newton steps from the start overshoot.
    prob_N = np.r_[np.full(50, 1e-6), np.full(50, 1 - 1e-6), 0.5]
    positive_N = np.r_[np.ones(49), 0, np.zeros(49), 1, 1]
    slope, intercept = fit(prob_N, positive_N, np.ones((1, 101)))
    want = statsmodels_fit(prob_N, positive_N, np.ones(101))
    assert (slope[0], intercept[0]) == pytest.approx(want, abs=1e-9)
    assert slope[0] < 0


def test_what_is_known_is_recovered():
    prob_N, truth_N = draw(20_000, 0.5, 0.7)
    row = calibration(
        np.stack([1 - prob_N, prob_N], 1),
        truth_N,
        ["normal", "a"],
        np.arange(20_000) // 2,
        positive=1,
        num_bootstrap=30,
        rng=np.random.default_rng(0),
    )[0]
    assert row["finding"] == "a" and row["slope"] == pytest.approx(0.5, abs=0.03)
    assert row["slope_ci95"][0] < row["slope"] < row["slope_ci95"][1] and np.ptp(row["slope_ci95"]) < 0.1
    honest, truth_N = draw(20_000, 1.0, 0.0)
    slope_B, intercept_B = fit(honest, truth_N, np.ones((1, 20_000)))
    assert slope_B[0] == pytest.approx(1, abs=0.05) and intercept_B[0] == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize(
    ("prob_N", "slope", "intercept"),
    [
        ([0.1, 0.2, 0.6, 0.7], None, True),  # separated
        ([0.7, 0.6, 0.2, 0.1], None, True),  # separated the wrong way round
        ([0.1, 0.5, 0.5, 0.7], None, True),  # separated but for a tie at the cut: the slope still runs off
        ([0.3, 0.3, 0.3, 0.3], None, True),  # constant
        ([0.1, 0.6, 0.5, 0.7], True, True),
    ],
)
def test_no_slope_where_none_is_finite(prob_N, slope, intercept):
    prob_NC = np.stack([1 - np.array(prob_N), prob_N], 1)
    row = calibration(
        prob_NC,
        np.array([0, 0, 1, 1]),
        ["n", "a"],
        np.arange(4),
        positive=1,
        num_bootstrap=200,
        rng=np.random.default_rng(0),
    )[0]
    assert (row["slope"] is not None) == (slope is not None)
    assert (row["intercept"] is not None) == (intercept is not None) and row["intercept_ci95"] is not None
    assert row["slope_ci95"] is None  # most draws of four scans are separated


def test_one_class_alone_has_no_calibration():
    prob_NC = np.full((4, 3), 1 / 3)
    rows = calibration(
        prob_NC,
        np.zeros(4, int),
        list("abc"),
        np.arange(4),
        positive=None,
        num_bootstrap=20,
        rng=np.random.default_rng(0),
    )
    assert [row["finding"] for row in rows] == ["a", "b", "c"]
    assert all(row[k] is None for row in rows for k in row if k != "finding")
