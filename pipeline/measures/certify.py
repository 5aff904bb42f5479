"""How good are the pseudo-labels? An ESTIMATE steers training; a CERTIFICATE is a promise to others.

Shapes: N images, C findings.

The two answers never mix:

* An **estimate** (`estimate_thresholds`, `estimated_precision`) reads out-of-fold probabilities of the
  expert labels the run has. It searches a threshold on the very sample it then judges, so it is a good
  guess with no guarantee, and it may steer nothing but our own training.
* A **certificate** (`certify`) reads blind checks alone: scans drawn uniformly, for which the machine
  had written down its proposal before an expert who could not see it answered. Nothing was tuned on
  them, so the exact binomial bound holds for the proposals of the kind that were checked.

What a certificate does not cover: pools other than the one drawn from; and proposals made by a model or a
gate other than those checked (checks accumulated over rounds certify the mixture of those rounds). That
scans of one patient err together does no harm: a uniform draw of scans from a finite pool needs no
independence. To take one scan a patient would do harm, for it checks patients with many scans too rarely.
Looking again after every round is a repeated test: pass `num_looks`. What others may rely on is certified
by `sequential_plan`, on a frozen release and valid at every look.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

POOLED = "pooled"
NO_THRESHOLD = 1.01  # above every probability: nothing is accepted

# Smoothing of the estimate: PRIOR_STRENGTH imagined scans, as often right as the scan at the threshold
# is probable, but never more than MAX_PRIOR: at best half an error in five. So a promise of .97 needs
# 12 scans without an error, however sure the scores are. Tuned by the simulation in
# tests/measures/test_certify.py.
PRIOR_STRENGTH = 5.0
MAX_PRIOR = 0.9
MIN_EVIDENCE = 10.0  # effective scans under which a class accepts nothing, however low the promise


@dataclass(frozen=True)
class Certificate:
    """What blind checks prove about the proposals of one finding, or of all.

    Attributes:
        finding: The class proposed, or `"pooled"`.
        num_checked: Blind checks of such proposals.
        num_correct: Checks in which the expert agreed.
        lower_bound: One-sided bound of the precision at `confidence`; 0 without checks.
        promise: Precision asked for.
        confidence: Of this bound alone, after the correction for several classes and looks.
        holds: Whether `lower_bound >= promise`.
        checks_needed: Further checks until it holds if every one of them agrees; 0 when it holds.
    """

    finding: str
    num_checked: int
    num_correct: int
    lower_bound: float
    promise: float
    confidence: float
    holds: bool
    checks_needed: int


def lower_bound(num_correct: int, num_checked: int, confidence: float) -> float:
    """Exact one-sided lower bound of a binomial share; 0 without checks.

    59 of 59 gives .9505 at 95 %.

    Raises:
        ValueError: If `confidence` is not inside (0, 1) or the counts are impossible.

    Source: Clopper & Pearson 1934.
    """
    _inside("confidence", confidence)
    if not 0 <= num_correct <= num_checked:
        raise ValueError(f"{num_correct} correct of {num_checked} checked is impossible")
    if num_correct == 0:
        return 0.0
    return _lower_end(num_correct, num_checked, confidence)


@lru_cache(maxsize=4096)
def _lower_end(num_correct: int, num_checked: int, confidence: float) -> float:
    """The bound of at least one correct scan; every round asks for those of nearly the same numbers."""
    from scipy.stats import beta  # takes a second to import; `status` reads what was certified before

    return float(beta.ppf(1.0 - confidence, num_correct, num_checked - num_correct + 1))


def checks_needed(num_correct: int, num_checked: int, promise: float, confidence: float) -> int:
    """Fewest further checks, all of them agreeing, after which `lower_bound >= promise`; 0 if it holds.

    From nothing, at 95 %: 29 for .90, 59 for .95, 149 for .98, 299 for .99.

    Raises:
        ValueError: If `promise` or `confidence` is not inside (0, 1) or the counts are impossible.
    """
    _inside("promise", promise)

    def holds(more: int) -> bool:
        return lower_bound(num_correct + more, num_checked + more, confidence) >= promise

    if holds(0):
        return 0
    too_few, enough = 0, 1
    while not holds(enough):
        too_few, enough = enough, 2 * enough
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if holds(middle) else (middle, enough)
    return enough


def certify(
    proposed: Sequence[str],
    truth: Sequence[str],
    findings: Sequence[str],
    promise: float,
    confidence: float,
    *,
    family: bool = True,
    num_looks: int = 1,
) -> dict[str, Certificate]:
    """Certificates per finding and `"pooled"` from accumulated blind checks.

    Every check counts once, whatever its outcome; dropping the inconvenient ones voids the bound.

    Multiplicity: with `family`, each of the C per-class bounds is taken at `1 - (1 - confidence) / C`
    (Bonferroni), so that "all certified classes keep the promise" holds at `confidence`; a class alone
    then needs 72 clean checks instead of 59 for .95 with C = 2. The pooled bound is one statement of
    its own, at `confidence`: release by classes or by the pool, decided beforehand, not by whichever passes.

    Args:
        proposed: Finding the machine proposed, per blind check.
        truth: The expert's finding, in the same order.
        findings: All findings, in the pool's order.
        promise: Precision to prove, inside (0, 1).
        confidence: Inside (0, 1).
        family: Correct the per-class bounds for the number of classes.
        num_looks: How often certificates are asked for in all, at most, while checks accumulate; the
            error is split evenly over them (Bonferroni).

    Returns:
        Finding to certificate in the order of `findings`, then `"pooled"`.

    Raises:
        ValueError: On lengths that differ, or a finding that is not in `findings`.
    """
    if len(proposed) != len(truth):
        raise ValueError(f"{len(proposed)} proposals but {len(truth)} expert labels")
    if len(set(findings)) != len(findings) or POOLED in findings:
        raise ValueError(f"findings must differ from each other and from {POOLED!r}: {list(findings)}")
    unknown = sorted({*proposed, *truth} - set(findings))
    if unknown:
        raise ValueError(f"unknown findings {unknown}; known are {list(findings)}")
    if num_looks < 1:
        raise ValueError(f"num_looks must be at least 1, not {num_looks}")
    _inside("confidence", confidence)
    error = (1.0 - confidence) / num_looks
    by_class = 1.0 - error / (len(findings) if family else 1)
    agreed = {c: [t == c for p, t in zip(proposed, truth, strict=True) if p == c] for c in findings}
    issued = {c: _certificate(c, sum(hits), len(hits), promise, by_class) for c, hits in agreed.items()}
    num_correct = sum(sum(hits) for hits in agreed.values())
    return {**issued, POOLED: _certificate(POOLED, num_correct, len(truth), promise, 1.0 - error)}


def estimate_thresholds(
    prob_NC: ArrayLike,
    truth_N: ArrayLike,
    weight_N: ArrayLike | None = None,
    *,
    promise: float,
    max_share: float = 1.0,
) -> Floats:
    """Lowest probability per class at which the ESTIMATED precision keeps the promise, (C,).

    Going down from the most certain scan of a class, thresholds open once enough scans agree and close
    for good where the estimate first falls below the promise: below that point it may recover by luck.
    The estimate is smoothed, `(k + 5 min(t, .9)) / (n + 5)` with t the threshold itself, k and n
    the effective counts; few labels therefore accept little or nothing. It carries no guarantee.

    Args:
        prob_NC: Calibrated, out of fold, (N, C).
        truth_N: Class index by experts, (N,).
        weight_N: Importance weights that turn the labelled scans into a sample of the pool, (N,);
            n is then the effective size `(sum w)^2 / sum w^2`.
        promise: Precision asked for, inside (0, 1).
        max_share: Largest (weighted) share of the scans predicted as a class that may be accepted.

    Returns:
        A threshold for `prob >= t` per class; 1.01 where none keeps the promise.

    Raises:
        ValueError: On shapes that do not match or values out of range.
    """
    _inside("promise", promise)
    if not 0.0 < max_share <= 1.0:
        raise ValueError(f"max_share must be in (0, 1], not {max_share!r}")
    prob_NC, truth_N, weight_N = _checked(prob_NC, truth_N, weight_N)
    top_N, predicted_N = prob_NC.max(axis=1), prob_NC.argmax(axis=1)
    threshold_C = np.full(prob_NC.shape[1], NO_THRESHOLD)
    for c in range(prob_NC.shape[1]):
        mine_N = (predicted_N == c) & (weight_N > 0)
        if mine_N.any():
            hit_N = (truth_N == c)[mine_N].astype(np.float64)
            threshold_C[c] = _lowest_threshold(top_N[mine_N], hit_N, weight_N[mine_N], promise, max_share)
    return threshold_C


def estimated_precision(
    prob_NC: ArrayLike, truth_N: ArrayLike, weight_N: ArrayLike | None, threshold_C: ArrayLike
) -> float | None:
    """ESTIMATED precision of all scans the thresholds accept; None when they accept none.

    Pooled over classes and smoothed as the thresholds are, at the strictest prior; still a little
    optimistic, because the thresholds were chosen on the same labels. Not a certificate.

    Args:
        prob_NC: As in `estimate_thresholds`.
        truth_N: As in `estimate_thresholds`.
        weight_N: As in `estimate_thresholds`.
        threshold_C: From `estimate_thresholds`.

    Raises:
        ValueError: On shapes that do not match or values out of range.
    """
    prob_NC, truth_N, weight_N = _checked(prob_NC, truth_N, weight_N)
    threshold_C = np.asarray(threshold_C, np.float64)
    if threshold_C.shape != (prob_NC.shape[1],):
        raise ValueError(f"thresholds must be ({prob_NC.shape[1]},), not {threshold_C.shape}")
    predicted_N = prob_NC.argmax(axis=1)
    accepted_N = (prob_NC.max(axis=1) >= threshold_C[predicted_N]) & (weight_N > 0)
    if not accepted_N.any():
        return None
    mass: Floats = weight_N[accepted_N]
    share = float(mass @ (predicted_N == truth_N)[accepted_N] / mass.sum())
    effective = float(mass.sum() ** 2 / np.square(mass).sum())
    return (share * effective + PRIOR_STRENGTH * MAX_PRIOR) / (effective + PRIOR_STRENGTH)


def _lowest_threshold(top_N: Floats, hit_N: Floats, weight_N: Floats, promise: float, max_share: float) -> float:
    order = np.argsort(-top_N, kind="stable")
    top_N, hit_N, weight_N = top_N[order], hit_N[order], weight_N[order]
    last_T = np.flatnonzero(np.append(top_N[1:] != top_N[:-1], True))  # last scan of each tie
    mass_T = np.cumsum(weight_N)[last_T]
    effective_T = mass_T**2 / np.cumsum(weight_N**2)[last_T]
    share_T = np.cumsum(weight_N * hit_N)[last_T] / mass_T
    prior_T = np.minimum(top_N[last_T], MAX_PRIOR)
    estimate_T = (share_T * effective_T + PRIOR_STRENGTH * prior_T) / (effective_T + PRIOR_STRENGTH)
    # Rounding must not decide: 10 scans of equal weight are evidence of 10.
    keeps_T = (estimate_T >= promise - 1e-12) & (effective_T >= MIN_EVIDENCE - 1e-9)
    if not keeps_T.any():
        return NO_THRESHOLD
    first = int(keeps_T.argmax())
    broken = np.flatnonzero(~keeps_T[first:])
    stop = first + int(broken[0]) if len(broken) else len(keeps_T)
    fits_T = mass_T[first:stop] <= max_share * mass_T[-1] * (1 + 1e-12)
    return float(top_N[last_T[first + int(fits_T.sum()) - 1]]) if fits_T.any() else NO_THRESHOLD


def _certificate(finding: str, correct: int, checked: int, promise: float, confidence: float) -> Certificate:
    bound = lower_bound(correct, checked, confidence)
    needed = checks_needed(correct, checked, promise, confidence)
    assert (needed == 0) == (bound >= promise)
    return Certificate(finding, checked, correct, bound, promise, confidence, bound >= promise, needed)


def _checked(
    prob_NC: ArrayLike, truth_N: ArrayLike, weight_N: ArrayLike | None
) -> tuple[Floats, NDArray[np.int64], Floats]:
    prob = np.asarray(prob_NC, np.float64)
    if prob.ndim != 2 or prob.shape[1] < 2:
        raise ValueError(f"probabilities must be (N, C) with C >= 2, not {prob.shape}")
    truth = np.asarray(truth_N)
    weight = np.ones(len(prob)) if weight_N is None else np.asarray(weight_N, np.float64)
    if truth.shape != (len(prob),) or weight.shape != (len(prob),):
        raise ValueError(f"{len(prob)} scans, but truth is {truth.shape} and weights are {weight.shape}")
    # Written so that NaN fails as well.
    if not ((prob >= 0) & (prob <= 1 + 1e-6)).all() or not (np.isfinite(weight) & (weight >= 0)).all():
        raise ValueError("probabilities must be in 0..1, weights finite and not negative")
    if len(truth) and not (np.issubdtype(truth.dtype, np.integer) and ((truth >= 0) & (truth < prob.shape[1])).all()):
        raise ValueError(f"truth must be class indices 0..{prob.shape[1] - 1}")
    return prob, truth.astype(np.int64), weight


def _inside(name: str, value: float) -> None:
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name} must be inside (0, 1), not {value!r}")
