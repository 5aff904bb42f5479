"""One round of learning: teacher, thresholds, student, each also out of fold.

The teacher learns from expert labels alone, so that its out-of-fold scores say honestly how far it can be trusted.
The student learns from the expert labels, from the pseudo-labels the gate admits (as the teacher's soft labels), and
for the scans left open from labels spread over the neighbour graph. Both are fitted once for each patient-grouped
fold and once on everything; a fold's heads see the other folds' expert labels only, pseudo-labels included. The few
numbers that turn scores into decisions (temperature, prevalence, thresholds) are fitted on all of them. Where the
network is adapted (`adapt`), it learns from that student in the same folds and takes its place unless worse.
"""

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import adapt, calibrate, certify, features, propagate, pseudo, rollback
from pipeline.adapt import Adapter
from pipeline.config import Config, TrainConfig
from pipeline.engine import Engine
from pipeline.learn_network import Curves
from pipeline.network import Trained
from pipeline.train import Head, Problem, train_loop

# N scans with a vector, T of them in the training pool, E labelled by experts, C findings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Material:
    """What a round learns from; positions are rows of the run's feature matrix.

    Attributes:
        folder: Run directory.
        train_T: Positions of the training pool.
        expert_E: Positions of its scans with an expert class.
        class_E: Their class.
        group_E: Their patient group.
        uniform_E: Whether the scan came from a uniform slice.
        graph_TT: Neighbour graph of the training pool.
        rejected_R: Positions of scans that experts hold to be no good; they get no label and teach nothing.
    """

    folder: Path
    train_T: np.ndarray
    expert_E: np.ndarray
    class_E: np.ndarray
    group_E: Sequence[str]
    uniform_E: np.ndarray
    graph_TT: Any
    rejected_R: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass(frozen=True)
class Candidate:
    """One way to learn, fitted for each fold and on everything.

    Attributes:
        name: What it learns from.
        fitted: Head and logits (N, C) of each fold, the one of everything last; a network has that one alone.
        oof_logit_EC: Out-of-fold logits of the expert-labelled scans.
    """

    name: str
    fitted: Sequence[tuple[Head | Trained, np.ndarray]]
    oof_logit_EC: np.ndarray


@dataclass(frozen=True)
class Learned:
    """What came out.

    Attributes:
        learner: What the classifier in use learned from.
        teacher: Head on expert labels.
        student: Head or network in use.
        student_logit_NC: Its logits for every scan with a vector.
        oof_logit_EC: Its out-of-fold logits of the expert-labelled scans.
        temperature: Of its logits.
        prevalence_C: Of the pool, from the uniform slice with a weak prior.
        threshold_C: Of acceptance, per class.
        precision_estimated: Out-of-fold precision of what the thresholds accept; None: they accept nothing.
        decisions: For `open_T`.
        open_T: Positions of the training pool without an expert class, less the rejected ones.
        curves: Of the network's training, where one was trained.
        network_gain: Out-of-fold AUROC of the trained network less that of the head it started from; it is used where
            it is not worse. None: none was trained.
    """

    learner: str
    teacher: Head
    student: Head | Trained
    student_logit_NC: np.ndarray
    oof_logit_EC: np.ndarray
    temperature: float
    prevalence_C: np.ndarray
    threshold_C: np.ndarray
    precision_estimated: float | None
    decisions: pseudo.Decisions
    open_T: np.ndarray
    curves: Curves | None = None
    network_gain: float | None = None


@dataclass(frozen=True)
class _Fit:
    """One head to fit on some rows of the matrix; the answer is the head and its logits for every row."""

    folder: Path
    rows_N: np.ndarray
    target_NC: np.ndarray
    weight_N: np.ndarray
    l2: float
    config: TrainConfig
    seed: int
    val: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None  # rows, targets, weights


def learn(
    material: Material,
    config: Config,
    engine: Engine,
    num_classes: int,
    admitted: Sequence[bool],
    rng: np.random.Generator,
    adapter: Adapter | None = None,
) -> Learned:
    """Run one round of learning; see the module's first lines.

    Args:
        material: What there is.
        config: Options.
        engine: Where the fits run.
        num_classes: C.
        admitted: Whether the gate lets each class into training.
        rng: Folds and seeds.
        adapter: Trains the network; None: the backbone stays as it is.
    """
    fold_E = calibrate.grouped_folds(material.group_E, material.class_E, config.calibrate.num_folds, rng)
    seeds = [int(seed) for seed in rng.integers(2**31, size=2)]
    trains = [fold_E != f for f in np.unique(fold_E)] + [np.ones(len(fold_E), bool)]

    def fit(name: str, fits: list[_Fit]) -> Candidate:
        fitted = _fit_all(engine, fits, f"{name}-{seeds[0]}")
        return Candidate(name, fitted, _out_of_fold(material, fitted, fold_E))

    teacher = fit("expert", [_teacher_fit(material, config, rows_E, num_classes, seeds[0]) for rows_E in trains])
    prevalence_C = _prevalence(material, num_classes)
    temperature = _temperature(teacher.oof_logit_EC, material.class_E)
    oof_prob_EC = at_prevalence(teacher.oof_logit_EC, temperature, prevalence_C)
    weight_E = _to_pool(material.class_E, prevalence_C)
    threshold_C = certify.estimate_thresholds(oof_prob_EC, material.class_E, weight_E, promise=config.pseudo.precision)
    prob_of_fold = [at_prevalence(logit_NC, temperature, prevalence_C) for _, logit_NC in teacher.fitted]

    def student(name: str, propagate_weight: float) -> Candidate:
        learnable = zip(trains, prob_of_fold, strict=True)
        return fit(
            name,
            [
                _student_fit(material, config, rows_E, prob_NC, threshold_C, admitted, propagate_weight, seeds[1])
                for rows_E, prob_NC in learnable
            ],
        )

    open_T = np.setdiff1d(material.train_T, np.union1d(material.expert_E, material.rejected_R))
    decisions = pseudo.decide(prob_of_fold[-1][open_T], threshold_C, config.pseudo, admitted)
    chosen = _choose(teacher, student, material, config, bool(decisions.admitted_N.any()), rng)
    curves, gain = None, None
    if adapter is not None:
        admitted_of_fold = [
            _admitted(material, open_T, prob_NC, threshold_C, config, admitted) for prob_NC in prob_of_fold
        ]
        sure_C = _at_balanced(threshold_C, prevalence_C)
        chosen, curves, gain = _adapted(
            adapter, chosen, material, config, fold_E, trains, admitted_of_fold, sure_C, rng
        )
    student_temperature, bias_C = _point(chosen.oof_logit_EC, material.class_E)
    on_experts = teacher.fitted[-1][0]
    assert isinstance(on_experts, Head)
    return Learned(
        learner=chosen.name,
        teacher=on_experts,
        student=chosen.fitted[-1][0].shifted(bias_C),
        student_logit_NC=(chosen.fitted[-1][1] + bias_C).astype(np.float32),
        oof_logit_EC=(chosen.oof_logit_EC + bias_C).astype(np.float32),
        temperature=student_temperature,
        prevalence_C=prevalence_C,
        threshold_C=threshold_C,
        precision_estimated=certify.estimated_precision(oof_prob_EC, material.class_E, weight_E, threshold_C),
        decisions=decisions,
        open_T=open_T,
        curves=curves,
        network_gain=gain,
    )


def _admitted(
    material: Material, open_T: np.ndarray, prob_NC: np.ndarray, threshold_C: np.ndarray, config: Config,
    admitted: Sequence[bool],
) -> np.ndarray:  # fmt: skip
    """Scans of the training pool with an admitted pseudo-label (T,), among those that the round decides on."""
    is_open_T = np.isin(material.train_T, open_T)
    found_T = np.zeros(len(is_open_T), bool)
    rows = material.train_T[is_open_T]
    found_T[is_open_T] = pseudo.decide(prob_NC[rows], threshold_C, config.pseudo, admitted).admitted_N
    return found_T


def _adapted(
    adapter: Adapter, frozen: Candidate, material: Material, config: Config, fold_E: np.ndarray,
    trains: Sequence[np.ndarray], admitted_of_fold: Sequence[np.ndarray], sure_C: np.ndarray, rng: np.random.Generator,
) -> tuple[Candidate, Curves, float]:  # fmt: skip
    """A network that learned from the frozen candidate, or that candidate where it is worse; its curves, its gain."""
    seed = int(rng.integers(2**31))
    temperature, bias_C = _point(frozen.oof_logit_EC, material.class_E)
    basis = features.load_basis(material.folder)
    folds = []
    for rows_E, (head, logit_NC), admitted_T in zip(trains, frozen.fitted, admitted_of_fold, strict=True):
        assert isinstance(head, Head)
        prob_TC = calibrate.apply_temperature(logit_NC[material.train_T] + bias_C, temperature)
        stop = _stopping_rows(material, rows_E, material.class_E[rows_E], seed) if config.network.patience else None
        start = adapt.calibrated(head, basis, temperature, bias_C)
        folds.append(adapt.fold_of(start, prob_TC, material, rows_E, admitted_T, sure_C, config, seed, stop))
    trained = adapter.train(folds, seed)
    oof_EC = np.empty_like(frozen.oof_logit_EC)
    for f, (_, logit_HC, _) in zip(np.unique(fold_E), trained[:-1], strict=True):
        oof_EC[fold_E == f] = logit_HC
    before_EC = (frozen.oof_logit_EC + bias_C) / temperature  # where the network started from
    drop, _ = rollback.auroc_drop(
        _softmax(before_EC), _softmax(oof_EC), material.class_E, list(material.group_E),
        config.pseudo.rollback_auroc, rng,
    )  # fmt: skip
    if drop > config.pseudo.rollback_auroc:  # the simpler model stays, chance or not
        log.info("the adapted network: out-of-fold AUROC is %.3f below the frozen one; left out of this round", drop)
        return frozen, trained[-1][2], -drop
    whole, _, curves = trained[-1]
    return Candidate(f"{frozen.name}+network", [(whole, adapter.predict(whole))], oof_EC), curves, -drop


def _point(oof_EC: np.ndarray, class_E: np.ndarray) -> tuple[float, np.ndarray]:
    """Temperature, and bias (C,) of the logits before it, that calibrate at balanced classes."""
    temperature = _temperature(oof_EC, class_E)
    weight_E = _balanced(class_E, oof_EC.shape[1])
    return temperature, temperature * calibrate.fit_bias(oof_EC / temperature, class_E, weight_E)


def _at_balanced(threshold_C: np.ndarray, prevalence_C: np.ndarray) -> np.ndarray:
    """Thresholds on probabilities at the pool's prevalence as ones at balanced classes, each class against the rest."""
    odds_C = threshold_C / np.maximum(1.0 - threshold_C, 1e-12)
    odds_C = odds_C * (1.0 - prevalence_C) / prevalence_C / (len(prevalence_C) - 1)
    return np.where(threshold_C > 1.0, threshold_C, odds_C / (1.0 + odds_C))


def _choose(
    teacher: Candidate,
    student: Callable[[str, float], Candidate],
    material: Material,
    config: Config,
    any_admitted: bool,
    rng: np.random.Generator,
) -> Candidate:
    """The student that learns most from the unlabelled pool and is not clearly worse than the teacher for it."""
    options: list[tuple[str, float]] = []
    if config.pseudo.gate == "estimated" and config.pseudo.propagate > 0.0:
        options.append(("expert+pseudo+neighbours", config.pseudo.propagate))
    if any_admitted:
        options.append(("expert+pseudo", 0.0))
    for name, weight in options:
        candidate = student(name, weight)
        drop, clearly = rollback.auroc_drop(
            _softmax(teacher.oof_logit_EC), _softmax(candidate.oof_logit_EC), material.class_E,
            list(material.group_E), config.pseudo.rollback_auroc, rng,
        )  # fmt: skip
        if not clearly:
            return candidate
        log.info("%s: out-of-fold AUROC is %.3f below expert labels alone; left out of this round", name, drop)
    return teacher


def at_prevalence(logit_NC: np.ndarray, temperature: float, prevalence_C: np.ndarray) -> np.ndarray:
    """Calibrated probabilities at the pool's prevalence; the heads are trained with balanced classes."""
    balanced_C = np.full(len(prevalence_C), 1.0 / len(prevalence_C))
    return calibrate.shift_prior(calibrate.apply_temperature(logit_NC, temperature), balanced_C, prevalence_C)


def _teacher_fit(material: Material, config: Config, rows_E: np.ndarray, num_classes: int, seed: int) -> _Fit:
    class_E = material.class_E[rows_E]
    weight = _balanced(class_E, num_classes)
    rows, target = material.expert_E[rows_E], np.eye(num_classes)[class_E]
    val = None
    stop = _stopping_rows(material, rows_E, class_E, seed) if config.train.head == "mlp" else None
    if stop is not None:
        val = (rows[stop], target[stop], weight[stop])
        rows, target, weight = rows[~stop], target[~stop], weight[~stop]
    return _Fit(material.folder, rows, target, weight, config.train.teacher_l2, config.train, seed, val)


def _student_fit(
    material: Material, config: Config, rows_E: np.ndarray, prob_NC: np.ndarray, threshold_C: np.ndarray,
    admitted: Sequence[bool], propagate_weight: float, seed: int,
) -> _Fit:  # fmt: skip
    """Soft targets of the training pool, weighted so that every class carries the same total."""
    expert_E, class_E = material.expert_E[rows_E], material.class_E[rows_E]
    num_classes = prob_NC.shape[1]
    place = np.full(int(material.train_T.max()) + 1, -1, np.int64)
    place[material.train_T] = np.arange(len(material.train_T))
    target_TC = propagate.spread(material.graph_TT, place[expert_E], class_E, num_classes, config.pseudo.spread_alpha)
    found = pseudo.decide(prob_NC[material.train_T], threshold_C, config.pseudo, admitted)
    balanced_C = np.full(num_classes, 1.0 / num_classes)
    prevalence_C = _prevalence(material, num_classes)
    soft_TC = calibrate.shift_prior(prob_NC[material.train_T], prevalence_C, balanced_C)
    target_TC[found.admitted_N] = soft_TC[found.admitted_N]
    target_TC[place[expert_E]] = np.eye(num_classes)[class_E]
    weight_T = np.full(len(target_TC), propagate_weight)
    weight_T[found.admitted_N] = 1.0
    weight_T[place[expert_E]] = 1.0
    held_out = np.setdiff1d(material.expert_E, expert_E)
    weight_T[place[material.rejected_R]] = 0.0
    weight_T[place[held_out]] = 0.0  # an expert's scan of another fold: neither its label nor a guess at it
    stop = _stopping_rows(material, rows_E, class_E, seed) if config.train.head == "mlp" else None
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
        val = (expert_E[stop], np.eye(num_classes)[class_E[stop]], _balanced(class_E, num_classes)[stop])
    return _Fit(
        material.folder, material.train_T[keep], mass_TC / np.maximum(row_weight[:, None], 1e-12), row_weight,
        config.train.student_l2, config.train, seed, val,
    )  # fmt: skip


def _stopping_rows(material: Material, rows_E: np.ndarray, class_E: np.ndarray, seed: int) -> np.ndarray | None:
    """A patient-disjoint fifth of these expert labels, to stop the MLP early; None where a class would be lost."""
    groups = [group for group, used in zip(material.group_E, rows_E, strict=True) if used]
    if len(set(groups)) < 2:
        return None
    fold = calibrate.grouped_folds(groups, class_E, 5, np.random.default_rng(seed))
    stop = fold == fold.max()
    if stop.all() or len(np.unique(class_E[~stop])) < len(np.unique(class_E)):
        return None
    return np.asarray(stop)


def _fit_all(engine: Engine, fits: list[_Fit], tag: str) -> list[tuple[Head, np.ndarray]]:
    out: list[Any] = [None] * len(fits)
    if fits[0].config.num_workers > 1:
        return [_fit_on_workers(engine, fit, name=f"{tag}-{i}") for i, fit in enumerate(fits)]
    for index, result in engine.map_shards(fit_one, fits):
        out[index] = result
    return out


def _fit_on_workers(engine: Engine, fit: _Fit, name: str) -> tuple[Head, np.ndarray]:
    from pipeline import distributed

    engine.start()
    storage = fit.folder / "ray_train"
    head = distributed.fit(fit_problem(fit), fit.config, fit.seed, storage, name)
    shutil.rmtree(storage / name, ignore_errors=True)
    return head, head.logits(features.load(fit.folder))


def fit_one(fit: _Fit) -> tuple[Head, np.ndarray]:
    """Fit a head and apply it to every scan with a vector; runs as one Ray task."""
    head = train_loop(fit_problem(fit), fit.config, fit.seed)
    return head, head.logits(features.load(fit.folder))


def fit_problem(fit: _Fit) -> Problem:
    """Read the rows of a fit from the features."""
    x_NP = features.load(fit.folder)
    val = None
    if fit.val is not None:
        val = (x_NP[fit.val[0]], fit.val[1], fit.val[2])
    return Problem(x_NP[fit.rows_N], fit.target_NC, fit.weight_N, fit.l2, val)


def _out_of_fold(material: Material, fitted: Sequence[tuple[Head, np.ndarray]], fold_E: np.ndarray) -> np.ndarray:
    oof_EC = np.empty((len(fold_E), fitted[0][1].shape[1]), np.float32)
    for f, (_, logit_NC) in zip(np.unique(fold_E), fitted[:-1], strict=True):
        oof_EC[fold_E == f] = logit_NC[material.expert_E[fold_E == f]]
    return oof_EC


def _softmax(logit_EC: np.ndarray) -> np.ndarray:
    return calibrate.apply_temperature(logit_EC, 1.0)


def _temperature(oof_EC: np.ndarray, class_E: np.ndarray) -> float:
    return calibrate.fit_temperature(oof_EC, class_E, _balanced(class_E, oof_EC.shape[1]))


def _balanced(class_E: np.ndarray, num_classes: int) -> np.ndarray:
    return np.asarray(calibrate.class_weights(class_E, num_classes)[class_E])


def _prevalence(material: Material, num_classes: int) -> np.ndarray:
    counts = [
        np.bincount(classes, minlength=num_classes)
        for classes in (material.class_E[material.uniform_E], material.class_E)
    ]
    return calibrate.estimate_prevalence(counts[0], counts[1])


def _to_pool(class_E: np.ndarray, prevalence_C: np.ndarray) -> np.ndarray:
    """Weights that bring the chosen labels' class frequencies to the pool's prevalence."""
    frequency_C = np.bincount(class_E, minlength=len(prevalence_C)) / len(class_E)
    weight_C = np.divide(prevalence_C, frequency_C, out=np.zeros_like(prevalence_C), where=frequency_C > 0)
    return np.asarray(weight_C[class_E])
