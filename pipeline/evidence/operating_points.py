"""Sensitivity at a fixed specificity, the reverse, and the model's own operating point.

Shapes: N scans, C findings, B weight vectors, T distinct scores.

A finding is called where its probability is at least the threshold. The threshold of a target is the best
on these very scans (no interpolation), so it is chosen again within every bootstrap replicate: the interval
of the free quantity carries the choice. The held quantity's interval is that of the printed threshold kept
as it is: what it does on other patients.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.measures import bootstrap
from pipeline.measures.bootstrap import Floats, Ints
from pipeline.measures.weighted_metrics import RankOrder, listed, number, ratio

SPECIFICITIES = (0.80, 0.90, 0.95)
SENSITIVITIES = (0.90, 0.95)
MODEL = "model"  # the target that is the model's own operating point
ROUNDING = 1e-9


def operating_points(
    prob_NC: Floats,
    predicted_N: Ints,
    truth_N: Ints,
    findings: Sequence[str],
    group_of_N: Ints,
    *,
    positive: int | None,
    num_bootstrap: int,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """One row per finding and target.

    Args:
        prob_NC: Probabilities, (N, C).
        predicted_N: Class index at the model's operating point, (N,).
        truth_N: Class index, (N,).
        findings: C names.
        group_of_N: Patient-group number 0..K-1, (N,).
        positive: Index of the class that is listed; None: each against the rest.
        num_bootstrap: Replicates; 0 leaves the intervals None.
        rng: Draws the replicates, the same for all findings.

    Returns:
        `{"finding", "target", "threshold_prob", "sensitivity", "sensitivity_ci95", "specificity",
        "specificity_ci95"}`; target is `"specificity 0.90"` and the like, or `"model"`, whose call is not one
        threshold (None). `threshold_prob` is None too where the target allows no call at all.
    """
    tables = {c: _Targets(prob_NC[:, c], predicted_N == c, truth_N == c) for c in listed(len(findings), positive)}

    def measure(weight_BN: Floats) -> dict[str, Floats]:
        return {f"{c}:{k}": v for c, t in tables.items() for k, v in t.measure(weight_BN).items()}

    value = {k: float(v[0]) for k, v in measure(np.ones((1, len(truth_N)))).items()}
    value_B = bootstrap.replicates(measure, group_of_N, num_bootstrap, rng)
    num_degrees = int(group_of_N.max())
    rows = []
    for c, table in tables.items():
        for target, threshold in table.threshold.items():
            row: dict[str, Any] = {"finding": findings[c], "target": target, "threshold_prob": threshold}
            for name, side_N in (("sensitivity", truth_N == c), ("specificity", truth_N != c)):
                key = f"{c}:{target}:{name}"
                row[name] = number(value[key])
                row[f"{name}_ci95"] = bootstrap.share_interval(
                    value[key], value_B.get(key, np.empty(0)), bootstrap.num_in_group(group_of_N, side_N), num_degrees
                )
            rows.append(row)
    return rows


class _Targets:
    """Sensitivity and specificity of one finding at every target, as functions of the weights."""

    def __init__(self, score_N: Floats, called_N: NDArray[np.bool_], positive_N: NDArray[np.bool_]) -> None:
        self.positive_N, self.called_N = positive_N, called_N
        self.order = RankOrder(score_N, positive_N)
        # Calls of each target at its threshold on all scans, for the quantity that is held.
        ones_1N = np.ones((1, len(score_N)))
        index = {k: int(i[0]) for k, (_, _, i) in self._chosen(ones_1N).items()}
        self.threshold: dict[str, float | None] = {
            target: float(self.order.score_T[i - 1]) if i else None for target, i in index.items()
        }
        self.kept_N = {
            target: score_N >= cut if cut is not None else np.zeros(len(score_N), bool)
            for target, cut in self.threshold.items()
        }
        self.threshold[MODEL] = None

    def measure(self, weight_BN: Floats) -> dict[str, Floats]:
        """`target:sensitivity` and `target:specificity` to (B,)."""
        out = dict(
            zip((f"{MODEL}:sensitivity", f"{MODEL}:specificity"), self._at(weight_BN, self.called_N), strict=True)
        )
        for target, (sensitivity_B, specificity_B, _) in self._chosen(weight_BN).items():
            kept_sensitivity_B, kept_specificity_B = self._at(weight_BN, self.kept_N[target])
            held = target.split()[0]
            out[f"{target}:sensitivity"] = kept_sensitivity_B if held == "sensitivity" else sensitivity_B
            out[f"{target}:specificity"] = kept_specificity_B if held == "specificity" else specificity_B
        return out

    def _at(self, weight_BN: Floats, called_N: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        positive_N, called = self.positive_N.astype(float), called_N.astype(float)
        tp_B, tn_B = weight_BN @ (positive_N * called), weight_BN @ ((1 - positive_N) * (1 - called))
        return ratio(tp_B, weight_BN @ positive_N), ratio(tn_B, weight_BN @ (1 - positive_N))

    def _chosen(self, weight_BN: Floats) -> dict[str, tuple[Floats, Floats, Ints]]:
        """Target to sensitivity, specificity and how many distinct scores are called, each (B,)."""
        tp_BT, fp_BT = (np.pad(x, ((0, 0), (1, 0))) for x in self.order.cumulative(weight_BN))
        num_positive_B, num_negative_B = tp_BT[:, -1], fp_BT[:, -1]
        rows = np.arange(len(tp_BT))
        out = {}
        for held, levels in (("specificity", SPECIFICITIES), ("sensitivity", SENSITIVITIES)):
            for level in levels:
                if held == "specificity":  # the laxest threshold that keeps it
                    index_B = (fp_BT <= (1 - level) * num_negative_B[:, None] + ROUNDING).sum(axis=1) - 1
                else:  # the strictest that reaches it
                    index_B = (tp_BT < level * num_positive_B[:, None] - ROUNDING).sum(axis=1)
                sensitivity_B = ratio(tp_BT[rows, index_B], num_positive_B)
                specificity_B = ratio(num_negative_B - fp_BT[rows, index_B], num_negative_B)
                defined_B = (num_positive_B > 0) & (num_negative_B > 0)
                out[f"{held} {level:.2f}"] = (
                    np.where(defined_B, sensitivity_B, np.nan),
                    np.where(defined_B, specificity_B, np.nan),
                    index_B,
                )
        return out
