"""Expert labels by class and by round, and which classes have too few of them."""

from dataclasses import dataclass

from pipeline.labels import class_counts
from pipeline.pages.wording import count
from pipeline.report.gather import Row, RunData


@dataclass(frozen=True)
class ClassCell:
    """Labels of one class after one round.

    Attributes:
        total: So far.
        new: Of them since the round before; None: not known.
        is_few: Whether they are too few, see `class_counts.MIN_LABELS`.
    """

    total: int
    new: int | None
    is_few: bool

    @property
    def text(self) -> str:
        """`34 (+9)`."""
        if not self.new:
            return count(self.total)
        return f"{count(self.total)} ({'+' if self.new > 0 else '−'}{abs(self.new)})"


def by_round(run: RunData) -> list[tuple[int, list[ClassCell]]]:
    """One row a finished round: its number and a cell for each class, in their order; empty where none was counted."""
    rows: list[tuple[int, list[ClassCell]]] = []
    before: Row | None = {}
    for row in run.rounds:
        counted: Row | None = row.get("expert_by_class")
        if counted is not None:
            few = class_counts.with_few_labels(counted)
            cells = [
                ClassCell(num, None if before is None else num - before.get(finding, 0), finding in few)
                for finding, num in counted.items()
            ]
            rows.append((row["round"], cells))
        before = counted
    return rows


def warnings(run: RunData) -> list[str]:
    """A sentence for each class that has too few labels after the last round."""
    return class_counts.warnings((run.last or {}).get("expert_by_class") or {})
