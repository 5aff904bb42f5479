"""From a learning curve to what further labels would buy: an inverse power law, with a prediction interval.

    score(n) = 1 - E ((1 - f) + f (n / n0)^-c)

`E` is what today's n0 labels leave to be gained, `f` the share of it that labels can ever remove, `c` how fast. It is
`a - b n^-c` written so that its parts have a meaning at n0, where a prior can be stated. A curve of a hundred labels
says little about f and c, so they are not fitted but kept as a grid of possibilities, each weighed by how well it
explains the curve; the interval is that of their mixture. To it comes what no curve can know: which labels come next.

Sources: Figueroa et al. 2012, BMC Med Inform Decis Mak 12:8 (inverse power law from subsamples of the labels; larger
samples weigh more, here by their covariance). Their intervals were optimistic, as they say themselves; ours are checked
in `tests/bench/results/forecast.md`.

Shapes: S sizes, K points of the grid, H horizons.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr
from scipy.stats import norm

from pipeline.learn.stopping.observed_curve import Observed

REDUCIBLE = np.linspace(0.05, 1.0, 20)  # f
EXPONENTS = np.geomspace(0.05, 3.0, 25)  # c
LIKELY_EXPONENT, EXPONENT_SD = 0.5, 0.8  # prior of c: log-normal
FLOOR_SD = 0.005  # of a point of the curve, however many patients it rests on: no curve is a power law exactly
LUCK = 0.18  # of what is left to gain, for very many further labels


@dataclass(frozen=True)
class Gain:
    """What a number of further labels would buy.

    Attributes:
        labels: How many.
        mean: Expected gain of the score.
        low: Lower end of the prediction interval.
        high: Upper end.
    """

    labels: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class PowerLaw:
    """A grid of learning curves and how likely each is.

    Attributes:
        num_labels: n0.
        share_K: f of each.
        exponent_K: c of each.
        left_K: E of each, its expectation.
        left_sd_K: Its standard deviation.
        weight_K: Sums to 1.
    """

    num_labels: int
    share_K: np.ndarray
    exponent_K: np.ndarray
    left_K: np.ndarray
    left_sd_K: np.ndarray
    weight_K: np.ndarray

    def score(self, size: float) -> float:
        """Expected score after so many labels."""
        left_K = self.left_K * _left_of(self.share_K, self.exponent_K, size / self.num_labels)
        return float(1.0 - self.weight_K @ left_K)

    def gain(self, labels: int, confidence: float) -> Gain:
        """What so many further labels would buy, with the prediction interval of this confidence."""
        factor_K = 1.0 - _left_of(self.share_K, self.exponent_K, 1.0 + labels / self.num_labels)
        mean_K = self.left_K * factor_K
        luck = luck_sd(float(self.weight_K @ self.left_K), self.num_labels, labels)
        sd_K = np.sqrt((self.left_sd_K * factor_K) ** 2 + luck**2)
        low, high = _mixture_interval(mean_K, sd_K, self.weight_K, confidence)
        return Gain(labels, float(self.weight_K @ mean_K), low, high)


def fit(curve: Observed, num_labels: int) -> PowerLaw:
    """Weigh every curve of the grid by how well it explains the observed one.

    For given f and c the score is linear in E, so that E is integrated out: a normal likelihood with the observed
    covariance, and a flat prior of E.

    Args:
        curve: Scores at the sizes of the subsets.
        num_labels: n0, to which the forecast is added.
    """
    share_K, exponent_K = (grid.ravel() for grid in np.meshgrid(REDUCIBLE, EXPONENTS, indexing="ij"))
    size_S = curve.size_S / num_labels
    shape_KS = _left_of(share_K[:, None], exponent_K[:, None], size_S)
    floor = np.eye(len(size_S)) * FLOOR_SD**2
    precision_SS = np.linalg.inv(curve.covariance_SS + floor)
    left_S = 1.0 - curve.score_S
    information_K = np.einsum("ks,st,kt->k", shape_KS, precision_SS, shape_KS)
    left_K = np.maximum(shape_KS @ precision_SS @ left_S / information_K, 0.0)
    residual_KS = left_S - left_K[:, None] * shape_KS
    misfit_K = np.einsum("ks,st,kt->k", residual_KS, precision_SS, residual_KS)
    prior_K = norm.logpdf(np.log(exponent_K), np.log(LIKELY_EXPONENT), EXPONENT_SD)
    log_K = -0.5 * misfit_K - 0.5 * np.log(information_K) + prior_K
    weight_K = np.exp(log_K - log_K.max())
    return PowerLaw(num_labels, share_K, exponent_K, left_K, information_K**-0.5, weight_K / weight_K.sum())


def luck_sd(left: float, num_labels: int, labels: int) -> float:
    """Standard deviation of the gain over the very labels that come next; more for more labels, relative to today's.

    Args:
        left: What is left to gain, 1 less the score.
        num_labels: Today's labels.
        labels: Further ones.
    """
    return LUCK * left * float(np.sqrt(labels / (num_labels + labels)))


def _left_of(share: np.ndarray, exponent: np.ndarray, ratio: np.ndarray | float) -> np.ndarray:
    """What is left to gain at `ratio` times today's labels, as a share of what is left today."""
    return np.asarray((1.0 - share) + share * np.power(ratio, -exponent))


def _mixture_interval(
    mean_K: np.ndarray, sd_K: np.ndarray, weight_K: np.ndarray, confidence: float
) -> tuple[float, float]:
    """Central interval of a mixture of normal distributions, by bisection of its distribution function."""
    ends = []
    for probability in ((1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0):
        low, high = float((mean_K - 9.0 * sd_K).min()), float((mean_K + 9.0 * sd_K).max())
        for _ in range(60):
            middle = 0.5 * (low + high)
            below = float(weight_K @ ndtr((middle - mean_K) / np.maximum(sd_K, 1e-12)))
            low, high = (middle, high) if below < probability else (low, middle)
        ends.append(0.5 * (low + high))
    return ends[0], ends[1]
