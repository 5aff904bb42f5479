"""Heads to fit, one for each fold and one on everything: the teacher's and the student's lessons, and the tasks.

A task is given the rows that its head learns from, and gives back the head: it reads nothing of the run. What the head
says of every scan is worked out where the features are, which takes less time than to send them
(`docs/decisions/13-blocks-that-travel.md`).
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.contracts.config import Config
from pipeline.contracts.options.learning import TrainConfig
from pipeline.learn.acceptance import Acceptance, screening_of
from pipeline.learn.heads.head import Head, Problem
from pipeline.learn.heads.training import train_loop
from pipeline.learn.lesson import Lesson, expert_lesson, pool_lesson, stopping_mask, with_reports
from pipeline.learn.material import Features, FeaturesOfRun, Material
from pipeline.learn.scan_rows import ScanRows
from pipeline.measures import calibrate
from pipeline.runtime.engine import Engine, LazyShards
from pipeline.vectors import neighbor_graph

# N scans with a vector, T of them in the training pool, E of those labelled by experts, L to learn from, C findings


@dataclass(frozen=True)
class HeadFit:
    """One head to fit.

    Attributes:
        features: Of the lesson's scans, and of every scan the head is applied to.
        lesson: Scans by id, their targets and weights.
        l2: Penalty of the head's weights.
        config: How to fit.
        seed: Of an MLP's first weights, its dropout and its batches.
    """

    features: Features | FeaturesOfRun
    lesson: Lesson[ScanRows]
    l2: float
    config: TrainConfig
    seed: int


class FittedHead(NamedTuple):
    """A head and its logits (N, C) of every scan with a vector, float32."""

    head: Head
    logit_NC: np.ndarray


def teacher_fit(material: Material, config: Config, learn_E: np.ndarray, num_classes: int, seed: int) -> HeadFit:
    """A head on the expert labels a fold may see (`learn_E`, a mask), and on nothing else."""
    lesson = expert_lesson(material, learn_E, _stopping_mask(material, config, learn_E, seed), num_classes)
    return HeadFit(material.features, lesson, config.train.teacher_l2, config.train, seed)


def spread_labels(
    material: Material, config: Config, learn_masks: Sequence[np.ndarray], num_classes: int
) -> list[np.ndarray]:
    """The expert labels that each fold may see, spread over the neighbour graph of the training pool: its soft_TC."""
    labels = [(material.expert_in_pool_E[learn_E], material.class_E[learn_E]) for learn_E in learn_masks]
    return neighbor_graph.spread(material.graph_TT, labels, num_classes, config.pseudo.spread_alpha)


def student_fit(
    material: Material,
    config: Config,
    learn_E: np.ndarray,
    prob_TC: np.ndarray,
    acceptance: Acceptance,
    spread_TC: np.ndarray | None,
    propagate_weight: float,
    seed: int,
) -> HeadFit:
    """A head on the training pool, each class with its share of the learning prior.

    Args:
        material: What the round learns from.
        config: Options.
        learn_E: Expert labels the fold may see: a mask.
        prob_TC: The fold's teacher's probabilities of the pool, at its prevalence.
        acceptance: Which of them are pseudo-labels.
        spread_TC: The fold's expert labels, spread over the graph, see `spread_labels`; None with a weight of 0.
        propagate_weight: Weight of the labels that are spread over the graph; 0: open scans are left out.
        seed: Of the fit, and of the sample of a pool larger than `train.max_rows`.
    """
    # Here the caps on pseudo-labels (`pseudo.max_share`) count all scans of the pool, for the network the open ones.
    screening = screening_of(material, config.pseudo, learn_E, prob_TC.shape[1])
    admitted_T = acceptance.decide(prob_TC, screening).admitted_N
    soft_TC = np.full_like(prob_TC, 1.0 / prob_TC.shape[1]) if spread_TC is None else spread_TC.copy()
    soft_TC[admitted_T] = acceptance.at_learning_prior(prob_TC)[admitted_T]
    soft_TC = with_reports(soft_TC, material, learn_E, acceptance.at_learning_prior)
    lesson = pool_lesson(
        material,
        learn_E,
        _stopping_mask(material, config, learn_E, seed),
        soft_TC,
        admitted_T,
        open_weight=propagate_weight,
        max_scans=config.train.max_rows,
        seed=seed,
    )
    prior_C = calibrate.learning_prior(material.class_E[learn_E & material.judges_E], prob_TC.shape[1])
    lesson = _with_class_shares(lesson, prior_C, float(learn_E.sum()))
    return HeadFit(material.features, lesson, config.train.student_l2, config.train, seed)


def _stopping_mask(material: Material, config: Config, learn_E: np.ndarray, seed: int) -> np.ndarray | None:
    """A linear head is fitted to convergence and needs none."""
    return stopping_mask(material, learn_E, seed) if config.train.head == "mlp" else None


def _with_class_shares(lesson: Lesson[ScanRows], share_C: np.ndarray, total: float) -> Lesson[ScanRows]:
    """The lesson with targets and weights that give each class its share of `total`, of those that have any."""
    mass_LC = lesson.target_LC * lesson.weight_L[:, None]
    mass_C = mass_LC.sum(0)
    present_C = mass_C > 0
    mass_LC[:, present_C] *= total * share_C[present_C] / share_C[present_C].sum() / mass_C[present_C]
    weight_L = mass_LC.sum(1)
    return replace(lesson, target_LC=mass_LC / np.maximum(weight_L[:, None], 1e-12), weight_L=weight_L)


def fit_all(engine: Engine, fits: list[HeadFit], folder: Path, tag: str) -> list[FittedHead]:
    """Fit several heads, in their order; each on several workers where the options say so.

    Args:
        engine: Where they run.
        fits: Heads to fit, all of the same options.
        folder: Run directory, where several workers keep their checkpoints.
        tag: Names these checkpoints.
    """
    if fits[0].config.num_workers > 1:
        return [_fit_on_workers(engine, fit, folder, name=f"{tag}-{i}") for i, fit in enumerate(fits)]
    tasks = LazyShards(lambda i: HeadTask(fit_problem(fits[i]), fits[i].config, fits[i].seed), len(fits))
    fitted = {i: _applied(fits[i], head) for i, head in engine.map_shards(fit_one, tasks)}
    return [fitted[i] for i in range(len(fits))]


def _fit_on_workers(engine: Engine, fit: HeadFit, folder: Path, name: str) -> FittedHead:
    from pipeline.learn import ray_train

    engine.start()
    storage = folder / "ray_train"
    head = ray_train.fit(fit_problem(fit), fit.config, fit.seed, storage, name)
    shutil.rmtree(storage / name, ignore_errors=True)
    return _applied(fit, head)


def _applied(fit: HeadFit, head: Head) -> FittedHead:
    return FittedHead(head, head.logits(fit.features.load().x_NP))


@dataclass(frozen=True)
class HeadTask:
    """A head to fit, with the rows it learns from.

    Attributes:
        problem: The rows.
        config: How to fit.
        seed: Of an MLP's first weights, its dropout and its batches.
    """

    problem: Problem
    config: TrainConfig
    seed: int

    @property
    def nbytes(self) -> int:
        """Of the rows, which travel."""
        return self.problem.x_NP.nbytes


def fit_one(task: HeadTask) -> Head:
    """Fit a head; runs as one Ray task."""
    return train_loop(task.problem, task.config, task.seed)


def fit_problem(fit: HeadFit) -> Problem:
    """The features of the lesson's scans, with its targets and weights."""
    features = fit.features.load()
    x_NP, scans_N = features.x_NP, features.scans_N
    lesson, stop = fit.lesson, fit.lesson.stop
    val = None
    if stop is not None:
        val = (x_NP[scans_N.positions(stop.scans)], stop.target_VC, stop.weight_V)
    return Problem(x_NP[scans_N.positions(lesson.scans)], lesson.target_LC, lesson.weight_L, fit.l2, val)
