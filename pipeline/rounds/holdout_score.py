"""Score the sealed holdout at the end of a round."""

import numpy as np
import pyarrow as pa

from pipeline.labels.classes import positive_among
from pipeline.labels.holdout import holdout_truth, log_read
from pipeline.measures import holdout_metrics
from pipeline.measures.holdout_record import HoldoutMetrics
from pipeline.runtime.context import StageContext
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
    ids, class_N, group_N = holdout_truth(ctx.folder, findings)
    vectors = Vectors.open(ctx.folder)
    has = vectors.has(pa.array(ids, pa.string())).to_numpy(zero_copy_only=False)
    ids = [image_id for image_id, has_vector in zip(ids, has, strict=True) if has_vector]
    if not ids:
        return None
    rows = vectors.positions(ids)
    metrics = holdout_metrics.evaluate(
        prob_NC[rows],
        predicted_N[rows],
        class_N[has],
        findings,
        [group for group, kept in zip(group_N, has, strict=True) if kept],
        positive=positive_among(ctx.config.pool, findings),
        num_bootstrap=ctx.config.evaluate.num_bootstrap,
        rng=ctx.rng("evaluate", round_index),
    )
    log_read(ctx.folder, reader, round_index, len(ids))
    return metrics
