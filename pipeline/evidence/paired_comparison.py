"""Two models on the same scans: paired differences over the same redrawn patients.

Shapes: N scans, C findings, B weight vectors.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.measures import bootstrap
from pipeline.measures.bootstrap import Floats
from pipeline.measures.delong import delong
from pipeline.measures.folds import group_index
from pipeline.measures.holdout_metrics import checked
from pipeline.measures.holm import holm
from pipeline.measures.weighted_metrics import Scores, listed, number

METRICS = ("auroc", "auprc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "brier")


def compare(
    prob_first_NC: ArrayLike,
    predicted_first_N: ArrayLike,
    prob_second_NC: ArrayLike,
    predicted_second_N: ArrayLike,
    truth_N: ArrayLike,
    findings: Sequence[str],
    groups_N: Sequence[Hashable],
    *,
    positive: int | None,
    num_bootstrap: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Differences, second minus first, of every headline metric (as `holdout_metrics.evaluate` defines them).

    Args:
        prob_first_NC: Probabilities of the first model, (N, C).
        predicted_first_N: Its class index at its operating point, (N,).
        prob_second_NC: The second model's, on the same scans in the same order, (N, C).
        predicted_second_N: The second model's, (N,).
        truth_N: Class index, (N,).
        findings: C names.
        groups_N: Patient-group ids, (N,).
        positive: Index of the class that the metrics are of; None where they are of all.
        num_bootstrap: Replicates; 0 leaves intervals and p None.
        rng: Draws them; both models are measured on the same draw.

    Returns:
        `{"num_scans", "num_groups", "metrics": [{"metric", "first", "second", "difference",
        "difference_ci95", "p_value", "p_holm"}], "delong": [...]}`. The interval is
        `bootstrap.percentile_interval`, p the inversion of it (`bootstrap.two_sided_p`), `p_holm` Holm's over
        the metrics. A low Brier score is the good one. `delong`: see `delong.delong`, one row per finding,
        secondary to the bootstrap.

    Raises:
        ValueError: As `holdout_metrics.evaluate`, for either model.
    """
    first_arrays = checked(prob_first_NC, predicted_first_N, truth_N, findings, positive)
    second_arrays = checked(prob_second_NC, predicted_second_N, truth_N, findings, positive)
    class_N = first_arrays[-1]
    if len(groups_N) != len(class_N):
        raise ValueError(f"{len(class_N)} scans but {len(groups_N)} groups")
    group_of_N = group_index(groups_N)
    measure = _both_measured((Scores(*first_arrays, positive), Scores(*second_arrays, positive)))
    value = {k: float(v[0]) for k, v in measure(np.ones((1, len(group_of_N)))).items()}
    value_B = bootstrap.replicates(measure, group_of_N, num_bootstrap, rng)
    num_groups = int(group_of_N.max()) + 1
    rows = [_row(name, value, value_B, num_groups) for name in METRICS]
    for row, adjusted in zip(rows, holm([row["p_value"] for row in rows]), strict=True):
        row["p_holm"] = adjusted
    return {
        "num_scans": len(group_of_N),
        "num_groups": num_groups,
        "metrics": rows,
        "delong": [
            {"finding": findings[c]} | delong(first_arrays[0][:, c], second_arrays[0][:, c], class_N == c, group_of_N)
            for c in listed(len(findings), positive)
        ],
    }


def _both_measured(both: tuple[Scores, Scores]) -> Callable[[Floats], dict[str, Floats]]:
    """The headline metrics of two models under the same weights, `auroc:first` and so on to (B,)."""

    def measure(weight_BN: Floats) -> dict[str, Floats]:
        out: dict[str, Floats] = {}
        for side, scores in zip(("first", "second"), both, strict=True):
            brier_B = weight_BN @ scores.brier_N / weight_BN.sum(axis=1)
            values = scores.measure(weight_BN) | {"brier": brier_B}
            out |= {f"{name}:{side}": values[name] for name in METRICS}
        return out

    return measure


def _row(
    name: str, value: dict[str, float], value_B: dict[str, NDArray[np.float64]], num_groups: int
) -> dict[str, Any]:
    first, second = value[f"{name}:first"], value[f"{name}:second"]
    difference_B = value_B[f"{name}:second"] - value_B[f"{name}:first"] if value_B else np.empty(0)
    defined = np.isfinite(second - first)
    return {
        "metric": name,
        "first": number(first),
        "second": number(second),
        "difference": number(second - first),
        "difference_ci95": bootstrap.percentile_interval(difference_B, num_groups) if defined else None,
        "p_value": bootstrap.two_sided_p(difference_B, num_groups) if defined else None,
    }
