"""Two runs, or one finding of each, paired on the scans that both of them scored."""

import json
import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import write_text
from pipeline.evidence.scored import Scored
from pipeline.evidence.stage import holdout
from pipeline.labels import holdout as labels_holdout
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine

log = logging.getLogger(__name__)


def compared(ctx: StageContext, other: Path) -> dict[str, Any]:
    """Two runs on the scans of both holdouts, paired; written to `comparison.json`, and both reads are logged.

    Raises:
        InputError: as `paired`.
    """
    comparison = paired(ctx, other)
    log_reads((ctx.folder, other), comparison["num_scans"])
    write_text(ctx.folder / run_files.COMPARISON, json.dumps(comparison, indent=1))
    return comparison


def log_reads(folders: Iterable[Path], num_scans: int) -> None:
    """Note in each folder that a comparison has read its holdout."""
    for folder in folders:
        labels_holdout.log_read(folder, "comparison", None, num_scans)


def paired(ctx: StageContext, other: Path) -> dict[str, Any]:
    """Differences between two runs, the other one's score less this one's; the caller logs that holdouts were read.

    Args:
        ctx: This run, or one finding of it.
        other: The other run, or the same finding of it.

    Returns:
        {"num_scans", "num_groups", "metrics": [{"metric", "a", "b", "difference", "ci95", "p_value", "p_holm"}],
        "delong", "a", "b"}: `a` is this run, `b` the other; see `paired_comparison.compare`.

    Raises:
        InputError: one has no scored holdout, they share no scan, tell other classes apart, count another class as the
            finding, or disagree on a truth.
    """
    from pipeline.evidence import full

    first, second = _both_scored(ctx, other)
    comparison = full.compare(
        first.prob_SC,
        first.predicted_S,
        second.prob_SC,
        second.predicted_S,
        first.class_S,
        first.findings,
        first.group_S,
        positive=first.positive,
        num_bootstrap=ctx.config.evaluate.num_bootstrap,
        rng=ctx.rng("comparison"),
    )
    runs = [run_files.home(path).absolute() for path in (ctx.folder, other)]
    names = [path.name for path in runs]
    if names[0] == names[1]:
        names = [f"{path.parent.name}/{path.name}" for path in runs]
    comparison |= {"a": names[0], "b": names[1]}
    comparison["metrics"] = [
        {
            "metric": row["metric"],
            "a": row["first"],
            "b": row["second"],
            "difference": row["difference"],
            "ci95": row["difference_ci95"],
            "p_value": row["p_value"],
            "p_holm": row["p_holm"],
        }
        for row in comparison["metrics"]
    ]
    return comparison


def _both_scored(ctx: StageContext, other: Path) -> tuple[Scored, Scored]:
    """Both runs on the scans sealed in both, in one order; see `paired` for what is refused."""
    first = holdout(ctx)
    second = holdout(StageContext(run_dir.config_of(other), other, SerialEngine()))
    if first is None or second is None:
        lacking = ctx.folder if first is None else other
        raise InputError("has no scored holdout", where=lacking, fix="finish a round of it first")
    same_classes = set(first.findings) == set(second.findings)
    if first.findings != second.findings and not (same_classes and first.name_of_positive != second.name_of_positive):
        raise InputError(
            f"the runs tell other classes apart: {', '.join(first.findings)} here",
            value=list(second.findings),
            where=other,
            fix="compare runs with the same findings",
        )
    if first.name_of_positive != second.name_of_positive:
        raise InputError(
            "the other run counts another class as the finding",
            value=second.name_of_positive,
            where=other,
            fix=f"give both the same pool.positive; here it is {first.name_of_positive}",
        )
    return _on_common_scans(first, other, second)


def _on_common_scans(first: Scored, other: Path, second: Scored) -> tuple[Scored, Scored]:
    """Both, on the scans sealed in both runs, in one order.

    Raises:
        InputError: there are none, or the two disagree on a truth.
    """
    place = {image_id: i for i, image_id in enumerate(second.ids_S)}
    shared_rows = [i for i, image_id in enumerate(first.ids_S) if image_id in place]
    yours = [place[first.ids_S[i]] for i in shared_rows]
    if not shared_rows:
        raise InputError("the holdouts share no scan", where=other, fix="compare runs on the same pool and split")
    if len(shared_rows) < max(len(first.ids_S), len(second.ids_S)):
        log.warning(
            "compared on the %d scans of both holdouts (%d and %d)",
            len(shared_rows),
            len(first.ids_S),
            len(second.ids_S),
        )
    first, second = _taken(first, shared_rows), _taken(second, yours)
    if (first.class_S != second.class_S).any():
        raise InputError(
            f"the runs disagree on the truth of {int((first.class_S != second.class_S).sum())} scans",
            where=other,
            fix="use the same labels for both",
        )
    return first, second


def _taken(scored: Scored, rows: list[int]) -> Scored:
    return replace(
        scored,
        ids_S=[scored.ids_S[i] for i in rows],
        group_S=[scored.group_S[i] for i in rows],
        class_S=scored.class_S[rows],
        prob_SC=scored.prob_SC[rows],
        predicted_S=scored.predicted_S[rows],
    )
