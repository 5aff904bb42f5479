"""Heads to fit, one a fold and one on everything: teacher and student, their targets and weights."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.contracts.config import Config, TrainConfig
from pipeline.learn import pseudo_labels
from pipeline.learn.head import Head, Problem, train_loop
from pipeline.learn.material import Material
from pipeline.measures import calibrate
from pipeline.measures import folds as measures_folds
from pipeline.runtime.engine import Engine
from pipeline.vectors import neighbor_graph, principal_components


@dataclass(frozen=True)
class HeadFit:
    """One head to fit on some rows of the matrix; the answer is the head and its logits for every row."""

    folder: Path
    rows_N: np.ndarray
    target_NC: np.ndarray
    weight_N: np.ndarray
    l2: float
    config: TrainConfig
    seed: int
    val: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None  # rows, targets, weights


def teacher_fit(material: Material, config: Config, rows_E: np.ndarray, num_classes: int, seed: int) -> HeadFit:
    """Expert labels alone, every class with the same total weight."""
    class_E = material.class_E[rows_E]
    weight = balanced_weights(class_E, num_classes)
    rows, target = material.expert_E[rows_E], np.eye(num_classes)[class_E]
    val = None
    stop = stopping_rows(material, rows_E, class_E, seed) if config.train.head == "mlp" else None
    if stop is not None:
        val = (rows[stop], target[stop], weight[stop])
        rows, target, weight = rows[~stop], target[~stop], weight[~stop]
    return HeadFit(material.folder, rows, target, weight, config.train.teacher_l2, config.train, seed, val)


def student_fit(
    material: Material,
    config: Config,
    rows_E: np.ndarray,
    prob_NC: np.ndarray,
    threshold_C: np.ndarray,
    admitted: Sequence[bool],
    propagate_weight: float,
    seed: int,
) -> HeadFit:
    """Soft targets of the training pool, weighted so that every class carries the same total."""
    expert_E, class_E = material.expert_E[rows_E], material.class_E[rows_E]
    num_classes = prob_NC.shape[1]
    place = np.full(int(material.train_T.max()) + 1, -1, np.int64)
    place[material.train_T] = np.arange(len(material.train_T))
    target_TC = neighbor_graph.spread(
        material.graph_TT, place[expert_E], class_E, num_classes, config.pseudo.spread_alpha
    )
    found = pseudo_labels.decide(prob_NC[material.train_T], threshold_C, config.pseudo, admitted)
    balanced_C = np.full(num_classes, 1.0 / num_classes)
    prevalence_C = pool_prevalence(material, num_classes)
    soft_TC = calibrate.shift_prior(prob_NC[material.train_T], prevalence_C, balanced_C)
    target_TC[found.admitted_N] = soft_TC[found.admitted_N]
    target_TC[place[expert_E]] = np.eye(num_classes)[class_E]
    weight_T = np.full(len(target_TC), propagate_weight)
    weight_T[found.admitted_N] = 1.0
    weight_T[place[expert_E]] = 1.0
    held_out = np.setdiff1d(material.expert_E, expert_E)
    weight_T[place[material.rejected_R]] = 0.0
    weight_T[place[held_out]] = 0.0  # an expert's scan of another fold: neither its label nor a guess at it
    stop = stopping_rows(material, rows_E, class_E, seed) if config.train.head == "mlp" else None
    if stop is not None:
        weight_T[place[expert_E[stop]]] = 0.0  # these stop the training, so they take no part in it
    keep = np.flatnonzero(weight_T > 0.0)
    if len(keep) > config.train.max_rows:
        chosen = np.random.default_rng(seed).choice(keep, config.train.max_rows, replace=False)
        keep = np.union1d(chosen, place[expert_E])
    mass_TC = target_TC[keep] * weight_T[keep, None]
    total_C = mass_TC.sum(0)
    present_C = total_C > 0
    mass_TC[:, present_C] *= len(expert_E) / (present_C.sum() * total_C[present_C])
    row_weight = mass_TC.sum(1)
    val = None
    if stop is not None:
        val = (expert_E[stop], np.eye(num_classes)[class_E[stop]], balanced_weights(class_E, num_classes)[stop])
    return HeadFit(
        material.folder,
        material.train_T[keep],
        mass_TC / np.maximum(row_weight[:, None], 1e-12),
        row_weight,
        config.train.student_l2,
        config.train,
        seed,
        val,
    )


def stopping_rows(material: Material, rows_E: np.ndarray, class_E: np.ndarray, seed: int) -> np.ndarray | None:
    """A patient-disjoint fifth of these expert labels, to stop the MLP early; None where a class would be lost."""
    groups = [group for group, used in zip(material.group_E, rows_E, strict=True) if used]
    if len(set(groups)) < 2:
        return None
    fold = measures_folds.grouped_folds(groups, class_E, 5, np.random.default_rng(seed))
    stop = fold == fold.max()
    if stop.all() or len(np.unique(class_E[~stop])) < len(np.unique(class_E)):
        return None
    return np.asarray(stop)


def fit_all(engine: Engine, fits: list[HeadFit], tag: str) -> list[tuple[Head, np.ndarray]]:
    """Heads and logits (N, C) of several fits, in their order; on several workers where the options say so."""
    out: list[Any] = [None] * len(fits)
    if fits[0].config.num_workers > 1:
        return [_fit_on_workers(engine, fit, name=f"{tag}-{i}") for i, fit in enumerate(fits)]
    for index, result in engine.map_shards(fit_one, fits):
        out[index] = result
    return out


def _fit_on_workers(engine: Engine, fit: HeadFit, name: str) -> tuple[Head, np.ndarray]:
    from pipeline.learn import ray_train

    engine.start()
    storage = fit.folder / "ray_train"
    head = ray_train.fit(fit_problem(fit), fit.config, fit.seed, storage, name)
    shutil.rmtree(storage / name, ignore_errors=True)
    return head, head.logits(principal_components.load(fit.folder))


def fit_one(fit: HeadFit) -> tuple[Head, np.ndarray]:
    """Fit a head and apply it to every scan with a vector; runs as one Ray task."""
    head = train_loop(fit_problem(fit), fit.config, fit.seed)
    return head, head.logits(principal_components.load(fit.folder))


def fit_problem(fit: HeadFit) -> Problem:
    """Read the rows of a fit from the features."""
    x_NP = principal_components.load(fit.folder)
    val = None
    if fit.val is not None:
        val = (x_NP[fit.val[0]], fit.val[1], fit.val[2])
    return Problem(x_NP[fit.rows_N], fit.target_NC, fit.weight_N, fit.l2, val)


def balanced_weights(class_E: np.ndarray, num_classes: int) -> np.ndarray:
    """Weight of each scan (E,) that gives every class the same total."""
    return np.asarray(calibrate.class_weights(class_E, num_classes)[class_E])


def pool_prevalence(material: Material, num_classes: int) -> np.ndarray:
    """Share of each class (C,) in the pool, from the uniform slice with a weak prior."""
    counts = [
        np.bincount(classes, minlength=num_classes)
        for classes in (material.class_E[material.uniform_E], material.class_E)
    ]
    return calibrate.estimate_prevalence(counts[0], counts[1])
