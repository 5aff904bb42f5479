"""Loss of a network with soft targets, and the usual ways to bend targets and weights."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

# N scans, C classes; `...` is N, or N and the questions that a network learns at once


def cross_entropy(logit_NC: "Tensor", target_NC: "Tensor", focal_gamma: float = 0.0) -> "Tensor":
    """Cross-entropy of each scan (...,) with soft targets.

    Of two classes it is that of one sigmoid, of the difference of their logits.

    Args:
        logit_NC: Logits of the network, (..., C).
        target_NC: Class probabilities, (..., C); the last axis sums to 1.
        focal_gamma: Each class's term is scaled by `(1 - p_c)^gamma` (Lin et al. 2017); 0 leaves it as it is.
    """
    log_prob_NC = logit_NC.log_softmax(-1)
    term_NC = -target_NC * log_prob_NC
    if focal_gamma > 0.0:
        term_NC = term_NC * (1.0 - log_prob_NC.exp()).clamp(min=0.0) ** focal_gamma
    return term_NC.sum(-1)


def smoothed(target_NC: np.ndarray, share: float) -> np.ndarray:
    """Targets (..., C) with `share` of each spread evenly over the classes (Szegedy et al. 2016)."""
    return np.asarray((1.0 - share) * target_NC + share / target_NC.shape[-1])


def balanced(target_NC: np.ndarray, weight_N: np.ndarray) -> np.ndarray:
    """Weights of the scans with which every class that occurs has the same mass, and the total is as before (N,)."""
    mass_C = (target_NC * weight_N[:, None]).sum(0)
    present_C = mass_C > 0.0
    scale_C = np.zeros_like(mass_C)
    scale_C[present_C] = mass_C.sum() / (present_C.sum() * mass_C[present_C])
    return np.asarray(weight_N * (target_NC @ scale_C))
