"""What the sealed holdout says of a classifier's probabilities and calls."""

from typing import NamedTuple

import numpy as np

from pipeline.measures.holdout_metrics import expected_calibration_error

# H scans of the holdout, C classes

CHANCE = 0.5  # AUROC before there is a classifier


class HoldoutScores(NamedTuple):
    """Scores, 0 to 1.

    Attributes:
        auroc: Mean over the classes of the holdout, each against the others; of two classes there is one.
        accuracy: Share of right calls.
        ece: Expected calibration error of the most probable class, over 15 bins of equal mass.
    """

    auroc: float
    accuracy: float
    ece: float


def score(prob_HC: np.ndarray, call_H: np.ndarray, class_H: np.ndarray) -> HoldoutScores:
    """Scores of probabilities and of calls.

    Args:
        prob_HC: Rows sum to 1.
        call_H: Class called.
        class_H: True class.
    """
    right_H = prob_HC.argmax(1) == class_H
    ece = expected_calibration_error(prob_HC.max(1), right_H)
    return HoldoutScores(_macro_auroc(prob_HC, class_H), float((call_H == class_H).mean()), ece)


def score_of_one_class(only: int, num_classes: int, class_H: np.ndarray) -> HoldoutScores:
    """Scores where the labels name one class alone: it is called everywhere, and all are held equally probable."""
    accuracy = float((class_H == only).mean())
    return HoldoutScores(CHANCE, accuracy, abs(accuracy - 1.0 / num_classes))


def _macro_auroc(prob_HC: np.ndarray, class_H: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    present = np.unique(class_H)
    if len(present) < 2:
        return CHANCE
    scored = present[1:] if len(present) == 2 else present
    return float(np.mean([roc_auc_score(class_H == c, prob_HC[:, c]) for c in scored]))
