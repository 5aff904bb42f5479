"""Which scans a study takes, as people write it: `view: [PA, AP]`, `age: ">= 18 and < 65"`, `modality: not CT`.

A condition is a list of alternatives, each a list of tests that must all hold. Text is compared without its case and
outer blanks, numbers as numbers.
"""

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.contracts.finding_line import plain

Scalar = str | int | float | bool | None
Written = Scalar | tuple[Scalar, ...]
UNKNOWN = frozenset({"", "unknown", "null", "not known"})
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_SIGNS = {"≥": ">=", "≤": "<=", "==": "=", "≠": "!="}
_TEST = re.compile(r"(>=|<=|==|!=|[≥≤≠><=])\s*([^<>=!≥≤≠].*)", re.DOTALL)
_BEGINS_AS_TEST = re.compile(r"[<>=!≥≤≠]")
_AND = re.compile(r"\s+and\s+|\s*&&?\s*|,\s*(?=[<>=!≥≤≠])", re.IGNORECASE)
EXAMPLES = "write a value, a list of values, or a comparison such as '>= 18', '>= 18 and < 65', 'not CT'"


@dataclass(frozen=True)
class Test:
    """One comparison; `operand` None stands for what is not known."""

    sign: str
    operand: str | None

    def holds(self, value: str | None) -> bool:
        """Whether a value passes; what is not known passes only where it is asked for, or `not` something."""
        if self.sign in _COMPARE:
            number, limit = number_of(value), number_of(self.operand)
            return number is not None and limit is not None and _COMPARE[self.sign](number, limit)
        return _same(value, self.operand) == (self.sign == "=")


@dataclass(frozen=True)
class Condition:
    """What one column must say.

    Attributes:
        alternatives: Of which one must hold, each with all its tests.
        written: As it was written, for messages.
    """

    alternatives: tuple[tuple[Test, ...], ...]
    written: str

    def holds(self, value: str | None) -> bool:
        """Whether a scan of this value is taken."""
        return any(all(test.holds(value) for test in tests) for tests in self.alternatives)

    @property
    def compares(self) -> bool:
        """Whether it compares numbers."""
        return any(test.sign in _COMPARE for tests in self.alternatives for test in tests)

    @property
    def operands(self) -> list[str]:
        """The values that it names, but for limits."""
        return [
            test.operand
            for tests in self.alternatives
            for test in tests
            if test.sign == "=" and test.operand is not None
        ]


def parse(written: Written) -> Condition:
    """Read what stands behind a column's name.

    Raises:
        ValueError: with what is wrong and how it is written.
    """
    values = written if isinstance(written, tuple | list) else (written,)
    if not values:
        raise ValueError(f"the list is empty; {EXAMPLES}")
    shown = ", ".join("unknown" if value is None else str(value) for value in values)
    return Condition(tuple(_tests(value) for value in values), shown)


def number_of(value: str | None) -> float | None:
    """A finite number in a text; None where there is none."""
    try:
        number = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _tests(value: Scalar) -> tuple[Test, ...]:
    if value is None:
        return (Test("=", None),)
    if isinstance(value, bool):
        return (Test("=", str(value).casefold()),)
    if isinstance(value, int | float):
        return (Test("=", f"{value:g}" if isinstance(value, float) else str(value)),)
    parts = [part.strip() for part in _AND.split(value)]
    if not any(_BEGINS_AS_TEST.match(part) for part in parts):
        return (_equality(value.strip()),)
    return tuple(_comparison(part, value) for part in parts)


def _equality(text: str) -> Test:
    sign = "="
    if denied := re.fullmatch(r"not\s+(.+)", text, re.IGNORECASE):
        sign, text = "!=", denied[1]
    return Test(sign, None if plain(text) in UNKNOWN else text)


def _comparison(part: str, whole: str) -> Test:
    match = _TEST.fullmatch(part)
    if match is None:
        raise ValueError(f"{whole!r} is no condition; {EXAMPLES}")
    sign, operand = _SIGNS.get(match[1], match[1]), match[2].strip().strip("'\"")
    if sign in _COMPARE and number_of(operand) is None:
        raise ValueError(f"{whole!r} compares with {operand!r}, which is no number; {EXAMPLES}")
    return Test(sign, None if plain(operand) in UNKNOWN else operand)


def _same(value: str | None, operand: str | None) -> bool:
    if value is None or operand is None:
        return value is None and operand is None
    number, other = number_of(value), number_of(operand)
    return number == other if None not in (number, other) else plain(value) == plain(operand)
