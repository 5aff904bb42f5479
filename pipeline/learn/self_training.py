"""One round of learning: teacher, thresholds, student, each also out of fold.

The teacher learns from expert labels alone, so that its out-of-fold scores say honestly how far it can be trusted.
The student learns from the expert labels, from the pseudo-labels the gate admits (as the teacher's soft labels), and
for the scans left open from labels spread over the neighbour graph. Both are fitted once for each patient-grouped
fold and once on everything; a fold's heads see the other folds' expert labels only, pseudo-labels included. The few
numbers that turn scores into decisions (temperature, prevalence, thresholds) are fitted on all of them. Where the
network is adapted (`adapt`), it learns from that student in the same folds and takes its place unless worse.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.contracts.config import Config
from pipeline.learn import adapt, pseudo_labels, rollback
from pipeline.learn.adapt import Adapter
from pipeline.learn.head import Head
from pipeline.learn.head_fits import (
    HeadFit,
    balanced_weights,
    fit_all,
    pool_prevalence,
    stopping_rows,
    student_fit,
    teacher_fit,
)
from pipeline.learn.material import Material
from pipeline.learn.network import Trained
from pipeline.learn.network_loop import Curves
from pipeline.measures import calibrate, certify
from pipeline.measures import folds as measures_folds
from pipeline.measures.calibrate import at_prevalence
from pipeline.runtime.engine import Engine
from pipeline.vectors import principal_components

# N scans with a vector, T of them in the training pool, E labelled by experts, C findings

log = logging.getLogger(__name__)


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
    decisions: pseudo_labels.Decisions
    open_T: np.ndarray
    curves: Curves | None = None
    network_gain: float | None = None


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
    fold_E = measures_folds.grouped_folds(material.group_E, material.class_E, config.calibrate.num_folds, rng)
    seeds = [int(seed) for seed in rng.integers(2**31, size=2)]
    trains = [fold_E != f for f in np.unique(fold_E)] + [np.ones(len(fold_E), bool)]

    def fit(name: str, fits: list[HeadFit]) -> Candidate:
        fitted = fit_all(engine, fits, f"{name}-{seeds[0]}")
        return Candidate(name, fitted, _out_of_fold(material, fitted, fold_E))

    teacher = fit("expert", [teacher_fit(material, config, rows_E, num_classes, seeds[0]) for rows_E in trains])
    prevalence_C = pool_prevalence(material, num_classes)
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
                student_fit(material, config, rows_E, prob_NC, threshold_C, admitted, propagate_weight, seeds[1])
                for rows_E, prob_NC in learnable
            ],
        )

    open_T = np.setdiff1d(material.train_T, np.union1d(material.expert_E, material.rejected_R))
    decisions = pseudo_labels.decide(prob_of_fold[-1][open_T], threshold_C, config.pseudo, admitted)
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
    material: Material,
    open_T: np.ndarray,
    prob_NC: np.ndarray,
    threshold_C: np.ndarray,
    config: Config,
    admitted: Sequence[bool],
) -> np.ndarray:
    """Scans of the training pool with an admitted pseudo-label (T,), among those that the round decides on."""
    is_open_T = np.isin(material.train_T, open_T)
    found_T = np.zeros(len(is_open_T), bool)
    rows = material.train_T[is_open_T]
    found_T[is_open_T] = pseudo_labels.decide(prob_NC[rows], threshold_C, config.pseudo, admitted).admitted_N
    return found_T


def _adapted(
    adapter: Adapter,
    frozen: Candidate,
    material: Material,
    config: Config,
    fold_E: np.ndarray,
    trains: Sequence[np.ndarray],
    admitted_of_fold: Sequence[np.ndarray],
    sure_C: np.ndarray,
    rng: np.random.Generator,
) -> tuple[Candidate, Curves, float]:
    """A network that learned from the frozen candidate, or that candidate where it is worse; its curves, its gain."""
    seed = int(rng.integers(2**31))
    temperature, bias_C = _point(frozen.oof_logit_EC, material.class_E)
    basis = principal_components.load_basis(material.folder)
    folds = []
    for rows_E, (head, logit_NC), admitted_T in zip(trains, frozen.fitted, admitted_of_fold, strict=True):
        assert isinstance(head, Head)
        prob_TC = calibrate.apply_temperature(logit_NC[material.train_T] + bias_C, temperature)
        stop = stopping_rows(material, rows_E, material.class_E[rows_E], seed) if config.network.patience else None
        start = adapt.calibrated(head, basis, temperature, bias_C)
        folds.append(adapt.fold_of(start, prob_TC, material, rows_E, admitted_T, sure_C, config, seed, stop))
    trained = adapter.train(folds, seed)
    oof_EC = np.empty_like(frozen.oof_logit_EC)
    for f, (_, logit_HC, _) in zip(np.unique(fold_E), trained[:-1], strict=True):
        oof_EC[fold_E == f] = logit_HC
    before_EC = (frozen.oof_logit_EC + bias_C) / temperature  # where the network started from
    drop, _ = rollback.auroc_drop(
        _softmax(before_EC),
        _softmax(oof_EC),
        material.class_E,
        list(material.group_E),
        config.pseudo.rollback_auroc,
        rng,
    )
    if drop > config.pseudo.rollback_auroc:  # the simpler model stays, chance or not
        log.info("the adapted network: out-of-fold AUROC is %.3f below the frozen one; left out of this round", drop)
        return frozen, trained[-1][2], -drop
    whole, _, curves = trained[-1]
    return Candidate(f"{frozen.name}+network", [(whole, adapter.predict(whole))], oof_EC), curves, -drop


def _point(oof_EC: np.ndarray, class_E: np.ndarray) -> tuple[float, np.ndarray]:
    """Temperature, and bias (C,) of the logits before it, that calibrate at balanced classes."""
    temperature = _temperature(oof_EC, class_E)
    weight_E = balanced_weights(class_E, oof_EC.shape[1])
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
            _softmax(teacher.oof_logit_EC),
            _softmax(candidate.oof_logit_EC),
            material.class_E,
            list(material.group_E),
            config.pseudo.rollback_auroc,
            rng,
        )
        if not clearly:
            return candidate
        log.info("%s: out-of-fold AUROC is %.3f below expert labels alone; left out of this round", name, drop)
    return teacher


def _out_of_fold(material: Material, fitted: Sequence[tuple[Head, np.ndarray]], fold_E: np.ndarray) -> np.ndarray:
    oof_EC = np.empty((len(fold_E), fitted[0][1].shape[1]), np.float32)
    for f, (_, logit_NC) in zip(np.unique(fold_E), fitted[:-1], strict=True):
        oof_EC[fold_E == f] = logit_NC[material.expert_E[fold_E == f]]
    return oof_EC


def _softmax(logit_EC: np.ndarray) -> np.ndarray:
    return calibrate.apply_temperature(logit_EC, 1.0)


def _temperature(oof_EC: np.ndarray, class_E: np.ndarray) -> float:
    return calibrate.fit_temperature(oof_EC, class_E, balanced_weights(class_E, oof_EC.shape[1]))


def _to_pool(class_E: np.ndarray, prevalence_C: np.ndarray) -> np.ndarray:
    """Weights that bring the chosen labels' class frequencies to the pool's prevalence."""
    frequency_C = np.bincount(class_E, minlength=len(prevalence_C)) / len(class_E)
    weight_C = np.divide(prevalence_C, frequency_C, out=np.zeros_like(prevalence_C), where=frequency_C > 0)
    return np.asarray(weight_C[class_E])
