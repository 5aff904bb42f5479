"""Calibration slope and intercept: are the probabilities too extreme, or too high altogether?

Shapes: N scans, B weight vectors.

With x = logit(p): the slope is b of `logit P(y) = a + b x` (under 1: too extreme), the intercept is a of
`logit P(y) = a + x` (calibration in the large; above 0: the risk is underestimated). 1 and 0 are perfect.

Source: Cox 1958; Van Calster et al. 2016, 2019.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from pipeline.measures import bootstrap
from pipeline.measures.bootstrap import Floats, Ints
from pipeline.measures.weighted_metrics import listed, number

CLIP = 1e-6  # a probability of 0 or 1 has no logit
MAX_STEPS = 100
MAX_HALVINGS = 30
TOLERANCE = 1e-12


def calibration(
    prob_NC: Floats,
    truth_N: Ints,
    findings: Sequence[str],
    group_of_N: Ints,
    *,
    positive: int | None,
    num_bootstrap: int,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """One row per finding: `{"finding", "slope", "slope_ci95", "intercept", "intercept_ci95"}`.

    None where undefined: one class only, probabilities that separate the classes completely (no finite
    slope fits) or are all equal. An interval is None where that befalls more than half of the replicates.

    Args:
        prob_NC: Probabilities, (N, C); clipped to 1e-6 from 0 and 1.
        truth_N: Class index, (N,).
        findings: C names.
        group_of_N: Patient-group number 0..K-1, (N,).
        positive: Index of the class that is listed; None: each against the rest.
        num_bootstrap: Replicates; 0 leaves the intervals None.
        rng: Draws the replicates, the same for all findings.
    """

    def measure(weight_BN: Floats) -> dict[str, Floats]:
        out = {}
        for c in listed(len(findings), positive):
            fitted = fit(prob_NC[:, c], truth_N == c, weight_BN)
            out[f"slope:{c}"], out[f"intercept:{c}"] = fitted
        return out

    value = measure(np.ones((1, len(truth_N))))
    value_B = bootstrap.replicates(measure, group_of_N, num_bootstrap, rng)
    rows = []
    for c in listed(len(findings), positive):
        rarer = min(bootstrap.num_in_group(group_of_N, side_N) for side_N in (truth_N == c, truth_N != c))
        row: dict[str, Any] = {"finding": findings[c]}
        for name in ("slope", "intercept"):
            key = f"{name}:{c}"
            row[name] = number(value[key][0])
            interval = bootstrap.percentile_interval(value_B.get(key, np.empty(0)), rarer)
            row[f"{name}_ci95"] = interval if row[name] is not None else None
        rows.append(row)
    return rows


def fit(prob_N: ArrayLike, positive_N: ArrayLike, weight_BN: ArrayLike) -> tuple[Floats, Floats]:
    """Slope and intercept under each weight vector, (B,) each; NaN where undefined.

    Args:
        prob_N: Probability of the finding, (N,).
        positive_N: Whether the scan has it, (N,).
        weight_BN: Non-negative weights, (B, N).
    """
    x_N: Floats = logit(np.clip(np.asarray(prob_N, np.float64), CLIP, 1 - CLIP))
    y_N, weights = np.asarray(positive_N, np.float64), np.asarray(weight_BN, np.float64)
    slope_B, intercept_B = np.full(len(weights), np.nan), np.full(len(weights), np.nan)
    both_B = (weights @ y_N > 0) & (weights @ (1 - y_N) > 0)
    intercept_B[both_B] = _newton(x_N, y_N, weights[both_B], slope_free=False)[:, 0]
    finite_B = both_B & ~_separated(x_N, y_N > 0, weights)
    slope_B[finite_B] = _newton(x_N, y_N, weights[finite_B], slope_free=True)[:, 1]
    return slope_B, intercept_B


def _separated(x_N: Floats, positive_N: NDArray[np.bool_], weight_BN: Floats) -> NDArray[np.bool_]:
    """Whether one cut on x parts the classes (ties at the cut included), so that no finite slope is best, (B,)."""
    drawn_BN = weight_BN > 0
    high_1, high_0 = (np.where(drawn_BN & side, x_N, -np.inf).max(axis=1) for side in (positive_N, ~positive_N))
    low_1, low_0 = (np.where(drawn_BN & side, x_N, np.inf).min(axis=1) for side in (positive_N, ~positive_N))
    parted_B: NDArray[np.bool_] = (high_0 <= low_1) | (high_1 <= low_0)
    return parted_B


def _newton(x_N: Floats, y_N: Floats, weight_BN: Floats, *, slope_free: bool) -> Floats:
    """Intercept and slope of the weighted logistic fits, all at once, (B, 2); the slope is 1 where not free.

    A convex problem: Newton's steps from the fit to the mean weights. A step that moves no scan's logit by
    more than 1 lowers the loss (the curvature changes by less than a factor e: Bach 2010); longer ones are
    halved until they do.
    """
    if not len(weight_BN):
        return np.empty((0, 2))
    weight_BN = weight_BN / weight_BN.sum(axis=1, keepdims=True)
    start_2 = np.array([0.0, 0.0 if slope_free else 1.0])
    if len(weight_BN) > 1:
        start_2 = _newton(x_N, y_N, weight_BN.mean(axis=0, keepdims=True), slope_free=slope_free)[0]
    coef_B2 = np.repeat(start_2[None], len(weight_BN), axis=0)
    active = np.arange(len(weight_BN))
    for _ in range(MAX_STEPS):
        w_BN, old_B2 = weight_BN[active], coef_B2[active]
        step_B2 = _step(x_N, y_N, w_BN, old_B2, slope_free)
        long = np.flatnonzero(np.abs(step_B2[:, 0]) + np.abs(step_B2[:, 1]) * np.abs(x_N).max() > 1)
        loss_B = _loss(x_N, y_N, w_BN[long], old_B2[long])
        for _ in range(MAX_HALVINGS):
            worse = _loss(x_N, y_N, w_BN[long], old_B2[long] + step_B2[long]) > loss_B
            long, loss_B = long[worse], loss_B[worse]
            if not len(long):
                break
            step_B2[long] /= 2
        coef_B2[active] = old_B2 + step_B2
        active = active[np.abs(step_B2).max(axis=1) > TOLERANCE * (1 + np.abs(coef_B2[active]).max(axis=1))]
        if not len(active):
            break
    return coef_B2


def _step(x_N: Floats, y_N: Floats, weight_BN: Floats, coef_B2: Floats, slope_free: bool) -> Floats:
    fitted_BN = expit(coef_B2[:, :1] + coef_B2[:, 1:] * x_N)
    error_BN = weight_BN * (y_N - fitted_BN)
    curve_BN = weight_BN * fitted_BN * (1 - fitted_BN)
    g0, h00 = error_BN.sum(axis=1), curve_BN.sum(axis=1)
    if not slope_free:
        return np.column_stack([g0 / h00, np.zeros_like(g0)])
    # Centred on the curvature's mean of x, the two equations are independent.
    mean_B = curve_BN @ x_N / h00
    centred_BN = x_N - mean_B[:, None]
    slope_B = (error_BN * centred_BN).sum(axis=1) / (curve_BN * centred_BN**2).sum(axis=1)
    return np.column_stack([g0 / h00 - mean_B * slope_B, slope_B])


def _loss(x_N: Floats, y_N: Floats, weight_BN: Floats, coef_B2: Floats) -> Floats:
    eta_BN = coef_B2[:, :1] + coef_B2[:, 1:] * x_N
    loss_B: Floats = (weight_BN * (np.logaddexp(0.0, eta_BN) - y_N * eta_BN)).sum(axis=1)
    return loss_B
