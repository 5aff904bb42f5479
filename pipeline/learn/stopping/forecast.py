"""A round's forecast: from its expert labels to the gain that further labels would buy, or why nothing can be said."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.contracts.options.learning import StopConfig
from pipeline.learn.stopping import power_law
from pipeline.learn.stopping.observed_curve import MIN_OF_CLASS, Observed

# E expert labels, C classes

MIN_PATIENTS = 10
MAX_LABELS = 2000  # that a curve is drawn from; of more labels a part, whole patients drawn by chance
NUM_POINTS = 25  # of the curve as it is drawn


def too_early(class_E: np.ndarray, group_E: Sequence[str], findings: Sequence[str], options: StopConfig) -> str:
    """Why these labels are too few to forecast from; empty where they are enough.

    Args:
        class_E: Class index of each expert label.
        group_E: Its patient group.
        findings: C classes.
        options: The fewest labels.
    """
    if len(class_E) < options.min_labels:
        return f"{len(class_E)} expert labels, and {options.min_labels} are needed (stop.min_labels)"
    count_C = np.bincount(class_E, minlength=len(findings))
    few = [f"{count} of {finding}" for finding, count in zip(findings, count_C, strict=True) if count < MIN_OF_CLASS]
    if few:
        return f"only {', '.join(few)}, and {MIN_OF_CLASS} labels of each class are needed"
    num_patients = [len({g for g, c in zip(group_E, class_E, strict=True) if c == k}) for k in range(len(findings))]
    few = [f"{num} of {finding}" for finding, num in zip(findings, num_patients, strict=True) if num < 2]
    if few or len(set(group_E)) < MIN_PATIENTS:
        return f"labels of {len(set(group_E))} patients, and {MIN_PATIENTS} are needed, 2 of each class"
    return ""


def nothing(why: str, num_labels: int, options: StopConfig) -> dict[str, Any]:
    """The forecast that says it cannot say."""
    return {
        "why": why,
        "num_labels": num_labels,
        "confidence": options.confidence,
        "scores": {},
        "buys_little": False,
    }


def describe(
    curves: Mapping[str, Observed], num_labels: int, horizons: Sequence[int], options: StopConfig
) -> dict[str, Any]:
    """The forecast as data.

    Args:
        curves: For each score the observed curve.
        num_labels: Today's labels.
        horizons: Numbers of further labels, rising, at least one.
        options: Confidence of the intervals, and which gain is too little.

    Returns:
        {"why","num_labels","confidence","scores","buys_little"}: `why` is empty; `scores` holds for `auroc`,
        `accuracy` and `balanced_accuracy` {"now","observed","curve","gains"}; `buys_little` says whether the upper end
        of the interval of AUROC at the last horizon is below `stop.min_gain`.
    """
    scores = {name: _score(curve, num_labels, horizons, options.confidence) for name, curve in curves.items()}
    return nothing("", num_labels, options) | {
        "scores": scores,
        "buys_little": scores["auroc"]["gains"][-1]["high"] < options.min_gain,
    }


def _score(curve: Observed, num_labels: int, horizons: Sequence[int], confidence: float) -> dict[str, Any]:
    law = power_law.fit(curve, num_labels)
    now = law.score(num_labels)
    sizes = np.unique(np.geomspace(curve.size_S[0], num_labels + horizons[-1], NUM_POINTS).round().astype(int))
    points = []
    for size in sizes.tolist():
        gain = law.gain(size - num_labels, confidence) if size > num_labels else None
        band = {"low": None, "high": None} if gain is None else {"low": now + gain.low, "high": now + gain.high}
        points.append({"num_labels": size, "score": law.score(size), **band})
    error_S = np.sqrt(np.diag(curve.covariance_SS))
    observed = zip(curve.size_S, curve.score_S, error_S, strict=True)
    gains = (law.gain(labels, confidence) for labels in horizons)
    return {
        "now": now,
        "observed": [
            {"num_labels": float(n), "score": float(score), "standard_error": float(error)}
            for n, score, error in observed
        ],
        "curve": points,
        "gains": [{"labels": g.labels, "mean": g.mean, "low": g.low, "high": g.high} for g in gains],
    }
