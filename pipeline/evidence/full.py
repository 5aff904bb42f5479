"""The evidence a statistician asks for, as pure functions over arrays: operating points, calibration, slices.

Shapes: N scans, C findings.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pipeline.evidence.calibration_slope import calibration
from pipeline.evidence.decision_curve import decision_curve
from pipeline.evidence.operating_points import operating_points
from pipeline.evidence.paired_comparison import compare
from pipeline.evidence.predictive_values import predictive_values
from pipeline.evidence.subgroups import slice_table
from pipeline.measures import holdout_metrics
from pipeline.measures.folds import group_index

__all__ = ["compare", "full"]


def full(
    prob_NC: ArrayLike,
    predicted_N: ArrayLike,
    truth_N: ArrayLike,
    findings: Sequence[str],
    groups_N: Sequence[Hashable],
    slices: Mapping[str, Sequence[str | None]],
    *,
    positive: int | None,
    prevalences: Sequence[float],
    num_bootstrap: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Everything about one model on one set of scans, JSON-able, None where undefined.

    The tables list the positive class, or, where there is none, each against the rest. The first part is drawn
    first: with the same `rng` it is `holdout_metrics.evaluate` to the bit.

    Args:
        prob_NC: Calibrated probabilities, rows sum to 1, (N, C).
        predicted_N: Class index at the model's operating point, (N,).
        truth_N: Class index, (N,).
        findings: C names.
        groups_N: Patient-group ids, (N,).
        slices: What is sliced by to each scan's slice, (N,).
        positive: Index of the class that is the finding; None where no single one is.
        prevalences: Deployment prevalences for PPV and NPV, inside (0, 1).
        num_bootstrap: Replicates; 0 leaves the intervals None.
        rng: The only randomness.

    Returns:
        `{"overall", "operating_points", "predictive_values", "calibration", "decision_curve", "slices"}`, each
        as the function of that name returns it.

    Raises:
        ValueError: As `holdout_metrics.evaluate`; on a prevalence outside (0, 1), or slices that are not one per scan.
    """
    overall = holdout_metrics.evaluate(
        prob_NC, predicted_N, truth_N, findings, groups_N, positive=positive, num_bootstrap=num_bootstrap, rng=rng
    )
    prob_NC, predicted_N, truth_N = holdout_metrics.checked(prob_NC, predicted_N, truth_N, findings, positive)
    group_of_N = group_index(groups_N)
    draw: dict[str, Any] = {"positive": positive, "num_bootstrap": num_bootstrap, "rng": rng}
    points = operating_points(prob_NC, predicted_N, truth_N, findings, group_of_N, **draw)
    return {
        "overall": overall.to_json(),
        "operating_points": points,
        "predictive_values": predictive_values(points, overall.prevalence, prevalences),
        "calibration": calibration(prob_NC, truth_N, findings, group_of_N, **draw),
        "decision_curve": decision_curve(prob_NC, truth_N, findings, group_of_N, **draw),
        "slices": slice_table(prob_NC, predicted_N, truth_N, findings, group_of_N, slices, **draw),
    }
