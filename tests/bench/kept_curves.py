"""Curves of simulated histories in one JSON file, so that a bench that was stopped goes on; compared by seed.

Delete the file when what it measures has changed: a curve that is there is not simulated again.
"""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.baselines.curves import figures, selection_curve
from pipeline.baselines.curves.asking import History
from pipeline.contracts.tables import write_text
from tests.bench import tables

# S seeds, B budgets

ALL_CLASSES = "labels_until_all_classes"
BySeed = dict[int, dict[str, Any]]


class KeptCurves(NamedTuple):
    """AUROC after each budget, by pool, title of what was varied, and seed.

    Attributes:
        path: The file.
        budgets: Numbers of labels, rising.
    """

    path: Path
    budgets: tuple[int, ...]

    def complete(self, title: str, history: History) -> None:
        """Simulate a history and keep its curve, unless it is there."""
        key = f"{history.pool_name}/{title}/{history.seed}"
        if key not in self._all():
            [curve] = selection_curve.simulate([history])
            kept = {name: curve[name] for name in ("auroc", ALL_CLASSES)}
            write_text(self.path, json.dumps(self._all() | {key: kept}) + "\n")
            sys.stderr.write(f"{key}: {kept}\n")

    def pools(self) -> list[str]:
        """Names of the pools, in the order they were measured."""
        return list(dict.fromkeys(key.split("/")[0] for key in self._all()))

    def by_seed(self, pool: str, title: str) -> BySeed:
        """What was measured with each seed: `auroc`, and `labels_until_all_classes` where that was kept."""
        start = f"{pool}/{title}/"
        return {int(key.removeprefix(start)): curve for key, curve in self._all().items() if key.startswith(start)}

    def header(self) -> tuple[str, ...]:
        """Titles of the cells of `cells`."""
        return "seeds", *(f"AUROC @{budget}" for budget in self.budgets), "area", "area gained", "wins"

    def cells(self, of_seed: BySeed, before: BySeed) -> list[Any]:
        """Means over the seeds, the area under the AUROC over the logarithm of the budget, and its gain by seed."""
        curves_SB = np.array([of_seed[seed]["auroc"] for seed in sorted(of_seed)])
        means = [len(of_seed), *(f"{value:.3f}" for value in curves_SB.mean(0))]
        areas = tables.mean_ci([self._area(curve_B) for curve_B in curves_SB])
        both = sorted(set(of_seed) & set(before))
        if of_seed is before or not both:
            return [*means, areas, "–", "–"]
        gained = [self._area(of_seed[seed]["auroc"]) - self._area(before[seed]["auroc"]) for seed in both]
        return [*means, areas, tables.mean_ci(gained), f"{np.mean([value > 0.0 for value in gained]):.2f}"]

    def _area(self, curve_B: Any) -> float:
        return figures.area(self.budgets, curve_B)

    def _all(self) -> dict[str, dict[str, Any]]:
        curves: dict[str, dict[str, Any]] = json.loads(self.path.read_text("utf-8")) if self.path.exists() else {}
        return curves
