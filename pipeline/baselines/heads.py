"""What needs no network to be trained: a head on frozen embeddings, trees on what the file says."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from pipeline.audit import probes
from pipeline.contracts.options.learning import TrainConfig
from pipeline.learn.heads.head import Problem
from pipeline.learn.heads.training import train_loop
from pipeline.measures.calibrate import class_weights
from pipeline.vectors import principal_components

# N scans, L of them to learn from, T to score, D dimensions, P of them kept, M facts, C classes

GREY = ("grey_mean", "grey_sd", "rim_mean")
FACTS = {"six-numbers": ("width_px", "height_px", "aspect", *GREY), "three-numbers": GREY}

Ints = NDArray[np.int64]


def frozen(emb_ND: np.ndarray, class_N: Ints, train: Ints, test: Ints, config: TrainConfig) -> NDArray[np.float64]:
    """Probabilities (T, C) of the pipeline's own head on embeddings, every class of the same weight.

    The principal axes are those of the scans to learn from.
    """
    num_classes = int(class_N.max()) + 1
    known_LD, asked_TD = (np.asarray(emb_ND[rows], np.float32) for rows in (train, test))
    known_LP, asked_TP = _features(known_LD, asked_TD, config.num_components)
    weight_L = class_weights(class_N[train], num_classes)[class_N[train]]
    target_LC = np.eye(num_classes)[class_N[train]]
    problem = Problem(known_LP, target_LC, weight_L, config.teacher_l2)
    head = train_loop(problem, config, seed=0)
    return np.asarray(softmax(head.logits(asked_TP).astype(np.float64), axis=1))


def _features(known_LD: np.ndarray, asked_TD: np.ndarray, num_axes: int) -> tuple[np.ndarray, np.ndarray]:
    """Both on the leading axes of the first, scaled as `principal_components` does.

    A penalised linear head does not care about rotations, so of few scans the axes are all of what they span.
    """
    mean_D, axes_DP, variance = principal_components.principal_axes(known_LD, num_axes)
    scale = principal_components.RMS_NORM / np.sqrt(max(variance, 1e-12))
    known_LP, asked_TP = ((emb - mean_D) @ (axes_DP * scale).astype(np.float32) for emb in (known_LD, asked_TD))
    return known_LP, asked_TP


def facts_alone(fact_NM: np.ndarray, class_N: Ints, train: Ints, test: Ints) -> NDArray[np.float64]:
    """Probabilities (T, C) of the audit's own trees on what the file says of a scan."""
    return np.asarray(probes.fit_predict(fact_NM[train], class_N[train], fact_NM[test], "trees"), np.float64)
