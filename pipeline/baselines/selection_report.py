"""The bench of selection as a person reads it: what each strategy gained over random, losses as readily as wins."""

from pathlib import Path
from typing import Any

from pipeline.baselines.selection_figures import CLASSIFIER_BY, LOW_BUDGET, REFERENCE
from pipeline.pages import svg_chart, template_env

HOW = (
    "Each history asks for labels budget by budget as the product does: a share of each queue is uniform, the rest is "
    "the strategy's, a patient once before any comes twice. A linear head learns from the expert labels alone, and "
    "the sealed holdout judges it. Strategies share each seed's draws, so that differences are paired. Gain: area "
    "under the AUROC over the logarithm of the budget, less that of random selection; win rate: share of the seeds in "
    "which it is above; p: Wilcoxon's signed ranks, Holm's over all rows of the table. Intervals are 95 % t-intervals "
    "over the seeds. Before two classes are labelled, the AUROC counts as .5."
)
PLAIN_WIDTH = 160  # where the output is no terminal
Row = dict[str, Any]


def header(result: dict[str, Any]) -> list[str]:
    """Columns of the table of gains."""
    budgets = result["budgets"]
    return [
        "pool",
        "strategy",
        "seeds",
        f"gain, {budgets[0]}–{budgets[-1]}",
        f"gain, up to {LOW_BUDGET}",
        "win rate",
        "p (Holm)",
        *[f"AUROC @{budget}" for budget in shown_budgets(budgets)],
        f"all classes by {LOW_BUDGET}",
        f"classifier by {CLASSIFIER_BY}",
    ]


def table(result: dict[str, Any]) -> list[list[str]]:
    """Rows of the table of gains; within a pool the largest gain comes first, and random last."""
    order: dict[str, list[Row]] = {}
    for row in result["rows"]:
        order.setdefault(row["pool"], []).append(row)
    shown = [result["budgets"].index(budget) for budget in shown_budgets(result["budgets"])]
    return [
        _cells(row, shown)
        for rows in order.values()
        for row in sorted(rows, key=lambda row: -(row["gain"] or {"mean": float("-inf")})["mean"])
    ]


def _cells(row: Row, shown: list[int]) -> list[str]:
    return [
        row["pool"],
        row["strategy"],
        str(row["num_seeds"]),
        signed(row["gain"]),
        signed(row["gain_low"]),
        "–" if row["win_rate"] is None else f"{row['win_rate']:.2f}",
        "–" if row["p_holm"] is None else f"{row['p_holm']:.3f}",
        *[plain(row["auroc"][i]) for i in shown],
        f"{100 * row[f'all_classes_by_{LOW_BUDGET}']:.0f} %",
        f"{100 * row[f'classifier_by_{CLASSIFIER_BY}']:.0f} %",
    ]


def shown_budgets(budgets: list[int]) -> list[int]:
    """At most three budgets that the table shows: the first, the middle one and the last."""
    return sorted({budgets[0], budgets[len(budgets) // 2], budgets[-1]})


def signed(figure: dict[str, Any] | None) -> str:
    """`+.021 ± .010`."""
    if figure is None:
        return "–"
    return f"{figure['mean']:+.3f}" + ("" if figure["half"] is None else f" ± {figure['half']:.3f}")


def plain(figure: dict[str, Any]) -> str:
    """`.921 ± .010`."""
    return f"{figure['mean']:.3f}" + ("" if figure["half"] is None else f" ± {figure['half']:.3f}")


def markdown(result: dict[str, Any]) -> str:
    """The table, how it was made, and the options."""
    columns = header(result)
    lines = ["# Strategies against random selection", "", _line(columns), _line(["---"] * len(columns))]
    lines += [*map(_line, table(result)), "", HOW, "", f"{result['date']}; seeds {result['num_seeds']}."]
    return "\n".join(lines) + "\n"


def page(result: dict[str, Any]) -> str:
    """The same as one HTML page, with the curves."""
    drawn = charts(result)
    template = template_env.environment(Path(__file__).parent / "templates").get_template("selection.html.j2")
    return template.render(
        contents=[("#gains", "Gains"), *[(f"#pool{i}", pool) for i, (pool, _) in enumerate(drawn)]],
        how=HOW,
        header=header(result),
        rows=table(result),
        charts=drawn,
        num_seeds=result["num_seeds"],
        date=result["date"],
    )


def show(result: dict[str, Any]) -> None:
    """Print the table on standard output, and where the page is."""
    import sys

    from rich import box
    from rich.console import Console
    from rich.table import Table as Grid

    console = Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH)
    grid = Grid(*header(result), box=box.SIMPLE)
    for row in table(result):
        grid.add_row(*row)
    console.print(grid)
    console.print(HOW, highlight=False)
    console.print(f"report: {result['out']}/selection.html", highlight=False, soft_wrap=True)


def charts(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Name of each pool and the chart of its curves."""
    pools = list(dict.fromkeys(row["pool"] for row in result["rows"]))
    return [(pool, _chart(i, [row for row in result["rows"] if row["pool"] == pool])) for i, pool in enumerate(pools)]


def _chart(index: int, rows: list[Row]) -> str:
    def draw(axes: Any) -> None:
        colored = 0
        for row in rows:
            is_reference = row["strategy"] == REFERENCE
            color = svg_chart.REFERENCE if is_reference else svg_chart.color(colored)
            colored += not is_reference
            mean = [point["mean"] for point in row["auroc"]]
            half = [point["half"] or 0.0 for point in row["auroc"]]
            low, high = ([m + sign * h for m, h in zip(mean, half, strict=True)] for sign in (-1, 1))
            axes.fill_between(row["budgets"], low, high, color=color, alpha=0.12, linewidth=0)
            axes.plot(row["budgets"], mean, color=color, label=row["strategy"])
        axes.set_xscale("log")
        axes.set(xlabel="expert labels", ylabel="AUROC of the holdout")
        axes.set_xticks(rows[0]["budgets"], [str(budget) for budget in rows[0]["budgets"]], minor=False)
        axes.minorticks_off()
        axes.legend(loc="lower right")

    return svg_chart.render(f"pool{index}", (6.4, 4.2), draw)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
