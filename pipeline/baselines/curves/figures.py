"""From curves over the number of labels to figures: bands, areas, differences paired by seed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

# S seeds, B budgets

Curve = dict[str, Any]


def area(budgets: Sequence[int], value_B: ArrayLike, up_to: int | None = None) -> float:
    """Area under a budget curve over the logarithm of the budget, divided by its width: a mean of the values.

    Args:
        budgets: Rising, at least one.
        value_B: Value at each.
        up_to: Budgets beyond are left out; None: all count.
    """
    kept = [i for i, budget in enumerate(budgets) if up_to is None or budget <= up_to]
    x_B, y_B = np.log([budgets[i] for i in kept]), np.asarray(value_B, float)[kept]
    return float(y_B[0]) if len(kept) == 1 else float(np.trapezoid(y_B, x_B) / (x_B[-1] - x_B[0]))


def mean_interval(value_S: ArrayLike) -> dict[str, float | None]:
    """Mean over seeds and half the width of its 95 % t-interval; None for one seed."""
    value_S = np.asarray(value_S, float)
    num = len(value_S)
    half = None if num < 2 else float(stats.t.ppf(0.975, num - 1) * value_S.std(ddof=1) / np.sqrt(num))
    return {"mean": float(value_S.mean()), "half": half}


def by_seed(curves: Sequence[Curve], key: str) -> dict[tuple[str, str], dict[int, Curve]]:
    """The curves of each pool and of each value of `key`, by seed; in the order they come."""
    of_key: dict[tuple[str, str], dict[int, Curve]] = {}
    for curve in curves:
        of_key.setdefault((curve["pool"], curve[key]), {})[curve["seed"]] = curve
    return of_key


def along_seeds(of_seed: dict[int, Curve], measure: str) -> np.ndarray:
    """Values of a measure (S, B), seeds rising."""
    return np.array([of_seed[seed][measure] for seed in sorted(of_seed)], float)


def differences(of_seed: dict[int, Curve], reference: dict[int, Curve], measure: str) -> np.ndarray:
    """A measure less that of the reference (S, B), of the seeds that both have."""
    both = sorted(set(of_seed) & set(reference))
    return np.array([np.subtract(of_seed[seed][measure], reference[seed][measure]) for seed in both], float)


def signed_ranks(value_S: ArrayLike) -> float | None:
    """p-value of Wilcoxon's signed ranks of paired differences; None of one seed, or where none differs."""
    value_S = np.asarray(value_S, float)
    return float(stats.wilcoxon(value_S).pvalue) if len(value_S) > 1 and np.any(value_S != 0) else None
