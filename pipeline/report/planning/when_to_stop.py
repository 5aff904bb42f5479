"""The forecast of further labels and the stability of predictions, as the page shows them."""

from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes

from pipeline.pages.svg_chart import ACCENT, INK, REFERENCE, WIDE, render
from pipeline.pages.wording import known, percent, plural, signed, signed_interval
from pipeline.report.gather import Row, RunData

NAMES = {"auroc": "AUROC", "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy"}
DRAWN = ("auroc", "balanced_accuracy")


@dataclass(frozen=True)
class Figure:
    """A drawn forecast."""

    title: str
    svg: Markup
    caption: str


@dataclass(frozen=True)
class Outlook:
    """What the page says of further labels.

    Attributes:
        sentences: The advice and its reasons.
        figures: One a score.
        metrics: Names of the scores in the table.
        confidence: Of the intervals.
        rows: One a number of further labels, with a cell a score.
        checked: Forecasts of earlier rounds beside what the holdout showed then.
        stability: One row a round.
    """

    sentences: list[str]
    figures: list[Figure] = field(default_factory=list)
    metrics: list[str] = field(default_factory=list)
    confidence: float | None = None
    rows: list[Row] = field(default_factory=list)
    checked: list[Row] = field(default_factory=list)
    stability: list[Row] = field(default_factory=list)


def outlook(run: RunData) -> Outlook | None:
    """The last round's forecast; None where no round has one."""
    if not run.forecasts:
        return None
    last = run.forecasts[-1]
    forecast = last["forecast"]
    scores: dict[str, Row] = forecast["scores"]
    return Outlook(
        sentences=sentences(last),
        figures=[Figure(NAMES[name], Markup(draw(name, scores[name], forecast)), CAPTION) for name in DRAWN]
        if scores
        else [],
        metrics=[NAMES[name] for name in scores],
        confidence=forecast["confidence"],
        rows=_rows(scores),
        checked=checked(run),
        stability=[{"round": row["round"]} | row["stability"] for row in run.forecasts],
    )


CAPTION = (
    "Dots: heads refitted on parts of today’s labels, out of fold, with their standard error. Line: the forecast. "
    "Band: where the score is expected to be with the labels that come next."
)


def sentences(record: Row) -> list[str]:
    """What is advised, what the next labels are expected to buy, and whether predictions are stable."""
    forecast, stability = record["forecast"], record["stability"]
    advice = (
        "The advice is to consider stopping here: " + " and ".join(_BECAUSE[name] for name in record["advice"]["by"])
        if record["advice"]["stop"]
        else "Nothing says yet that further labels are not worth their price"
    )
    texts = [f"{advice}. It is advice only; people decide."]
    if forecast["why"]:
        texts.append(f"Too early to say what further labels would buy: {forecast['why']}.")
    else:
        gain = forecast["scores"]["auroc"]["gains"][-1]
        texts.append(
            f"After {plural(forecast['num_labels'], 'expert label')}, the next {gain['labels']} are expected to change "
            f"the AUROC by {signed(gain['mean'])} ({percent(forecast['confidence'], 0)} interval "
            f"{signed_interval([gain['low'], gain['high']])})."
        )
    if stability["mean"] is None:
        reason = stability["why"] or f"{stability['num_comparisons']} comparisons in a row are needed"
        texts.append(f"Too early to say whether the predictions are stable: {reason}.")
    return texts


_BECAUSE = {
    "stable": "the predictions hardly change any more",
    "forecast": "the labels are expected to buy too little",
}


def _rows(scores: dict[str, Row]) -> list[Row]:
    if not scores:
        return []
    by_labels = zip(*(score["gains"] for score in scores.values()), strict=True)
    return [
        {"labels": cells[0]["labels"], "cells": [{"gain": c["mean"], "interval": [c["low"], c["high"]]} for c in cells]}
        for cells in by_labels
    ]


def checked(run: RunData) -> list[Row]:
    """Forecasts of AUROC of earlier rounds that a later round reached, beside the holdout's change until then."""
    scored = {row["num_expert"]: (row.get("holdout") or {}).get("auroc") for row in run.rounds}
    rows = []
    for record in run.forecasts:
        start, num = scored.get(record["num_expert"]), record["num_expert"]
        for gain in (record["forecast"]["scores"].get("auroc") or {}).get("gains", ()):
            end = scored.get(num + gain["labels"])
            if start is None or end is None or not (known(start) and known(end)):
                continue
            interval = [gain["low"], gain["high"]]
            came = {"came": end - start, "is_inside": interval[0] <= end - start <= interval[1]}
            about = {"round": record["round"], "num_labels": num, "labels": gain["labels"]}
            rows.append(about | {"gain": gain["mean"], "interval": interval} | came)
    return rows


def draw(name: str, score: Row, forecast: Row) -> str:
    """Observed points, the expected curve, and the band and marks of what is to come."""

    def plot(axes: Axes) -> None:
        _plot(axes, score, forecast)
        axes.set(xlabel="expert labels", ylabel=f"{NAMES[name]}, out of fold")

    return render(f"forecast-{name}", WIDE, plot)


def _plot(axes: Axes, score: Row, forecast: Row) -> None:
    now, curve = forecast["num_labels"], score["curve"]
    ahead = [{"num_labels": now, "low": score["now"], "high": score["now"]}]
    ahead += [point for point in curve if point["low"] is not None]
    x: list[Any] = [point["num_labels"] for point in ahead]
    axes.fill_between(
        x,
        [point["low"] for point in ahead],
        [min(point["high"], 1.0) for point in ahead],
        color=ACCENT,
        alpha=0.14,
        linewidth=0,
        label=f"{percent(forecast['confidence'], 0)} interval",
    )
    axes.axvline(now, color=REFERENCE, linewidth=1, linestyle=(0, (3, 2)), label="today")
    axes.plot([p["num_labels"] for p in curve], [p["score"] for p in curve], color=ACCENT, label="expected")
    axes.errorbar(
        [p["num_labels"] for p in score["observed"]],
        [p["score"] for p in score["observed"]],
        yerr=[p["standard_error"] for p in score["observed"]],
        color=INK,
        linestyle="",
        marker="o",
        markersize=4,
        linewidth=1,
        label="observed",
    )
    for gain in score["gains"]:
        at = (now + gain["labels"], score["now"] + gain["mean"])
        axes.plot(*at, color=ACCENT, marker="o", markersize=5, markerfacecolor="none")
        axes.annotate(f"+{gain['labels']}", at, (0, 6), textcoords="offset points", ha="center")
    axes.grid(visible=False, axis="x")
    axes.legend(loc="lower right", reverse=True)
