"""BALD: the scans over which a committee of heads disagrees, each head sure of itself.

Houlsby, Huszár, Ghahramani, Lengyel: Bayesian Active Learning for Classification and Preference Learning (2011, arXiv
1112.5745): the mutual information of label and model. The committee are heads on bootstraps of the expert labels.
Where those name fewer than two classes, or findings are independent, the queue is that of MaxHerding.
"""

import numpy as np
from scipy.special import softmax

from pipeline.selection import small_head, uncertainty
from pipeline.selection.open_scans import OpenScans
from pipeline.selection.pool import Pick, SelectionPool
from pipeline.selection.strategies import max_herding

# M candidates, L labelled scans, D dimensions, C classes

NUM_HEADS = 10


def select(pool: SelectionPool, num: int, rng: np.random.Generator) -> list[Pick]:
    """The `num` scans of the highest mutual information; the score is that, in nats."""
    lessons = small_head.lessons(pool)
    if lessons is None:
        uncertainty.say_fallback("bald", "no two classes are labelled, or findings are independent", "max_herding")
        return max_herding.select(pool, num, rng)
    scans = OpenScans(pool, num, rng)
    return scans.take_highest(_disagreement(pool, scans.rows_M, *lessons, rng))


def _disagreement(
    pool: SelectionPool, rows_M: np.ndarray, rows_L: np.ndarray, class_L: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Entropy of the committee's mean less the mean of its entropies, (M,)."""
    unit_MD = pool.unit_ND[rows_M]
    mean_MC, entropy_M = 0.0, 0.0
    for _ in range(NUM_HEADS):
        drawn = _bootstrap(class_L, rng)
        weight_CD, bias_C = small_head.fit(pool.unit_ND[rows_L[drawn]], class_L[drawn])
        prob_MC = softmax(unit_MD @ weight_CD.T + bias_C, axis=1)
        mean_MC = mean_MC + prob_MC / NUM_HEADS
        entropy_M = entropy_M + uncertainty.plogp(prob_MC).sum(axis=1) / NUM_HEADS
    return np.asarray(uncertainty.plogp(np.asarray(mean_MC)).sum(axis=1) - entropy_M)


def _bootstrap(class_L: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Places of a bootstrap, drawn within each class, so that every head knows all classes."""
    return np.concatenate([rng.choice(places := np.flatnonzero(class_L == c), len(places)) for c in np.unique(class_L)])
