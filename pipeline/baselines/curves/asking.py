"""One simulated history of labelling: a strategy asks, the truth answers, budget by budget.

The queue is the product's: a share of it uniform, the rest as the strategy chooses, a patient once before any comes
twice.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import __version__
from pipeline.baselines.curves import bench_pool
from pipeline.baselines.curves.bench_pool import BenchPool
from pipeline.contracts.config import Config
from pipeline.learn.heads.head import Head, Problem
from pipeline.learn.heads.training import train_loop
from pipeline.measures import calibrate, folds
from pipeline.runtime import run_dir
from pipeline.selection import strategies
from pipeline.selection.pool import SelectionPool
from pipeline.vectors.matrix import units_and_lengths

# T scans of the training pool, L labelled, P features, C classes


@dataclass(frozen=True, kw_only=True)
class History:
    """What is simulated: a strategy, a seed and a pool.

    Attributes:
        pool: File that `bench_pool.write` wrote.
        name: Of the pool.
        rare: Share that its rarest finding is cut down to; None: as it is.
        strategy: That asks.
        seed: Of all draws; the same for all strategies, so that their differences are paired.
        budgets: Numbers of labels after which something learns, rising.
        config: Options of the strategies, of the queue's uniform share and of what learns.
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

    @property
    def file_name(self) -> str:
        """Of the file its curve is kept in."""
        rare = "" if self.rare is None else f"-{self.rare:g}"
        return f"{self.name}{rare}-{self.strategy}-{self.seed}.json"

    @staticmethod
    def options(config: Config) -> dict[str, Any]:
        """The options that decide a curve, beside the strategy."""
        return {
            "strategy": config.strategy.model_dump(exclude={"name"}),
            "queue": {"uniform_share": config.queue.uniform_share},
            "train": config.train.model_dump(),
            "calibrate": config.calibrate.model_dump(),
        }

    @property
    def parts(self) -> dict[str, Any]:
        """Everything that decides its curve."""
        return {
            "version": __version__,
            "picks": strategies.PICKS,
            "pool": hashlib.sha256(self.pool.read_bytes()).hexdigest(),
            "rare": self.rare,
            "strategy": self.strategy,
            "seed": self.seed,
            "budgets": list(self.budgets),
            "config": self.options(self.config),
        }

    @property
    def fingerprint(self) -> str:
        """Hash of what decides its curve."""
        return run_dir.fingerprint(self.parts)

    def rng(self, what: str) -> np.random.Generator:
        """A generator for one purpose of this history; `what` without the strategy pairs the strategies."""
        digest = hashlib.sha256(f"{self.seed}/{self.name}/{self.rare}/{what}".encode()).digest()
        return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))

    def open_pool(self) -> BenchPool:
        """Its pool, the rarest finding cut down where that is asked for."""
        pool = bench_pool.load(self.pool)
        return pool if self.rare is None else pool.thinned(self.rare, self.rng("thin"))


@dataclass(frozen=True)
class Asked:
    """The labels after one budget.

    Attributes:
        pool: What was asked from.
        rows_L: Positions in its training pool, in the order they were asked for.
        uniform_L: Whether each was drawn uniformly.
        config: Options of the head.
    """

    pool: BenchPool
    rows_L: np.ndarray
    uniform_L: np.ndarray
    config: Config

    @property
    def class_L(self) -> np.ndarray:
        """True class of each."""
        return np.asarray(self.pool.class_T[self.rows_L])

    @property
    def has_two_classes(self) -> bool:
        """Whether there is anything to tell apart."""
        return len(np.unique(self.class_L)) > 1

    @cached_property
    def head(self) -> Head:
        """The head that learned from these labels alone."""
        return self._fit(np.ones(len(self.rows_L), bool))

    def _fit(self, learn_L: np.ndarray) -> Head:
        num_classes, class_L = len(self.pool.findings), self.class_L[learn_L]
        weight_L = calibrate.class_weights(class_L, num_classes)[class_L]
        x_LP = self.pool.x_TP[self.rows_L[learn_L]]
        problem = Problem(x_LP, np.eye(num_classes)[class_L], weight_L, self.config.train.teacher_l2)
        return train_loop(problem, self.config.train, seed=0)

    def probabilities(self, rng: np.random.Generator) -> np.ndarray:
        """The head's (T, C) of the training pool; the temperature is fitted out of fold, by patient."""
        class_L, group_L = self.class_L, self.pool.group_T[self.rows_L]
        temperature = 1.0
        if len(np.unique(group_L)) > 1:
            fold_L = folds.grouped_folds(group_L, class_L, self.config.calibrate.num_folds, rng)
            logit_LC = np.zeros((len(class_L), len(self.pool.findings)))
            for fold in np.unique(fold_L):
                held_out_L = fold_L == fold
                of_fold = self._fit(~held_out_L)
                logit_LC[held_out_L] = of_fold.logits(self.pool.x_TP[self.rows_L[held_out_L]])
            weight_L = calibrate.class_weights(class_L, len(self.pool.findings))[class_L]
            temperature = calibrate.fit_temperature(logit_LC, class_L, weight_L)
        return calibrate.apply_temperature(self.head.logits(self.pool.x_TP), temperature)


def ask(history: History, pool: BenchPool) -> Iterator[Asked]:
    """The labels after each budget of a history."""
    units_and_lengths_T = units_and_lengths(pool.similar_TP)
    rng = history.rng(f"queue/{history.strategy}")
    asked = Asked(pool, np.array([], np.int64), np.array([], bool), history.config)
    prob_TC = None
    for budget in history.budgets:
        rows_Q, uniform_Q = _queue(history, units_and_lengths_T, asked, prob_TC, budget - len(asked.rows_L), rng)
        rows_L, uniform_L = np.append(asked.rows_L, rows_Q), np.append(asked.uniform_L, uniform_Q)
        asked = Asked(pool, rows_L, uniform_L, history.config)
        yield asked
        is_needed = history.strategy in strategies.NEED_PROBABILITIES and budget != history.budgets[-1]
        if is_needed and asked.has_two_classes:
            prob_TC = asked.probabilities(history.rng(f"folds/{budget}"))


def _queue(
    history: History,
    units_and_lengths_T: tuple[np.ndarray, np.ndarray],
    asked: Asked,
    prob_TC: np.ndarray | None,
    num: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the next scans, and whether each is drawn uniformly; those and the chosen ones in random order."""
    pool, (unit_TP, length_T) = asked.pool, units_and_lengths_T
    labelled_T = np.zeros(len(pool.class_T), bool)
    labelled_T[asked.rows_L] = True
    seen = SelectionPool(
        ids_N=np.arange(len(labelled_T)).astype(str),
        unit_ND=unit_TP,
        length_N=length_T,
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
    order = rng.permutation(len(picks))
    return np.array([int(picks[i].image_id) for i in order]), order < num_uniform
