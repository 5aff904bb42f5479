"""The head refitted on subsets of today's labels, and what it says of labels it did not see: one draw a task.

Each draw makes folds of whole patients. Of the labels outside a fold, growing subsets teach a head: whole patients in
an order drawn by chance, the classes spread evenly, each subset inside the next, so that the curve's steps are paired.
Nothing but expert labels is read, the sealed holdout never.

Shapes: E expert labels, P features, C classes, S sizes of subsets, F folds, G patient groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.special import softmax

from pipeline.contracts.options.learning import TrainConfig
from pipeline.learn.heads import linear
from pipeline.learn.heads.head import Problem
from pipeline.measures import calibrate, folds
from pipeline.runtime.engine import Engine

SHARES = (0.2, 0.4, 0.6, 0.8)  # of the labels; with five folds the last is all that a fold leaves
NUM_FOLDS = 5
NEVER = -50.0  # logit of a class without a label


@dataclass(frozen=True)
class Labels:
    """Labels a curve is drawn from.

    Attributes:
        x_EP: Features, float32.
        class_E: Class index.
        group_E: Patient group.
        num_classes: C.
    """

    x_EP: np.ndarray
    class_E: np.ndarray
    group_E: Sequence[str]
    num_classes: int


@dataclass(frozen=True)
class Draw:
    """What the heads of one draw say of labels they did not see.

    Attributes:
        size_S: Labels a head learned from, mean over folds.
        fold_E: Fold that scored each label.
        prob_SEC: Probabilities for balanced classes, by the size of the subset; all alike where it held one class.
    """

    size_S: np.ndarray
    fold_E: np.ndarray
    prob_SEC: np.ndarray


def fit_all(engine: Engine, labels: Labels, config: TrainConfig, seeds: Sequence[int]) -> list[Draw]:
    """A draw for each seed, in their order; each is a task, and the same whatever the engine."""
    fitted = dict(engine.map_shards(partial(fit_draw, labels, config), seeds))
    return [fitted[i] for i in range(len(seeds))]


def fit_draw(labels: Labels, config: TrainConfig, seed: int) -> Draw:
    """Folds, subsets and their heads; linear ones, whatever `train.head` is."""
    rng = np.random.default_rng(seed)
    x_EP = _in_own_span(labels.x_EP)
    fold_E = folds.grouped_folds(labels.group_E, labels.class_E, NUM_FOLDS, rng)
    prob_SEC = np.zeros((len(SHARES), len(fold_E), labels.num_classes), np.float32)
    size_FS = []
    for fold in np.unique(fold_E):
        scored_E = fold_E == fold
        subsets = nested_subsets(labels, np.flatnonzero(~scored_E), rng)
        size_FS.append([len(rows) for rows in subsets])
        for s, rows in enumerate(subsets):
            prob_SEC[s, scored_E] = _probabilities(x_EP, labels, rows, scored_E, config.teacher_l2)
    return Draw(np.mean(size_FS, axis=0), fold_E, prob_SEC)


def _in_own_span(x_EP: np.ndarray) -> np.ndarray:
    """The features turned into the span of the labelled scans, where there are fewer scans than features.

    A penalised linear head lies in that span, so that nothing is lost, and a fit is faster.
    """
    x_EP = np.asarray(x_EP, np.float64)
    if len(x_EP) >= x_EP.shape[1]:
        return x_EP
    _, upper_EE = np.linalg.qr(x_EP.T)
    return np.asarray(upper_EE.T)


def nested_subsets(labels: Labels, rows: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Growing subsets of the labels that a fold leaves, one a share of all labels; whole patients, each in the next.

    A patient counts for the class most of his scans are of. Patients of every class stand evenly spread in the order,
    so that a small subset has its part of each.
    """
    group_L = folds.group_index([labels.group_E[row] for row in rows])
    num_groups = int(group_L.max()) + 1
    count_GC = np.zeros((num_groups, labels.num_classes), np.int64)
    np.add.at(count_GC, (group_L, labels.class_E[rows]), 1)
    class_G, place_G = count_GC.argmax(1), np.zeros(num_groups)
    for c in np.unique(class_G):
        of_class = rng.permutation(np.flatnonzero(class_G == c))
        place_G[of_class] = (np.arange(len(of_class)) + rng.random()) / len(of_class)
    order_G = np.argsort(place_G, kind="stable")
    reached_G = np.cumsum(count_GC.sum(1)[order_G])
    subsets = []
    for share in SHARES:
        num = int(np.abs(reached_G - share * len(labels.class_E)).argmin()) + 1
        subsets.append(rows[np.isin(group_L, order_G[:num])])
    return subsets


def _probabilities(x_EP: np.ndarray, labels: Labels, rows: np.ndarray, scored_E: np.ndarray, l2: float) -> np.ndarray:
    """Of the fold's scans, by a head on a subset; one class alone says nothing, and all scans are alike."""
    class_L = labels.class_E[rows]
    if len(np.unique(class_L)) < 2:
        return np.full((int(scored_E.sum()), labels.num_classes), 1.0 / labels.num_classes, np.float32)
    weight_CP, bias_C = fit_head(x_EP[rows], class_L, labels.num_classes, l2)
    prob_NC: np.ndarray = softmax(x_EP[scored_E] @ weight_CP.T + bias_C, axis=1)
    return prob_NC.astype(np.float32)


def fit_head(x_LP: np.ndarray, class_L: np.ndarray, num_classes: int, l2: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights (C, P) and biases (C,) of the linear head on expert labels, as the rounds fit it.

    A class without a label is never called.

    Args:
        x_LP: Features.
        class_L: Class index, at least two of them.
        num_classes: C.
        l2: Penalty of the weights.
    """
    weight_L = calibrate.class_weights(class_L, num_classes)[class_L]
    present, column_L = np.unique(class_L, return_inverse=True)
    head = linear.fit(Problem(x_LP, np.eye(len(present))[column_L], weight_L, l2))
    weight_CP, bias_C = np.zeros((num_classes, x_LP.shape[1])), np.full(num_classes, NEVER)
    weight_CP[present], bias_C[present] = head.arrays["weight0"], head.arrays["bias0"]
    return weight_CP, bias_C
