"""Simulated histories as tasks: a curve is kept in a file when it is done, and never done twice."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from pipeline.baselines.curves.asking import History
from pipeline.baselines.curves.figures import Curve
from pipeline.contracts.tables import write_text
from pipeline.runtime.context import StageContext

H = TypeVar("H", bound=History)


def run(ctx: StageContext, tasks: Sequence[Sequence[H]], simulate: Callable[[Sequence[H]], list[Curve]]) -> list[Curve]:
    """Curves of all histories, in their order; those in the folder are taken over.

    Args:
        ctx: Folder and engine.
        tasks: Histories that share work run in one task; of a task only those without a curve run.
        simulate: Curves of a task's histories, in their order.
    """
    folder = ctx.folder / "histories"
    histories = [history for task in tasks for history in task]
    curves = {history.file_name: curve for history in histories if (curve := _kept(folder, history)) is not None}
    left = [[history for history in task if history.file_name not in curves] for task in tasks]
    todo = [task for task in left if task]
    ctx.progress("histories", len(curves), len(histories))
    ctx.engine.expect(num_networks=len(todo))  # as long as networks, and often networks
    for index, of_task in ctx.engine.map_shards(simulate, todo):
        for history, curve in zip(todo[index], of_task, strict=True):
            write_text(folder / history.file_name, json.dumps({"fingerprint": history.fingerprint, "curve": curve}))
            curves[history.file_name] = curve
        ctx.progress("histories", len(curves), len(histories))
    return [curves[history.file_name] for history in histories]


def _kept(folder: Path, history: History) -> Curve | None:
    path = folder / history.file_name
    kept = json.loads(path.read_text("utf-8")) if path.exists() else {}
    curve: Curve | None = kept["curve"] if kept.get("fingerprint") == history.fingerprint else None
    return curve
