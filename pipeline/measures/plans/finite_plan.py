"""The sequential plan for a release that is so small that its checks use a good part of it up.

Shapes: N scans of the release, M of them wrong, 0 to N; S steps of the plan.

The checks are scans of the release in an order drawn by chance, none twice. So errors follow the hypergeometric law,
and the claim is about the release itself: how many of its N scans are wrong. The plan is that of `sequential_plan` with
this law in place of the binomial one, worked out for every M: after `n_c(M)` checks at most c errors reject M, where
`n_c(M)` is the smallest number at which the chance that a release with M wrong scans is EVER rejected, at this step or
an earlier one, stays within `alpha (1 - 2^-(c+1))`. Valid at every look, as there. Whoever checks all knows all, and
errors that are known, in whatever order they were met, are wrong scans of the release for certain: they take back a
certificate that they break.

Of a release of 72 scans 26 clean checks certify .90, and 37 with an error among them, where an endless one takes 36 and
54; of 2,000 scans they are 35 and 53.

Source: hypergeometric bounds for audits without replacement, Buonaccorsi, The American Statistician 1987; error
spending as in `sequential_plan`.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.measures.plans import sequential_plan

Counts = NDArray[np.int16]

MOST_SCANS = 2_000  # of a larger release the binomial plan is as good
ENDLESS = MOST_SCANS + 1  # a size at which the binomial plan counts
NEVER = np.iinfo(np.int16).max


def plan(num_scans: int, promise: float, confidence: float, num_steps: int = 5) -> tuple[int, ...]:
    """Checks after which `promise` is certified of a release with at most 0, 1, 2, ... errors.

    Args:
        num_scans: N, 1 or more.
        promise: Precision to prove, inside (0, 1).
        confidence: Of the certificate at all looks together, inside (0, 1).
        num_steps: How many error counts to tell, 1 to 24; fewer where more errors than that break the promise.

    Raises:
        ValueError: If an argument is out of range.
    """
    if num_scans > MOST_SCANS:
        return sequential_plan.plan(promise, confidence, num_steps)
    checks_MS = _plans(num_scans, _checked(num_scans, confidence))[_most_wrong(num_scans, promise) + 1 :, :num_steps]
    steps_S = checks_MS.max(axis=0)
    return tuple(int(step) for step in steps_S[steps_S < NEVER])


def certified_precision(
    num_scans: int, is_error: Sequence[bool], confidence: float, promise: float, num_wrong: int = 0
) -> float:
    """Best lower bound of the precision of a release that these checks prove at any look; 0 when they prove nothing.

    Args:
        num_scans: N; at least as many as there are checks.
        is_error: Whether each check found an error, in the order drawn by chance.
        confidence: Of the bound at all looks together, inside (0, 1).
        promise: A precision fixed before the first check; of a large release see `sequential_plan`.
        num_wrong: Scans known to be wrong, beyond these checks too; fewer than their errors: those.

    Raises:
        ValueError: If an argument is out of range.
    """
    if num_scans > MOST_SCANS:
        bound = sequential_plan.certified_precision(is_error, confidence, promise)
        return min(bound, (num_scans - max(num_wrong, _num_errors(is_error))) / num_scans)
    rejected_M = _rejected(num_scans, is_error, confidence)
    most_wrong = int(np.flatnonzero(~rejected_M).max(initial=0))
    return (num_scans - max(most_wrong, num_wrong, _num_errors(is_error))) / num_scans


def is_proven(num_scans: int, is_error: Sequence[bool], promise: float, confidence: float) -> bool:
    """Whether the checks have certified `promise` at any look, whatever was found later.

    Arguments and errors as of `checks_needed`.
    """
    if num_scans > MOST_SCANS:
        return sequential_plan.certified_precision(is_error, confidence, promise) >= promise
    return bool(_rejected(num_scans, is_error, confidence)[_most_wrong(num_scans, promise) + 1 :].all())


def checks_needed(
    num_scans: int, is_error: Sequence[bool], promise: float, confidence: float, num_wrong: int = 0
) -> int | None:
    """Fewest further checks, all of them clean, that certify `promise`; 0 when it is certified.

    Args:
        num_scans: As in `certified_precision`.
        is_error: As in `certified_precision`.
        promise: Precision to prove, inside (0, 1).
        confidence: As in `certified_precision`.
        num_wrong: As in `certified_precision`.

    Returns:
        The number; None when the known errors break the promise.

    Raises:
        ValueError: If an argument is out of range.
    """
    first_bad, num_errors = _most_wrong(num_scans, promise) + 1, _num_errors(is_error)
    if max(num_wrong, num_errors) >= first_bad:
        return None
    if num_scans > MOST_SCANS:
        return sequential_plan.checks_needed(is_error, promise, confidence)
    rejected_M = _rejected(num_scans, is_error, confidence)
    open_M = np.flatnonzero(~rejected_M[first_bad:]) + first_bad
    if not len(open_M):
        return 0
    checks_MS = _plans(num_scans, confidence)[open_M, num_errors:]
    ahead_MS = np.where(checks_MS > len(is_error), checks_MS, NEVER)  # a step that lies behind is missed already
    known_M = num_scans + num_errors - open_M + 1  # after so many checks there is no room for M
    return int(np.minimum(ahead_MS.min(axis=1, initial=NEVER), known_M).max()) - len(is_error)


def chance_certified(
    num_scans: int,
    promise: float,
    confidence: float,
    precision: float,
    *,
    num_checked: int,
    num_errors: int,
    most_checks: int,
) -> float:
    """Chance that `promise` is certified within so many checks, if so much of the release is truly right.

    The errors found so far are among the wrong scans; if they are more than `precision` allows, they are all of them.

    Args:
        num_scans: N.
        promise: Precision to prove, inside (0, 1).
        confidence: Of the certificate at all looks together, inside (0, 1).
        precision: What the release truly is, inside (0, 1].
        num_checked: Checks so far, which have not certified it.
        num_errors: Errors among them.
        most_checks: Checks there can be, with those so far.

    Raises:
        ValueError: If an argument is out of range.
    """
    most_checks = min(most_checks, num_scans)
    if num_scans > MOST_SCANS:
        steps_S = sequential_plan.plan(promise, confidence, sequential_plan.NUM_STEPS)
        num_steps = sum(step <= most_checks for step in steps_S)
        if not num_steps:
            return 0.0
        so_far = {"num_checked": num_checked, "num_errors": num_errors}
        return sequential_plan.chance_certified(promise, confidence, precision, num_steps, **so_far)[-1] or 0.0
    num_open = num_scans - num_checked
    num_wrong = min(max(round((1.0 - precision) * num_scans), num_errors), num_errors + num_open)
    allowed = {step: c for c, step in enumerate(plan(num_scans, promise, confidence, sequential_plan.NUM_STEPS))}
    open_E = np.zeros(num_wrong + 1)  # chance of e errors so far, not certified
    open_E[num_errors] = 1.0
    wrong_left_E = np.maximum(num_wrong - np.arange(num_wrong + 1), 0)
    certified = 0.0
    for checks in range(num_checked + 1, most_checks + 1):
        found_E = open_E * wrong_left_E / (num_scans - checks + 1)
        open_E = open_E - found_E
        open_E[1:] += found_E[:-1]
        if checks in allowed:
            certified += float(open_E[: allowed[checks] + 1].sum())
            open_E[: allowed[checks] + 1] = 0.0
    return min(certified, 1.0)


def _rejected(num_scans: int, is_error: Sequence[bool], confidence: float) -> NDArray[np.bool_]:
    """Which numbers of wrong scans (N + 1,) the checks have rejected at any look, or leave no room for."""
    if len(is_error) > num_scans:
        raise ValueError(f"{len(is_error)} checks of a release of {num_scans} scans")
    errors_N = np.concatenate([[0], np.cumsum(np.asarray(is_error, dtype=np.int64))])
    checks_MS = _plans(num_scans, _checked(num_scans, confidence))
    reached_MS = checks_MS < len(errors_N)
    errors_MS = errors_N[np.where(reached_MS, checks_MS, 0)]
    rejected_M = (reached_MS & (errors_MS <= np.arange(checks_MS.shape[1]))).any(axis=1)
    no_room_M = np.arange(num_scans + 1) > errors_N[-1] + num_scans - len(is_error)
    return np.asarray(rejected_M | no_room_M)


def _num_errors(is_error: Sequence[bool]) -> int:
    return int(np.sum(np.asarray(is_error, dtype=np.int64)))


@lru_cache(maxsize=256)
def _plans(num_scans: int, confidence: float) -> Counts:
    """Checks (N + 1, S) of every number of wrong scans and every number of errors; `NEVER` where there are none.

    Check by check: the chance of e errors so far, by walks that were not rejected, for all M at once. A number of wrong
    scans is never rejected by as many errors.
    """
    alpha = 1.0 - confidence
    num_steps = sequential_plan.NUM_STEPS
    wrong_M = np.arange(num_scans + 1)
    checks_MS = np.full((num_scans + 1, num_steps), NEVER, np.int16)
    open_ME = np.zeros((num_scans + 1, num_steps + 1))  # the last: of more errors than steps, which go nowhere
    open_ME[:, 0] = 1.0
    spent_M, step_M = np.zeros(num_scans + 1), np.zeros(num_scans + 1, np.int64)
    most_spent_S = alpha * sequential_plan.spending()
    left_ME = np.maximum(wrong_M[:, None] - np.arange(num_steps + 1), 0)
    for checks in range(1, num_scans + 1):
        found_ME = open_ME * np.minimum(left_ME / (num_scans - checks + 1), 1.0)
        open_ME -= found_ME
        open_ME[:, 1:] += found_ME[:, :-1]
        may_M = step_M < np.minimum(wrong_M, num_steps)
        while may_M.any():
            rows = np.flatnonzero(may_M)
            step_R = step_M[rows]
            chance_R = open_ME[rows, step_R]  # fewer errors were rejected before
            within_R = spent_M[rows] + chance_R <= most_spent_S[step_R] + 1e-15
            rows, step_R = rows[within_R], step_R[within_R]
            spent_M[rows] += chance_R[within_R]
            checks_MS[rows, step_R] = checks
            open_ME[rows, step_R] = 0.0
            step_M[rows] += 1
            may_M = np.zeros_like(may_M)
            may_M[rows] = step_M[rows] < np.minimum(wrong_M[rows], num_steps)
    return checks_MS


def _most_wrong(num_scans: int, promise: float) -> int:
    """Wrong scans that the promise allows."""
    sequential_plan.check_inside("promise", promise)
    return int(np.floor(num_scans * (1.0 - promise) + 1e-9))


def _checked(num_scans: int, confidence: float) -> float:
    if num_scans < 1:
        raise ValueError(f"a release has 1 scan or more, not {num_scans}")
    sequential_plan.check_inside("confidence", confidence)
    return confidence
