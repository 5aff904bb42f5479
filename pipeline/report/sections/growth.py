"""What growing did: which pools joined, and the model before beside the model of now on old and new holdouts."""

from dataclasses import dataclass

from matplotlib.axes import Axes

from pipeline.pages.svg_chart import ACCENT, REFERENCE, WIDE, render
from pipeline.pages.wording import count, known, plural
from pipeline.report.gather import Row, RunData

SHOWN = ("auroc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "brier")
NAMES = {"old": "holdout of before", "new": "holdout of the new scans", "together": "both together"}


@dataclass(frozen=True)
class Growth:
    """The section of a run that has grown.

    Attributes:
        text: What was compared, or why there is no comparison.
        parts: Rows of `growth.json`.
        rows: For each holdout its name, scans and patients, and its metrics as `paired_comparison` has them.
        chart: AUROC before and now; None where neither can be told.
    """

    text: str
    parts: list[Row]
    rows: list[Row]
    chart: str | None


def growth(run: RunData) -> Growth | None:
    """What the page says of growing; None of a run that never grew."""
    if not run.growth:
        return None
    effect: Row = (run.evaluation or {}).get("growth") or {}
    rows = [_row(on_set) for on_set in effect.get("sets") or [] if on_set["comparison"]]
    return Growth(_text(effect), run.growth, rows, _chart(rows))


def _row(on_set: Row) -> Row:
    comparison = on_set["comparison"]
    metrics = [metric for metric in comparison["metrics"] if metric["metric"] in SHOWN]
    return {
        "name": NAMES[on_set["which"]],
        "num_scans": comparison["num_scans"],
        "num_groups": comparison["num_groups"],
        "metrics": metrics,
    }


def _text(effect: Row) -> str:
    if not effect:
        return "No label of a holdout is known yet, so nothing can be compared."
    if effect["why_not"]:
        return f"There is no comparison yet: {effect['why_not']}."
    return (
        f"The model of round {count(effect['before_round'])}, the last before {_named(effect['parts'])} joined, and "
        f"that of round {count(effect['round'])}, on the same sealed scans, from which neither has learned. "
        "Intervals are of the difference, by resampling patients; one that holds 0 may be chance. Before, on the new "
        "holdout, is how the model would have done there without a label of it."
    )


def _named(parts: list[int]) -> str:
    return f"part {parts[0]}" if len(parts) == 1 else f"parts {', '.join(map(str, parts))}"


def _chart(rows: list[Row]) -> str | None:
    points = [
        (f"{row['name']} ({plural(row['num_scans'], 'scan')})", metric["first"], metric["second"])
        for row in rows
        for metric in row["metrics"]
        if metric["metric"] == "auroc" and known(metric["first"]) and known(metric["second"])
    ]
    if not points:
        return None
    points = points[::-1]  # the first row is the topmost

    def draw(axes: Axes) -> None:
        places = list(range(len(points)))
        before, now = [first for _, first, _ in points], [second for _, _, second in points]
        axes.hlines(places, before, now, color=REFERENCE, linewidth=1.5)
        axes.plot(before, places, linestyle="", marker="o", markersize=6, color=REFERENCE, label="before")
        axes.plot(now, places, linestyle="", marker="o", markersize=7, color=ACCENT, label="now")
        axes.set(xlabel="AUROC", ylabel="")
        axes.set_yticks(places, [name for name, _, _ in points])
        axes.set_ylim(-0.6, len(points) - 0.4)
        axes.legend(loc="lower left")

    return render("growth", WIDE, draw)
