"""The charts of a batch's page: what moved, how the numbers lie, and the batches so far."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from pipeline.pages.svg_chart import ACCENT, MUTED, REFERENCE, WIDE, color, dot, render
from pipeline.pages.wording import named

_ROW_INCHES = 0.22
SMALLEST_P = 1e-4
_VERDICTS = ("unknown", "steady", "watch", "retrain")


def streams(content: dict[str, Any], level: float) -> str:
    """Corrected p-value of every variable, one row each; left of the dashes has moved."""
    rows = [
        (f"{stream}: {named(variable['variable'])}", variable["p_holm"])
        for stream, of in content["streams"].items()
        for variable in of["variables"]
    ]

    def draw(axes: Axes) -> None:
        for y, (_, p_value) in enumerate(rows):
            moved = p_value <= level
            axes.plot(
                [max(p_value, SMALLEST_P)],
                [y],
                marker="o" if moved else "D",
                markersize=5.5 if moved else 4,
                color=color(1) if moved else MUTED,
            )
        axes.axvline(level, color=REFERENCE, linewidth=1, linestyle=(0, (3, 2)))
        axes.set(xscale="log", xlim=(SMALLEST_P * 0.7, 1.4), ylim=(len(rows) - 0.4, -0.6), xlabel="corrected p-value")
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.grid(visible=False, axis="y")

    return render("streams", (5.2, 0.6 + _ROW_INCHES * len(rows)), draw)


def distribution(name: str, variable: str, reference_N: np.ndarray, batch_N: np.ndarray) -> str:
    """Two histograms over each other, each of area 1."""
    both = np.r_[reference_N, batch_N]
    both = both[np.isfinite(both)]
    low, high = (float(end) for end in np.quantile(both, (0.002, 0.998)))
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, 31)
    centres = (edges[1:] + edges[:-1]) / 2

    def draw(axes: Axes) -> None:
        for values_N, tint, label in ((reference_N, REFERENCE, "reference"), (batch_N, ACCENT, "batch")):
            kept_N = values_N[np.isfinite(values_N)]
            share = np.histogram(kept_N, edges)[0] / max(len(kept_N), 1)
            axes.plot(centres, share, color=tint, label=label, drawstyle="steps-mid")
        axes.set(xlabel=variable, ylabel="share of scans")
        axes.legend()

    return render(name, WIDE, draw)


def history(lines: Sequence[dict[str, Any]]) -> str:
    """Verdict and share outside of each batch so far."""

    def draw(axes: Axes) -> None:
        place = range(1, len(lines) + 1)
        share = [np.nan if line["share_outside"] is None else line["share_outside"] for line in lines]
        axes.plot(place, share, color=MUTED, linewidth=1.2)
        for x, (y, line) in enumerate(zip(share, lines, strict=True), 1):
            if np.isfinite(y):
                dot(axes, x, y, {"steady": 2, "watch": 4, "retrain": 1}.get(line["verdict"], 7))
        axes.set(xlabel="batch", ylabel="share outside", ylim=(-0.02, 1.02), xlim=(0.5, len(lines) + 0.5))
        axes.set_xticks([x for x in place if len(lines) <= 12 or x % (1 + len(lines) // 12) == 0])

    return render("history", WIDE, draw)


def shares(methods: dict[str, dict[str, Any]]) -> str | None:
    """Estimated share of each class with its interval, by method; None where both were refused."""
    rows = [
        (f"{finding} ({method.upper()})", estimate)
        for method, of in methods.items()
        for finding, estimate in of.items()
        if estimate["value"] is not None
    ]
    if not rows:
        return None

    def draw(axes: Axes) -> None:
        for y, (name, estimate) in enumerate(rows):
            tint = color(0 if name.endswith("(EM)") else 3)
            axes.plot([estimate["low"], estimate["high"]], [y, y], color=tint, linewidth=2.2, alpha=0.5)
            axes.plot([estimate["value"]], [y], marker="o", markersize=6, color=tint)
        axes.set(xlim=(-0.02, 1.02), ylim=(len(rows) - 0.4, -0.6), xlabel="share of the batch, with its 95% interval")
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.grid(visible=False, axis="y")

    return render("shares", (4.6, 0.7 + 0.3 * len(rows)), draw)
