"""Charts as inline SVG in one quiet style; colours are CSS variables, so they follow light, dark and print.

Legend: N scans, C findings. A figure returns `None` where the run did not measure what it would show.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator
from sklearn.calibration import calibration_curve
from sklearn.metrics import precision_recall_curve, roc_curve

from pipeline.measures.holdout_record import ClassMetrics, courses
from pipeline.pages.svg_chart import (
    ACCENT,
    GOOD,
    INK,
    REFERENCE,
    SQUARE,
    WIDE,
    broken_line,
    color,
    dot,
    render,
    unit_square,
)
from pipeline.pages.wording import GREW, known
from pipeline.report.gather import Holdout, Row, RunData, measured


def learning_curve(run: RunData, key: str, label: str) -> str | None:
    """A holdout metric over the number of expert labels, with its interval and the random reference.

    Where the run grew the line is broken: the rounds since were scored on more scans.
    """
    own, random = measured(run.rounds, "holdout", key), measured(run.reference, "holdout", key)
    if not own:
        return None
    pieces = courses((row for row, _ in own), key)

    def draw(axes: Axes) -> None:
        broken_line(
            axes,
            pieces,
            label="this run",
            gap_label=GREW,
            interval_label="95% interval",
            color=ACCENT,
            markersize=4.5,
        )
        if random:
            axes.plot(
                [row["num_expert"] for row, _ in random],
                [v for _, v in random],
                color=REFERENCE,
                linestyle=(0, (3, 2)),
                marker="o",
                markersize=3,
                label="random choice",
            )
        rolled = [(row["num_expert"], value) for row, value in own if row.get("rolled_back")]
        if rolled:
            axes.plot(
                *zip(*rolled, strict=True),
                linestyle="",
                marker="o",
                markersize=9,
                markerfacecolor="none",
                markeredgecolor=INK,
                label="rolled back",
            )
        axes.set(xlabel="expert labels", ylabel=label)
        axes.set_xticks(sorted({row["num_expert"] for row, _ in own}))
        axes.grid(visible=False, axis="x")
        axes.legend(loc="lower right", reverse=True)

    return render(f"curve-{key}", WIDE, draw)


def _one_vs_rest(run: RunData) -> list[tuple[int, str]]:
    """The findings that get a curve: of two classes one, as the other is its mirror image."""
    return [(i, f) for i, f in enumerate(run.findings) if run.positive in (None, f)]


def _cases(holdout: Holdout, run: RunData) -> list[tuple[int, str, np.ndarray, np.ndarray]]:
    truth_N = np.array(holdout.truth_N)
    rows = [(i, f, truth_N == f, holdout.prob_NC[:, i]) for i, f in _one_vs_rest(run)]
    return [
        (i, f, hit_N, prob_N)
        for i, f, hit_N, prob_N in rows
        if 0 < hit_N.sum() < len(hit_N) and np.isfinite(prob_N).all()
    ]


def roc(run: RunData) -> str | None:
    """Sensitivity over false alarms; the dot is the operating point the run reports."""

    def draw(axes: Axes, cases: list[Any]) -> None:
        axes.plot([0, 1], [0, 1], color=REFERENCE, linewidth=1, linestyle=(0, (3, 2)))
        for i, finding, hit_N, prob_N in cases:
            false_alarm, sensitivity, _ = roc_curve(hit_N, prob_N)
            axes.plot(false_alarm, sensitivity, color=color(i), label=finding)
            row = _class_metrics(run, finding)
            if row and row.specificity is not None and row.sensitivity is not None:
                dot(axes, 1 - row.specificity, row.sensitivity, i)
        unit_square(axes, "false alarms (1 − specificity)", "found (sensitivity)")

    return _curve(run, "roc", draw)


def precision_recall(run: RunData) -> str | None:
    """Precision over sensitivity; the dot is the operating point, the dashes are guessing."""

    def draw(axes: Axes, cases: list[Any]) -> None:
        for i, finding, hit_N, prob_N in cases:
            precision, sensitivity, _ = precision_recall_curve(hit_N, prob_N)
            axes.axhline(hit_N.mean(), color=color(i), linewidth=1, linestyle=(0, (3, 2)), alpha=0.6)
            axes.plot(sensitivity, precision, color=color(i), label=finding, drawstyle="steps-post")
            row = _class_metrics(run, finding)
            if row and row.precision is not None and row.sensitivity is not None:
                dot(axes, row.sensitivity, row.precision, i)
        unit_square(axes, "found (sensitivity)", "right when it says so (precision)")

    return _curve(run, "pr", draw)


def reliability(run: RunData) -> str | None:
    """How often a finding is there, over the probability the model gave it."""

    def draw(axes: Axes, cases: list[Any]) -> None:
        axes.plot([0, 1], [0, 1], color=REFERENCE, linewidth=1, linestyle=(0, (3, 2)))
        for i, finding, hit_N, prob_N in cases:
            bins = min(10, max(3, len(hit_N) // 40))  # of a small holdout fewer, or they show noise
            seen, predicted = calibration_curve(hit_N, prob_N, n_bins=bins, strategy="quantile")
            axes.plot(predicted, seen, color=color(i), marker="o", markersize=4, label=finding)
        unit_square(axes, "probability the model gives", "share that has it")

    return _curve(run, "reliability", draw)


def _curve(run: RunData, name: str, draw: Callable[[Axes, list[Any]], None]) -> str | None:
    cases = _cases(run.holdout, run) if run.holdout else []
    return render(name, SQUARE, lambda axes: draw(axes, cases)) if cases else None


def _class_metrics(run: RunData, finding: str) -> ClassMetrics | None:
    return run.scores.per_class.get(finding) if run.scores else None


def num_by_report_alone(row: Row) -> int:
    """Scans of a round that train by a report and have no pseudo-label: each scan is in one bar."""
    return (row.get("num_report") or 0) - (row.get("num_report_and_pseudo") or 0)


def pseudo_counts(run: RunData) -> str | None:
    """Labels of each round: of experts, of the model, and of reports where a run has any."""
    rows = measured(run.rounds, "num_pseudo")
    if not rows:
        return None

    def draw(axes: Axes) -> None:
        x = [row["round"] for row, _ in rows]
        pseudo = [value for _, value in rows]
        expert = [row.get("num_expert") or 0 for row, _ in rows]
        axes.bar(x, expert, width=0.6, color=ACCENT, label="by experts")
        axes.bar(x, pseudo, bottom=expert, width=0.6, color=ACCENT, alpha=0.35, label="pseudo-labels")
        by_report = [num_by_report_alone(row) for row, _ in rows]
        below = [experts + value for experts, value in zip(expert, pseudo, strict=True)]
        if any(by_report):
            axes.bar(x, by_report, bottom=below, width=0.6, color=GOOD, alpha=0.35, label="by reports alone")
        for heights, values in ((expert, pseudo), (below, by_report)):
            for place, height, value in zip(x, heights, values, strict=True):
                axes.text(place, height + value / 2, f"{value:,}" if value else "", ha="center", va="center")
        axes.set(xlabel="round", ylabel="labels to train on", xticks=x)
        axes.grid(visible=False, axis="x")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.legend(loc="upper left", ncols=3, bbox_to_anchor=(0, 1.14))

    return render("pseudo-counts", WIDE, draw)


_PRECISIONS = (
    ("pseudo_precision", "realised (truth known)", INK, (0, (1, 1.6)), "s"),
    ("pseudo_precision_estimated", "estimated", ACCENT, "-", "o"),
    ("pseudo_precision_certified", "certified lower bound", GOOD, "-", "^"),
)


def pseudo_precision(run: RunData) -> str | None:
    """The three precisions of the pseudo-labels over the rounds, and the promise."""
    series = [(name, measured(run.rounds, key), *look) for key, name, *look in _PRECISIONS]
    if not any(rows for _, rows, *_ in series):
        return None
    promise = [(row.get("release") or {}).get("promise") for row in run.rounds]

    def draw(axes: Axes) -> None:
        if promise[-1] is not None:
            axes.axhline(promise[-1], color=REFERENCE, linewidth=1, linestyle=(0, (3, 2)), label="promise")
        for name, rows, tint, dashes, marker in series:
            if rows:
                axes.plot(
                    [row["round"] for row, _ in rows],
                    [value for _, value in rows],
                    color=tint,
                    linestyle=dashes,
                    marker=marker,
                    markersize=4.5,
                    label=name,
                )
        axes.set(xlabel="round", ylabel="precision", xticks=[row["round"] for row in run.rounds])
        axes.grid(visible=False, axis="x")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}%"))
        axes.legend(loc="upper left", ncols=2, bbox_to_anchor=(0, 1.25))

    return render("pseudo-precision", WIDE, draw)


def pretraining(run: RunData) -> str | None:
    """The backbone's pretraining, epoch by epoch: what probes tell apart; without labels to probe with, its loss."""
    shown = {"linear_auroc": ("linear probe", ACCENT), "knn15_auroc": ("15 nearest neighbours", color(1))}
    lines = [(*shown[name], _by_epoch(run, name)) for name in shown]
    axis = "AUROC inside the training pool"
    if not any(points for *_, points in lines):
        lines, axis = [("loss", ACCENT, _by_epoch(run, "loss"))], "loss"
    if not any(points for *_, points in lines):
        return None

    def draw(axes: Axes) -> None:
        for label, tint, points in lines:
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", color=tint, label=label)
        axes.set(xlabel="epoch", ylabel=axis)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.legend(loc="best")

    return render("pretraining", WIDE, draw)


def _by_epoch(run: RunData, name: str) -> list[tuple[int, float]]:
    return [(row["epoch"], row[name]) for row in run.pretraining if known(row.get(name))]


def training(run: RunData, who: str, step: str = "step of the optimiser") -> str | None:
    """Loss over the steps of the optimiser, one line a round, the last one strongest."""
    rounds = [(number, (row or {}).get(who) or {}) for number, row in sorted(run.training.items())]
    rounds = [(number, row) for number, row in rounds if row.get("loss")]
    if not rounds:
        return None

    def draw(axes: Axes) -> None:
        for index, (number, row) in enumerate(rounds):
            is_last = index == len(rounds) - 1
            steps = range(1, len(row["loss"]) + 1)
            marker = "o" if len(row["loss"]) == 1 else None
            axes.plot(
                steps,
                row["loss"],
                color=ACCENT,
                marker=marker,
                label=f"round {number}" if is_last else None,
                alpha=1.0 if is_last else 0.25 + 0.4 * index / len(rounds),
                linewidth=2.0 if is_last else 1.2,
            )
            if is_last and row.get("val_loss"):
                axes.plot(
                    range(1, len(row["val_loss"]) + 1),
                    row["val_loss"],
                    color=REFERENCE,
                    linestyle=(0, (3, 2)),
                    label="validation",
                )
            if is_last and row.get("epoch_val_loss"):  # once an epoch, beside several points an epoch
                epochs = len(row["epoch_val_loss"])
                at = [len(row["loss"]) * (epoch + 1) / epochs for epoch in range(epochs)]
                axes.plot(
                    at,
                    row["epoch_val_loss"],
                    color=REFERENCE,
                    marker="s",
                    linestyle="",
                    label="after an epoch, scans to stop by",
                )
        axes.set(xlabel=step, ylabel="loss")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.legend(loc="upper right")

    return render(f"training-{who}", WIDE, draw)
