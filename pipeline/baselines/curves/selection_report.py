"""The bench of selection as a person reads it: what each strategy gained over random, losses as readily as wins."""

from typing import Any

from pipeline.baselines.curves import report
from pipeline.baselines.curves.report import Chart, Report, Row, Table, number, plain, shown_budgets, signed
from pipeline.baselines.curves.selection_figures import CLASSIFIER_BY, LOW_BUDGET, REFERENCE

HOW = (
    "Each history asks for labels budget by budget as the product does: a share of each queue is uniform, the rest is "
    "the strategy's, a patient once before any comes twice. A linear head learns from the expert labels alone, and "
    "the sealed holdout judges it. Strategies share each seed's draws, so that differences are paired. Gain: area "
    "under the AUROC over the logarithm of the budget, less that of random selection; win rate: share of the seeds in "
    "which it is above; p: Wilcoxon's signed ranks, Holm's over all rows of the table. Intervals are 95 % t-intervals "
    "over the seeds. Before two classes are labelled, the AUROC counts as .5."
)


def report_of(result: dict[str, Any]) -> Report:
    """Table and charts of a result."""
    caption = f"Mean AUROC of the holdout over {result['num_seeds']} seeds; bands are 95 % t-intervals."
    charts = {
        pool: [Chart(report.chart(f"pool{i}", rows, "strategy", REFERENCE, "auroc", "AUROC of the holdout"), caption)]
        for i, (pool, rows) in enumerate(report.by_pool(result["rows"]).items())
    }
    return Report("Strategies against random selection", HOW, [gains(result)], charts)


def gains(result: dict[str, Any]) -> Table:
    """The table of gains; within a pool the largest gain comes first, and random last."""
    budgets = result["budgets"]
    header = [
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
    shown = [budgets.index(budget) for budget in shown_budgets(budgets)]
    rows = [
        _cells(row, shown)
        for rows in report.by_pool(result["rows"]).values()
        for row in sorted(rows, key=lambda row: -(row["gain"] or {"mean": float("-inf")})["mean"])
    ]
    return Table("gains", "What each strategy gained", header, rows)


def _cells(row: Row, shown: list[int]) -> list[str]:
    return [
        row["pool"],
        row["strategy"],
        str(row["num_seeds"]),
        signed(row["gain"]),
        signed(row["gain_low"]),
        number(row["win_rate"], 2),
        number(row["p_holm"], 3),
        *[plain(row["auroc"][i]) for i in shown],
        f"{100 * row[f'all_classes_by_{LOW_BUDGET}']:.0f} %",
        f"{100 * row[f'classifier_by_{CLASSIFIER_BY}']:.0f} %",
    ]


def show(result: dict[str, Any]) -> None:
    """Print the table on standard output, and where the page is."""
    report.show(report_of(result), f"{result['out']}/selection.html")
