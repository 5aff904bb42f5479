"""The bench of ways to learn as a person reads it: gains over expert labels alone, and how honest the estimate is."""

from typing import Any

from pipeline.baselines.curves import report
from pipeline.baselines.curves.pseudo_figures import REFERENCE
from pipeline.baselines.curves.report import Chart, Report, Row, Table, number, plain, shown_budgets, signed

HOW = (
    "The labels of a seed and budget are drawn once, and all ways learn from them, so that differences are paired; the "
    "sealed holdout judges. expert: the head on expert labels alone. pseudo: a head on these and the pseudo-labels "
    "that an estimate admits. pseudo+neighbours: also on labels spread over the neighbour graph, for the scans left "
    "open. average: the mean of the expert head and what the options let a student learn from (by default that of "
    "pseudo), which a run uses. average+neighbours: its mean with pseudo+neighbours. self_training, label_spreading: "
    "scikit-learn's, over a logistic regression like the expert head, and over as many neighbours. Gain: area under "
    "the measure over the logarithm of the budget, less that of expert; of ECE less is better. Wins: share of the "
    "seeds in which a way is better. p: Wilcoxon's signed ranks, for each measure Holm's over all rows. Intervals are "
    "95 % t-intervals over the seeds. Before two classes are labelled, AUROC counts as .5 and all classes as equally "
    "probable."
)
LABELS = {"auroc": "AUROC", "accuracy": "accuracy", "ece": "ECE"}


def report_of(result: dict[str, Any]) -> Report:
    """Tables and charts of a result."""
    charts = {
        pool: [_chart(f"pool{i}{measure}", rows, measure, result["num_seeds"]) for measure in LABELS]
        for i, (pool, rows) in enumerate(report.by_pool(result["rows"]).items())
    }
    tables = [gains(result), values(result), precision(result)]
    return Report("Ways to learn against expert labels alone", HOW, tables, charts)


def _chart(name: str, rows: list[Row], measure: str, num_seeds: int) -> Chart:
    drawn = report.chart(name, rows, "way", REFERENCE, measure, f"{LABELS[measure]} of the holdout")
    return Chart(drawn, f"Mean {LABELS[measure]} over {num_seeds} seeds; bands are 95 % t-intervals.")


def gains(result: dict[str, Any]) -> Table:
    """What each way gained; within a pool the largest gain of AUROC comes first, and the reference last."""
    span = f"{result['budgets'][0]}–{result['budgets'][-1]}"
    header = ["pool", "way", "seeds", f"AUROC, {span}", "wins", "p (Holm)", "accuracy", "wins", "p (Holm)"]
    header += ["ECE (less is better)", "wins"]
    rows = [
        [row["pool"], row["way"], str(row["num_seeds"]), *_gain_cells(row["gain"])]
        for rows in report.by_pool(result["rows"]).values()
        for row in sorted(rows, key=lambda row: -(row["gain"]["auroc"]["mean"] if row["gain"] else float("-inf")))
    ]
    return Table("gains", "What each way gained", header, rows)


def _gain_cells(gain: Row | None) -> list[str]:
    if gain is None:
        return ["–"] * 8
    cells = []
    for measure in ("auroc", "accuracy"):
        figure = gain[measure]
        cells += [signed(figure), number(figure["win_rate"], 2), number(figure["p_holm"], 3)]
    return [*cells, signed(gain["ece"]), number(gain["ece"]["win_rate"], 2)]


def values(result: dict[str, Any]) -> Table:
    """The measures themselves at a few budgets."""
    budgets = shown_budgets(result["budgets"])
    shown = [result["budgets"].index(budget) for budget in budgets]
    header = ["pool", "way", *[f"{label} @{budget}" for label in LABELS.values() for budget in budgets]]
    rows = [
        [row["pool"], row["way"], *[plain(row[measure][i]) for measure in LABELS for i in shown]]
        for row in result["rows"]
    ]
    return Table("values", "AUROC, accuracy and ECE of the holdout", header, rows)


def precision(result: dict[str, Any]) -> Table:
    """Pseudo-labels: how many, how precise, and how far off the estimate is; ways that share them share a row."""
    budgets = shown_budgets(result["budgets"])
    shown = [result["budgets"].index(budget) for budget in budgets]
    header = ["pool", "ways", *[f"pseudo-labels @{budget}" for budget in budgets]]
    header += [f"{kind} @{budget}" for budget in budgets for kind in ("estimated", "realised")]
    header += ["estimated − realised, mean", "absolute"]
    rows = []
    for pool, of_pool in report.by_pool(result["rows"]).items():
        for ways, pseudo in _sharing(of_pool):
            counts = [number((pseudo["num"][i] or {}).get("mean"), 0) for i in shown]
            shares = [plain(pseudo[kind][i]) for i in shown for kind in ("estimated", "realised")]
            rows.append([pool, ", ".join(ways), *counts, *shares, signed(pseudo["signed"]), plain(pseudo["absolute"])])
    title = "Pseudo-labels: share of right ones, estimated and realised"
    return Table("precision", title, header, rows)


def _sharing(rows: list[Row]) -> list[tuple[list[str], Row]]:
    """Names of the ways with the same pseudo-labels, and these."""
    shared: list[tuple[list[str], Row]] = []
    for row in rows:
        if row["pseudo"] is None:
            continue
        if shared and shared[-1][1] == row["pseudo"]:
            shared[-1][0].append(row["way"])
        else:
            shared.append(([row["way"]], row["pseudo"]))
    return shared


def show(result: dict[str, Any]) -> None:
    """Print the tables on standard output, and where the page is."""
    report.show(report_of(result), f"{result['out']}/pseudo.html")
