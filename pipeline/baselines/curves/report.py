"""Figures of curves as a person reads them: tables in Markdown, on the terminal and on a page, and the charts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.pages import svg_chart, template_env

PLAIN_WIDTH = 160  # where the output is no terminal
Row = dict[str, Any]


class Table(NamedTuple):
    """A table of cells.

    Attributes:
        key: Its anchor on the page.
        title: Above it.
        header: Names of the columns.
        rows: Cells.
    """

    key: str
    title: str
    header: list[str]
    rows: list[list[str]]


class Chart(NamedTuple):
    """A drawn chart, an `<svg>` element, and what stands under it."""

    svg: str
    caption: str


class Report(NamedTuple):
    """What a bench says.

    Attributes:
        title: Of the page and the Markdown.
        how: How it was measured, in one paragraph.
        tables: The first is the answer.
        charts: Of each pool, by its name.
    """

    title: str
    how: str
    tables: list[Table]
    charts: dict[str, list[Chart]]


# --- cells ------------------------------------------------------------------------------------------------------------


def signed(figure: Row | None) -> str:
    """`+.021 ± .010`."""
    if figure is None:
        return "–"
    return f"{figure['mean']:+.3f}" + ("" if figure["half"] is None else f" ± {figure['half']:.3f}")


def plain(figure: Row | None) -> str:
    """`.921 ± .010`."""
    return "–" if figure is None else signed(figure).lstrip("+")


def number(value: float | None, digits: int) -> str:
    """A number, or a dash."""
    return "–" if value is None else f"{value:.{digits}f}"


def shown_budgets(budgets: Sequence[int]) -> list[int]:
    """At most three budgets that a table shows: the first, the middle one and the last."""
    return sorted({budgets[0], budgets[len(budgets) // 2], budgets[-1]})


def by_pool(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each pool, in their order."""
    of_pool: dict[str, list[Row]] = {}
    for row in rows:
        of_pool.setdefault(row["pool"], []).append(row)
    return of_pool


# --- ways to show -----------------------------------------------------------------------------------------------------


def markdown(report: Report, result: Row) -> str:
    """The tables, how it was measured, date and seeds."""
    lines = [f"# {report.title}", ""]
    for i, table in enumerate(report.tables):
        lines += ([f"## {table.title}", ""] if i else []) + [*table_lines(table), ""]
        lines += [report.how, ""] if i == 0 else []
    return "\n".join([*lines, f"{result['date']}; seeds {result['num_seeds']}."]) + "\n"


def table_lines(table: Table) -> list[str]:
    """A table in Markdown."""
    rows = [table.header, ["---"] * len(table.header), *table.rows]
    return ["| " + " | ".join(cells) + " |" for cells in rows]


def page(report: Report, result: Row) -> str:
    """The same as one HTML page, with the charts."""
    template = template_env.environment(Path(__file__).parent / "templates").get_template("curves.html.j2")
    contents = [(f"#{table.key}", table.title) for table in report.tables]
    contents += [(f"#pool{i}", pool) for i, pool in enumerate(report.charts)]
    return template.render(report=report, contents=contents, date=result["date"])


def show(report: Report, page_path: str) -> None:
    """Print the tables on standard output, and where the page is."""
    import sys

    from rich import box
    from rich.console import Console
    from rich.table import Table as Grid

    console = Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH)
    for i, table in enumerate(report.tables):
        grid = Grid(*table.header, box=box.SIMPLE, title=table.title if i else None, title_justify="left")
        for row in table.rows:
            grid.add_row(*row)
        console.print(grid)
    console.print(report.how, highlight=False)
    console.print(f"report: {page_path}", highlight=False, soft_wrap=True)


def chart(name: str, rows: Sequence[Row], series: str, reference: str, measure: str, label: str) -> str:
    """Curves of a measure with their bands, one for each row.

    Args:
        name: Start of the chart's ids.
        rows: With `budgets` and, under the measure's name, a mean and half an interval for each.
        series: Key of a curve's name.
        reference: Name of the curve the others are measured against.
        measure: Key of the values.
        label: Of the vertical axis.
    """

    def draw(axes: Any) -> None:
        colored = 0
        for row in rows:
            is_reference = row[series] == reference
            color = svg_chart.REFERENCE if is_reference else svg_chart.color(colored)
            colored += not is_reference
            mean = [point["mean"] for point in row[measure]]
            half = [point["half"] or 0.0 for point in row[measure]]
            low, high = ([m + sign * h for m, h in zip(mean, half, strict=True)] for sign in (-1, 1))
            axes.fill_between(row["budgets"], low, high, color=color, alpha=0.12, linewidth=0)
            axes.plot(row["budgets"], mean, color=color, label=row[series])
        axes.set_xscale("log")
        axes.set(xlabel="expert labels", ylabel=label)
        axes.set_xticks(rows[0]["budgets"], [str(budget) for budget in rows[0]["budgets"]], minor=False)
        axes.minorticks_off()
        axes.legend(loc="best")

    return svg_chart.render(name, (6.4, 4.2), draw)
