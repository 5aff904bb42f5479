"""What a holdout can tell: the width of the intervals it will give, known before any model is.

Sources: Wilson 1927; Hanley & McNeil 1982; Kish 1965 (design effect).
"""

from typing import Any

import numpy as np
from scipy import stats

from pipeline.measures.bootstrap import wilson

# How alike a model's mistakes are on scans of one patient (0: independent, 1: one scan says it all). Unknown
# before there is a model; half is on the careful side.
INTRACLASS = 0.5


def share_width(
    num_scans: int,
    num_patients: int,
    *,
    share: float = 0.5,
    intraclass: float = INTRACLASS,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """How well a sensitivity can be known from `num_scans` positive scans of `num_patients` patients.

    The same for a specificity from negatives, an accuracy from all scans. One half is the worst case.

    Args:
        num_scans: Scans the share is of.
        num_patients: Patients they come from.
        share: The share expected, 0..1.
        intraclass: Correlation of mistakes within a patient, 0..1.
        confidence: Two-sided, inside (0, 1).

    Returns:
        `{"num_scans", "num_patients", "design_effect", "effective_size", "share", "half_width",
        "half_width_if_independent", "interval"}`; half_width is half of Wilson's interval at the effective
        size, `scans / (1 + (scans per patient - 1) * intraclass)`; None without scans.

    Raises:
        ValueError: On counts that cannot be, or values outside 0..1.
    """
    _check_counts(num_scans, num_patients)
    if not (0 <= share <= 1 and 0 <= intraclass <= 1 and 0 < confidence < 1):
        raise ValueError(f"share {share}, intraclass {intraclass} and confidence {confidence} must be within 0..1")
    out: dict[str, Any] = {"num_scans": num_scans, "num_patients": num_patients, "share": share}
    names = ("design_effect", "effective_size", "half_width", "half_width_if_independent", "interval")
    if num_scans == 0:
        return out | dict.fromkeys(names)
    design_effect = 1 + (num_scans / num_patients - 1) * intraclass
    quantile = float(stats.norm.isf((1 - confidence) / 2))
    low, high = wilson(share, num_scans / design_effect, quantile)
    free_low, free_high = wilson(share, num_scans, quantile)
    values = (design_effect, num_scans / design_effect, (high - low) / 2, (free_high - free_low) / 2, [low, high])
    return out | dict(zip(names, values, strict=True))


def auroc_width(
    auroc: float,
    num_positive: int,
    num_negative: int,
    *,
    design_effect: float = 1.0,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """Half-width of the interval that an AUROC of that height will have.

    Args:
        auroc: Expected, inside (0, 1).
        num_positive: Scans with the finding.
        num_negative: Scans without.
        design_effect: As from `share_width`; multiplies the variance.
        confidence: Two-sided, inside (0, 1).

    Returns:
        `{"auroc", "standard_error", "half_width"}`, None without scans of a side.

    Raises:
        ValueError: On an AUROC outside (0, 1) or a design effect under 1.

    Source: Hanley & McNeil 1982.
    """
    if not 0 < auroc < 1 or design_effect < 1:
        raise ValueError(f"cannot give the width of an AUROC of {auroc} with a design effect of {design_effect}")
    if num_positive < 1 or num_negative < 1:
        return {"auroc": auroc, "standard_error": None, "half_width": None}
    both_above, both_below = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    variance = (
        auroc * (1 - auroc)
        + (num_positive - 1) * (both_above - auroc**2)
        + (num_negative - 1) * (both_below - auroc**2)
    ) / (num_positive * num_negative)
    error = float(np.sqrt(variance * design_effect))
    half_width = float(stats.norm.isf((1 - confidence) / 2)) * error
    return {"auroc": auroc, "standard_error": error, "half_width": half_width}


def _check_counts(num_scans: int, num_patients: int) -> None:
    if num_scans < 0 or num_patients > num_scans or (num_scans > 0 and num_patients < 1):
        raise ValueError(f"{num_scans} scans cannot come from {num_patients} patients")
