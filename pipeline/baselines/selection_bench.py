"""Strategies x seeds x pools: every history is a task, kept in a file when it is done, and never done twice."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.baselines import selection_curve
from pipeline.baselines.selection_curve import History
from pipeline.baselines.selection_figures import Curve
from pipeline.contracts.config import Config
from pipeline.contracts.tables import write_text
from pipeline.runtime import run_dir
from pipeline.runtime.context import StageContext


def options(config: Config) -> dict[str, Any]:
    """The options that decide a history, beside its strategy."""
    return {
        "strategy": config.strategy.model_dump(exclude={"name"}),
        "queue": {"uniform_share": config.queue.uniform_share},
        "train": config.train.model_dump(),
        "calibrate": config.calibrate.model_dump(),
    }


def run(ctx: StageContext, histories: Sequence[History]) -> list[Curve]:
    """Curves of all histories, in their order; those in the folder are taken over."""
    folder = ctx.folder / "histories"
    curves: dict[int, Curve] = {}
    todo = []
    for i, history in enumerate(histories):
        kept = _kept(folder, history)
        if kept is None:
            todo.append(i)
        else:
            curves[i] = kept
    curves |= dict(_simulated(ctx, histories, todo))
    return [curves[i] for i in range(len(histories))]


def _simulated(ctx: StageContext, histories: Sequence[History], todo: Sequence[int]) -> Iterator[tuple[int, Curve]]:
    done = len(histories) - len(todo)
    ctx.progress("histories", done, len(histories))
    for index, curve in ctx.engine.map_shards(selection_curve.simulate, [histories[i] for i in todo]):
        history = histories[todo[index]]
        text = json.dumps({"fingerprint": fingerprint(history), "curve": curve})
        write_text(_path(ctx.folder / "histories", history), text)
        done += 1
        ctx.progress("histories", done, len(histories))
        yield todo[index], curve


def _kept(folder: Path, history: History) -> Curve | None:
    path = _path(folder, history)
    kept = json.loads(path.read_text("utf-8")) if path.exists() else {}
    curve: Curve | None = kept["curve"] if kept.get("fingerprint") == fingerprint(history) else None
    return curve


def _path(folder: Path, history: History) -> Path:
    rare = "" if history.rare is None else f"-{history.rare:g}"
    return folder / f"{history.name}{rare}-{history.strategy}-{history.seed}.json"


def fingerprint(history: History) -> str:
    """What decides a curve."""
    return run_dir.fingerprint(
        {
            "version": __version__,
            "pool": hashlib.sha256(history.pool.read_bytes()).hexdigest(),
            "rare": history.rare,
            "strategy": history.strategy,
            "seed": history.seed,
            "budgets": list(history.budgets),
            "config": options(history.config),
        }
    )
