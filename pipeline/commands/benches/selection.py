"""`cxr-ssl bench selection`: strategies x budgets x seeds x pools, each against random selection."""

from collections.abc import Sequence
from typing import Any

from pipeline.baselines.curves import selection_curve, selection_figures, selection_report
from pipeline.baselines.curves.asking import History
from pipeline.baselines.curves.selection_figures import REFERENCE
from pipeline.commands.benches import curves
from pipeline.commands.benches.curves import Bench, CurvesRequest, Draw
from pipeline.selection import strategies


def selection(request: CurvesRequest, compared: Sequence[str] = ()) -> dict[str, Any]:
    """Run the bench; returns its result, and writes `selection.json`, `.md` and `.html` into the folder.

    Args:
        request: What a user asked for.
        compared: Names of strategies; none: all. Random is always among them.

    Raises:
        InputError: no pool, an unknown strategy, a pool that is too small for the budgets, or a wrong option.
    """
    names = dict.fromkeys((*(compared or strategies.STRATEGIES), REFERENCE))
    for name in names:
        strategies.get(name)

    def tasks(draw: Draw) -> list[list[History]]:
        return [[History(strategy=name, **draw._asdict())] for name in names]

    bench = Bench(
        "selection",
        tasks,
        selection_curve.simulate,
        selection_figures.figures,
        selection_report.report_of,
        History.options,
    )
    return curves.measure(request, bench)
