"""The learning curve as the draws show it: scores at each size, and how far other patients would move them.

Every score is a mean over draws. AUROC compares scans of the same fold alone: scores of different folds come from
different heads. The covariance over sizes is that of a patient-cluster bootstrap of the scored labels; the sizes share
their scans, so that most of it is common to all and says nothing against a step of the curve.

Shapes: E expert labels, C classes, S sizes, B replicates.

Source: Airola et al. 2011, section 3 (pooled and averaged AUROC in cross-validation).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.learn.stopping.subset_fits import Draw
from pipeline.measures import bootstrap, folds
from pipeline.measures.weighted_metrics import ratio

MIN_OF_CLASS = 5  # labels, or its scores are a matter of one scan
NUM_BOOTSTRAP = 200
METRICS = ("auroc", "accuracy", "balanced_accuracy")


@dataclass(frozen=True)
class Observed:
    """One score's learning curve.

    Attributes:
        size_S: Labels that a head learned from, rising.
        score_S: Score, 0 to 1.
        covariance_SS: Of the scores, by the patients that were scored.
    """

    size_S: np.ndarray
    score_S: np.ndarray
    covariance_SS: np.ndarray


def observe(
    draws: Sequence[Draw], class_E: np.ndarray, group_E: Sequence[str], rng: np.random.Generator
) -> dict[str, Observed]:
    """The curve of each of `METRICS`.

    Args:
        draws: At least one.
        class_E: Class index.
        group_E: Patient group.
        rng: Of the bootstrap.
    """
    weight_BE = np.concatenate(list(bootstrap.draws(folds.group_index(group_E), NUM_BOOTSTRAP, rng)))
    weight_BE = np.concatenate([np.ones((1, len(class_E))), weight_BE])  # the first: what was observed
    size_S = np.mean([draw.size_S for draw in draws], axis=0)
    curves = {}
    for name, score in (("auroc", _auroc), ("accuracy", _accuracy), ("balanced_accuracy", _balanced)):
        score_BS = np.column_stack([score(draws, s, class_E, weight_BE) for s in range(len(size_S))])
        replicates_BS = score_BS[1:][np.isfinite(score_BS[1:]).all(1)]
        curves[name] = Observed(size_S, score_BS[0], np.cov(replicates_BS.T))
    return curves


def judged_classes(class_E: np.ndarray, num_classes: int) -> list[int]:
    """Classes that are scored: those with labels enough."""
    return np.flatnonzero(np.bincount(class_E, minlength=num_classes) >= MIN_OF_CLASS).tolist()


def _auroc(draws: Sequence[Draw], s: int, class_E: np.ndarray, weight_BE: np.ndarray) -> np.ndarray:
    """Macro one-vs-rest AUROC (B,) over pairs of scans that one head scored, pooled over draws and folds."""
    num_classes = draws[0].prob_SEC.shape[2]
    judged = judged_classes(class_E, num_classes)
    values = []
    for c in judged[1:] if num_classes == 2 else judged:  # of two classes one is the mirror image of the other
        hit = class_E == c
        ordered, pairs = np.zeros((2, int(hit.sum()), int((~hit).sum())))
        for draw in draws:
            score_E = draw.prob_SEC[s, :, c]
            together = draw.fold_E[hit][:, None] == draw.fold_E[~hit]
            above = np.sign(score_E[hit][:, None] - score_E[~hit])
            ordered += together * (0.5 + 0.5 * above)
            pairs += together
        hit_BH, rest_BM = weight_BE[:, hit], weight_BE[:, ~hit]
        values.append(ratio(((hit_BH @ ordered) * rest_BM).sum(1), ((hit_BH @ pairs) * rest_BM).sum(1)))
    return np.asarray(np.mean(values, axis=0))


def _right(draws: Sequence[Draw], s: int, class_E: np.ndarray) -> np.ndarray:
    """Share of the draws that call each scan right, (E,)."""
    return np.asarray(np.mean([draw.prob_SEC[s].argmax(1) == class_E for draw in draws], axis=0))


def _accuracy(draws: Sequence[Draw], s: int, class_E: np.ndarray, weight_BE: np.ndarray) -> np.ndarray:
    """Share called right (B,)."""
    return ratio(weight_BE @ _right(draws, s, class_E), weight_BE.sum(1))


def _balanced(draws: Sequence[Draw], s: int, class_E: np.ndarray, weight_BE: np.ndarray) -> np.ndarray:
    """Mean over the judged classes of the share of each that is called right, (B,)."""
    right_E = _right(draws, s, class_E)
    judged = judged_classes(class_E, draws[0].prob_SEC.shape[2])
    score_by_class = [
        ratio(weight_BE[:, class_E == c] @ right_E[class_E == c], weight_BE[:, class_E == c].sum(1)) for c in judged
    ]
    return np.asarray(np.mean(score_by_class, axis=0))
