"""The page of a comparison: one file, in the look of the report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pipeline.commands.comparison.records import CURVES, RunRecord
from pipeline.measures.holdout_record import courses, on_one_holdout
from pipeline.pages.svg_chart import NUM_COLORS, WIDE, Point, broken_line, color, render
from pipeline.pages.template_env import environment
from pipeline.pages.wording import GREW, known, plural, signed, signed_interval

Row = dict[str, Any]
TEMPLATES = Path(__file__).parent / "templates"
MAX_LINES = 16  # of one chart; more cannot be told apart
MAX_NAME = 28  # characters of a run's name in a legend
SURE = 0.05  # chance of any false alarm among all tests of the page
_DASHES = ("-", (0, (4, 2)), (0, (1, 1.6)))  # of the first runs, and where colours begin again


def html(records: Sequence[RunRecord], result: Row) -> str:
    """The page as text.

    Args:
        records: The runs, in the order of `result["runs"]`.
        result: See `compare_runs.compare`.
    """
    return (
        environment(TEMPLATES)
        .get_template("comparison.html.j2")
        .render(
            result=result,
            title=_title(result),
            sentences=[sentence(pair) for pair in result["pairs"]],
            groups=[_group(number, group) for number, group in enumerate(_sharing(records))],
            num_tests=sum(row["p_value"] is not None for pair in result["pairs"] for row in pair["metrics"]),
            max_lines=MAX_LINES,
        )
    )


def _title(result: Row) -> str:
    runs = plural(len(result["runs"]), "run")
    return f"History of {runs}" if result["kind"] == "history" else f"{runs} compared"


def sentence(pair: Row) -> str:
    """What a pair shows of the AUROC, in plain words."""
    of = f" for {pair['finding']}" if pair["finding"] else ""
    row = next(row for row in pair["metrics"] if row["metric"] == "auroc")
    if not known(row["difference"]):
        return f"{pair['b']} and {pair['a']}{of}: the AUROC is not defined on the scans that both scored."
    numbers = f"{signed(row['difference'])}, 95% interval {signed_interval(row['ci95'])}"
    if row["p_holm"] is not None and row["p_holm"] < SURE:
        better, worse = (pair["b"], pair["a"]) if row["difference"] > 0 else (pair["a"], pair["b"])
        return f"{better} has a higher AUROC{of} than {worse} ({numbers})."
    return f"No difference in AUROC{of} between {pair['b']} and {pair['a']} is shown ({numbers})."


def _sharing(records: Sequence[RunRecord]) -> list[list[tuple[int, RunRecord]]]:
    """Runs with scores, grouped by what their curves have in common, each with its place among all runs."""
    groups: dict[Any, list[tuple[int, RunRecord]]] = {}
    for place, record in enumerate(records):
        if record.reason is None:
            groups.setdefault(record.question, []).append((place, record))
    return list(groups.values())


def _group(number: int, group: list[tuple[int, RunRecord]]) -> Row:
    """What the page shows of runs that share a holdout and a question."""
    first = group[0][1]
    shown = group[-MAX_LINES:]
    return {
        "runs": [record.name for _, record in group],
        "findings": list(first.findings),
        "num_scans": first.scores.get("num_scans"),
        "grew": [record.name for _, record in shown if len(on_one_holdout(record.rows)) > 1],
        "left_out": len(group) - len(shown),
        "charts": [
            (label, Markup(svg))
            for key, label in CURVES.items()
            if (svg := _curves(f"curves-{number}-{key}", shown, key, label)) is not None
        ],
    }


def _curves(name: str, group: list[tuple[int, RunRecord]], key: str, label: str) -> str | None:
    """A metric of the holdout over the number of expert labels, a line a run."""
    lines = [(place, record.name, _pieces(record, key)) for place, record in group]
    lines = [line for line in lines if line[2]]
    if not lines:
        return None
    few = len(lines) <= 3  # the intervals of more hide each other

    def draw(axes: Axes) -> None:
        gap_label = GREW
        for place, run, pieces in lines:
            broken_line(
                axes,
                pieces,
                label=run if len(run) <= MAX_NAME else f"…{run[1 - MAX_NAME :]}",
                gap_label=gap_label,
                interval_label="" if few else None,
                color=color(place),
                linestyle=_DASHES[place // NUM_COLORS % len(_DASHES)],
                markersize=4,
            )
            gap_label = gap_label if len(pieces) == 1 else ""
        axes.set(xlabel="expert labels", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))  # nobody gives half a label
        axes.legend(loc="best")

    return render(name, WIDE, draw)


def _pieces(record: RunRecord, key: str) -> Sequence[Sequence[Point]]:
    """Labels, score and interval of each round, those on one holdout together."""
    scored = [row for row in record.rows if row.get("num_expert") and known((row.get("holdout") or {}).get(key))]
    return courses(scored, key)
