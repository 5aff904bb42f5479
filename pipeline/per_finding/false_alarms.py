"""False alarms add up: how many scans that show none of the findings would be called one of them.

A finding by itself may be called falsely in few scans, and some finding or other in many.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow.compute as pc

from pipeline.contracts import finding_line
from pipeline.contracts.tables import PREDICTIONS
from pipeline.labels.holdout import holdout_truth, log_read
from pipeline.measures import bootstrap
from pipeline.measures.folds import group_index
from pipeline.measures.weighted_metrics import Informed
from pipeline.runtime.context import StageContext

# N healthy scans of the holdout, B bootstrap replicates


def of_healthy_scans(ctx: StageContext, parts: Mapping[str, StageContext], round_index: int) -> dict[str, Any] | None:
    """Scans of the sealed holdout that show none of the findings, and those of them called at least one.

    Args:
        ctx: Of the run.
        parts: Of each finding; one without a classifier is left out.
        round_index: Whose predictions are judged.

    Returns:
        {"num_scans","num_alarmed","share","ci95","findings"}; the interval resamples patients. None where no scan is
        known to show none of the findings that have a classifier.
    """
    healthy: dict[str, str] | None = None  # image_id to patient group
    alarmed: set[str] = set()
    judged: list[str] = []
    for finding, part in parts.items():
        folder = part.round_folder(round_index)
        if not (folder / PREDICTIONS.file).exists():
            continue
        judged.append(finding)
        table = PREDICTIONS.read(folder)
        alarmed |= set(table.filter(pc.equal(table["predicted"], finding))["image_id"].to_pylist())
        known = set(table["image_id"].to_pylist())
        ids, class_N, group_N = holdout_truth(part.folder, finding_line.question(finding))
        rows = zip(ids, class_N, group_N, strict=True)
        absent = {image_id: group for image_id, c, group in rows if c == 0 and image_id in known}
        healthy = absent if healthy is None else {i: group for i, group in healthy.items() if i in absent}
    if not healthy:
        return None
    log_read(ctx.folder, "evaluate", round_index, len(healthy))
    alarm_N = np.array([image_id in alarmed for image_id in healthy])
    rng = ctx.rng("false-alarms", round_index)
    ci95 = _interval(alarm_N, list(healthy.values()), ctx.config.evaluate.num_bootstrap, rng)
    return {
        "num_scans": len(alarm_N),
        "num_alarmed": int(alarm_N.sum()),
        "share": float(alarm_N.mean()),
        "ci95": ci95,
        "findings": judged,
    }


def _interval(
    alarm_N: np.ndarray, groups: list[str], num_bootstrap: int, rng: np.random.Generator
) -> list[float] | None:
    """95 % interval of the share of alarms, by redrawn patients."""
    group_of_N = group_index(groups)

    def measure(weight_BN: np.ndarray) -> dict[str, np.ndarray]:
        return {"share": weight_BN @ alarm_N / weight_BN.sum(axis=1)}

    replicates = bootstrap.replicates(measure, group_of_N, num_bootstrap, rng)
    num_groups = int(group_of_N.max()) + 1
    if not replicates:
        return None
    return Informed(num_groups, num_groups - 1).interval(float(alarm_N.mean()), replicates["share"])
