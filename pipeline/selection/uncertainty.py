"""How unsure the last round's classifier is of each scan; the probabilities are calibrated already."""

import logging

import numpy as np

from pipeline.selection.pool import SelectionPool

# N scans of the pool, C classes or findings

log = logging.getLogger(__name__)


def margin(pool: SelectionPool) -> np.ndarray | None:
    """1 less the difference of the two highest probabilities, (N,), 0 to 1; None without probabilities.

    Of independent findings: the mean over those that have a classifier, of each against its absence.
    """
    if pool.prob_NC is None:
        return None
    if not pool.exclusive:
        return _over_findings(1.0 - np.abs(2.0 * pool.prob_NC - 1.0))
    if pool.prob_NC.shape[1] < 2:
        return np.zeros(len(pool.prob_NC))
    top_NC = np.partition(pool.prob_NC, -2, axis=1)
    return np.asarray(1.0 - (top_NC[:, -1] - top_NC[:, -2]))


def entropy(pool: SelectionPool) -> np.ndarray | None:
    """Entropy of the probabilities over its maximum, (N,), 0 to 1; None without probabilities.

    Of independent findings: the mean over those that have a classifier, of each against its absence.
    """
    if pool.prob_NC is None:
        return None
    if not pool.exclusive:
        return _over_findings((plogp(pool.prob_NC) + plogp(1.0 - pool.prob_NC)) / np.log(2.0))
    return np.asarray(plogp(pool.prob_NC).sum(axis=1) / np.log(max(pool.prob_NC.shape[1], 2)))


def plogp(prob: np.ndarray) -> np.ndarray:
    """`-p log p`, 0 for p = 0."""
    return np.asarray(-prob * np.log(np.maximum(prob, 1e-30)))


def say_fallback(name: str, lacks: str, used: str) -> None:
    """Log that a strategy lets another one choose, and what it lacks to choose itself."""
    log.info("%s: %s; this queue is chosen as by %s", name, lacks, used)


def _over_findings(value_NC: np.ndarray) -> np.ndarray | None:
    known_C = ~np.isnan(value_NC).all(axis=0)
    return None if not known_C.any() else np.asarray(np.nanmean(value_NC[:, known_C], axis=1))
