"""Uncertainty Herding: cover what the classifier is unsure of.

Bae, Oliveira, Sutherland: Uncertainty Herding: One Active Learning Method for All Label Budgets (ICLR 2025,
arXiv 2412.20644): the coverage of MaxHerding, each scan of the pool weighted by the margin of its calibrated
probabilities. Before there are any it is MaxHerding. The paper narrows the kernel as labels come in; here its width
stays, as measured.
"""

import numpy as np

from pipeline.selection import coverage, uncertainty
from pipeline.selection.pool import Pick, SelectionPool

NAME = "uncertainty_herding"
LEAST = 1e-3  # a scan the classifier is sure of still counts for a little, so that ties are broken by coverage


def select(pool: SelectionPool, num: int, rng: np.random.Generator, asked_for: str = NAME) -> list[Pick]:
    """See `coverage.select`; the score is the uncertainty newly covered. The log names the strategy asked for."""
    return coverage.select(pool, num, rng, coverage.gaussian(pool.config.bandwidth), weights(pool, asked_for))


def weights(pool: SelectionPool, asked_for: str = NAME) -> np.ndarray | None:
    """Uncertainty of each scan (N,); None, said in the log of a strategy, before there are probabilities."""
    unsure_N = uncertainty.margin(pool)
    if unsure_N is None:
        uncertainty.say_fallback(asked_for, "there is no classifier yet", "max_herding")
        return None
    return np.asarray(np.maximum(unsure_N, LEAST))
