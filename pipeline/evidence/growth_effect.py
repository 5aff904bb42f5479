"""What growing did: the last model before the run grew against the model of now, on the old and the new holdout.

Both have never seen a scan of either holdout, and are scored on the same scans, redrawn by patient.

Legend: S scored scans.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.contracts.tables import PREDICTIONS
from pipeline.evidence.paired_comparison import compare
from pipeline.evidence.scored import Scored, probabilities
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.growth import record

OLD, NEW, TOGETHER = "old", "new", "together"


def compared(ctx: StageContext, scored: Scored) -> dict[str, Any] | None:
    """What `evaluation.json` says under `growth`; None of a run that never grew.

    Args:
        ctx: The run.
        scored: Its holdout, of all parts, as its last model sees it.

    Returns:
        {"parts","before_round","round","why_not","sets"}: the parts that joined after the last round before; the
        rounds whose models are compared; why there is no comparison, else null; and {"which","num_scans","comparison"}
        for the holdouts of before (`old`), of those parts (`new`) and both (`together`), `comparison` as
        `paired_comparison.compare` makes it with the model before first, null where the set has no scan.
    """
    parts = record.newest(ctx.folder)
    if not parts:
        return None
    part = parts[-1]
    place, last = record.before_folder(ctx.folder, part.part), run_files.last_round(ctx.folder) or 0
    numbers = [part_read.part for part_read in parts]
    facts: dict[str, Any] = {"parts": numbers, "before_round": part.after_round or None, "round": last}
    if not (place / PREDICTIONS.file).exists():
        return facts | {"why_not": "no round before had a classifier", "sets": []}
    if _has_learned_since(ctx, part.after_round, numbers[0]):
        return facts | {"why_not": "the finding was added later, and has learned from the new scans alike", "sets": []}
    if last <= part.after_round:
        return facts | {"why_not": "no round has been finished since", "sets": []}
    prob_SC, predicted_S = probabilities(PREDICTIONS.read(place), scored.ids_S, scored.findings)
    part_S = record.part_of(ctx.folder, pa.array(scored.ids_S, pa.string()))
    masks = {OLD: part_S < numbers[0], NEW: part_S >= numbers[0], TOGETHER: part_S >= 0}
    sets = [
        {
            "which": which,
            "num_scans": int(mask_S.sum()),
            "comparison": _comparison(ctx, scored, prob_SC, predicted_S, mask_S) if mask_S.any() else None,
        }
        for which, mask_S in masks.items()
    ]
    return facts | {"why_not": None, "sets": sets}


def _has_learned_since(ctx: StageContext, round_index: int, part: int) -> bool:
    """Whether a round from before a part joined predicts its scans: then it was learned on the grown pool."""
    if not (ctx.round_folder(round_index) / PREDICTIONS.file).exists():
        return False
    ids = PREDICTIONS.read(ctx.round_folder(round_index))["image_id"]
    return bool((record.part_of(ctx.folder, ids) >= part).any())


def _comparison(
    ctx: StageContext, scored: Scored, prob_SC: np.ndarray, predicted_S: np.ndarray, mask_S: np.ndarray
) -> dict[str, Any]:
    return compare(
        prob_SC[mask_S],
        predicted_S[mask_S],
        scored.prob_SC[mask_S],
        scored.predicted_S[mask_S],
        scored.class_S[mask_S],
        scored.findings,
        [group for group, kept in zip(scored.group_S, mask_S, strict=True) if kept],
        positive=scored.positive,
        num_bootstrap=ctx.config.evaluate.num_bootstrap,
        rng=ctx.rng("growth"),
    )
