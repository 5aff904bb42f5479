"""The metrics of one set of scans as records; in JSON (`metrics.jsonl`, `evaluation.json`) a field is a key.

An interval is `[low, high]`; a value or an interval that is not defined is None.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from typing import Any, Self

Interval = list[float] | None


@dataclass(frozen=True)
class ClassMetrics:
    """One class against all others; counts of scans are at the operating point.

    Attributes:
        num_positive: Scans of the class.
        fp: Scans of other classes that are called it: its false alarms.
        fn: Its scans that are called something else: what is missed.
    """

    auroc: float | None
    auroc_ci95: Interval
    auprc: float | None
    sensitivity: float | None
    sensitivity_ci95: Interval
    specificity: float | None
    specificity_ci95: Interval
    precision: float | None
    f1: float | None
    tp: int
    fp: int
    tn: int
    fn: int
    num_positive: int

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """What `to_json` of the whole wrote of a class.

        Raises:
            ValueError: a key is missing.
        """
        return cls(**values_of(cls, row))


@dataclass(frozen=True)
class HoldoutMetrics:
    """What `holdout_metrics.evaluate` measures, and how each is defined, is said there.

    Attributes:
        confusion: Scans by true class (rows) and class called, (C, C).
        prevalence: Share of the scans of each class.
        majority_accuracy: Accuracy of always calling the commonest class.
        positive: The class that `auroc`, `auprc`, `sensitivity`, `specificity`, `f1` and `brier` are of; None: they
            are of all classes.
    """

    auroc: float | None
    auroc_ci95: Interval
    auprc: float | None
    auprc_ci95: Interval
    accuracy: float | None
    accuracy_ci95: Interval
    balanced_accuracy: float | None
    balanced_accuracy_ci95: Interval
    sensitivity: float | None
    sensitivity_ci95: Interval
    specificity: float | None
    specificity_ci95: Interval
    f1: float | None
    f1_ci95: Interval
    ece: float
    brier: float
    confusion: list[list[int]]
    num_scans: int
    num_groups: int
    prevalence: dict[str, float]
    majority_accuracy: float
    positive: str | None
    per_class: dict[str, ClassMetrics]

    def to_json(self) -> dict[str, Any]:
        """Plain values, the fields in their order."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """What `to_json` wrote.

        Raises:
            ValueError: a key is missing.
        """
        values = values_of(cls, row)
        per_class = {finding: ClassMetrics.from_json(of_class) for finding, of_class in values["per_class"].items()}
        return cls(**values | {"per_class": per_class})


def values_of(record: type, row: Mapping[str, Any]) -> dict[str, Any]:
    """Of a row the values of a record's fields, by name.

    Raises:
        ValueError: one is missing.
    """
    names = [field.name for field in fields(record)]
    missing = [name for name in names if name not in row]
    if missing:
        raise ValueError(f"{record.__name__} without {', '.join(missing)}")
    return {name: row[name] for name in names}


def num_holdouts(row: Mapping[str, Any]) -> int:
    """Of how many pools the holdout is on which a round was scored: of one until the run grew.

    Args:
        row: Of `metrics.jsonl`; of independent findings the most of any counts.
    """
    own = sum(part["holdout"] is not None for part in row.get("holdout_parts") or ())
    return max([1, own, *map(num_holdouts, (row.get("findings") or {}).values())])


def on_one_holdout(rows: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Rounds, in their order, parted where the run grew: scores of other scans make no line with those before."""
    return [list(part) for _, part in groupby(rows, num_holdouts)]


def courses(rows: Iterable[dict[str, Any]], key: str) -> list[list[tuple[int, float, Interval]]]:
    """Expert labels, a score and its interval of each round, those on one holdout together; all have the score."""
    return [
        [(row["num_expert"], row["holdout"][key], row["holdout"].get(f"{key}_ci95")) for row in part]
        for part in on_one_holdout(rows)
    ]
