"""How many labels of two classes are wrong, from how a score ranks the scans: wrong labels told from hard cases.

Hard cases lie between the classes. Wrong labels lie where the other class lies, as sure as the other class itself.
The score of either true class is taken as normal after some monotone change, with any distance and ratio of spreads
(binormal); either label is a mixture of both true classes. Only the ranks count.

Source: Dorfman & Berbaum 2000 (contaminated binormal model); Scott, Blanchard & Handy 2013 (mutual contamination).

Legend: G models of the grid, B bins of the pooled scores, Z points of the latent axis.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

Floats = NDArray[np.float64]

_SHARES = (0.0, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
_DISTANCES = tuple(np.linspace(0.25, 5.0, 16).tolist())
_SPREADS = (0.5, 0.7, 1.0, 1.4, 2.0)
_NUM_BINS = 20
_AXIS = np.linspace(-8.0, 14.0, 221)
_DROP = 1.353  # of the log likelihood: 95 %, one-sided
_LEAST = 1e-6


@dataclass(frozen=True)
class WrongShares:
    """Estimated shares of wrong labels, and their lower bounds (95 %, one-sided), 0..1.

    Attributes:
        own: Of the first class.
        own_low: Its lower bound.
        other: Of the second class.
        other_low: Its lower bound.
        all_low: Lower bound of the share of all labels that are wrong: more than the sum of both bounds.
    """

    own: float
    own_low: float
    other: float
    other_low: float
    all_low: float


def wrong_shares(own_K: Floats, other_J: Floats, weight: float = 1.0) -> WrongShares:
    """Fit the mixture to the ranks of two labelled classes.

    Args:
        own_K: Scores of the first class, the higher the more like it.
        other_J: Scores of the second class.
        weight: What a scan counts, 0..1: patients over scans, where several scans are of one patient.
    """
    pooled = np.concatenate([own_K, other_J])
    rank = np.argsort(np.argsort(pooled, kind="stable"), kind="stable") / len(pooled)
    bin_N = np.minimum((rank * _NUM_BINS).astype(np.int64), _NUM_BINS - 1)
    own_B = np.bincount(bin_N[: len(own_K)], minlength=_NUM_BINS)
    other_B = np.bincount(bin_N[len(own_K) :], minlength=_NUM_BINS)
    share = round(len(own_K) / len(pooled), 2)
    log_own_GB, log_other_GB, wrong_G2 = _grid(min(max(share, 0.01), 0.99))
    likelihood_G = weight * (log_own_GB @ own_B + log_other_GB @ other_B)
    best = int(likelihood_G.argmax())
    near_G = likelihood_G >= likelihood_G[best] - _DROP
    low_2 = wrong_G2[near_G].min(axis=0)
    all_low = float((wrong_G2[near_G] @ np.array([share, 1 - share])).min())
    own, other = wrong_G2[best].tolist()
    return WrongShares(own, float(low_2[0]), other, float(low_2[1]), all_low)


@lru_cache(maxsize=16)
def _grid(share: float) -> tuple[Floats, Floats, Floats]:
    """Log probabilities of the bins for either label, (G, B) each, and the wrong shares of each model, (G, 2).

    Args:
        share: Of the first class among all scans; the bins hold equal parts of all.
    """
    part_B = np.arange(1, _NUM_BINS) / _NUM_BINS
    below_Z = norm.cdf(_AXIS)
    log_own, log_other, wrong = [], [], []
    for distance in _DISTANCES:
        for spread in _SPREADS:
            above_Z = norm.cdf((_AXIS - distance) / spread)
            for own in _SHARES:
                own_Z = (1 - own) * above_Z + own * below_Z
                for other in _SHARES:
                    other_Z = (1 - other) * below_Z + other * above_Z
                    cut_B = np.interp(part_B, share * own_Z + (1 - share) * other_Z, _AXIS)
                    log_own.append(_log_bins(np.interp(cut_B, _AXIS, own_Z)))
                    log_other.append(_log_bins(np.interp(cut_B, _AXIS, other_Z)))
                    wrong.append((own, other))
    return np.stack(log_own), np.stack(log_other), np.array(wrong)


def _log_bins(below_B: Floats) -> Floats:
    edges = np.concatenate([[0.0], below_B, [1.0]])
    return np.asarray(np.log(np.maximum(np.diff(edges), _LEAST)), np.float64)
