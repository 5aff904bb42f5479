"""Charts as inline SVG in one quiet style; colours are CSS variables, so they follow light, dark and print."""

import io
import re
import warnings
from collections.abc import Callable

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
