"""Score the sealed holdout at the end of a round; of a run that has grown also that of each part."""

from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.labels.classes import positive_among
from pipeline.labels.holdout import holdout_truth, log_read
from pipeline.measures import holdout_metrics
from pipeline.measures.holdout_record import HoldoutMetrics
from pipeline.runtime.context import StageContext
from pipeline.runtime.growth import record
from pipeline.vectors.matrix import Vectors


def evaluate(
    ctx: StageContext,
    round_index: int,
    prob_NC: np.ndarray,
    predicted_N: np.ndarray,
    findings: tuple[str, ...],
    reader: str = "evaluate",
) -> HoldoutMetrics | None:
    """Metrics of the holdout with patient-cluster bootstrap intervals; None where no holdout label is known.

    Args:
        ctx: The stage's context.
        round_index: Which round reads.
        prob_NC: Calibrated probabilities of every scan with a vector.
        predicted_N: Their classes at the operating point.
        findings: C classes.
        reader: Who asks, for the log.
    """
    scores = _Scores(ctx, round_index, prob_NC, predicted_N, findings)
    if not scores.truth.ids:
        return None
    metrics = scores.of(np.ones(len(scores.truth.ids), bool))
    log_read(ctx.folder, reader, round_index, len(scores.truth.ids))
    return metrics


def by_part(
    ctx: StageContext, round_index: int, prob_NC: np.ndarray, predicted_N: np.ndarray, findings: tuple[str, ...]
) -> dict[str, Any]:
    """The fields of a round's row that tell the holdouts of a grown run apart; none of a run that never grew.

    Returns:
        {"holdout_parts": [{"part","holdout"}]}: the run's own as part 0, then that of each pool that joined; null
        where no label of it is known.
    """
    if not record.parts(ctx.folder):
        return {}
    scores = _Scores(ctx, round_index, prob_NC, predicted_N, findings)
    part_N = record.part_of(ctx.folder, pa.array(scores.truth.ids, pa.string()))
    rows = []
    for part in (record.OWN, *(part_read.part for part_read in record.parts(ctx.folder))):
        of_part_N = part_N == part
        rows.append({"part": part, "holdout": scores.of(of_part_N).to_json() if of_part_N.any() else None})
    return {"holdout_parts": rows}


class _Scores:
    """The holdout's scans that have a vector, and what a round says of them."""

    def __init__(
        self,
        ctx: StageContext,
        round_index: int,
        prob_NC: np.ndarray,
        predicted_N: np.ndarray,
        findings: tuple[str, ...],
    ) -> None:
        self.ctx, self.round_index, self.findings = ctx, round_index, findings
        truth, vectors = holdout_truth(ctx.folder, findings), Vectors.open(ctx.folder)
        self.truth = truth.keep(vectors.has(pa.array(truth.ids, pa.string())).to_numpy(zero_copy_only=False))
        rows = vectors.positions(self.truth.ids)
        self.prob_SC, self.predicted_S = prob_NC[rows], predicted_N[rows]

    def of(self, mask_S: np.ndarray) -> HoldoutMetrics:
        """Metrics of the scans where the mask is True."""
        truth, ctx = self.truth.keep(mask_S), self.ctx
        return holdout_metrics.evaluate(
            self.prob_SC[mask_S],
            self.predicted_S[mask_S],
            truth.class_N,
            self.findings,
            truth.group_N,
            positive=positive_among(ctx.config.pool, self.findings),
            num_bootstrap=ctx.config.evaluate.num_bootstrap,
            rng=ctx.rng("evaluate", self.round_index),
        )
