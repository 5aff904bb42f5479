"""The curves of ways to learn from the same labels and the same pool: the product's own code, and the field's.

The labels of a seed and budget are drawn once, and all ways learn from them. The product's ways share teacher, folds
and pseudo-labels too, as they do in a round. A history knows no labels but those it asked for, and no holdout.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from pipeline.baselines.curves import asking, holdout_scores, pseudo_references
from pipeline.baselines.curves.asking import Asked, History
from pipeline.baselines.curves.bench_pool import BenchPool
from pipeline.baselines.curves.figures import Curve
from pipeline.baselines.curves.holdout_scores import HoldoutScores
from pipeline.contracts.config import Config
from pipeline.learn import self_training
from pipeline.learn.candidate import Candidate
from pipeline.learn.material import Features, Material
from pipeline.learn.scan_rows import ScanRows
from pipeline.learn.self_training import Taught
from pipeline.runtime.engine import SerialEngine
from pipeline.vectors import neighbor_graph
from pipeline.vectors.matrix import unit_rows

# T scans of the training pool, L labelled, H of the holdout, N of both, O open, C classes

EXPERT, PSEUDO, NEIGHBOURS = "expert", "pseudo", "pseudo+neighbours"
AVERAGE, AVERAGE_NEIGHBOURS = "average", "average+neighbours"
FULL_WEIGHT = 1.0  # of labels spread over the graph, where the options leave them out
REFERENCES = {
    "self_training": pseudo_references.self_training,
    "label_spreading": pseudo_references.label_spreading,
}
WAYS = (EXPERT, PSEUDO, NEIGHBOURS, AVERAGE, AVERAGE_NEIGHBOURS, *REFERENCES)


@dataclass(frozen=True, kw_only=True)
class WayHistory(History):
    """A history of labelling, and how one learns from its labels.

    Attributes:
        way: One of `WAYS`.
    """

    way: str

    @property
    def file_name(self) -> str:
        """Of the file its curve is kept in."""
        return f"{self.way}-{super().file_name}"

    @staticmethod
    def options(config: Config) -> dict[str, Any]:
        """The options that decide a curve, beside the strategy and the way."""
        own = {
            "pseudo": config.pseudo.model_dump(),
            "evaluate": {"operating_point": config.evaluate.operating_point},
        }
        return History.options(config) | own

    @property
    def parts(self) -> dict[str, Any]:
        """Everything that decides its curve."""
        return super().parts | {"way": self.way}


class PseudoLabels(NamedTuple):
    """Labels that a way gave to open scans and learned from.

    Attributes:
        num: How many.
        share: Of the open scans.
        estimated: Share of right ones as the product estimates it from the expert labels; None: it does not.
        realised: Share of right ones; None: there are none.
    """

    num: int
    share: float
    estimated: float | None
    realised: float | None


class Learned(NamedTuple):
    """What a way made of the labels of one budget.

    Attributes:
        scores: On the holdout.
        pseudo: Labels it gave; None: it gives none.
    """

    scores: HoldoutScores
    pseudo: PseudoLabels | None = None


def simulate(histories: Sequence[WayHistory]) -> list[Curve]:
    """Curves of histories that differ in the way alone."""
    history = histories[0]
    pool = history.open_pool()
    scans = _Scans.of(pool, history)
    points: dict[str, list[Learned]] = {history.way: [] for history in histories}
    for asked in asking.ask(history, pool):
        ways = _Ways(asked, scans, history.rng(f"learn/{len(asked.rows_L)}"))
        for way, learned in points.items():
            learned.append(ways.learned(way))
    return [_curve(history, points[history.way]) for history in histories]


def _curve(history: WayHistory, points: Sequence[Learned]) -> Curve:
    return {
        "pool": history.pool_name,
        "way": history.way,
        "seed": history.seed,
        "budgets": list(history.budgets),
        **{measure: [getattr(point.scores, measure) for point in points] for measure in HoldoutScores._fields},
        "pseudo": [None if point.pseudo is None else point.pseudo._asdict() for point in points],
    }


@dataclass(frozen=True)
class _Scans:
    """Training pool and holdout as the rounds of the product see scans.

    Attributes:
        history: Whose pool it is.
        features: Of the training pool's scans, then the holdout's.
        pool_T: The training pool.
        graph_TT: Its neighbour graph.
    """

    history: WayHistory
    features: Features
    pool_T: ScanRows
    graph_TT: Any

    @classmethod
    def of(cls, pool: BenchPool, history: WayHistory) -> "_Scans":
        num = len(pool.class_T)
        scans_N = ScanRows.of(str(i) for i in range(num + len(pool.class_H)))
        neighbors = neighbor_graph.neighbors(unit_rows(pool.similar_TP), history.config.pseudo.num_neighbors)
        return cls(
            history,
            Features(scans_N, np.concatenate([pool.x_TP, pool.x_HP])),
            scans_N.keep(np.arange(len(scans_N)) < num),
            neighbor_graph.graph(*neighbors),
        )

    def material(self, asked: Asked) -> Material:
        """What a round with these labels learns from."""
        return Material(
            folder=self.history.pool.parent,
            features=self.features,
            scans_N=self.features.scans_N,
            pool_T=self.pool_T,
            expert_E=ScanRows.of(str(row) for row in asked.rows_L),
            class_E=asked.class_L,
            group_E=[str(group) for group in asked.pool.group_T[asked.rows_L]],
            uniform_E=asked.uniform_L,
            judges_E=np.ones(len(asked.rows_L), bool),
            graph_TT=self.graph_TT,
            rejected_R=ScanRows.of([]),
            group_T=asked.pool.group_T,
        )


@dataclass(frozen=True)
class _Ways:
    """Every way to learn from the labels of one budget; what several of them need is worked out once.

    Attributes:
        asked: The labels.
        scans: Training pool and holdout.
        rng: Folds and seeds of the heads.
    """

    asked: Asked
    scans: _Scans
    rng: np.random.Generator

    def learned(self, way: str) -> Learned:
        """What one way makes of the labels."""
        pool = self.asked.pool
        if not self._can_learn:
            only = int(np.bincount(self.asked.class_L).argmax())
            return Learned(holdout_scores.score_of_one_class(only, len(pool.findings), pool.class_H))
        if way in REFERENCES:
            prob_HC, guess_T = REFERENCES[way](self.asked)
            scores = holdout_scores.score(prob_HC, prob_HC.argmax(1), pool.class_H)
            return Learned(scores, self._pseudo_labels(guess_T, None))
        return Learned(self._score(self._candidate(way)), None if way == EXPERT else self._admitted)

    @property
    def _can_learn(self) -> bool:
        return self.asked.has_two_classes and len(np.unique(self.asked.pool.group_T[self.asked.rows_L])) > 1

    @cached_property
    def _taught(self) -> Taught:
        """The teacher; each class is open to pseudo-labels, as with `pseudo.gate=estimated`."""
        num_classes = len(self.asked.pool.findings)
        material = self.scans.material(self.asked)
        return self_training.teach(
            material, self.asked.config, SerialEngine(), num_classes, [True] * num_classes, self.rng
        )

    def _candidate(self, way: str) -> Candidate:
        weight = self._propagate_weight(way)
        return self._taught.teacher if weight is None else self._mean_or_student(way, self._student(weight))

    def _propagate_weight(self, way: str) -> float | None:
        """Weight of the labels that the student of a way takes from the graph; None: it has no student."""
        config, any_admitted = self.asked.config, bool(self._taught.decisions.admitted_N.any())
        if way in (NEIGHBOURS, AVERAGE_NEIGHBOURS):
            return config.pseudo.propagate or FULL_WEIGHT
        if way == PSEUDO:
            return 0.0 if any_admitted else None
        options = self_training.student_options(config, any_admitted) if way == AVERAGE else []
        return options[0][1] if options else None

    def _mean_or_student(self, way: str, student: Candidate) -> Candidate:
        return self._taught.average(student) if way in (AVERAGE, AVERAGE_NEIGHBOURS) else student

    def _student(self, propagate_weight: float) -> Candidate:
        if propagate_weight not in self._students:
            self._students[propagate_weight] = self._taught.student("student", propagate_weight)
        return self._students[propagate_weight]

    @cached_property
    def _students(self) -> dict[float, Candidate]:
        """By the weight of the labels spread over the graph; those that were fitted."""
        return {}

    def _score(self, chosen: Candidate) -> HoldoutScores:
        pool, learned = self.asked.pool, self._taught.learned(chosen)
        model = learned.classifier(pool.findings)
        prob_HC = model.probabilities(learned.student_logit_NC[len(pool.class_T) :])
        return holdout_scores.score(prob_HC, model.classes(prob_HC), pool.class_H)

    @property
    def _admitted(self) -> PseudoLabels:
        decisions = self._taught.decisions
        guess_T = np.full(len(self.asked.pool.class_T), pseudo_references.NO_GUESS)
        open_T = self._taught.heads.material.open_T
        guess_T[open_T] = np.where(decisions.admitted_N, decisions.class_N, pseudo_references.NO_GUESS)
        return self._pseudo_labels(guess_T, self._taught.acceptance.precision_estimated)

    def _pseudo_labels(self, guess_T: np.ndarray, estimated: float | None) -> PseudoLabels:
        guessed_T = guess_T != pseudo_references.NO_GUESS
        num, num_open = int(guessed_T.sum()), len(guess_T) - len(self.asked.rows_L)
        realised = float((guess_T == self.asked.pool.class_T)[guessed_T].mean()) if num else None
        return PseudoLabels(num, num / max(num_open, 1), estimated, realised)
