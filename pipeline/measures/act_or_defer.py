"""From where on a model may decide alone: thresholds whose error rate blind labels certify.

A side of a finding is *yes* or *no*. A scan's sureness is the probability of that answer; the side decides the scans
whose sureness is at least a threshold, and a person is asked about the others. Two promises can be made of a threshold:

- `class`: of the scans for which the answer is wrong, at most a share is decided. For *no* that is the share of scans
  with the finding that the model dismisses alone, for *yes* the share of scans without it that it calls alone.
- `decided`: of the scans that are decided, at most a share is decided wrongly.

Either is a hypothesis "the error rate is above the promise" for each threshold of a grid that is fixed before any label
is seen, tested in a fixed order: from the surest threshold to laxer ones, up to the first that is not rejected. Such a
sequence errs as often as one test, so that the same labels may choose the threshold and certify it. Source: fixed
sequence testing in Learn then Test, Angelopoulos et al., arXiv 2110.01052, section 3; triage by class: Angelopoulos et
al., Conformal triage for medical imaging AI deployment, medRxiv 2024. Each test is the exact sequential plan of
`sequential_plan`, so that it may be repeated whenever labels have joined at the end.

The labels must be independent: one scan a patient, the patients drawn by chance, in an order that does not look at
them. What is certified therefore counts every patient once.

Shapes: N labelled scans, one a patient, in their order; T thresholds; P scans without labels.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pipeline.measures.plans import sequential_plan

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
YES, NO, ASK = "yes", "no", "ask a person"

# Sureness from .9999 down to .5 in equal steps of the logit: below a half the model holds the answer for wrong itself.
THRESHOLD_T: Floats = 1.0 / (1.0 + np.exp(-np.linspace(np.log(9999.0), 0.0, 185)))
SUREST_SHARE = 0.25  # of the scans a side would answer: where the sequence of `decided` begins


@dataclass(frozen=True)
class Certified:
    """What the labels prove of one side.

    Attributes:
        threshold: Least sureness that is decided; None: no threshold is certified.
        num_labels: Labels the first test rests on: scans of the class at stake, or scans decided.
        num_errors: Errors among them.
        missing: Further labels of that kind, all of them right, that would certify the first threshold; 0 where it is
            certified, None where no number would.
    """

    threshold: float | None
    num_labels: int
    num_errors: int
    missing: int | None


def certify_class(sure_N: Floats, promised_error: float, confidence: float) -> Certified:
    """The laxest threshold that decides at most a share of the scans for which the answer is wrong.

    Args:
        sure_N: Sureness of scans of the class for which the answer is wrong, one a patient, in their order.
        promised_error: The share, inside (0, 1).
        confidence: Of the promise, at all looks together, inside (0, 1).

    Raises:
        ValueError: If an argument is out of range.
    """
    error_TN = sure_N >= THRESHOLD_T[:, None]
    return _fixed_sequence(list(error_TN), 0, promised_error, confidence)


def certify_decided(
    sure_N: Floats, wrong_N: Bools, sure_P: Floats, promised_error: float, confidence: float
) -> Certified:
    """The laxest threshold of whose decided scans at most a share is decided wrongly.

    Args:
        sure_N: Sureness of scans of both classes, one a patient, in their order.
        wrong_N: Whether the side's answer would be wrong.
        sure_P: Sureness of scans whose labels are not used here; they say where the sequence begins.
        promised_error: The share, inside (0, 1).
        confidence: Of the promise, at all looks together, inside (0, 1).

    Raises:
        ValueError: If an argument is out of range.
    """
    begin = first_of_decided(sure_P)
    if begin is None:
        return Certified(None, 0, 0, None)
    return _fixed_sequence([wrong_N[sure_N >= t] for t in THRESHOLD_T], begin, promised_error, confidence)


def first_of_decided(sure_P: Floats) -> int | None:
    """Index of the threshold that decides the surest quarter of what a side would answer; None: it answers nothing."""
    answered_P = sure_P[sure_P >= THRESHOLD_T[-1]]
    if len(answered_P) == 0:
        return None
    share_T = (answered_P >= THRESHOLD_T[:, None]).mean(axis=1)
    return int(np.argmax(share_T >= SUREST_SHARE))


def stricter(of_class: Certified, of_decided: Certified, sure_P: Floats) -> float | None:
    """The laxest threshold at which both promises are kept; None where there is none.

    The hypothesis that one of them is broken is rejected only where both tests reject, so that no error is split. A
    threshold stricter than the first of `decided` was not tested for it.

    Args:
        of_class: What `certify_class` proves.
        of_decided: What `certify_decided` proves.
        sure_P: As there.
    """
    begin = first_of_decided(sure_P)
    if of_class.threshold is None or of_decided.threshold is None or begin is None:
        return None
    threshold = max(of_class.threshold, of_decided.threshold)
    return threshold if threshold <= THRESHOLD_T[begin] else None


def _fixed_sequence(error_of_T: list[Bools], begin: int, promised_error: float, confidence: float) -> Certified:
    """Test threshold after threshold, up to the first that is not certified.

    Args:
        error_of_T: For each threshold whether each scan that counts was decided wrongly, in their order.
        begin: First threshold of the sequence.
        promised_error: Error rate to undercut.
        confidence: Of one test, and so of the sequence.
    """
    passed = begin
    while passed < len(error_of_T) and keeps(error_of_T[passed], promised_error, confidence):
        passed += 1
    first_N = error_of_T[begin]
    threshold = float(THRESHOLD_T[passed - 1]) if passed > begin else None
    missing = 0 if threshold is not None else missing_labels(first_N, promised_error, confidence)
    return Certified(threshold, len(first_N), int(first_N.sum()), missing)


def keeps(error_N: Bools, promised_error: float, confidence: float) -> bool:
    """Whether these labels certify, at one look or another, that errors are rarer than promised."""
    checks_S = _steps(promised_error, confidence)
    reached = int(np.searchsorted(checks_S, len(error_N), side="right"))
    errors_N = np.concatenate([[0], np.cumsum(error_N)])
    return bool((errors_N[checks_S[:reached]] <= np.arange(reached)).any())


def missing_labels(error_N: Bools, promised_error: float, confidence: float) -> int | None:
    """Further labels without an error that certify the promise; 0: it is certified; None: after too many errors."""
    if keeps(error_N, promised_error, confidence):
        return 0
    ahead_S = _steps(promised_error, confidence)[int(error_N.sum()) :]
    ahead_S = ahead_S[ahead_S > len(error_N)]
    return int(ahead_S[0]) - len(error_N) if len(ahead_S) else None


def decisions(prob_N: Floats, no_at: float | None, yes_at: float | None) -> NDArray[np.str_]:
    """`yes`, `no` or `ask a person` for each scan.

    Args:
        prob_N: Probability of the finding; NaN: nothing is known, a person is asked.
        no_at: Highest probability that is a no; None: the model never says no alone.
        yes_at: Lowest probability that is a yes; None: it never says yes alone.
    """
    said_N = np.full(len(prob_N), ASK)
    if no_at is not None:
        said_N[prob_N <= no_at] = NO
    if yes_at is not None:
        said_N[prob_N >= yes_at] = YES
    return said_N


def share_interval(num: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact interval of a share (Clopper & Pearson, Biometrika 1934); (0, 1) of nothing."""
    from scipy.stats import beta  # takes a second to import

    tail = (1.0 - confidence) / 2.0
    low = float(beta.ppf(tail, num, total - num + 1)) if num else 0.0
    high = float(beta.ppf(1.0 - tail, num + 1, total - num)) if num < total else 1.0
    return low, high


@cache
def _steps(promised_error: float, confidence: float) -> NDArray[np.int64]:
    """Labels after which 0, 1, 2, ... errors certify that errors are rarer than promised."""
    steps = sequential_plan.plan(round(1.0 - promised_error, 12), confidence, sequential_plan.NUM_STEPS)
    return np.array(steps, np.int64)
