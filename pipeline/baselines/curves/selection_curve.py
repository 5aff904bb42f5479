"""The curve of a strategy: a head learns from the labels it asked for, and the holdout judges it, budget by budget.

The head is the teacher, on expert labels alone; what the student makes of them is the question of `pseudo_curve`.
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import softmax

from pipeline.baselines.curves import asking, holdout_scores
from pipeline.baselines.curves.asking import Asked, History
from pipeline.baselines.curves.figures import Curve
from pipeline.baselines.curves.holdout_scores import HoldoutScores

# H scans of the holdout, C classes


def simulate(histories: Sequence[History]) -> list[Curve]:
    """The curve of each history, and after how many labels there were two classes, and all."""
    return [_simulate(history) for history in histories]


def _simulate(history: History) -> Curve:
    pool = history.open_pool()
    scores, class_L = [], np.array([], np.int64)
    for asked in asking.ask(history, pool):
        scores.append(_score(asked))
        class_L = asked.class_L
    seen = [len(np.unique(class_L[: i + 1])) for i in range(len(class_L))]
    return {
        "pool": history.pool_name,
        "strategy": history.strategy,
        "seed": history.seed,
        "budgets": list(history.budgets),
        "auroc": [of_budget.auroc for of_budget in scores],
        "accuracy": [of_budget.accuracy for of_budget in scores],
        "labels_until_two_classes": _first(seen, 2),
        "labels_until_all_classes": _first(seen, len(np.unique(pool.class_T))),
    }


def _score(asked: Asked) -> HoldoutScores:
    pool = asked.pool
    if not asked.has_two_classes:
        return holdout_scores.score_of_one_class(asked.class_L[0], len(pool.findings), pool.class_H)
    prob_HC = softmax(asked.head.logits(pool.x_HP).astype(np.float64), axis=1)
    return holdout_scores.score(prob_HC, prob_HC.argmax(1), pool.class_H)


def _first(seen: list[int], num: int) -> int | None:
    """Labels after which `num` classes had come; None where they never did."""
    return next((i + 1 for i, count in enumerate(seen) if count >= num), None)
