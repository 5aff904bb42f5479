"""BADGE: diverse scans of large gradient, by k-means++ on what each would teach the last layer.

Ash, Zhang, Krishnamurthy, Langford, Agarwal: Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds
(ICLR 2020, arXiv 1906.03671), algorithm 1. The gradient of the likeliest class is `(p - onehot) x features`, an outer
product, so distances need no more room than the features. Without probabilities: k-means++ on the features.
"""

import numpy as np

from pipeline.selection import uncertainty
from pipeline.selection.open_scans import OpenScans
from pipeline.selection.pool import Pick, SelectionPool

# N scans of the pool, M candidates, D dimensions, C classes


def select(pool: SelectionPool, num: int, rng: np.random.Generator) -> list[Pick]:
    """Up to `num` scans; the score is the squared distance to the nearest one chosen before, of the gradients."""
    scans = OpenScans(pool, num, rng)
    unit_MD = pool.unit_ND[scans.rows_M]
    residual_MC = _residuals(pool)[scans.rows_M]
    norm2_M = np.square(residual_MC).sum(axis=1)
    sqdist_M = norm2_M.copy()  # to the origin: the first one is the largest gradient
    is_first = True
    while scans.wants_more:
        place = scans.best(sqdist_M) if is_first else _drawn(np.where(scans.open_M, sqdist_M, 0.0), scans, rng)
        scans.take(place, float(sqdist_M[place]))
        product_M = (residual_MC @ residual_MC[place]) * (unit_MD @ unit_MD[place])
        to_new_M = np.maximum(norm2_M + norm2_M[place] - 2.0 * product_M, 0.0)
        sqdist_M = to_new_M if is_first else np.minimum(sqdist_M, to_new_M)
        is_first = False
    return scans.picks


def _residuals(pool: SelectionPool) -> np.ndarray:
    """Probabilities less the likeliest class (N, C), float32; ones (N, 1) before there are any."""
    if pool.prob_NC is None:
        uncertainty.say_fallback("badge", "there is no classifier yet", "k-means++ on the features")
        return np.ones((len(pool.ids_N), 1), np.float32)
    prob_NC = np.nan_to_num(pool.prob_NC.astype(np.float32), nan=0.0)
    if not pool.exclusive:  # a finding by itself: its gradient towards the likelier answer
        return np.asarray(prob_NC - (prob_NC > 0.5), dtype=np.float32)
    residual_NC = prob_NC.copy()
    residual_NC[np.arange(len(prob_NC)), prob_NC.argmax(axis=1)] -= 1.0
    return residual_NC


def _drawn(mass_M: np.ndarray, scans: OpenScans, rng: np.random.Generator) -> int:
    """A place drawn by mass; where all are copies of what is chosen, the next open one."""
    total = np.cumsum(mass_M, dtype=np.float64)
    if total[-1] <= 1e-9:
        return int(np.argmax(scans.open_M))
    place = int(np.searchsorted(total, rng.random() * total[-1], side="right"))
    return min(place, len(mass_M) - 1) if mass_M[min(place, len(mass_M) - 1)] > 0 else int(np.argmax(mass_M))
