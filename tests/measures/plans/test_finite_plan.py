"""The plan for a release of which checks use up a good part: exact, at every look."""

from itertools import combinations
from math import comb

import numpy as np
import pytest

from pipeline.measures.plans import sequential_plan
from pipeline.measures.plans.finite_plan import (
    MOST_SCANS,
    certified_precision,
    chance_certified,
    checks_needed,
    is_proven,
    plan,
)

CONFIDENCE = 0.95


def test_no_release_is_certified_above_its_truth_more_often_than_allowed():
    """Every order of ten scans, every number of wrong ones, the best bound of all looks."""
    num = 10
    for confidence in (0.5, 0.8, 0.95):
        for wrong in range(num + 1):
            above = 0
            for places in combinations(range(num), wrong):
                is_error = [i in places for i in range(num)]
                bounds = [certified_precision(num, is_error[:n], confidence, 0.9) for n in range(num + 1)]
                above += max(bounds) > (num - wrong) / num + 1e-12
            assert above / comb(num, wrong) <= 1.0 - confidence + 1e-12


@pytest.mark.parametrize("num", [72, 300])
def test_the_error_is_spent_and_not_exceeded(num):
    """A walk through all checks of a release that is just not good enough, exactly."""
    broken = range(int(0.1 * num) + 1, num)
    spent = [chance_certified(num, 0.9, CONFIDENCE, 1 - wrong / num, **fresh(num)) for wrong in broken]
    assert max(spent) <= 1 - CONFIDENCE + 1e-9
    assert spent[0] > 0.04  # and little of it is given away


def fresh(num):
    return {"num_checked": 0, "num_errors": 0, "most_checks": num}


def test_whoever_has_checked_all_knows_all():
    rng = np.random.default_rng(0)
    for wrong in (0, 1, 7, 20):
        is_error = rng.permutation([True] * wrong + [False] * (40 - wrong)).tolist()
        bound = certified_precision(40, is_error, CONFIDENCE, 0.9)
        assert bound == pytest.approx((40 - wrong) / 40)
        assert checks_needed(40, is_error, 0.9, CONFIDENCE) == (0 if wrong <= 4 else None)


def test_a_small_release_takes_fewer_checks_and_a_large_one_as_many():
    endless = sequential_plan.plan(0.9, CONFIDENCE)
    assert plan(72, 0.9, CONFIDENCE) == (26, 37, 48, 57, 65)
    before = (0,) * 5
    for num in (72, 150, 400, 1000, MOST_SCANS):
        steps = plan(num, 0.9, CONFIDENCE)
        assert all(a <= b <= c for a, b, c in zip(before, steps, endless, strict=True))
        before = steps
    assert endless[0] - before[0] <= 1
    assert plan(MOST_SCANS + 1, 0.9, CONFIDENCE) == endless


@pytest.mark.parametrize("num", [30, 72, 288])
def test_the_plan_is_what_the_checks_need(num):
    """Clean checks, and such with the errors first, which certify at the very steps of the plan."""
    for errors, step in enumerate(plan(num, 0.9, CONFIDENCE, 3)):
        found = [True] * errors + [False] * num
        assert certified_precision(num, found[:step], CONFIDENCE, 0.9) >= 0.9
        assert certified_precision(num, found[: step - 1], CONFIDENCE, 0.9) < 0.9
        assert checks_needed(num, found[:errors], 0.9, CONFIDENCE) == step - errors


def test_later_errors_take_a_certificate_back_only_where_they_break_it_for_certain():
    first = plan(72, 0.9, CONFIDENCE)[0]
    few, many = ([False] * first + [True] * errors for errors in (7, 8))
    assert certified_precision(72, few, CONFIDENCE, 0.9) >= 0.9 and checks_needed(72, few, 0.9, CONFIDENCE) == 0
    assert certified_precision(72, many, CONFIDENCE, 0.9) == pytest.approx(64 / 72)
    assert checks_needed(72, many, 0.9, CONFIDENCE) is None


def test_errors_that_break_the_promise_leave_no_hope():
    assert checks_needed(72, [True] * 8, 0.9, CONFIDENCE) is None  # 7 of 72 are allowed
    assert checks_needed(72, [True] * 7, 0.9, CONFIDENCE) is not None
    assert checks_needed(5, [], 0.9, CONFIDENCE) == 5  # one wrong scan of five would break it: all are checked
    assert checks_needed(72, [True] * 24, 0.5, CONFIDENCE) == 36  # beyond the plan's steps: no room for 37 wrong ones


def test_the_chance_is_that_of_draws_without_replacement():
    rng = np.random.default_rng(1)
    wrong_N = np.arange(72) < 2
    certified = []
    for _ in range(600):
        order = rng.permutation(wrong_N)[:37].tolist()
        certified.append(certified_precision(72, order, CONFIDENCE, 0.9) >= 0.9)
    exact = chance_certified(72, 0.9, CONFIDENCE, 70 / 72, num_checked=0, num_errors=0, most_checks=37)
    assert np.mean(certified) == pytest.approx(exact, abs=0.05)
    so_far = chance_certified(72, 0.9, CONFIDENCE, 70 / 72, num_checked=20, num_errors=1, most_checks=37)
    assert 0.0 < so_far < exact
    assert chance_certified(72, 0.9, CONFIDENCE, 1.0, num_checked=0, num_errors=0, most_checks=25) == 0.0
    assert chance_certified(72, 0.9, CONFIDENCE, 1.0, num_checked=0, num_errors=0, most_checks=26) == pytest.approx(1.0)


def test_of_a_large_release_it_is_the_plan_of_an_endless_one():
    is_error = [False] * 40 + [True] + [False] * 20
    num = MOST_SCANS + 1
    assert certified_precision(num, is_error, CONFIDENCE, 0.9) == sequential_plan.certified_precision(
        is_error, CONFIDENCE, 0.9
    )
    assert checks_needed(num, is_error[:30], 0.9, CONFIDENCE) == 6
    chances = sequential_plan.chance_certified(0.9, CONFIDENCE, 0.98, 2)
    assert chance_certified(num, 0.9, CONFIDENCE, 0.98, num_checked=0, num_errors=0, most_checks=60) == chances[-1]


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: plan(0, 0.9, 0.95), "1 scan or more"),
        (lambda: plan(72, 1.0, 0.95), "promise"),
        (lambda: plan(72, 0.9, 1.0), "confidence"),
        (lambda: certified_precision(3, [False] * 4, 0.95, 0.9), "4 checks of a release of 3"),
        (lambda: checks_needed(72, [], 0.0, 0.95), "promise"),
    ],
)
def test_what_cannot_be_is_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_of_one_scan_the_check_is_the_proof():
    assert plan(1, 0.9, CONFIDENCE) == (1,)
    assert certified_precision(1, [False], CONFIDENCE, 0.9) == 1.0
    assert certified_precision(1, [True], CONFIDENCE, 0.9) == certified_precision(1, [], CONFIDENCE, 0.9) == 0.0


def test_errors_known_elsewhere_count_for_certain():
    clean = [False] * 26
    assert certified_precision(72, clean, CONFIDENCE, 0.9, num_wrong=30) == pytest.approx(42 / 72)
    assert checks_needed(72, clean, 0.9, CONFIDENCE, num_wrong=8) is None
    assert checks_needed(72, clean, 0.9, CONFIDENCE, num_wrong=7) == 0
    assert is_proven(72, clean, 0.9, CONFIDENCE) and not is_proven(72, clean[:25], 0.9, CONFIDENCE)


def test_a_release_that_was_read_whole_is_known_however_many_its_errors():
    is_error = [True] * 24 + [False] * 276
    assert certified_precision(300, is_error, CONFIDENCE, 0.9) == pytest.approx(276 / 300)
    assert checks_needed(300, is_error, 0.9, CONFIDENCE) == 0
    assert checks_needed(300, is_error[:290], 0.9, CONFIDENCE) == 4  # then there is no room for 31 wrong scans


def test_no_chance_is_below_nothing():
    so_far = {"num_checked": 83, "num_errors": 1, "most_checks": 84}
    assert 0.0 <= chance_certified(84, 0.98, CONFIDENCE, 0.97, **so_far) <= 1.0


@pytest.mark.parametrize(("num", "promise"), [(70, 1 - 1 / 7), (30, 2 / 3), (20, 0.9), (10, 0.9)])
def test_a_promise_at_a_whole_number_of_scans_is_met_by_it(num, promise):
    is_error = [False] * num
    assert checks_needed(num, is_error, promise, CONFIDENCE) == 0 and is_proven(num, is_error, promise, CONFIDENCE)
