"""How fast work goes, and how long it will still take: from the last minute, and only once that says something."""

from collections import deque
from typing import NamedTuple

WINDOW_SECONDS = 60.0  # the pace of the last minute: what was slow at the start, as Ray is, soon counts no more
MIN_REPORTS, MIN_SECONDS = 5, 10.0  # before a pace is one
UNSTEADY = 4.0  # the halves of the window differ by more: nobody knows how long it will take


class Remaining(NamedTuple):
    """Seconds that the rest takes by the faster and by the slower half of the last minute."""

    low: float
    high: float


class Pace:
    """The moving rate of one piece of work.

    A mean over all the time since the start is wrong by the time that starting took, and hides a slowdown. So the rate
    is that of a window, and the time left is a range: what is left at the rate of the window's faster half, and at
    that of its slower half. There is none before the window holds `MIN_REPORTS` reports over `MIN_SECONDS`, nor while
    its halves differ by more than a factor of `UNSTEADY`.
    """

    def __init__(self) -> None:
        self._reports: deque[tuple[float, int]] = deque()

    def add(self, seconds: float, done: int) -> None:
        """Take in that `done` are done at a time, in seconds of a clock that never goes back."""
        if self._reports and done < self._reports[-1][1]:
            self._reports.clear()  # it began anew
        self._reports.append((seconds, done))
        while len(self._reports) > 2 and self._reports[1][0] <= seconds - WINDOW_SECONDS:
            self._reports.popleft()

    def per_second(self) -> float | None:
        """Done a second in the window; None before there is a pace."""
        return _rate(self._reports[0], self._reports[-1]) if self._says_something() else None

    def remaining(self, total: int) -> Remaining | None:
        """How long until `total` are done; None while that cannot be said."""
        if not self._says_something():
            return None
        first, last = self._reports[0], self._reports[-1]
        middle = min(self._reports, key=lambda report: abs(report[0] - (first[0] + last[0]) / 2))
        if middle in (first, last):
            return None
        slow, fast = sorted((_rate(first, middle), _rate(middle, last)))
        if slow <= 0.0 or fast > UNSTEADY * slow:
            return None
        left = max(0, total - last[1])
        return Remaining(left / fast, left / slow)

    def _says_something(self) -> bool:
        reports = self._reports
        return len(reports) >= MIN_REPORTS and reports[-1][0] - reports[0][0] >= MIN_SECONDS


def _rate(before: tuple[float, int], after: tuple[float, int]) -> float:
    return (after[1] - before[1]) / max(after[0] - before[0], 1e-9)


def words(remaining: Remaining | None) -> str:
    """`3 to 5 min left`; empty where nothing can be said."""
    if remaining is None:
        return ""
    longer_units = ((3600.0, "h"), (60.0, "min"))
    size, unit = next(((size, unit) for size, unit in longer_units if remaining.high >= 2 * size), (1.0, "s"))
    low, high = int(remaining.low / size), -int(-remaining.high // size)
    return f"{high} {unit} left" if low == high else f"{low} to {high} {unit} left"
