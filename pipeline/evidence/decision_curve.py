"""Decision curve: is calling by the model worth more than calling everybody or nobody?

Shapes: N scans, B weight vectors, R risk thresholds.

At threshold t a false alarm costs `t / (1 - t)` of a hit. Net benefit is hits minus that price, per scan:
`TP/n - FP/n * t / (1 - t)`; calling nobody has 0.

Source: Vickers & Elkin 2006.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pipeline.measures import bootstrap
from pipeline.measures.bootstrap import Floats, Ints
from pipeline.measures.weighted_metrics import listed, number, ratio

THRESHOLDS_R: Floats = np.arange(1, 100) / 100


def decision_curve(
    prob_NC: Floats,
    truth_N: Ints,
    findings: Sequence[str],
    group_of_N: Ints,
    *,
    positive: int | None,
    num_bootstrap: int,
    rng: np.random.Generator,
    prevalence: float | None = None,
) -> list[dict[str, Any]]:
    """One curve per finding: `{"finding", "points": [{"threshold", "model", "ci95", "all", "none"}]}`.

    Args:
        prob_NC: Probabilities, (N, C); a finding is called where its probability is at least the threshold.
        truth_N: Class index, (N,).
        findings: C names.
        group_of_N: Patient-group number 0..K-1, (N,).
        positive: Index of the class that is listed; None: each against the rest.
        num_bootstrap: Replicates; 0 leaves the intervals None.
        rng: Draws the replicates, the same for all findings.
        prevalence: Net benefit where the finding has this share instead of the scans' own; the
            probabilities are taken as they are.

    Raises:
        ValueError: If `prevalence` is outside (0, 1).
    """
    if prevalence is not None and not 0 < prevalence < 1:
        raise ValueError(f"a prevalence must be inside (0, 1), not {prevalence}")
    columns = listed(len(findings), positive)

    def measure(weight_BN: Floats) -> dict[str, Floats]:
        return {str(c): net_benefit(prob_NC[:, c], truth_N == c, weight_BN, prevalence) for c in columns}

    ones_1N = np.ones((1, len(truth_N)))
    value, value_BR = measure(ones_1N), bootstrap.replicates(measure, group_of_N, num_bootstrap, rng)
    num_groups = int(group_of_N.max()) + 1
    curves = []
    for c in columns:
        everybody_R = net_benefit(np.ones(len(truth_N)), truth_N == c, ones_1N, prevalence)[0]
        points = []
        for r, threshold in enumerate(THRESHOLDS_R):
            replicates_B = value_BR[str(c)][:, r] if value_BR else np.empty(0)
            points.append(
                {
                    "threshold": float(threshold),
                    "model": number(value[str(c)][0, r]),
                    "ci95": bootstrap.percentile_interval(replicates_B, num_groups),
                    "all": number(everybody_R[r]),
                    "none": 0.0,
                }
            )
        curves.append({"finding": findings[c], "points": points})
    return curves


def net_benefit(prob_N: ArrayLike, positive_N: ArrayLike, weight_BN: Floats, prevalence: float | None = None) -> Floats:
    """Net benefit at every threshold, (B, R); with a prevalence, NaN where a class has no weight."""
    called_NR = np.asarray(prob_N, np.float64)[:, None] >= THRESHOLDS_R
    y_N = np.asarray(positive_N, np.float64)
    num_positive_B, total_B = weight_BN @ y_N, weight_BN.sum(axis=1)
    tp_BR, called_BR = (weight_BN * y_N) @ called_NR, weight_BN @ called_NR
    price_R = THRESHOLDS_R / (1 - THRESHOLDS_R)
    if prevalence is None:
        return np.asarray((tp_BR - (called_BR - tp_BR) * price_R) / total_B[:, None])
    hit_BR = ratio(tp_BR, np.broadcast_to(num_positive_B[:, None], tp_BR.shape))
    alarm_BR = ratio(called_BR - tp_BR, np.broadcast_to((total_B - num_positive_B)[:, None], tp_BR.shape))
    return np.asarray(prevalence * hit_BR - (1 - prevalence) * alarm_BR * price_R)
