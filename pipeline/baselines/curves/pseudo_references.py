"""Self-training and label spreading as scikit-learn has them: what the field would use in place of ours."""

from typing import NamedTuple

import numpy as np

from pipeline.baselines.curves.asking import Asked
from pipeline.measures import calibrate
from pipeline.vectors.matrix import unit_rows

# T scans of the training pool, L labelled, H of the holdout, C classes

NO_GUESS = -1
LEAST_ALPHA = 0.01  # scikit-learn has no spreading without any
MAX_ITERATIONS = 2000


class Reference(NamedTuple):
    """What a method of scikit-learn made of labels and pool.

    Attributes:
        prob_HC: Probabilities of the holdout; rows sum to 1.
        guess_T: Class that it learned from for each scan of the training pool; -1 where it made no use of the scan,
            the labels that were given among them.
    """

    prob_HC: np.ndarray
    guess_T: np.ndarray


def self_training(asked: Asked) -> Reference:
    """`SelfTrainingClassifier` with its defaults over a logistic regression like the teacher.

    The regression has the teacher's penalty and class weights, so that on the labels alone both are the same head. A
    pseudo-label is what it holds more probable than .75, hard, never taken back, in at most ten passes.

    Source: Yarowsky 1995, as in scikit-learn.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.semi_supervised import SelfTrainingClassifier

    weight_C = calibrate.class_weights(asked.class_L, len(asked.pool.findings))
    weight_of = {int(c): float(weight_C[c]) for c in np.unique(asked.class_L)}
    # Of two classes scikit-learn penalises one vector, the difference of our two: twice our sum of squares.
    inverse_penalty = (2.0 if len(weight_of) == 2 else 1.0) / asked.config.train.teacher_l2
    base = LogisticRegression(C=inverse_penalty, class_weight=weight_of, max_iter=MAX_ITERATIONS)
    model = SelfTrainingClassifier(base).fit(asked.pool.x_TP, _targets(asked))
    guessed_T = model.labeled_iter_ > 0
    prob_HC = _all_classes(model.predict_proba(asked.pool.x_HP), model.classes_, len(asked.pool.findings))
    return Reference(prob_HC, np.where(guessed_T, model.transduction_, NO_GUESS))


def label_spreading(asked: Asked) -> Reference:
    """`LabelSpreading` over the nearest neighbours by cosine, as many and handing on as much as ours.

    A scan of the holdout takes the mean of its neighbours in the pool. What no label reaches stays at even odds.

    Source: Zhou et al. 2003, as in scikit-learn.
    """
    from sklearn.semi_supervised import LabelSpreading

    config, num_classes = asked.config.pseudo, len(asked.pool.findings)
    model = LabelSpreading(
        kernel="knn",
        n_neighbors=config.num_neighbors,
        alpha=max(config.spread_alpha, LEAST_ALPHA),
        max_iter=MAX_ITERATIONS,
    )
    model.fit(unit_rows(asked.pool.similar_TP), _targets(asked))
    with np.errstate(invalid="ignore"):  # 0 / 0 where no label reaches a neighbour
        reached_HC = model.predict_proba(unit_rows(asked.pool.similar_HP))
    prob_HC = _all_classes(reached_HC, model.classes_, num_classes)
    prob_HC[~np.isfinite(prob_HC).all(1)] = 1.0 / num_classes
    is_reached_T = model.label_distributions_.sum(1) > 0
    is_reached_T[asked.rows_L] = False
    return Reference(prob_HC, np.where(is_reached_T, model.transduction_, NO_GUESS))


def _targets(asked: Asked) -> np.ndarray:
    """Class of each scan of the training pool, -1 where nobody has labelled it."""
    target_T = np.full(len(asked.pool.class_T), -1, np.int64)
    target_T[asked.rows_L] = asked.class_L
    return target_T


def _all_classes(prob_HK: np.ndarray, classes_K: np.ndarray, num_classes: int) -> np.ndarray:
    """Probabilities with a column for every class; 0 of those that no label named."""
    prob_HC = np.zeros((len(prob_HK), num_classes))
    prob_HC[:, classes_K] = prob_HK
    return prob_HC
