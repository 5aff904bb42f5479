"""From the curves of strategies to figures: what each gained over random selection, wins, paired tests."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.baselines.curves.figures import (
    Curve,
    along_seeds,
    area,
    by_seed,
    differences,
    mean_interval,
    signed_ranks,
)
from pipeline.measures.holm import holm

# S seeds, B budgets

REFERENCE = "random"
LOW_BUDGET = 50  # labels up to which the area at low budgets goes, and by which all classes should have come
CLASSIFIER_BY = 60  # labels by which there should be a classifier


def figures(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """One row for each pool and strategy, in the order they come; every strategy is paired with random by seed.

    The p-values (Wilcoxon's signed ranks of the areas' differences) are Holm's over all rows.
    """
    of_key = by_seed(curves, "strategy")
    rows = [_row(pool, name, of_seed, of_key.get((pool, REFERENCE), {})) for (pool, name), of_seed in of_key.items()]
    for row, p_holm in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = p_holm
    return rows


def _row(pool: str, name: str, of_seed: dict[int, Curve], reference: dict[int, Curve]) -> dict[str, Any]:
    seeds = sorted(of_seed)
    budgets = of_seed[seeds[0]]["budgets"]
    auroc_SB, accuracy_SB = along_seeds(of_seed, "auroc"), along_seeds(of_seed, "accuracy")
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
        **_against(of_seed, {} if name == REFERENCE else reference, budgets),
    }


def _against(of_seed: dict[int, Curve], reference: dict[int, Curve], budgets: Sequence[int]) -> dict[str, Any]:
    """Differences to random, seed by seed; None without a seed in common."""
    gain_SB = differences(of_seed, reference, "auroc")
    if not len(gain_SB):
        return {"gain": None, "gain_low": None, "gain_by_budget": None, "win_rate": None, "p": None}
    gain_S = np.array([area(budgets, gain_B) for gain_B in gain_SB])
    return {
        "gain": mean_interval(gain_S),
        "gain_low": mean_interval([area(budgets, gain_B, LOW_BUDGET) for gain_B in gain_SB]),
        "gain_by_budget": [mean_interval(of_budget) for of_budget in gain_SB.T],
        "win_rate": float((gain_S > 0).mean()),
        "p": signed_ranks(gain_S),
    }


def _share(until: Sequence[int | None], budget: int) -> float:
    return float(np.mean([num is not None and num <= budget for num in until]))
