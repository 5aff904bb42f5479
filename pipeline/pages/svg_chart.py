"""Charts as inline SVG in one quiet style; colours are CSS variables, so they follow light, dark and print."""

import io
import re
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Stand-ins that the SVG writer prints as they are and `render` replaces by CSS variables.
INK, MUTED, LINE, ACCENT, REFERENCE, GOOD = (f"#0101{n:02x}" for n in range(1, 7))

NUM_COLORS = 8

_VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    LINE: "line",
    ACCENT: "accent",
    REFERENCE: "reference",
    GOOD: "good",
} | {f"#0202{n:02x}": f"c{n}" for n in range(NUM_COLORS)}

WIDE, SQUARE = (4.3, 2.85), (3.2, 3.1)  # inches; the page scales them to its columns

Point = tuple[float, float, Sequence[float] | None]  # x, y, and the interval of y where there is one

_STYLE = {
    "font.size": 8.5,
    "axes.labelsize": 8.5,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.major.size": 3.0,
    "ytick.major.size": 0.0,
    "text.color": INK,
    "text.parse_math": False,  # a finding may be called `$x$`
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handlelength": 1.6,
    "legend.borderaxespad": 0.2,
    "svg.fonttype": "none",  # text stays text: small, searchable, in the page's own font
    "svg.hashsalt": "cxr-ssl",
    "path.simplify_threshold": 0.2,
}


def color(index: int) -> str:
    """Stand-in for the page's colour of finding or cluster number `index`."""
    return f"#0202{index % NUM_COLORS:02x}"


def render(name: str, size: tuple[float, float], draw: Callable[[Axes], None]) -> str:
    """Draw one chart and return it as an `<svg>` element whose ids start with `name`."""
    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser has its own fonts
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_scale() == "log":  # whose own labels are formulas, which nothing here reads
                axis.set_major_formatter("{x:g}")
        sink = io.StringIO()
        figure.savefig(sink, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _for_page(name, sink.getvalue())


def _for_page(name: str, svg: str) -> str:
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # group names repeat from chart to chart
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{name}-", svg)
    svg = re.sub(
        r'<svg [^>]*?viewBox="([^"]+)"[^>]*>',
        r'<svg class="chart" viewBox="\1" aria-hidden="true" focusable="false">',
        svg,
    )
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r"font(?:-family)?: ?([\d.]+px )?'[^;\"]*", _font_size, svg)
    for stand_in, variable in _VARIABLES.items():
        svg = svg.replace(stand_in, f"var(--{variable})")
    return re.sub(r"\n\s*", "\n", svg)


def _font_size(match: re.Match[str]) -> str:
    return f"font-size: {match[1].strip()}" if match[1] else "font-family: inherit"


def broken_line(
    axes: Axes,
    pieces: Sequence[Sequence[Point]],
    *,
    label: str,
    gap_label: str,
    interval_label: str | None = "",
    **look: Any,
) -> None:
    """A line with its intervals that breaks between pieces, which share no measure; a dotted line says why.

    Args:
        axes: Where it is drawn.
        pieces: Of each its points; none is empty.
        label: Of the line in the legend.
        gap_label: Of the dotted lines, what happened there; empty: in no legend.
        interval_label: Of the intervals; empty: in no legend; None: they are not drawn.
        **look: Of the line, with its `color`.
    """
    labels = [label, interval_label or "_"]
    for points in pieces:
        x, y, intervals = zip(*points, strict=True)
        bounds = [interval for interval in intervals if interval]
        if interval_label is not None and len(bounds) == len(points):
            low, high = zip(*bounds, strict=True)
            if len(points) > 1:
                axes.fill_between(x, low, high, color=look["color"], alpha=0.14, linewidth=0, label=labels[1])
            else:  # an area needs two points
                axes.vlines(x, low, high, color=look["color"], alpha=0.3, linewidth=4, label=labels[1])
        axes.plot(x, y, marker="o", label=labels[0], **look)
        labels = ["_", "_"]  # what begins so is in no legend
    for before, after in pairwise(pieces):
        middle = (before[-1][0] + after[0][0]) / 2
        axes.axvline(middle, color=REFERENCE, linewidth=1, linestyle=":", label=gap_label or "_")
        gap_label = ""


def dot(axes: Axes, x: float, y: float, index: int) -> None:
    """Mark one point of a curve in the colour of its series."""
    axes.plot(
        [x],
        [y],
        marker="o",
        markersize=7,
        color=color(index),
        markeredgecolor=INK,
        markeredgewidth=1.2,
        clip_on=False,
        zorder=5,
    )


def unit_square(axes: Axes, x: str, y: str) -> None:
    """Axes from 0 to 1 both ways, in a square."""
    axes.set(xlim=(0, 1), ylim=(0, 1.005), xlabel=x, ylabel=y, xticks=[0, 0.5, 1], yticks=[0, 0.5, 1], box_aspect=1)
