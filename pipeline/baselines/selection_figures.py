"""From simulated histories to figures: curves with bands, area under the budget curve, wins, paired tests."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from pipeline.measures.holm import holm

# S seeds, B budgets

REFERENCE = "random"
LOW_BUDGET = 50  # labels up to which the area at low budgets goes, and by which all classes should have come
CLASSIFIER_BY = 60  # labels by which there should be a classifier

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


def figures(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """One row for each pool and strategy, in the order they come; every strategy is paired with random by seed.

    The p-values (Wilcoxon's signed ranks of the areas' differences) are Holm's over all rows.
    """
    by_key: dict[tuple[str, str], dict[int, Curve]] = {}
    for curve in curves:
        by_key.setdefault((curve["pool"], curve["strategy"]), {})[curve["seed"]] = curve
    rows = [_row(pool, name, of_seed, by_key.get((pool, REFERENCE), {})) for (pool, name), of_seed in by_key.items()]
    for row, p_holm in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = p_holm
    return rows


def _row(pool: str, name: str, of_seed: dict[int, Curve], reference: dict[int, Curve]) -> dict[str, Any]:
    seeds = sorted(of_seed)
    budgets = of_seed[seeds[0]]["budgets"]
    auroc_SB = np.array([of_seed[seed]["auroc"] for seed in seeds])
    accuracy_SB = np.array([of_seed[seed]["accuracy"] for seed in seeds])
    until_all = [of_seed[seed]["labels_until_all_classes"] for seed in seeds]
    until_two = [of_seed[seed]["labels_until_two_classes"] for seed in seeds]
    return {
        "pool": pool,
        "strategy": name,
        "num_seeds": len(seeds),
        "budgets": budgets,
        "auroc": [mean_interval(of_budget) for of_budget in auroc_SB.T],
        "accuracy": [mean_interval(of_budget) for of_budget in accuracy_SB.T],
        "area": mean_interval([area(budgets, auroc_B) for auroc_B in auroc_SB]),
        f"all_classes_by_{LOW_BUDGET}": _share(until_all, LOW_BUDGET),
        f"classifier_by_{CLASSIFIER_BY}": _share(until_two, CLASSIFIER_BY),
        **_against(of_seed, {} if name == REFERENCE else reference),
    }


def _against(of_seed: dict[int, Curve], reference: dict[int, Curve]) -> dict[str, Any]:
    """Differences to random, seed by seed; None without a seed in common."""
    both = sorted(set(of_seed) & set(reference))
    if not both:
        return {"gain": None, "gain_low": None, "gain_by_budget": None, "win_rate": None, "p": None}
    budgets = of_seed[both[0]]["budgets"]
    gain_SB = np.array([np.subtract(of_seed[seed]["auroc"], reference[seed]["auroc"]) for seed in both])
    gain_S = np.array([area(budgets, gain_B) for gain_B in gain_SB])
    return {
        "gain": mean_interval(gain_S),
        "gain_low": mean_interval([area(budgets, gain_B, LOW_BUDGET) for gain_B in gain_SB]),
        "gain_by_budget": [mean_interval(of_budget) for of_budget in gain_SB.T],
        "win_rate": float((gain_S > 0).mean()),
        "p": float(stats.wilcoxon(gain_S).pvalue) if len(both) > 1 and np.any(gain_S != 0) else None,
    }


def _share(until: Sequence[int | None], budget: int) -> float:
    return float(np.mean([num is not None and num <= budget for num in until]))
