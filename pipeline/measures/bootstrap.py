"""Patient-cluster bootstrap: draws as weights, and the rules by which replicates become an interval.

Shapes: N scans, K groups (patients), B replicates.

A draw takes K groups with replacement. It is held as the weight of every scan, so a replicate of any
metric that is a function of weights is an array operation, and paired metrics share their draws.

* A **share** of scans (accuracy, sensitivity) gets `share_interval`: Wilson's score interval at the sample size
  the bootstrap's variance implies. A **ranking** (AUROC, average precision) gets `ranking_interval`: Student's on
  the logit. The plain percentile interval of both covers too rarely: with 40 patients 69 to 94 % instead of 95 %,
  and it is `[1, 1]` when nothing was missed (`tests/bench/results/coverage.md`).
* Everything else (differences, slopes, net benefit) gets `percentile_interval`, widened for few groups.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Measure = Callable[[Floats], Mapping[str, Floats]]

CHUNK_CELLS = 1_000_000  # replicates times scans held at once: about 50 MB at the peak
NO_VARIANCE = 1e-12  # replicates that differ by rounding alone


def draws(group_of_N: Ints, num_bootstrap: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Weights of the scans in chunks of replicates, (B', N) each; the chunks do not change the draws.

    Args:
        group_of_N: Group number 0..K-1 of each scan, (N,).
        num_bootstrap: Replicates in all.
        rng: The only randomness.

    Source: Field & Welsh 2007 (cluster bootstrap).
    """
    num_groups = int(group_of_N.max()) + 1
    chunk = max(1, CHUNK_CELLS // len(group_of_N))
    for start in range(0, num_bootstrap, chunk):
        size = min(chunk, num_bootstrap - start)
        draw_BK = rng.multinomial(num_groups, np.full(num_groups, 1.0 / num_groups), size=size)
        yield draw_BK.astype(np.float64)[:, group_of_N]


def replicates(measure: Measure, group_of_N: Ints, num_bootstrap: int, rng: np.random.Generator) -> dict[str, Floats]:
    """Every metric of `measure` under redrawn groups, (B, ...) each; empty with fewer than two groups.

    Args:
        measure: Weights (B', N) to name -> (B', ...), NaN where undefined.
        group_of_N: Group number of each scan, (N,).
        num_bootstrap: Replicates; 0 gives nothing.
        rng: Draws the groups.
    """
    if num_bootstrap == 0 or int(group_of_N.max(initial=-1)) < 1:
        return {}
    parts = [measure(weight_BN) for weight_BN in draws(group_of_N, num_bootstrap, rng)]
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def share_interval(
    value: float, value_B: ArrayLike, num_groups: float, num_degrees: int, confidence: float = 0.95
) -> list[float] | None:
    """Interval of a share of scans, from its value and its replicates; None where there is none.

    Wilson's score interval, with Student's quantile, at the effective sample size `n = v (1 - v) / V` that
    the replicates' variance V implies. V is multiplied by `k / (k - 1)`, what the bootstrap loses with k
    groups. Where all replicates agree (no mistake was made), n is k: a patient counts as one scan. So no
    interval has zero width, and with one informative group there is none.

    Args:
        value: The metric with every scan weighing one, 0..1.
        value_B: Its replicates, NaN where undefined; fewer than half defined gives None.
        num_groups: k, groups that inform the metric: for a sensitivity those with a positive scan.
        num_degrees: Degrees of freedom of the quantile: all groups less one.
        confidence: Two-sided, inside (0, 1).

    Sources: Wilson 1927; Korn & Graubard 1998 (effective sample size of clustered shares).
    """
    variance = _variance(value, value_B, num_groups)
    if variance is None or num_degrees < 1:
        return None
    size = value * (1 - value) / variance if variance > NO_VARIANCE else float(num_groups)
    low, high = wilson(value, size, _student_quantile((1 + confidence) / 2, num_degrees))
    return [min(low, value), max(high, value)]


def ranking_interval(
    value: float, value_B: ArrayLike, num_groups: float, confidence: float = 0.95
) -> list[float] | None:
    """Interval of an AUROC or average precision, from its value and its replicates; None where there is none.

    `logit v ± t * s`, where s is the replicates' spread carried over by the delta method, and t has
    `2 (k - 1)` degrees of freedom: two samples are compared, and the rarer has k groups, counted as
    `effective_groups` does. Where all replicates agree (a perfect ranking), as in `share_interval`.

    Args:
        value: The metric with every scan weighing one, 0..1.
        value_B: Its replicates, NaN where undefined; fewer than half defined gives None.
        num_groups: k, effective groups of the rarer side.
        confidence: Two-sided, inside (0, 1).

    Sources: Qin & Hotilovac 2008 (AUROC); Boyd, Eng & Page 2013 (average precision).
    """
    variance = _variance(value, value_B, num_groups)
    if variance is None:
        return None
    from scipy.special import expit, logit

    quantile = _student_quantile((1 + confidence) / 2, 2 * (num_groups - 1))
    if variance <= NO_VARIANCE:
        low, high = wilson(value, num_groups, quantile)
    else:
        half = quantile * np.sqrt(variance) / (value * (1 - value))
        low, high = (float(x) for x in expit(logit(value) + np.array([-half, half])))
    return [min(low, value), max(high, value)]


def wilson(share: float, size: float, quantile: float) -> tuple[float, float]:
    """Wilson's score interval of a share seen on `size` scans, which need not be a whole number.

    Source: Wilson 1927.
    """
    centre = (share + quantile**2 / (2 * size)) / (1 + quantile**2 / size)
    half = quantile / (1 + quantile**2 / size) * np.sqrt(share * (1 - share) / size + quantile**2 / (4 * size**2))
    return max(float(centre - half), 0.0), min(float(centre + half), 1.0)


def _student_quantile(probability: float, num_degrees: float) -> float:
    """Quantile of Student's t; NaN without a degree of freedom. `scipy.stats` has it, too, and takes long to import."""
    from scipy.special import stdtrit

    return float(stdtrit(num_degrees, probability)) if num_degrees > 0 else float("nan")


def percentile_interval(value_B: ArrayLike, num_groups: int, confidence: float = 0.95) -> list[float] | None:
    """Expanded percentile interval of any metric; None with under two groups or under half the replicates.

    The tails are those of `sqrt(K / (K - 1)) t_{K-1}` instead of the normal: K patients are as few as they
    are, and the plain percentile interval is narrower than a t interval by just that.

    Args:
        value_B: Replicates, NaN where undefined.
        num_groups: K, groups redrawn.
        confidence: Two-sided, inside (0, 1).

    Source: Hesterberg 2015 (expanded percentile interval).
    """
    enough_B = _enough(value_B)
    if enough_B is None or num_groups < 2:
        return None
    from scipy.special import ndtr

    quantile = _student_quantile((1 - confidence) / 2, num_groups - 1)
    tail = ndtr(quantile * np.sqrt(num_groups / (num_groups - 1)))
    return [float(q) for q in np.quantile(enough_B, [tail, 1 - tail])]


def two_sided_p(difference_B: ArrayLike, num_groups: int) -> float | None:
    """Two-sided p of "the difference is 0": one minus the widest `percentile_interval` that leaves 0 out.

    Twice the smaller share of replicates on one side of 0 (0 itself counts on both, and one replicate is
    added, so p is never 0), then moved from the normal's tails to those of the t.

    Source: Efron & Tibshirani 1993, ch. 16 (inversion of the percentile interval); Hesterberg 2015.
    """
    enough_B = _enough(difference_B)
    if enough_B is None or num_groups < 2:
        return None
    from scipy.special import ndtri, stdtr

    # Differences of equal sums leave rounding where the replicate is 0.
    below, above = int((enough_B <= NO_VARIANCE).sum()), int((enough_B >= -NO_VARIANCE).sum())
    tail = min(0.5, (min(below, above) + 1) / (len(enough_B) + 1))
    quantile = -ndtri(tail) * np.sqrt((num_groups - 1) / num_groups)
    return float(min(1.0, 2 * stdtr(num_groups - 1, -quantile)))


def num_in_group(group_of_N: Ints, member_N: ArrayLike) -> int:
    """Groups with at least one scan of those marked."""
    return len(np.unique(group_of_N[np.asarray(member_N, bool)]))


def effective_groups(group_of_N: Ints, member_N: ArrayLike) -> float:
    """Groups among the scans marked, `(sum m)^2 / sum m^2` of their m scans: a big one does not count for several.

    Source: Kish 1965.
    """
    size_K = np.bincount(group_of_N[np.asarray(member_N, bool)]).astype(np.float64)
    return float(size_K.sum() ** 2 / np.square(size_K).sum()) if size_K.any() else 0.0


def _variance(value: float, value_B: ArrayLike, num_groups: float) -> float | None:
    """Variance of the replicates times `k / (k - 1)`; 0 at the ends of the scale, None where there is none."""
    enough_B = _enough(value_B)
    if enough_B is None or not np.isfinite(value) or num_groups <= 1:
        return None
    return float(enough_B.var()) * num_groups / (num_groups - 1) if NO_VARIANCE < value < 1 - NO_VARIANCE else 0.0


def _enough(value_B: ArrayLike) -> Floats | None:
    """The defined replicates, if they are at least half."""
    values: NDArray[Any] = np.asarray(value_B, np.float64)
    defined = values[np.isfinite(values)]
    return defined if len(values) and 2 * len(defined) >= len(values) else None
