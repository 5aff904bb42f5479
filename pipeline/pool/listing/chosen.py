"""`pool.where`: which scans a study takes, by what its table, its folders or its DICOM tags say of them.

What is known before a file is opened decides before it is opened; view, age and sex of a DICOM file decide after.
"""

import difflib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.conditions import Condition, Test, Written, number_of, parse
from pipeline.contracts.errors import InputError
from pipeline.pool import vocabulary
from pipeline.pool.dicom import words
from pipeline.tables.notes import Notes, counted

OF_TAGS = ("view", "age", "sex", "laterality", "manufacturer")  # what a file itself may say
_WHERE = "pool.where"
NO_COLUMN = "there is no such column"
_MAX_NAMED = 8  # values that are reasons of their own; the rest is one
_MAX_SHOWN = 40  # characters of a value that is told; longer ones are free text, such as a report


def conditions(where: Mapping[str, Written]) -> dict[str, Condition]:
    """What each column must say, values of view and sex in the words of the manifest.

    Raises:
        InputError: a condition cannot be read, or asks view, sex or age for what they never are.
    """
    asked = {}
    for name, written in where.items():
        try:
            asked[name] = _in_words_of_manifest(name, parse(written))
        except ValueError as error:
            raise InputError(str(error), where=f"{_WHERE}.{name}") from error
    return asked


def reasons(asked: Mapping[str, Condition], columns: Mapping[str, Sequence[str | None]]) -> list[str | None]:
    """Why each of N scans is left out, by the first condition that does not hold; None: it is taken.

    Args:
        asked: Column -> what it must say.
        columns: Column -> N values; None where it is not known.
    """
    num = len(next(iter(columns.values()), ()))
    out: list[str | None] = [None] * num
    for name, condition in asked.items():
        judged: dict[str | None, str | None] = {}
        for i, value in enumerate(columns[name]):
            if out[i] is None:
                if value not in judged:
                    judged[value] = None if condition.holds(value) else _reason(name, condition, value)
                out[i] = judged[value]
    return out


def choose(
    asked: Mapping[str, Condition],
    columns: Mapping[str, pa.ChunkedArray],
    may_tell: Sequence[bool],
    notes: Notes,
) -> tuple[np.ndarray, list[tuple[str, int]]]:
    """Which of N scans are taken, as far as it is known before a file is opened.

    Args:
        asked: Column -> what it must say.
        columns: Those that the pool has; what only files tell is missing here.
        may_tell: Whether each scan's file may say what the pool does not (`OF_TAGS`).
        notes: Takes the counts.

    Returns:
        N booleans, and why the others are left out: reason and count, the commonest first.

    Raises:
        InputError: no scan is left.
    """
    own = {name: columns[name].to_pylist() for name in asked if name in columns}
    why: list[str | None] = [None] * len(may_tell)
    if own:
        why = list(reasons({name: asked[name] for name in own}, own))
    for name in asked:
        if name in OF_TAGS:
            values = own.get(name, [None] * len(may_tell))
            unknown = f"{name} is not known"
            for i, (value, tells) in enumerate(zip(values, may_tell, strict=True)):
                if value is None and tells and why[i] == unknown:
                    why[i] = None
                elif value is None and not tells and why[i] is None and not asked[name].holds(None):
                    why[i] = unknown
    counts = _grouped(Counter(reason for reason in why if reason is not None))
    taken_N = np.array([reason is None for reason in why], bool)
    shown = "; ".join(f"{reason} {count:,}" for reason, count in counts)
    if len(taken_N) and not taken_N.any():
        raise InputError(f"leaves none of {counted(len(taken_N), 'scan')}: {shown}", where=_WHERE, fix="widen it")
    if counts:
        notes.warn(f"{_WHERE} leaves out {int((~taken_N).sum()):,} of {len(taken_N):,} scans: {shown}")
    for name, values in own.items():
        _warn_of_absent(name, asked[name], values, notes)
    return taken_N, counts


def refuse_unknown(name: str, header: Sequence[str], where: str) -> InputError:
    """The error of a column that the pool does not have."""
    near = difflib.get_close_matches(name.casefold(), {n.casefold(): n for n in header}, n=1, cutoff=0.6)
    meant = next((n for n in header if near and n.casefold() == near[0]), None)
    return InputError(
        NO_COLUMN,
        value=name,
        where=f"{_WHERE} ({where})",
        fix=(f"did you mean {meant!r}? " if meant else "") + f"There are {', '.join(n for n in header if n)}",
    )


def refuse_reports(name: str, where: str) -> InputError:
    """The error of a condition on the column of reports: what it leaves out would be told with their text."""
    return InputError(
        "is the column of the reports, of which no text is told",
        value=name,
        where=f"{_WHERE} ({where})",
        fix="ask for what another column says",
    )


def _in_words_of_manifest(name: str, condition: Condition) -> Condition:
    """A condition on view or sex with the manifest's own words.

    Raises:
        ValueError: it asks for what no view, sex or age is.
    """
    if name == "age" and (bad := [operand for operand in condition.operands if number_of(operand) is None]):
        raise ValueError(f"{bad[0]!r} is no age in years; write for instance '>= 18' or '>= 18 and < 65'")
    read: Callable[[str], str | None] | None = {"view": _view, "sex": vocabulary.sex}.get(name)
    if read is None:
        return condition

    def canonical(test: Test) -> Test:
        meant = None if test.operand is None else read(test.operand)
        if test.sign not in ("=", "!=") or (test.operand is not None and meant is None):
            known = "PA, AP, LL (lateral) or unknown" if name == "view" else "F, M or unknown"
            raise ValueError(f"{test.operand!r} is no {name} that is told apart; known are {known}")
        return Test(test.sign, meant)

    return Condition(tuple(tuple(map(canonical, tests)) for tests in condition.alternatives), condition.written)


def _view(text: str) -> str | None:
    known = words.view(text.strip())
    return None if known == "unknown" else known


def _reason(name: str, condition: Condition, value: str | None) -> str:
    if value is None:
        return f"{name} is not known"
    if condition.compares:
        is_number = number_of(value) is not None
        return f"{name} is not {condition.written}" if is_number else f"{name} is no number"
    return f"{name} is {value if len(value) <= _MAX_SHOWN else 'another'}"


def _grouped(counts: Counter[str]) -> list[tuple[str, int]]:
    """The commonest reasons; beyond a few, those of one column are one."""
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    rest: Counter[str] = Counter()
    for reason, count in ranked[_MAX_NAMED:]:
        rest[f"{reason.partition(' is ')[0]} is another"] += count
    for reason, count in ranked[:_MAX_NAMED]:
        if reason in rest:
            rest[reason] += count
    own = [pair for pair in ranked[:_MAX_NAMED] if pair[0] not in rest]
    return own + sorted(rest.items(), key=lambda pair: (-pair[1], pair[0]))


def _warn_of_absent(name: str, condition: Condition, values: Sequence[str | None], notes: Notes) -> None:
    """Say which values that are asked for no scan has: misspelt ones would leave scans out without a word."""
    there = sorted({value for value in values if value is not None})
    short = [value for value in there if len(value) <= _MAX_SHOWN]
    for operand in condition.operands:
        if not any(parse(operand).holds(value) for value in there):
            near = difflib.get_close_matches(operand, short, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(short[:8])}" if short else ""
            notes.warn(f"{_WHERE}: no scan has {name} {operand!r}{hint}")


def text_of(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as it is compared: numbers as text, unknown ones null."""
    text = column.cast(pa.string())
    return pc.if_else(pc.equal(text, "unknown"), None, text)
