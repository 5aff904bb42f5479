"""How many labels of two classes are wrong, from how a score ranks the scans: wrong labels told from hard cases.

Hard cases lie between the classes. Wrong labels lie where the other class lies, as sure as the other class itself.
The score of either true class is taken as normal after some monotone change, with any distance and ratio of spreads
(binormal); either label is a mixture of both true classes. Only the ranks count.

Source: Dorfman & Berbaum 2000 (contaminated binormal model); Scott, Blanchard & Handy 2013 (mutual contamination).

Legend: G models of the grid, M pairs of wrong shares, B bins of the pooled scores, E inner edges of the bins, Z points
of the latent axis.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

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
        evidence: Log likelihood of the best model over that of the best one without a wrong label; 0 or more.
    """

    own: float
    own_low: float
    other: float
    other_low: float
    all_low: float
    evidence: float


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
    evidence = float(likelihood_G[best] - likelihood_G[~wrong_G2.any(axis=1)].max())
    return WrongShares(own, float(low_2[0]), other, float(low_2[1]), all_low, evidence)


@lru_cache(maxsize=16)
def _grid(share: float) -> tuple[Floats, Floats, Floats]:
    """Log probabilities of the bins for either label, (G, B) each, and the wrong shares of each model, (G, 2).

    All labels together hold both true classes in a part that share and wrong shares give, so the edges of the bins
    are found for a pair of true classes and all wrong shares at once.

    Args:
        share: Of the first class among all scans; the bins hold equal parts of all.
    """
    own_M, other_M = (values_MM.ravel() for values_MM in np.meshgrid(_SHARES, _SHARES, indexing="ij"))
    part_M = share * (1 - own_M) + (1 - share) * other_M
    log_own, log_other = [], []
    for distance in _DISTANCES:
        for spread in _SPREADS:
            above_ME, below_ME = _at_edges(ndtr((_AXIS - distance) / spread), part_M)
            log_own.append(_log_bins(_mixed(above_ME, below_ME, own_M)))
            log_other.append(_log_bins(_mixed(below_ME, above_ME, other_M)))
    wrong_M2 = np.stack([own_M, other_M], axis=1)
    return np.concatenate(log_own), np.concatenate(log_other), np.tile(wrong_M2, (len(log_own), 1))


def _at_edges(above_Z: Floats, part_M: Floats) -> tuple[Floats, Floats]:
    """Distribution functions of both true classes at the inner edges of the bins, (M, B - 1) each.

    Args:
        above_Z: Of the first true class on the latent axis; that of the second is standard normal.
        part_M: Of the first true class among all scans.
    """
    below_Z = ndtr(_AXIS)
    pooled_MZ = part_M[:, None] * above_Z + (1 - part_M[:, None]) * below_Z
    edge_E = np.arange(1, _NUM_BINS) / _NUM_BINS
    place_ME = np.stack([np.searchsorted(pooled_Z, edge_E, side="right") - 1 for pooled_Z in pooled_MZ])
    low_ME, high_ME = (np.take_along_axis(pooled_MZ, place_ME + step, axis=1) for step in (0, 1))
    weight_ME = (edge_E - low_ME) / (high_ME - low_ME)
    above_ME, below_ME = (
        (1 - weight_ME) * values_Z[place_ME] + weight_ME * values_Z[place_ME + 1] for values_Z in (above_Z, below_Z)
    )
    return above_ME, below_ME


def _mixed(main_ME: Floats, other_ME: Floats, share_M: Floats) -> Floats:
    return (1 - share_M[:, None]) * main_ME + share_M[:, None] * other_ME


def _log_bins(below_ME: Floats) -> Floats:
    share_MB = np.diff(below_ME, axis=1, prepend=0.0, append=1.0)
    return np.asarray(np.log(np.maximum(share_MB, _LEAST)), np.float64)
