"""From the curves of ways to learn to figures: gains over expert labels alone, and how well precision is estimated."""

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

REFERENCE = "expert"
MEASURES = {"auroc": 1.0, "accuracy": 1.0, "ece": -1.0}  # the sign of what is better
TESTED = ("auroc", "accuracy")


def figures(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """One row for each pool and way, in the order they come; every way is paired with the reference by seed.

    The p-values (Wilcoxon's signed ranks of the areas' differences) of a measure are Holm's over all rows.
    """
    of_key = by_seed(curves, "way")
    rows = [_row(pool, way, of_seed, of_key.get((pool, REFERENCE), {})) for (pool, way), of_seed in of_key.items()]
    for measure in TESTED:
        gains = [row["gain"][measure] for row in rows if row["gain"]]
        for gain, p_holm in zip(gains, holm([gain["p"] for gain in gains]), strict=True):
            gain["p_holm"] = p_holm
    return rows


def _row(pool: str, way: str, of_seed: dict[int, Curve], reference: dict[int, Curve]) -> dict[str, Any]:
    budgets = next(iter(of_seed.values()))["budgets"]
    values = {measure: along_seeds(of_seed, measure) for measure in MEASURES}
    paired = way != REFERENCE and bool(set(of_seed) & set(reference))
    return {
        "pool": pool,
        "way": way,
        "num_seeds": len(of_seed),
        "budgets": budgets,
        **{measure: [mean_interval(of_budget) for of_budget in value_SB.T] for measure, value_SB in values.items()},
        "area": {
            measure: mean_interval([area(budgets, value_B) for value_B in value_SB])
            for measure, value_SB in values.items()
        },
        "gain": {measure: _gain(of_seed, reference, measure, budgets) for measure in MEASURES} if paired else None,
        "pseudo": _pseudo_labels([of_seed[seed]["pseudo"] for seed in sorted(of_seed)]),
    }


def _gain(
    of_seed: dict[int, Curve], reference: dict[int, Curve], measure: str, budgets: Sequence[int]
) -> dict[str, Any]:
    """The area less that of the reference, seed by seed; a win is a seed in which it is better."""
    gain_SB = differences(of_seed, reference, measure)
    gain_S = np.array([area(budgets, gain_B) for gain_B in gain_SB])
    figure: dict[str, Any] = mean_interval(gain_S) | {
        "by_budget": [mean_interval(of_budget) for of_budget in gain_SB.T],
        "win_rate": float((MEASURES[measure] * gain_S > 0).mean()),
    }
    return figure | ({"p": signed_ranks(gain_S)} if measure in TESTED else {})


def _pseudo_labels(of_seeds: Sequence[Sequence[dict[str, Any] | None]]) -> dict[str, Any] | None:
    """Pseudo-labels over seeds and budgets: how many, how precise, and how far the estimate of that is off.

    The difference, estimated less realised, is signed and absolute; each seed counts with its mean over the budgets at
    which pseudo-labels were admitted. None of a way that gives no labels.
    """
    if not any(point for points in of_seeds for point in points):
        return None
    gap_SB = _column(of_seeds, "estimated") - _column(of_seeds, "realised")
    return {
        **{
            name: [_mean_of_known(value_S) for value_S in _column(of_seeds, name).T]
            for name in ("num", "share", "estimated", "realised")
        },
        "difference": [_mean_of_known(gap_S) for gap_S in gap_SB.T],
        "signed": _mean_of_known(_mean_over_budgets(gap_SB)),
        "absolute": _mean_of_known(_mean_over_budgets(np.abs(gap_SB))),
        "num_compared": int(np.isfinite(gap_SB).sum()),
    }


def _column(of_seeds: Sequence[Sequence[dict[str, Any] | None]], name: str) -> np.ndarray:
    """A field of every seed and budget (S, B); NaN where there is none."""
    return np.array([[(point or {}).get(name) for point in points] for points in of_seeds], float)


def _mean_over_budgets(value_SB: np.ndarray) -> np.ndarray:
    return np.array([value_B[np.isfinite(value_B)].mean() for value_B in value_SB if np.isfinite(value_B).any()])


def _mean_of_known(value_S: np.ndarray) -> dict[str, float | None] | None:
    known = value_S[np.isfinite(value_S)]
    return mean_interval(known) if len(known) else None
