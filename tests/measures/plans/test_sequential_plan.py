import numpy as np
import pytest

from pipeline.measures.plans import sequential_plan
from pipeline.measures.plans.sequential_plan import certified_precision, chance_certified, checks_needed, plan

ALPHA = 0.05


def chance_ever_certified(plan_S, rate, longest=400):
    """Exact chance that some step is met, check by check, over the number of errors; absorbing."""
    allowed = {}
    for errors, checks in enumerate(plan_S):
        allowed[checks] = max(allowed.get(checks, -1), errors)
    chance_E = np.zeros(len(plan_S) + 1)  # the last: more errors than any step allows
    chance_E[0], certified = 1.0, 0.0
    for n in range(1, longest + 1):
        moved_E = chance_E * (1 - rate)
        moved_E[1:] += chance_E[:-1] * rate
        moved_E[-1] += chance_E[-1] * rate
        if n in allowed:
            certified += moved_E[: allowed[n] + 1].sum()
            moved_E[: allowed[n] + 1] = 0.0
        chance_E = moved_E
    return certified


@pytest.mark.parametrize(("promise", "checks"), [(0.90, (36, 54, 73, 94, 114)), (0.95, (72, 112, 151, 192, 236))])
def test_known_plans(promise, checks):
    assert plan(promise, 0.95) == checks


def test_clean_checks_spend_half_of_the_error():
    for n in (10, 36, 72, 200):
        assert certified_precision([False] * n, 0.95) == pytest.approx(0.025 ** (1 / n), abs=1e-4)
        assert certified_precision([False] * n, 0.95) <= 0.025 ** (1 / n)


@pytest.mark.parametrize("promise", [0.80, 0.90, 0.93, 0.95])
@pytest.mark.parametrize("extra", [0.0, 0.00005, 0.004, 0.02])
def test_chance_of_ever_certifying_a_release_below_its_promise(promise, extra):
    steps = plan(promise, 1 - ALPHA, 12)
    chance = chance_ever_certified(steps, 1 - promise + extra, 2000)
    assert chance <= ALPHA + 1e-12
    assert extra > 0 or chance > 0.8 * ALPHA, "the plan wastes the error it may make"


@pytest.mark.parametrize("promise", [None, 0.90])
@pytest.mark.parametrize("rate", [0.01, 0.03, 0.07, 0.0999, 0.1, 0.1003, 0.1012, 0.2, 0.4])
def test_no_bound_ever_lies_above_the_truth_more_often_than_it_may(promise, rate):
    """The bound is above the truth only if the truth's own rate was rejected."""
    of_rates = sequential_plan._plans(1 - ALPHA) if promise is None else sequential_plan._plans_around(promise, 0.95)
    own = round(rate * sequential_plan.GRID) - 1
    assert chance_ever_certified(of_rates[own].tolist(), rate, 2500) <= ALPHA + 1e-12


def test_every_look_counts_and_a_late_error_takes_nothing_back():
    early = certified_precision([False] * 36, 0.95, 0.9)
    late = certified_precision([False] * 36 + [True] * 10, 0.95, 0.9)
    assert early == late >= 0.9
    assert certified_precision([True] * 10 + [False] * 36, 0.95, 0.9) < 0.7


@pytest.mark.parametrize("errors", [0, 1, 2, 4])
@pytest.mark.parametrize("promise", [0.90, 0.95])
def test_checks_needed_is_the_smallest(errors, promise):
    checked = [True] * errors + [False] * 10
    more = checks_needed(checked, promise, 0.95)
    assert len(checked) + more == plan(promise, 0.95)[errors]
    assert certified_precision(checked + [False] * more, 0.95, promise) >= promise
    assert certified_precision(checked + [False] * (more - 1), 0.95, promise) < promise
    assert checks_needed(checked + [False] * more, promise, 0.95) == 0


def test_a_missed_step_waits_for_the_next():
    checked = [False] * 50 + [True] * 2 + [False] * 2  # 36 clean checks kept the promise for good
    assert checks_needed(checked, 0.9, 0.95) == 0
    missed = [True] + [False] * 52 + [True]  # a second error just before one would have been allowed
    assert checks_needed(missed, 0.9, 0.95) == 73 - 54


def test_no_checks_and_hopeless_ones():
    assert certified_precision([], 0.95) == 0.0
    assert checks_needed([], 0.9, 0.95) == 36
    assert checks_needed([True] * sequential_plan.NUM_STEPS, 0.9, 0.95) is None
    assert certified_precision([True] * 300, 0.95) == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plan(1.0, 0.95), "promise"),
        (lambda: plan(0.9, 0.0), "confidence"),
        (lambda: plan(0.9, 0.95, 0), "num_steps"),
        (lambda: plan(0.99999, 0.95), "at most"),
        (lambda: certified_precision([False], 1.5), "confidence"),
        (lambda: checks_needed([], 0.0, 0.95), "promise"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("promise", "truth", "chances"),
    [
        (0.90, 0.97, (0.33, 0.55, 0.68)),
        (0.90, 0.99, (0.70, 0.91, 0.97)),
        (0.95, 0.98, (0.23, 0.39)),
        (0.95, 0.998, (0.87, 0.98)),
    ],
)
def test_known_chances(promise, truth, chances):
    assert chance_certified(promise, 0.95, truth, len(chances)) == pytest.approx(chances, abs=0.005)


@pytest.mark.parametrize("truth", [0.85, 0.93, 0.98, 1.0])
def test_chances_agree_with_a_walk_check_by_check(truth):
    steps = plan(0.9, 0.95, 5)
    for num, chance in enumerate(chance_certified(0.9, 0.95, truth, 5), start=1):
        assert chance == pytest.approx(chance_ever_certified(steps[:num], 1 - truth), abs=1e-12)


def test_chances_from_where_the_checks_stand():
    rng = np.random.default_rng(0)
    ahead = chance_certified(0.9, 0.95, 0.97, 4, num_checked=40, num_errors=1)
    assert ahead[0] is None  # the step of no error lies behind
    wins = 0
    for _ in range(1500):
        errors = [True] + [False] * 39 + (rng.random(94 - 40) < 0.03).tolist()
        wins += certified_precision(errors, 0.95, 0.9) >= 0.9
    assert ahead[-1] == pytest.approx(wins / 1500, abs=0.03)
    assert chance_certified(0.9, 0.95, 1.0, 2, num_checked=10, num_errors=1) == (0.0, 1.0)


def test_chances_of_nonsense_are_refused():
    with pytest.raises(ValueError, match="precision"):
        chance_certified(0.9, 0.95, 0.0)
    with pytest.raises(ValueError, match="errors must be 0 to 3"):
        chance_certified(0.9, 0.95, 0.97, num_checked=3, num_errors=4)
