"""Metrics as functions of the scans' weights: the value with weights of one, a replicate with those of a draw.

Shapes: N images, C findings, X = C * C cells of the confusion matrix, B weight vectors, T distinct scores.

So a value and its interval never come from two definitions, and all replicates of a metric are one array
operation. Undefined is NaN.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.measures import bootstrap
from pipeline.measures.bootstrap import Floats, Ints, effective_groups, num_in_group


class Informed(NamedTuple):
    """How many patient groups a metric rests on, which decides its interval.

    Attributes:
        num_groups: Groups that hold the scans it is a share of; for a ranking the effective ones of the rarer side.
        num_degrees: Degrees of freedom of a share's interval: all groups less one.
        ranking: Whether it ranks scans, or is a share of them.
    """

    num_groups: float
    num_degrees: int
    ranking: bool = False

    def interval(self, value: float, value_B: ArrayLike, confidence: float = 0.95) -> list[float] | None:
        """The project's interval of such a metric, from its value and replicates; None where there is none."""
        if self.ranking:
            return bootstrap.ranking_interval(value, value_B, self.num_groups, confidence)
        return bootstrap.share_interval(value, value_B, self.num_groups, self.num_degrees, confidence)


class Scores:
    """What does not change between replicates, and the metrics as a function of the weights.

    Args:
        prob_NC: Probabilities, (N, C).
        predicted_N: Class index at the operating point, (N,).
        truth_N: Class index, (N,).
        positive: The class that `brier_N`, `auroc`, `auprc`, `sensitivity`, `specificity` and `f1` are of; None: the
            mean over the classes the truth holds.
    """

    def __init__(self, prob_NC: Floats, predicted_N: Ints, truth_N: Ints, positive: int | None) -> None:
        num_scans, self.num_classes = prob_NC.shape
        self.positive = positive
        self.truth_N, self.predicted_N = truth_N, predicted_N
        square_NC = np.square(prob_NC - np.eye(self.num_classes)[truth_N])
        self.brier_N = np.asarray(square_NC.sum(axis=1) if positive is None else square_NC[:, positive])
        self.present = [c for c in range(self.num_classes) if (truth_N == c).any()]
        self.rank_orders = {c: RankOrder(prob_NC[:, c], truth_N == c) for c in self.present}
        self.cell_NX = np.zeros((num_scans, self.num_classes**2))
        self.cell_NX[np.arange(num_scans), truth_N * self.num_classes + predicted_N] = 1.0
        counts = self.cell_NX.sum(axis=0).astype(np.int64)
        self.confusion_CC = counts.reshape(self.num_classes, self.num_classes)

    def measure(self, weight_BN: Floats) -> dict[str, Floats]:
        """Metric name, or `name:class`, to its B values; NaN where undefined."""
        confusion_BCC = (weight_BN @ self.cell_NX).reshape(-1, self.num_classes, self.num_classes)
        total_B = confusion_BCC.sum(axis=(1, 2))
        out: dict[str, Floats] = {}
        for c in self.present:
            tp_B = confusion_BCC[:, c, c]
            fn_B = confusion_BCC[:, c].sum(axis=1) - tp_B
            fp_B = confusion_BCC[:, :, c].sum(axis=1) - tp_B
            tn_B = total_B - tp_B - fn_B - fp_B
            out[f"sensitivity:{c}"] = ratio(tp_B, tp_B + fn_B)
            out[f"specificity:{c}"] = ratio(tn_B, tn_B + fp_B)
            out[f"precision:{c}"] = ratio(tp_B, tp_B + fp_B)
            # A replicate without the class would score 0 or nothing by the luck of its false alarms.
            f1_B = ratio(2 * tp_B, 2 * tp_B + fp_B + fn_B)
            out[f"f1:{c}"] = np.where(tp_B + fn_B > 0, f1_B, np.nan)
            out[f"auroc:{c}"], out[f"auprc:{c}"] = self.rank_orders[c].areas(weight_BN)
        for name in ("auroc", "auprc", "sensitivity", "specificity", "f1"):
            out[name] = self._headline(name, out, len(weight_BN))
        out["accuracy"] = ratio(np.trace(confusion_BCC, axis1=1, axis2=2), total_B)
        out["balanced_accuracy"] = np.mean([out[f"sensitivity:{c}"] for c in self.present], axis=0)
        return out

    def informed(self, group_of_N: Ints) -> dict[str, Informed]:
        """How many groups each metric of `measure` rests on; a mean over classes rests on its weakest part."""
        num_groups = int(group_of_N.max()) + 1
        out: dict[str, Informed] = {}
        for c in self.present:
            holds, lacks = (num_in_group(group_of_N, side) for side in (self.truth_N == c, self.truth_N != c))
            effective = [effective_groups(group_of_N, side) for side in (self.truth_N == c, self.truth_N != c)]
            rarer = Informed(min(effective), num_groups - 1, ranking=True)
            out[f"sensitivity:{c}"] = out[f"f1:{c}"] = Informed(holds, num_groups - 1)
            out[f"specificity:{c}"] = Informed(lacks, num_groups - 1)
            out[f"precision:{c}"] = Informed(num_in_group(group_of_N, self.predicted_N == c), num_groups - 1)
            out[f"auroc:{c}"] = out[f"auprc:{c}"] = rarer
        everyone = Informed(num_groups, num_groups - 1)
        for name in ("auroc", "auprc", "sensitivity", "specificity", "f1"):
            of_class = self.present if self.positive is None else (self.positive,)
            out[name] = min((out.get(f"{name}:{c}", everyone) for c in of_class), default=everyone)
        out["accuracy"] = everyone
        out["balanced_accuracy"] = min((out[f"sensitivity:{c}"] for c in self.present), default=everyone)
        return out

    def _headline(self, name: str, out: Mapping[str, Floats], num_replicates: int) -> Floats:
        if self.positive is not None:
            return out.get(f"{name}:{self.positive}", np.full(num_replicates, np.nan))
        return np.asarray(np.mean([out[f"{name}:{c}"] for c in self.present], axis=0))


class RankOrder:
    """Scans of one class against the rest, sorted once by descending score."""

    def __init__(self, score_N: Floats, positive_N: NDArray[np.bool_]) -> None:
        self.order = np.argsort(-score_N, kind="stable")
        score_N = score_N[self.order]
        self.positive_N = positive_N[self.order]
        self.first_T = np.flatnonzero(np.append(True, score_N[1:] != score_N[:-1]))  # of each tie
        self.score_T = score_N[self.first_T]

    def cumulative(self, weight_BN: Floats) -> tuple[Floats, Floats]:
        """Weight of true and false positives at each distinct score, highest first, (B, T) each."""
        sorted_BN = weight_BN[:, self.order]
        positive_BN = sorted_BN * self.positive_N
        tp_BT = np.add.reduceat(positive_BN, self.first_T, axis=1).cumsum(axis=1)
        fp_BT = np.add.reduceat(sorted_BN - positive_BN, self.first_T, axis=1).cumsum(axis=1)
        return tp_BT, fp_BT

    def areas(self, weight_BN: Floats) -> tuple[Floats, Floats]:
        """AUROC by trapezoids (ties count half) and average precision, (B,) each."""
        tp_BT, fp_BT = self.cumulative(weight_BN)
        tp_B, fp_B = tp_BT[:, -1], fp_BT[:, -1]
        new_tp_BT = np.diff(tp_BT, axis=1, prepend=0.0)
        below_B = np.einsum("bt,bt->b", new_tp_BT, fp_B[:, None] - fp_BT)
        tied_B = np.einsum("bt,bt->b", new_tp_BT, np.diff(fp_BT, axis=1, prepend=0.0))
        called_BT = tp_BT + fp_BT
        precision_BT = np.divide(tp_BT, called_BT, out=np.zeros_like(tp_BT), where=called_BT > 0)
        precision_B = np.einsum("bt,bt->b", new_tp_BT, precision_BT)
        return ratio(below_B + 0.5 * tied_B, tp_B * fp_B), ratio(precision_B, tp_B)


def ratio(part_B: Floats, whole_B: Floats) -> Floats:
    """`part / whole`, NaN where the whole is nothing, (B,)."""
    return np.divide(part_B, whole_B, out=np.full_like(part_B, np.nan), where=whole_B > 0)


def number(value: float | None) -> float | None:
    """A plain float for JSON; None where undefined."""
    return float(value) if value is not None and np.isfinite(value) else None


def listed(num_classes: int, positive: int | None) -> list[int]:
    """Classes that one-vs-rest tables list: the positive one; all where there is none."""
    return list(range(num_classes)) if positive is None else [positive]
