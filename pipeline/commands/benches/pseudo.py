"""`cxr-ssl bench pseudo`: ways to learn x budgets x seeds x pools, each against learning from expert labels alone."""

from collections.abc import Sequence
from typing import Any

from pipeline.baselines.curves import pseudo_curve, pseudo_figures, pseudo_report
from pipeline.baselines.curves.pseudo_curve import WAYS, WayHistory
from pipeline.baselines.curves.pseudo_figures import REFERENCE
from pipeline.commands.benches import curves
from pipeline.commands.benches.curves import Bench, CurvesRequest, Draw
from pipeline.contracts import config_file
from pipeline.contracts.errors import InputError
from pipeline.selection import strategies


def pseudo(request: CurvesRequest, compared: Sequence[str] = (), drawn_by: Sequence[str] = ()) -> dict[str, Any]:
    """Run the bench; returns its result, and writes `pseudo.json`, `.md` and `.html` into the folder.

    Args:
        request: What a user asked for.
        compared: Names of `pseudo_curve.WAYS`; none: all. Expert labels alone are always among them.
        drawn_by: The strategy that draws the labels, which are the same for all ways; none: random.

    Raises:
        InputError: no pool, an unknown way or strategy, a pool that is too small for the budgets, or a wrong option.
    """
    strategy = _checked(request, compared, drawn_by)
    ways = [way for way in WAYS if way == REFERENCE or not compared or way in compared]

    def tasks(draw: Draw) -> list[list[WayHistory]]:
        return [[WayHistory(strategy=strategy, way=way, **draw._asdict()) for way in ways]]

    bench = Bench(
        "pseudo", tasks, pseudo_curve.simulate, pseudo_figures.figures, pseudo_report.report_of, WayHistory.options
    )
    return curves.measure(request, bench)


def _checked(request: CurvesRequest, compared: Sequence[str], drawn_by: Sequence[str]) -> str:
    """The strategy, once everything is known to make sense."""
    if len(drawn_by) > 1:
        message = "the labels are drawn once, by one strategy, and all ways learn from them"
        raise InputError(message, value=list(drawn_by), where="--strategy", fix="give it once")
    for way in compared:
        if way not in WAYS:
            raise InputError("no such way to learn", value=way, where="--way", fix=f"known: {', '.join(WAYS)}")
    gate = config_file.load(None, request.overrides).pseudo.gate
    if gate != "estimated":
        message = "no checks are simulated that could certify, and without pseudo-labels there is nothing to compare"
        raise InputError(message, value=gate, where="pseudo.gate", fix="leave it at estimated")
    strategy = drawn_by[0] if drawn_by else "random"
    strategies.get(strategy)
    return strategy
