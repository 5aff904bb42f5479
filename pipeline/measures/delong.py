"""DeLong's test of two AUROCs on the same scans, and Obuchowski's variance of it for patients with several scans.

Shapes: N scans, P with the finding, Q without it, 2 models.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.measures.bootstrap import Floats, Ints

NOTE = "takes scans as independent, ignores patients with several"
ROUNDING = 1e-12


def delong(
    score_first_N: ArrayLike, score_second_N: ArrayLike, positive_N: ArrayLike, group_of_N: Ints
) -> dict[str, Any]:
    """Test of "both models have the same AUROC", without and with regard to patients.

    Args:
        score_first_N: Higher for the finding, (N,).
        score_second_N: The second model's, (N,).
        positive_N: Whether the scan has the finding, (N,).
        group_of_N: Patient-group number of each scan, (N,).

    Returns:
        `{"first", "second", "difference", "se", "z", "p_value", "note", "se_clustered", "p_value_clustered"}`,
        difference is second minus first; None where undefined: under two scans (patients) of a side, or a
        difference that has no variance.

    Source: DeLong, DeLong & Clarke-Pearson 1988; Obuchowski 1997 (clustered).
    """
    positive: NDArray[np.bool_] = np.asarray(positive_N, bool)
    scores_2N = np.stack([np.asarray(s, np.float64) for s in (score_first_N, score_second_N)])
    if scores_2N.shape[1:] != positive.shape or group_of_N.shape != positive.shape:
        raise ValueError(f"scores {scores_2N.shape[1:]}, truth {positive.shape} and groups {group_of_N.shape} differ")
    row: dict[str, Any] = dict.fromkeys(("first", "second", "difference", "se", "z", "p_value"))
    row |= {"note": NOTE, "se_clustered": None, "p_value_clustered": None}
    if positive.all() or not positive.any():
        return row
    area_2, place_2P, place_2Q = placements(scores_2N, positive)
    row |= {"first": float(area_2[0]), "second": float(area_2[1]), "difference": float(area_2[1] - area_2[0])}
    from scipy.special import ndtr  # inside, here and below: `status` does not wait for scipy

    scan_of_N = np.arange(len(positive))
    for suffix, unit_of_N in (("", scan_of_N), ("_clustered", group_of_N)):
        cov_22 = covariance(area_2, place_2P, place_2Q, unit_of_N[positive], unit_of_N[~positive])
        if cov_22 is None:
            continue
        variance = float(cov_22[0, 0] + cov_22[1, 1] - 2 * cov_22[0, 1])
        if variance <= ROUNDING:
            continue
        z = row["difference"] / np.sqrt(variance)
        row[f"se{suffix}"], row[f"p_value{suffix}"] = float(np.sqrt(variance)), float(2 * ndtr(-abs(z)))
        if not suffix:
            row["z"] = float(z)
    return row


def placements(scores_MN: Floats, positive_N: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """AUROC of each model (M,), and each scan's share of the other side that it is ranked rightly against.

    Returns:
        AUROC (M,); of the scans with the finding (M, P); of those without (M, Q). Ties count half.

    Source: Sun & Xu 2014 (midranks, in O(N log N)).
    """
    num_positive, num_negative = int(positive_N.sum()), int((~positive_N).sum())
    from scipy.stats import rankdata

    rank_MN = rankdata(scores_MN, axis=1)
    own_MP = rankdata(scores_MN[:, positive_N], axis=1)
    own_MQ = rankdata(scores_MN[:, ~positive_N], axis=1)
    place_MP = (rank_MN[:, positive_N] - own_MP) / num_negative
    place_MQ = 1 - (rank_MN[:, ~positive_N] - own_MQ) / num_positive
    return place_MP.mean(axis=1), place_MP, place_MQ


def covariance(area_M: Floats, place_MP: Floats, place_MQ: Floats, unit_of_P: Ints, unit_of_Q: Ints) -> Floats | None:
    """Covariance of the models' AUROCs, (M, M); DeLong's where every scan is a unit of its own, else Obuchowski's.

    None where fewer than two units hold scans of a side.

    Args:
        area_M: AUROC of each model.
        place_MP: Placements of the scans with the finding, (M, P).
        place_MQ: Those of the scans without, (M, Q).
        unit_of_P: Unit (scan or patient) of each scan with the finding.
        unit_of_Q: Unit of each scan without.

    Source: Obuchowski 1997, eq. 3 to 6.
    """
    units, unit = np.unique(np.concatenate([unit_of_P, unit_of_Q]), return_inverse=True)
    num_positive, num_negative, num_units = len(unit_of_P), len(unit_of_Q), len(units)
    holds, lacks = len(np.unique(unit_of_P)), len(np.unique(unit_of_Q))
    if holds < 2 or lacks < 2:
        return None
    sum_p, sum_q = (
        np.stack([np.bincount(u, row, num_units) for row in place_M_ - area_M[:, None]])
        for u, place_M_ in ((unit[:num_positive], place_MP), (unit[num_positive:], place_MQ))
    )
    within_p = sum_p @ sum_p.T * holds / ((holds - 1) * num_positive)
    within_q = sum_q @ sum_q.T * lacks / ((lacks - 1) * num_negative)
    between = sum_p @ sum_q.T * num_units / (num_units - 1)
    cov_MM: Floats = (
        within_p / num_positive + within_q / num_negative + (between + between.T) / (num_positive * num_negative)
    )
    return cov_MM
