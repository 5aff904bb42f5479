"""An exact sequential plan: what a growing list of blind checks proves about a release, valid at every look.

Shapes: G error rates of the grid, S steps of the plan.

The checks are the scans of a frozen release in an order drawn by chance. For an error rate `theta`, the plan has one
step for each number of errors c = 0, 1, 2, ...: after `n_c(theta)` checks, at most c errors reject `theta`. `n_c` is
the smallest number at which the chance that a release of error rate `theta` is EVER rejected, at this step or an
earlier one, stays within `alpha (1 - 2^-(c+1))`; the last step takes the rest of alpha. So clean checks get half of
alpha, the first error half of what is left, and so on; who looks after every answer spends nothing more.

The certified precision is 1 minus the smallest rate from which on every rate is rejected. It is above the truth only if
the true rate itself was rejected, which happens in at most alpha of all releases. No step needs independence between
scans: an order drawn by chance is all. Drawing without replacement from a finite release rejects a wrong rate less
often than the binomial law used here: the plan errs on the safe side, and by much where checks use a good part of a
release up. See `finite_plan` for that.

Rates lie on a grid of 1 in 10,000. A rate between two grid points is rejected with the grid point below it: few errors
are less likely at the higher rate, so that its chance is no greater. Bounds are therefore rounded down to the grid.

Source of the idea: group-sequential error spending, Lan & DeMets, Biometrika 1983, with one exact look per error count.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

GRID = 10_000  # error rates are multiples of 1 / GRID
NUM_STEPS = 24  # errors 0 to 23; the last step takes what is left of alpha, 6e-8 of it


def plan(promise: float, confidence: float, num_steps: int = 5) -> tuple[int, ...]:
    """Checks after which `promise` is certified with at most 0, 1, 2, ... errors.

    Args:
        promise: Precision to prove, inside (0, 1).
        confidence: Of the certificate at all looks together, inside (0, 1).
        num_steps: How many error counts to tell, 1 to 24.

    Returns:
        Increasing numbers of checks; at .95 confidence (36, 54, 73, 94, 114) for .90 and (72, 112, 151, 192, 236)
        for .95.

    Raises:
        ValueError: If an argument is out of range.
    """
    check_inside("promise", promise)
    check_inside("confidence", confidence)
    if not 1 <= num_steps <= NUM_STEPS:
        raise ValueError(f"num_steps must be 1 to {NUM_STEPS}, not {num_steps}")
    return tuple(int(n) for n in _plans(confidence)[_rate_index(promise), :num_steps])


def certified_precision(is_error: Sequence[bool], confidence: float, promise: float | None = None) -> float:
    """Best lower bound of the precision that these checks prove at any look; 0 when they prove nothing.

    With no error in n checks it is `(alpha / 2)^(1/n)`, rounded down to 1 in 10,000.

    Args:
        is_error: Whether each check found an error, in the order drawn by chance.
        confidence: Of the bound at all looks together, inside (0, 1).
        promise: A precision fixed before the first check, which `plan` then certifies at its very numbers; bounds just
            below it wait for it.

    Raises:
        ValueError: If `confidence` or `promise` is out of range.
    """
    check_inside("confidence", confidence)
    errors_N = np.concatenate([[0], np.cumsum(np.asarray(is_error, dtype=np.int64))])
    checks_GS = _plans(confidence) if promise is None else _plans_around(promise, confidence)
    reached_GS = checks_GS < len(errors_N)
    errors_GS = errors_N[np.where(reached_GS, checks_GS, 0)]
    rejected_G = (reached_GS & (errors_GS <= np.arange(NUM_STEPS))).any(axis=1)
    kept = np.flatnonzero(~rejected_G)  # index i is the rate (i + 1) / GRID
    lowest = int(kept[-1]) + 2 if len(kept) else 1
    return max(0.0, (GRID - lowest) / GRID)


def checks_needed(is_error: Sequence[bool], promise: float, confidence: float) -> int | None:
    """Fewest further checks, all of them clean, that certify `promise`; 0 when it is certified.

    Args:
        is_error: As in `certified_precision`.
        promise: Precision to prove, fixed before the first check, inside (0, 1).
        confidence: As in `certified_precision`.

    Returns:
        The number; None after more errors than the plan has steps.

    Raises:
        ValueError: If an argument is out of range.
    """
    check_inside("promise", promise)
    if certified_precision(is_error, confidence, promise) >= promise:
        return 0
    num_checked, num_errors = len(is_error), int(np.sum(np.asarray(is_error, dtype=np.int64)))
    steps_S = _plans(confidence)[_rate_index(promise), num_errors:]
    ahead_S = steps_S[steps_S > num_checked]  # a step that lies behind is missed already
    return int(ahead_S[0]) - num_checked if len(ahead_S) else None


def chance_certified(
    promise: float,
    confidence: float,
    precision: float,
    num_steps: int = 5,
    *,
    num_checked: int = 0,
    num_errors: int = 0,
) -> tuple[float | None, ...]:
    """Chance that `promise` is certified by the step of 0, 1, 2, ... errors, if the precision is truly `precision`.

    Exact for checks of an endless release; without replacement from a finite one it is a little higher above the
    promise. Steps that lie behind are missed: the checks so far have not certified it.

    Args:
        promise: Precision to prove, inside (0, 1).
        confidence: Of the certificate at all looks together, inside (0, 1).
        precision: What the release truly is, inside (0, 1].
        num_steps: How many error counts to tell, 1 to 24.
        num_checked: Checks so far.
        num_errors: Errors among them, at most `num_checked`.

    Returns:
        One chance a step, rising; None for a step that lies behind.

    Raises:
        ValueError: If an argument is out of range.
    """
    if not 0.0 < precision <= 1.0:
        raise ValueError(f"precision must be inside (0, 1], not {precision!r}")
    if not 0 <= num_errors <= num_checked:
        raise ValueError(f"errors must be 0 to {num_checked}, the number of checks, not {num_errors}")
    open_E = np.zeros(NUM_STEPS + num_errors + 1)  # chance of e errors so far, not certified
    open_E[num_errors] = 1.0
    from scipy.stats import binom  # takes a second to import

    reached, certified = num_checked, 0.0
    chances: list[float | None] = []
    for most_errors, step in enumerate(plan(promise, confidence, num_steps)):
        if step <= num_checked:
            chances.append(None)
            continue
        added_E = binom.pmf(np.arange(len(open_E)), step - reached, 1.0 - precision)
        open_E = np.convolve(open_E, added_E)[: len(open_E)]
        certified += float(open_E[: most_errors + 1].sum())
        open_E[: most_errors + 1] = 0.0
        reached = step
        chances.append(min(certified, 1.0))
    return tuple(chances)


def spending() -> Floats:
    """Share of alpha that may be spent by each step (S,): half, three quarters, and so on; all by the last."""
    share_S = np.asarray(1.0 - 0.5 ** np.arange(1, NUM_STEPS + 1), np.float64)
    share_S[-1] = 1.0
    return share_S


@cache
def _plans_around(promise: float, confidence: float) -> Counts:
    """Checks (G, S) where the promised rate counts for the rates just above it as well.

    Whole numbers make `_plans` a little uneven: a rate just above the promised one may ask for one check more. Its plan
    may be replaced by that of the lower rate, which rejects the higher one less often than itself.
    """
    checks_GS = _plans(confidence).copy()
    own = _rate_index(promise)
    highest_GS = np.maximum.accumulate(checks_GS[::-1], axis=0)[::-1]  # of a rate and every higher one
    later = np.flatnonzero((highest_GS[own + 1 :] <= checks_GS[own]).all(axis=1))
    stop = own + 1 + int(later[0]) if len(later) else len(checks_GS)
    checks_GS[own:stop] = checks_GS[own]
    return checks_GS


@cache
def _plans(confidence: float) -> Counts:
    """Checks (G, S) of every rate `(i + 1) / GRID` below 1 and every number of errors.

    A walk that was not rejected at step c has more than c errors. It is rejected at step c + 1 only if it has exactly
    c + 1 and no further one comes, so that each step is a geometric tail, solved by a logarithm. Between two steps the
    errors of the walks that go on are convolved with a binomial.
    """
    alpha = 1.0 - confidence
    rate_G = np.arange(1, GRID) / GRID
    clean_G = np.log1p(-rate_G)
    checks_GS = np.zeros((len(rate_G), NUM_STEPS), np.int64)
    spent_G = np.zeros(len(rate_G))
    errors_GE = np.zeros((len(rate_G), NUM_STEPS))  # chance to go on, with e errors
    errors_GE[:, 0] = 1.0
    before_G = np.zeros(len(rate_G), np.int64)
    spending_S = spending()
    for c in range(NUM_STEPS):
        left_G = alpha * spending_S[c] - spent_G
        chance_G = errors_GE[:, c]  # of exactly c errors so far
        more_G = _fewest(left_G, chance_G, clean_G)
        spent_G = spent_G + chance_G * np.exp(more_G * clean_G)
        errors_GE = _go_on(errors_GE, more_G, rate_G)
        errors_GE[:, : c + 1] = 0.0  # rejected here
        before_G = before_G + more_G
        checks_GS[:, c] = before_G
    return checks_GS


def _fewest(left_G: Floats, chance_G: Floats, clean_G: Floats) -> Counts:
    """Fewest further checks m with `chance * (1 - rate)^m <= left`."""
    with np.errstate(divide="ignore"):
        exact_G = (np.log(left_G) - np.log(chance_G)) / clean_G
    more_G = np.ceil(np.maximum(exact_G - 1e-9, 0.0)).astype(np.int64)
    too_few_G = chance_G * np.exp(more_G * clean_G) > left_G
    return more_G + too_few_G


def _go_on(errors_GE: Floats, more_G: Counts, rate_G: Floats) -> Floats:
    """Chances (G, E) of the numbers of errors after `more_G` further checks; beyond the plan's steps they are lost."""
    from scipy.stats import binom  # takes a second to import

    added_GE = binom.pmf(np.arange(NUM_STEPS), more_G[:, None], rate_G[:, None])
    after_GE = np.zeros_like(errors_GE)
    for e in range(NUM_STEPS):
        after_GE[:, e:] += errors_GE[:, [e]] * added_GE[:, : NUM_STEPS - e]
    return after_GE


def _rate_index(promise: float) -> int:
    """Index of the highest grid rate at or below `1 - promise`."""
    rate = int(np.floor((1.0 - promise) * GRID + 1e-6))
    if rate < 1:
        raise ValueError(f"promise must be at most {1 - 1 / GRID}, not {promise!r}")
    return rate - 1


def check_inside(name: str, value: float) -> None:
    """Raise a ValueError that names a number outside of (0, 1)."""
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name} must be inside (0, 1), not {value!r}")
