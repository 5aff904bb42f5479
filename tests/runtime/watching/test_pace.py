"""What is said of the time left is true of work whose pace changes, and nothing is said before it can be."""

import pytest

from pipeline.runtime.watching.pace import Pace, Remaining, words


def paced(*phases):
    """A pace after phases of (seconds, done a second), a report a second."""
    pace, clock, done = Pace(), 0.0, 0.0
    pace.add(clock, 0)
    for seconds, rate in phases:
        for _ in range(seconds):
            clock, done = clock + 1, done + rate
            pace.add(clock, int(done))
    return pace, int(done)


def test_nothing_is_said_before_there_is_a_pace():
    for phases in ([], [(4, 10)], [(9, 10)]):
        pace, _ = paced(*phases)
        assert pace.per_second() is None and pace.remaining(1000) is None


def test_steady_work_ends_when_it_says():
    pace, done = paced((30, 10))
    low, high = pace.remaining(done + 500)
    assert low <= 50 <= high and high - low < 5
    assert pace.per_second() == pytest.approx(10)


def test_a_slow_start_is_forgotten_after_a_minute():
    """A mean over all the time would say 3.3 a second here, and three times as long."""
    pace, done = paced((150, 0), (70, 10))
    low, high = pace.remaining(done + 500)
    assert 45 < low <= high < 55


def test_a_stop_is_said_within_the_minute():
    pace, _ = paced((120, 10), (45, 0))
    assert pace.remaining(5000) is None  # nobody knows when it goes on
    assert pace.per_second() < 3


def test_a_change_of_pace_is_a_range_that_holds_both():
    pace, done = paced((30, 10), (30, 5))
    low, high = pace.remaining(done + 100)
    assert low <= 10.5 and high >= 19.5


def test_work_that_begins_anew_has_a_new_pace():
    pace, _ = paced((30, 10))
    pace.add(31.0, 0)
    assert pace.per_second() is None


@pytest.mark.parametrize(
    ("low", "high", "told"),
    [(7.2, 8.9, "7 to 9 s left"), (100, 130, "1 to 3 min left"), (7000, 7300, "1 to 3 h left"), (1, 1, "1 s left")],
)
def test_time_left_in_words(low, high, told):
    assert words(Remaining(low, high)) == told
    assert words(None) == ""
