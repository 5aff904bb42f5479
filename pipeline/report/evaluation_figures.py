"""Figures of the detailed evaluation: decision curves."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from pipeline.pages.svg_chart import ACCENT, INK, REFERENCE, SQUARE, render
from pipeline.pages.wording import known
from pipeline.report.gather import Row, RunData

MAX_CURVES = 6
_LOWEST = -0.05  # treating all falls without limit; what matters happens above


def decision_curves(run: RunData) -> list[tuple[str, str]]:
    """Finding and drawing of each decision curve; of two classes one, as the run is about it."""
    charts = []
    for index, row in enumerate((run.evaluation or {}).get("decision_curve") or []):
        finding, points = str(row.get("finding")), _points(row)
        if len(points) > 1 and run.positive in (None, finding):
            charts.append((finding, _draw(f"net-benefit-{index}", points)))
    return charts[:MAX_CURVES]


def _points(row: Row) -> list[Row]:
    points = [p for p in row.get("points") or [] if known(p.get("threshold")) and known(p.get("model"))]
    return sorted(points, key=lambda p: p["threshold"])


def _draw(name: str, points: list[Row]) -> str:
    """Net benefit over the threshold probability: the model, treating all, treating none."""

    def series(key: str) -> list[Any]:
        return [p[key] if known(p.get(key)) else float("nan") for p in points]

    def draw(axes: Axes) -> None:
        x = [p["threshold"] for p in points]
        ends = [p.get("ci95") or [] for p in points]
        if all(len(pair) == 2 and all(map(known, pair)) for pair in ends):
            low, high = zip(*ends, strict=True)
            axes.fill_between(x, low, high, color=ACCENT, alpha=0.14, linewidth=0)
        axes.plot(x, series("all"), color=REFERENCE, linestyle=(0, (3, 2)), label="treat all")
        axes.plot(x, series("none"), color=INK, linewidth=1, label="treat none")
        axes.plot(x, series("model"), color=ACCENT, label="model")
        top = max([0.05, *(v for key in ("model", "all") for v in series(key) if known(v))])
        axes.set(xlabel="threshold probability", ylabel="net benefit", ylim=(_LOWEST, 1.12 * top))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}%"))
        axes.legend(loc="upper right")

    return render(name, SQUARE, draw)
