"""From scores to probabilities: temperature, class weights, prevalence, and patient-grouped folds.

Shapes: N images, C findings, K groups (patients), F folds.

Everything is fitted on expert labels alone, and on scores of scans the model was not trained on
(out of fold): a score on a training scan says nothing about the pool.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, softmax

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BIAS_SD = 0.5  # prior on the bias per class, in logits
LOG_TEMPERATURE_SD = 1.0  # prior on log T, centred on T = 1
TARGET_SMOOTHING = 0.25  # a, pseudo-labels per class
RARE_CLASS = 10.0  # kappa, labels: a class with so many has half the weight of one with very many
TEMPERATURE_BOUNDS = (0.25, 8.0)
SEARCH_BOUNDS = (0.05, 20.0)


def fit_temperature(logit_NC: ArrayLike, truth_N: ArrayLike, weight_N: ArrayLike | None = None) -> float:
    """Temperature T that makes `softmax(logit / T)` honest on labelled scans.

    Minimises the weighted cross-entropy plus `(log T)^2 / (2 sd^2)`. Two guards keep a handful of
    separable labels from claiming certainty: the targets are smoothed as Platt's are, `(n_c + a) /
    (n_c + C a)` for the true class instead of 1, so the mean confidence settles near `1 - a/n` and not
    at 1; and T is clipped to 0.25..8. The price is a T somewhat above the truth on few labels.
    Weights are rescaled to the effective sample size `(sum w)^2 / sum w^2`.

    Args:
        logit_NC: Out-of-fold logits, (N, C).
        truth_N: Class index, (N,).
        weight_N: Non-negative weights, (N,); all equal when None.

    Returns:
        T > 0; 1.0 without labels.

    Raises:
        ValueError: On shapes that do not match, values that are not finite, or an unknown class.

    Source: Guo et al. 2017 (temperature scaling); Platt 1999 (smoothed targets).
    """
    from scipy.optimize import minimize_scalar  # here, because it takes longer to import than to predict a scan

    logit_NC, truth_N, weight_N = _effective(logit_NC, truth_N, weight_N)
    num_scans, num_classes = logit_NC.shape
    if not weight_N.any():
        return 1.0
    count_C = np.bincount(truth_N, weights=weight_N, minlength=num_classes)
    rest_N = TARGET_SMOOTHING / (count_C + num_classes * TARGET_SMOOTHING)[truth_N]
    target_NC = np.repeat(rest_N[:, None], num_classes, axis=1)
    target_NC[np.arange(num_scans), truth_N] += 1.0 - num_classes * rest_N

    def loss(log_temperature: float) -> float:
        log_prob_NC = log_softmax(logit_NC / np.exp(log_temperature), axis=1)
        nll = -float(weight_N @ (target_NC * log_prob_NC).sum(axis=1))
        return nll + 0.5 * (log_temperature / LOG_TEMPERATURE_SD) ** 2

    # The sum is convex in 1/T and in log T only part by part: a grid finds the valley, Brent its floor.
    grid = np.log(np.geomspace(SEARCH_BOUNDS[0], SEARCH_BOUNDS[1], 41))
    best = int(np.argmin([loss(x) for x in grid]))
    bracket = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    optimum = minimize_scalar(loss, bounds=bracket, method="bounded", options={"xatol": 1e-7})
    return float(np.clip(np.exp(optimum.x), *TEMPERATURE_BOUNDS))


def apply_temperature(logit_NC: ArrayLike, temperature: float) -> Floats:
    """Probabilities `softmax(logit / T)`, (N, C).

    Raises:
        ValueError: If `temperature` is not a positive number.
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature must be a positive number, not {temperature!r}")
    prob_NC: Floats = softmax(_logits(logit_NC) / temperature, axis=1)
    return prob_NC


def fit_bias(logit_NC: ArrayLike, truth_N: ArrayLike, weight_N: ArrayLike | None = None) -> Floats:
    """Bias per class b that makes `softmax(logit + b)` favour no class, (C,); sums to 0.

    A head that learned from many pseudo-labels of one class and few labels of another calls one of them too
    often; out-of-fold scores show it. Minimises the weighted cross-entropy plus `|b|^2 / (2 sd^2)`, a convex
    problem; the weights are rescaled to the effective sample size, so few labels move b little.

    Args:
        logit_NC: Out-of-fold logits, already divided by the temperature, (N, C).
        truth_N: Class index, (N,).
        weight_N: Non-negative weights, (N,), e.g. balanced over the classes; all equal when None.

    Raises:
        ValueError: On shapes that do not match, values that are not finite, or an unknown class.

    Source: Alexandari, Kundaje, Shrikumar 2020 (bias-corrected temperature scaling).
    """
    from scipy.optimize import minimize

    logit_NC, truth_N, weight_N = _effective(logit_NC, truth_N, weight_N)
    num_classes = logit_NC.shape[1]
    if not weight_N.any():
        return np.zeros(num_classes)
    target_NC = np.eye(num_classes)[truth_N]
    seen_C = np.bincount(truth_N, weights=weight_N, minlength=num_classes) > 0

    def loss(free: Floats) -> tuple[float, Floats]:
        bias_C = np.zeros(num_classes)
        bias_C[seen_C] = free
        log_prob_NC = log_softmax(logit_NC + bias_C, axis=1)
        slope_C = weight_N @ (np.exp(log_prob_NC) - target_NC)
        nll = -float(weight_N @ (target_NC * log_prob_NC).sum(axis=1))
        return nll + 0.5 * float(free @ free) / BIAS_SD**2, slope_C[seen_C] + free / BIAS_SD**2

    optimum = minimize(loss, np.zeros(seen_C.sum()), jac=True, method="L-BFGS-B", options={"gtol": 1e-8})
    bias_C = np.zeros(num_classes)
    bias_C[seen_C] = optimum.x
    return np.asarray(bias_C - bias_C.mean())


def class_weights(truth_N: ArrayLike, num_classes: int) -> Floats:
    """Smoothed balanced weights per class, proportional to `1 / (n_c + 10)`, (C,); 0 for a class without a label.

    Over the scans they sum to N. Balanced weights, `1 / n_c`, give the first label of a rare class a quarter of the
    loss of four classes: it is always wrong out of fold, and one scan decides the temperature of all. With smoothing
    a class grows into its share: it weighs `n_c / (n_c + 10)`, see `learning_prior`.
    """
    truth_N = present_classes(truth_N)
    _known_classes(truth_N, num_classes)
    count_C = np.bincount(truth_N, minlength=num_classes)
    weight_C = np.where(count_C > 0, 1.0 / (count_C + RARE_CLASS), 0.0)
    total = float(weight_C @ count_C)
    return np.asarray(weight_C * (len(truth_N) / total) if total else weight_C)


def learning_prior(truth_N: ArrayLike, num_classes: int) -> Floats:
    """Share of the loss that `class_weights` gives each class, (C,): proportional to `n_c / (n_c + 10)`, sums to 1.

    What is fitted with these weights answers as if classes were so frequent; `shift_prior` leads from there to any
    prevalence. A class without a label counts as half a label, for a prior is positive.
    """
    truth_N = present_classes(truth_N)
    _known_classes(truth_N, num_classes)
    count_C = np.maximum(np.bincount(truth_N, minlength=num_classes), 0.5)
    share_C = count_C / (count_C + RARE_CLASS)
    return np.asarray(share_C / share_C.sum())


def estimate_prevalence(uniform_counts_C: ArrayLike, expert_counts_C: ArrayLike) -> Floats:
    """Share of each class in the pool, (C,), always positive, sums to 1.

    Labels an algorithm chose are not a sample of the pool; the uniform slice is, but starts with a
    handful. The posterior mean of a Dirichlet with strength C lets the slice take over as it grows:
    `(u_c + C m_c) / (U + C)`, where the prior mean m is half uniform and half the add-one-smoothed
    frequency of all expert labels, `m_c = 0.5 / C + 0.5 (e_c + 1) / (E + C)`.

    Args:
        uniform_counts_C: Labels per class in the uniformly drawn slice.
        expert_counts_C: Labels per class among all expert labels.

    Raises:
        ValueError: On negative counts or shapes that differ.
    """
    uniform_C, expert_C = np.asarray(uniform_counts_C, np.float64), np.asarray(expert_counts_C, np.float64)
    if uniform_C.shape != expert_C.shape or uniform_C.ndim != 1 or len(uniform_C) < 2:
        raise ValueError(f"counts must be two lists of C >= 2, not {uniform_C.shape} and {expert_C.shape}")
    counts = np.concatenate([uniform_C, expert_C])
    if not np.isfinite(counts).all() or counts.min() < 0:
        raise ValueError("counts must be finite and not negative")
    num_classes = len(uniform_C)
    mean_C = 0.5 / num_classes + 0.5 * (expert_C + 1) / (expert_C.sum() + num_classes)
    prevalence_C: Floats = (uniform_C + num_classes * mean_C) / (uniform_C.sum() + num_classes)
    return prevalence_C


def shift_prior(prob_NC: ArrayLike, from_prior_C: ArrayLike, to_prior_C: ArrayLike) -> Floats:
    """Probabilities under another prevalence: `p_c to_c / from_c`, renormalised, (N, C).

    Holds where only the prevalence differs and each class looks the same in both places.

    Args:
        prob_NC: Calibrated under `from_prior_C`; for a model trained with balanced class weights that
            is the uniform prior.
        from_prior_C: Positive, sums to 1.
        to_prior_C: Positive, sums to 1.

    Raises:
        ValueError: If a prior is not positive or does not sum to 1, or shapes differ.

    Source: Saerens, Latinne & Decaestecker 2002, eq. 2.4; Elkan 2001.
    """
    prob_NC = np.asarray(prob_NC, np.float64)
    if prob_NC.ndim != 2:
        raise ValueError(f"probabilities must be (N, C), not {prob_NC.shape}")
    ratio_C = _prior(to_prior_C, prob_NC.shape[1]) / _prior(from_prior_C, prob_NC.shape[1])
    shifted_NC = prob_NC * ratio_C
    total_N = shifted_NC.sum(axis=1, keepdims=True)
    if not (np.isfinite(total_N).all() and (total_N > 0).all()):
        raise ValueError("every row of probabilities must be finite and have a positive sum")
    moved_NC: Floats = shifted_NC / total_N
    return moved_NC


def _effective(logit_NC: ArrayLike, truth_N: ArrayLike, weight_N: ArrayLike | None) -> tuple[Floats, Ints, Floats]:
    """Checked arrays, the weights scaled to sum to the effective sample size `(sum w)^2 / sum w^2`."""
    logits, classes = _logits(logit_NC), present_classes(truth_N)
    check_same_length(classes, len(logits), "truth")
    _known_classes(classes, logits.shape[1])
    weights = _weights(weight_N, len(logits))
    if weights.sum() > 0:
        weights = weights * weights.sum() / np.square(weights).sum()
    return logits, classes, weights


def _logits(logit_NC: ArrayLike) -> Floats:
    logit_NC = np.asarray(logit_NC, np.float64)
    if logit_NC.ndim != 2 or logit_NC.shape[1] < 2:
        raise ValueError(f"logits must be (N, C) with C >= 2, not {logit_NC.shape}")
    if not np.isfinite(logit_NC).all():
        raise ValueError("logits must be finite")
    return logit_NC


def present_classes(truth_N: ArrayLike) -> Ints:
    """Class indices (N,) as integers.

    Raises:
        ValueError: they are not whole numbers, one per scan.
    """
    values: NDArray[Any] = np.asarray(truth_N)
    if values.ndim != 1 or (len(values) and not np.issubdtype(values.dtype, np.integer)):
        raise ValueError(f"classes must be a list of integers, not {values.dtype} {values.shape}")
    return values.astype(np.int64)


def _known_classes(truth_N: Ints, num_classes: int) -> None:
    if len(truth_N) and not (truth_N.min() >= 0 and truth_N.max() < num_classes):
        raise ValueError(f"class indices must be 0..{num_classes - 1}, not {truth_N.min()}..{truth_N.max()}")


def _weights(weight_N: ArrayLike | None, num_scans: int) -> Floats:
    weights = np.ones(num_scans) if weight_N is None else np.asarray(weight_N, np.float64)
    check_same_length(weights, num_scans, "weights")
    if not np.isfinite(weights).all() or weights.min(initial=0.0) < 0:
        raise ValueError("weights must be finite and not negative")
    return weights


def _prior(prior_C: ArrayLike, num_classes: int) -> Floats:
    prior = np.asarray(prior_C, np.float64)
    if prior.shape != (num_classes,) or not (prior > 0).all() or abs(prior.sum() - 1) > 1e-6:
        raise ValueError(f"a prior must be {num_classes} positive numbers that sum to 1, not {prior.tolist()}")
    return prior


def check_same_length(values: NDArray[Any], num_scans: int, name: str) -> None:
    """Refuse an array that is not (N,).

    Raises:
        ValueError: naming it and both lengths.
    """
    if values.shape != (num_scans,):
        raise ValueError(f"{name} must be ({num_scans},), one per scan, not {values.shape}")


def at_prevalence(logit_NC: np.ndarray, temperature: float, prevalence_C: np.ndarray) -> np.ndarray:
    """Calibrated probabilities (N, C) at a prevalence, of logits that are for balanced classes."""
    balanced_C = np.full(len(prevalence_C), 1.0 / len(prevalence_C))
    return shift_prior(apply_temperature(logit_NC, temperature), balanced_C, prevalence_C)
