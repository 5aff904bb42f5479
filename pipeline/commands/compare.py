"""Two runs side by side, on the scans that both of them scored."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import write_text
from pipeline.evidence.stage import Scored, holdout
from pipeline.labels import holdout as labels_holdout
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine

log = logging.getLogger(__name__)


def compared(ctx: StageContext, other: Path) -> dict[str, Any]:
    """Two runs on the scans of both holdouts, paired."""
    from pipeline.evidence import full

    theirs_ctx = StageContext(run_dir.config_of(other), other, SerialEngine())
    ours, theirs = holdout(ctx), holdout(theirs_ctx)
    if ours is None or theirs is None:
        lacking = ctx.folder if ours is None else other
        raise InputError("has no scored holdout", where=lacking, fix="finish a round of it first")
    if ours.findings != theirs.findings:
        raise InputError(
            f"the runs tell other classes apart: {', '.join(ours.findings)} here",
            value=list(theirs.findings),
            where=other,
            fix="compare runs with the same findings",
        )
    if ours.positive != theirs.positive:
        raise InputError(
            "the other run counts another class as the finding",
            value=theirs.name_of_positive,
            where=other,
            fix=f"give both the same pool.positive; here it is {ours.name_of_positive}",
        )
    ours, theirs = _on_common_scans(ours, other, theirs)
    for folder in (ctx.folder, other):
        labels_holdout.log_read(folder, "comparison", None, len(ours.ids_S))
    found = full.compare(
        ours.prob_SC,
        ours.predicted_S,
        theirs.prob_SC,
        theirs.predicted_S,
        ours.class_S,
        ours.findings,
        ours.group_S,
        positive=ours.positive,
        num_bootstrap=ctx.config.evaluate.num_bootstrap,
        rng=ctx.rng("comparison"),
    )
    runs = [run_files.home(path).absolute() for path in (ctx.folder, other)]
    names = [path.name for path in runs]
    if names[0] == names[1]:
        names = [f"{path.parent.name}/{path.name}" for path in runs]
    found |= {"a": names[0], "b": names[1]}
    found["metrics"] = [
        {
            "metric": row["metric"],
            "a": row["first"],
            "b": row["second"],
            "difference": row["difference"],
            "ci95": row["difference_ci95"],
            "p_value": row["p_value"],
            "p_holm": row["p_holm"],
        }
        for row in found["metrics"]
    ]
    write_text(ctx.folder / run_files.COMPARISON, json.dumps(found, indent=1))
    return found


def _on_common_scans(ours: Scored, other: Path, theirs: Scored) -> tuple[Scored, Scored]:
    """Both, on the scans sealed in both runs, in one order.

    Raises:
        InputError: there are none, or the two disagree on a truth.
    """
    place = {image_id: i for i, image_id in enumerate(theirs.ids_S)}
    mine = [i for i, image_id in enumerate(ours.ids_S) if image_id in place]
    yours = [place[ours.ids_S[i]] for i in mine]
    if not mine:
        raise InputError("the holdouts share no scan", where=other, fix="compare runs on the same pool and split")
    if len(mine) < max(len(ours.ids_S), len(theirs.ids_S)):
        log.warning(
            "compared on the %d scans of both holdouts (%d and %d)", len(mine), len(ours.ids_S), len(theirs.ids_S)
        )
    ours, theirs = _taken(ours, mine), _taken(theirs, yours)
    if (ours.class_S != theirs.class_S).any():
        raise InputError(
            f"the runs disagree on the truth of {int((ours.class_S != theirs.class_S).sum())} scans",
            where=other,
            fix="use the same labels for both",
        )
    return ours, theirs


def _taken(scored: Scored, rows: list[int]) -> Scored:
    return replace(
        scored,
        ids_S=[scored.ids_S[i] for i in rows],
        group_S=[scored.group_S[i] for i in rows],
        class_S=scored.class_S[rows],
        prob_SC=scored.prob_SC[rows],
        predicted_S=scored.predicted_S[rows],
    )
