"""When a probability becomes a call: even odds, or the valley between the two hills of the unlabelled pool's scores.

A few labels say little about where to cut; the pool's thousands of scores say it well. Otsu's threshold is the cut that
explains most of the scores' variance; halfway between it and even odds keeps most of its gain and loses nothing where
the hills are uneven. Only scans of the training pool are read, never the holdout's.

A class with fewer than five expert labels wins nothing by it, wherever the cut is: see `_favours_no_rare_class`.
"""

from typing import Literal, NamedTuple

import numpy as np

from pipeline.labels.class_counts import MIN_LABELS

# T scans of the training pool, C findings

SMALLEST_SHARE = 0.15  # of a class in the pool: a small hill is lost in the slope of a large one
Wanted = Literal["pool", "balanced", "prevalence"]
Kind = Literal["pool", "balanced", "prevalence", "site"]


class OperatingPoint(NamedTuple):
    """How calls are made.

    Attributes:
        kind: `pool`: from its scores; `site`: from those of a site's scans; `balanced`: every finding counts the
            same; `prevalence`: the most probable one.
        weights_C: What probabilities at the pool's prevalence are divided by before the largest is the class called.
    """

    kind: Kind
    weights_C: np.ndarray


def choose(
    wanted: Wanted,
    logit_TC: np.ndarray,
    prevalence_C: np.ndarray,
    learning_prior_C: np.ndarray,
    num_labels_C: np.ndarray,
) -> OperatingPoint:
    """The operating point of a classifier.

    Even odds are those at the learning prior: a class of few labels has a small share there, and is called only where
    it is much surer than the rest. `pool` needs two classes, each at least 15 % of the pool as far as is known, and
    falls back to `balanced`.

    Args:
        wanted: As in `evaluate.operating_point`.
        logit_TC: Calibrated logits of the training pool at the learning prior.
        prevalence_C: Share of each class in the pool, as estimated.
        learning_prior_C: See `calibrate.learning_prior`.
        num_labels_C: Expert labels of each class.
    """
    if wanted == "prevalence":
        return OperatingPoint("prevalence", np.full(len(prevalence_C), 1.0 / len(prevalence_C)))
    even_C = prevalence_C / learning_prior_C
    if wanted == "balanced" or len(prevalence_C) != 2 or prevalence_C.min() < SMALLEST_SHARE:
        return OperatingPoint("balanced", _favours_no_rare_class(even_C, num_labels_C))
    weights_C = halfway("pool", logit_TC, prevalence_C, learning_prior_C).weights_C
    return OperatingPoint("pool", _favours_no_rare_class(weights_C, num_labels_C))


def _favours_no_rare_class(weights_C: np.ndarray, num_labels_C: np.ndarray) -> np.ndarray:
    """Weights at which a class of few labels is called only where it is the most probable one.

    Whatever is divided by the smaller weight is favoured; such a class gets none below the largest of the others. Where
    every class has few labels, all weigh the same.
    """
    few_C = num_labels_C < MIN_LABELS
    if not few_C.any():
        return weights_C
    largest = weights_C[~few_C].max() if not few_C.all() else weights_C.max()
    return np.where(few_C, largest if few_C.all() else np.maximum(weights_C, largest), weights_C)


def halfway(kind: Kind, logit_TC: np.ndarray, prevalence_C: np.ndarray, learning_prior_C: np.ndarray) -> OperatingPoint:
    """The cut halfway between even odds and the valley of the scores of two classes; see `choose`."""
    shift = 0.5 * otsu_threshold(logit_TC[:, 1] - logit_TC[:, 0])
    return OperatingPoint(kind, prevalence_C / learning_prior_C * np.array([1.0, np.exp(shift)]))


def otsu_threshold(score_T: np.ndarray) -> float:
    """The cut between two groups of scores with the largest variance between the groups.

    Exact, over every gap between two scores; the middle of the best gap. One value alone: that value.

    Source: Otsu 1979, eq. 14.
    """
    score_T = np.sort(np.asarray(score_T, np.float64))
    below_K = np.arange(1, len(score_T))  # scores below cut k
    sum_below_K = np.cumsum(score_T)[:-1]
    above_K = len(score_T) - below_K
    mean_difference_K = sum_below_K / below_K - (score_T.sum() - sum_below_K) / above_K
    between_K = below_K * above_K * mean_difference_K**2
    if len(between_K) == 0 or score_T[0] == score_T[-1]:
        return float(score_T[0])
    cut = int(between_K.argmax())
    return float((score_T[cut] + score_T[cut + 1]) / 2.0)
