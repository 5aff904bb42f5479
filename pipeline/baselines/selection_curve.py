"""One simulated history: a strategy asks, the truth answers, a head learns, the holdout judges; budget by budget.

The queue is the product's: a share of it uniform, the rest as the strategy chooses, a patient once before any comes
twice. The head is the teacher, on expert labels alone; what the student makes of them is another question.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from pipeline.baselines import selection_pool
from pipeline.baselines.selection_pool import BenchPool
from pipeline.contracts.config import Config
from pipeline.learn.head import Head, Problem, train_loop
from pipeline.measures import calibrate, folds
from pipeline.selection import strategies
from pipeline.selection.pool import SelectionPool
from pipeline.vectors.matrix import unit_rows

# T scans of the training pool, L labelled, H of the holdout, P features, C classes

CHANCE = 0.5  # AUROC before there is a classifier


@dataclass(frozen=True)
class History:
    """One task: a strategy, a seed and a pool.

    Attributes:
        pool: File that `selection_pool.write` wrote.
        name: Of the pool.
        rare: Share that its rarest finding is cut down to; None: as it is.
        strategy: Its name.
        seed: Of all draws; the same for all strategies, so that their differences are paired.
        budgets: Numbers of labels after which a head learns, rising.
        config: Options of the strategies, of the queue's uniform share and of the head.
    """

    pool: Path
    name: str
    rare: float | None
    strategy: str
    seed: int
    budgets: tuple[int, ...]
    config: Config

    @property
    def pool_name(self) -> str:
        """The pool's name with what was done to it."""
        return self.name if self.rare is None else f"{self.name}, {100 * self.rare:g} %"

    def rng(self, what: str) -> np.random.Generator:
        """A generator for one purpose of this history; `what` without the strategy pairs the strategies."""
        digest = hashlib.sha256(f"{self.seed}/{self.name}/{self.rare}/{what}".encode()).digest()
        return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))


def simulate(history: History) -> dict[str, Any]:
    """Run one history; returns its curve, and after how many labels there were two classes, and all."""
    pool = selection_pool.load(history.pool)
    if history.rare is not None:
        pool = pool.thinned(history.rare, history.rng("thin"))
    unit_TP = unit_rows(pool.similar_TP)
    rng = history.rng(f"queue/{history.strategy}")
    asked: list[int] = []
    prob_TC = None
    auroc: list[float] = []
    accuracy: list[float] = []
    for budget in history.budgets:
        asked += _queue(history, pool, unit_TP, asked, prob_TC, budget - len(asked), rng)
        class_L = pool.class_T[asked]
        if len(np.unique(class_L)) < 2:
            auroc.append(CHANCE)
            accuracy.append(float((pool.class_H == class_L[0]).mean()))
            continue
        head = _fit(pool, np.array(asked), class_L, history.config)
        prob_HC = softmax(head.logits(pool.x_HP).astype(np.float64), axis=1)
        auroc.append(_macro_auroc(prob_HC, pool.class_H))
        accuracy.append(float((prob_HC.argmax(1) == pool.class_H).mean()))
        if history.strategy in strategies.NEED_PROBABILITIES and budget != history.budgets[-1]:
            prob_TC = _calibrated(pool, np.array(asked), head, history.config, history.rng(f"folds/{budget}"))
    seen = [len(np.unique(pool.class_T[asked[: i + 1]])) for i in range(len(asked))]
    return {
        "pool": history.pool_name,
        "strategy": history.strategy,
        "seed": history.seed,
        "budgets": list(history.budgets),
        "auroc": auroc,
        "accuracy": accuracy,
        "labels_until_two_classes": _first(seen, 2),
        "labels_until_all_classes": _first(seen, len(np.unique(pool.class_T))),
    }


def _queue(
    history: History,
    pool: BenchPool,
    unit_TP: np.ndarray,
    asked: list[int],
    prob_TC: np.ndarray | None,
    num: int,
    rng: np.random.Generator,
) -> list[int]:
    """Positions of the next scans, the uniform ones and those chosen in random order."""
    labelled_T = np.zeros(len(pool.class_T), bool)
    labelled_T[asked] = True
    seen = SelectionPool(
        ids_N=np.arange(len(labelled_T)).astype(str),
        unit_ND=unit_TP,
        labelled_N=labelled_T,
        candidate_N=~labelled_T,
        group_N=pool.group_T,
        config=history.config.strategy,
        prob_NC=prob_TC,
        class_N=np.where(labelled_T, pool.class_T, -1),
        num_classes=len(pool.findings),
    )
    num_uniform = num if history.strategy == "random" else round(history.config.queue.uniform_share * num)
    picks = strategies.get("random")(seen, num_uniform, rng)
    taken_T = np.zeros(len(labelled_T), bool)
    taken_T[[int(pick.image_id) for pick in picks]] = True
    if num > num_uniform:
        picks = picks + strategies.get(history.strategy)(seen.queue(taken_T), num - num_uniform, rng)
    return [int(picks[i].image_id) for i in rng.permutation(len(picks))]


def _fit(pool: BenchPool, rows_L: np.ndarray, class_L: np.ndarray, config: Config) -> Head:
    num_classes = len(pool.findings)
    weight_L = calibrate.class_weights(class_L, num_classes)[class_L]
    problem = Problem(pool.x_TP[rows_L], np.eye(num_classes)[class_L], weight_L, config.train.teacher_l2)
    return train_loop(problem, config.train, seed=0)


def _calibrated(
    pool: BenchPool, rows_L: np.ndarray, head: Head, config: Config, rng: np.random.Generator
) -> np.ndarray:
    """Probabilities (T, C) of the training pool; the temperature is fitted out of fold, by patient."""
    class_L, group_L = pool.class_T[rows_L], pool.group_T[rows_L]
    temperature = 1.0
    if len(np.unique(group_L)) > 1:
        fold_L = folds.grouped_folds(group_L, class_L, config.calibrate.num_folds, rng)
        logit_LC = np.zeros((len(rows_L), len(pool.findings)))
        for fold in np.unique(fold_L):
            learn_L = fold_L != fold
            of_fold = _fit(pool, rows_L[learn_L], class_L[learn_L], config)
            logit_LC[~learn_L] = of_fold.logits(pool.x_TP[rows_L[~learn_L]])
        weight_L = calibrate.class_weights(class_L, len(pool.findings))[class_L]
        temperature = calibrate.fit_temperature(logit_LC, class_L, weight_L)
    return calibrate.apply_temperature(head.logits(pool.x_TP), temperature)


def _macro_auroc(prob_HC: np.ndarray, class_H: np.ndarray) -> float:
    """Mean over the classes of the holdout of the AUROC of each against the others; of two classes there is one."""
    present = np.unique(class_H)
    if len(present) < 2:
        return CHANCE
    scored = present[1:] if len(present) == 2 else present
    return float(np.mean([roc_auc_score(class_H == c, prob_HC[:, c]) for c in scored]))


def _first(seen: list[int], num: int) -> int | None:
    """Labels after which `num` classes had come; None where they never did."""
    return next((i + 1 for i, count in enumerate(seen) if count >= num), None)
