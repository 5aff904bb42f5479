"""A small linear head on what experts have said so far: the committee of BALD, the query of DropQuery."""

import numpy as np

from pipeline.selection.pool import SelectionPool
from pipeline.vectors.principal_components import RMS_NORM

# L labelled scans, D dimensions, C classes seen

PENALTY = 10.0  # as the head on expert labels (`train.teacher_l2`)


def lessons(pool: SelectionPool) -> tuple[np.ndarray, np.ndarray] | None:
    """Positions (L,) and classes (L,) of the labelled scans; None where they name fewer than two classes."""
    if pool.class_N is None:
        return None
    rows_L = np.flatnonzero(pool.class_N >= 0)
    class_L = pool.class_N[rows_L]
    return (rows_L, class_L) if len(np.unique(class_L)) > 1 else None


def fit(unit_LD: np.ndarray, class_L: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (C, D) and biases (C,) of a logistic regression on unit vectors; logits are `unit @ weights.T + bias`.

    Classes weigh the same. C counts the classes that are there.
    """
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1.0 / PENALTY, class_weight="balanced", max_iter=200)
    model.fit(unit_LD * RMS_NORM, class_L)
    weight_CD, bias_C = model.coef_ * RMS_NORM, model.intercept_
    if len(weight_CD) == 1:  # two classes share one row
        weight_CD, bias_C = np.concatenate([-weight_CD, weight_CD]) / 2, np.concatenate([-bias_C, bias_C]) / 2
    return weight_CD.astype(np.float32), bias_C.astype(np.float32)
