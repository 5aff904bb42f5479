"""One round of learning: teacher, thresholds, student, each also out of fold.

The teacher learns from expert labels alone, so that its out-of-fold scores say honestly how far it can be trusted.
The student learns from the expert labels, from the pseudo-labels the gate admits (as the teacher's soft labels), from
radiology reports that experts have found right often enough, and with `pseudo.propagate`, for the scans left open, from
labels spread over the neighbour graph. Both are fitted once for each patient-grouped
fold and once on everything; a fold's heads see the other folds' expert labels only, pseudo-labels included. The few
numbers that turn scores into decisions (temperature, prevalence, thresholds) are fitted on all of them. Where the
network is adapted (`network.student`), it learns from that student in the same folds, and the mean of both takes the
student's place unless it is worse.
"""

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from pipeline.contracts.config import Config
from pipeline.learn import operating_point
from pipeline.learn.acceptance import Acceptance, screening_of
from pipeline.learn.candidate import Candidate, average
from pipeline.learn.classifier import Classifier
from pipeline.learn.head_fits import HeadFit, fit_all, spread_labels, student_fit, teacher_fit
from pipeline.learn.heads.head import Head
from pipeline.learn.lesson import learn_masks
from pipeline.learn.material import Material
from pipeline.learn.network import shared
from pipeline.learn.network import student as network_student
from pipeline.learn.network.adapter import Adapter
from pipeline.learn.network.design import Trained
from pipeline.learn.network.student import FrozenHeads
from pipeline.learn.network.training_loop import Curves
from pipeline.learn.operating_point import OperatingPoint
from pipeline.learn.pseudo_labels import Decisions
from pipeline.learn.rollback import Fall
from pipeline.learn.scan_rows import ScanRows
from pipeline.learn.shared_folds import shared_folds
from pipeline.measures import folds as measures_folds
from pipeline.runtime.engine import Engine

# N scans with a vector, T of them in the training pool, E of those labelled by experts, O open, C findings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Learned:
    """The models of a round, and what its pseudo-labels rest on.

    Attributes:
        learner: What the classifier in use learned from, for example `expert+pseudo+neighbours`.
        teacher: Head on expert labels.
        student: Head or network in use; its logits are for balanced classes, whatever it learned with.
        student_logit_NC: Its logits of every scan with a vector, in the order of `Material.scans_N`, float32.
        oof_logit_EC: Its out-of-fold logits, in the order of `Material.expert_E`, float32.
        temperature: Of its logits, > 0.
        operating_point: How its probabilities become calls.
        acceptance: Prevalence of the pool, thresholds of the pseudo-labels, their estimated precision.
        open_O: Scans of the training pool with neither an expert class nor a rejection.
        decisions: What becomes of each of them.
        curves: Of the network's training; None: none was trained.
        network_gain: Out-of-fold AUROC of the mean of network and head less that of the head alone; the mean is used
            unless it is worse beyond chance. None: no network was trained.
        network_worse: In what that mean is worse beyond chance; where it is in nothing, it is used.
        network_questions: The questions that network learned at once; none where it is of this one alone.
    """

    learner: str
    teacher: Head
    student: Head | Trained
    student_logit_NC: np.ndarray
    oof_logit_EC: np.ndarray
    temperature: float
    operating_point: OperatingPoint
    acceptance: Acceptance
    open_O: ScanRows
    decisions: Decisions
    curves: Curves | None = None
    network_gain: float | None = None
    network_worse: Sequence[Fall] = ()
    network_questions: tuple[str, ...] = ()

    def classifier(self, findings: tuple[str, ...]) -> Classifier:
        """The student as a classifier of these classes, at the operating point."""
        acceptance, weights_C = self.acceptance, self.operating_point.weights_C
        return Classifier(
            self.student, findings, self.temperature, acceptance.prevalence_C, weights_C, acceptance.learning_prior_C
        )


def learn(
    material: Material,
    config: Config,
    engine: Engine,
    num_classes: int,
    admitted_C: Sequence[bool],
    rng: np.random.Generator,
    adapter: Adapter | None = None,
) -> Learned:
    """Run one round of learning; see the module's first lines.

    Args:
        material: What the round learns from.
        config: Options.
        engine: Where the fits run.
        num_classes: C.
        admitted_C: Whether the gate lets each class into training.
        rng: Folds and seeds.
        adapter: Trains the network; None: the backbone stays as it is.
    """
    taught = teach(material, config, engine, num_classes, admitted_C, rng)
    heads = taught.frozen_heads()
    if adapter is None:
        return taught.learned(heads.student)
    network = network_student.adapted(adapter, heads, config, rng)
    return taught.learned(network.chosen, network)


def learn_together(
    materials: Mapping[str, Material],
    admitted: Mapping[str, Sequence[bool]],
    config: Config,
    engine: Engine,
    rng: np.random.Generator,
    adapter: Adapter,
) -> dict[str, Learned]:
    """Run one round of learning for several questions of two classes, whose networks are one (`network.shared`).

    Of one question it is `learn`.

    Args:
        materials: What the round learns from, by question; all of one run.
        admitted: Whether the gate lets each class into training, by question.
        config: Options.
        engine: Where the fits run.
        rng: Folds and seeds; each question goes on with a copy, as if it learned alone.
        adapter: Trains the network.
    """
    start = copy.deepcopy(rng)
    folds = shared_folds(list(materials.values()), config.calibrate.num_folds, rng)
    taught, rngs, alone = {}, {}, {}
    for (name, material), fold_E in zip(materials.items(), folds, strict=True):
        if len(np.unique(fold_E)) < 2:
            log.warning("%s: no folds that all share leave it a label to learn from; it keeps its head", name)
            alone[name] = learn(material, config, engine, 2, admitted[name], copy.deepcopy(start))
        else:
            rngs[name] = copy.deepcopy(rng)
            taught[name] = teach(material, config, engine, 2, admitted[name], rngs[name], fold_E)
    heads = {name: of.frozen_heads() for name, of in taught.items()}
    networks = shared.adapted(adapter, heads, config, rngs) if heads else {}
    together = {name: taught[name].learned(network.chosen, network) for name, network in networks.items()}
    return alone | {name: replace(of, network_questions=tuple(heads)) for name, of in together.items()}


def teach(
    material: Material,
    config: Config,
    engine: Engine,
    num_classes: int,
    admitted_C: Sequence[bool],
    rng: np.random.Generator,
    fold_E: np.ndarray | None = None,
) -> "Taught":
    """Fit the teacher of a round, and decide what of its answers becomes a pseudo-label.

    Arguments as of `learn`; and the fold of each expert-labelled scan, where that is not its own matter.
    """
    if fold_E is None:
        fold_E = measures_folds.grouped_folds(material.group_E, material.class_E, config.calibrate.num_folds, rng)
    heads = _Heads(material, config, engine, fold_E, *(int(seed) for seed in rng.integers(2**31, size=2)))
    teacher = heads.teacher(num_classes)
    acceptance = Acceptance.fit(teacher.oof_logit_EC, material, admitted_C, config.pseudo)
    probs_TC = [material.of_pool(acceptance.probabilities(fit.logit_NC)) for fit in teacher.heads]
    screening = screening_of(material, config.pseudo, np.ones(len(fold_E), bool), num_classes)
    decisions = acceptance.decide(probs_TC[-1][material.open_T], screening.keep(material.open_T))
    return Taught(heads, teacher, acceptance, probs_TC, decisions)


@dataclass(frozen=True)
class Taught:
    """A round's teacher and what it says of the pool, from where every other way to learn goes on.

    Attributes:
        heads: Fits heads in the folds of the round.
        teacher: Learned from expert labels alone.
        acceptance: How its logits become pseudo-labels.
        probs_TC: Its probabilities of the training pool, fit by fit, the one on everything last.
        decisions: What becomes of each open scan.
    """

    heads: "_Heads"
    teacher: Candidate
    acceptance: Acceptance
    probs_TC: Sequence[np.ndarray]
    decisions: Decisions

    def student(self, name: str, propagate_weight: float) -> Candidate:
        """A head on the training pool: expert labels, pseudo-labels, and labels from the graph at a weight."""
        spreads_TC = self.spreads_TC if propagate_weight > 0.0 else [None] * len(self.probs_TC)
        return self.heads.student(name, propagate_weight, self.probs_TC, spreads_TC, self.acceptance)

    @cached_property
    def spreads_TC(self) -> list[np.ndarray]:
        """The expert labels spread over the graph, fit by fit: the same for every student."""
        masks = learn_masks(self.heads.fold_E)
        return spread_labels(self.heads.material, self.heads.config, masks, self.probs_TC[0].shape[1])

    def average(self, student: Candidate) -> Candidate:
        """The mean of teacher and student."""
        return average(student.name, self.teacher, student, self.heads.material)

    def frozen_heads(self) -> FrozenHeads:
        """Teacher and student of the round; the student is the teacher itself where there is nothing else to learn."""
        any_reports = self.heads.material.reports is not None
        options = student_options(self.heads.config, bool(self.decisions.admitted_N.any()), any_reports)
        student = self.average(self.student(*options[0])) if options else self.teacher
        return FrozenHeads(self.heads.material, self.heads.fold_E, self.teacher, student, self.acceptance)

    def learned(self, chosen: Candidate, network: network_student.NetworkStudent | None = None) -> Learned:
        """A candidate, calibrated and with its operating point, as what the round learned."""
        material, config, acceptance = self.heads.material, self.heads.config, self.acceptance
        temperature, bias_C = chosen.calibration(material)
        logit_TC = (material.of_pool(chosen.logit_NC) + bias_C) / temperature
        priors = (acceptance.prevalence_C, acceptance.learning_prior_C)
        num_labels_C = np.bincount(material.class_E, minlength=len(acceptance.prevalence_C))
        point = operating_point.choose(config.evaluate.operating_point, logit_TC, *priors, num_labels_C)
        bias_C = bias_C - temperature * np.log(acceptance.learning_prior_C)  # from there to balanced classes
        student = chosen.model.shifted(bias_C)
        if isinstance(student, Head):  # as the one head that is kept says it: a mean of two may round otherwise
            logit_NC = student.logits(material.features.load().x_NP)
        else:
            logit_NC = (chosen.logit_NC + bias_C).astype(np.float32)
        return Learned(
            learner=chosen.name,
            teacher=self.teacher.heads[-1].head,
            student=student,
            student_logit_NC=logit_NC,
            oof_logit_EC=(chosen.oof_logit_EC + bias_C).astype(np.float32),
            temperature=temperature,
            operating_point=point,
            acceptance=acceptance,
            open_O=material.pool_T.keep(material.open_T),
            decisions=self.decisions,
            curves=None if network is None else network.curves,
            network_gain=None if network is None else network.gain,
            network_worse=() if network is None else network.worse,
        )


@dataclass(frozen=True)
class _Heads:
    """The heads of a round: each candidate is fitted in the same folds, and once on everything."""

    material: Material
    config: Config
    engine: Engine
    fold_E: np.ndarray
    teacher_seed: int
    student_seed: int

    def teacher(self, num_classes: int) -> Candidate:
        """Learns from expert labels alone."""
        fits = [
            teacher_fit(self.material, self.config, learn_E, num_classes, self.teacher_seed)
            for learn_E in learn_masks(self.fold_E)
        ]
        return self._candidate("expert", fits)

    def student(
        self,
        name: str,
        propagate_weight: float,
        probs_TC: Sequence[np.ndarray],
        spreads_TC: Sequence[np.ndarray | None],
        acceptance: Acceptance,
    ) -> Candidate:
        """Learns from the pool as well, by the teacher's probabilities of it and labels spread over it, fit by fit."""
        each = zip(learn_masks(self.fold_E), probs_TC, spreads_TC, strict=True)
        fits = [
            student_fit(
                self.material,
                self.config,
                learn_E,
                prob_TC,
                acceptance,
                spread_TC,
                propagate_weight,
                self.student_seed,
            )
            for learn_E, prob_TC, spread_TC in each
        ]
        return self._candidate(name, fits)

    def _candidate(self, name: str, fits: list[HeadFit]) -> Candidate:
        fitted = fit_all(self.engine, fits, self.material.folder, f"{name}-{self.teacher_seed}")
        return Candidate.of_heads(name, fitted, self.material, self.fold_E)


def student_options(config: Config, any_admitted: bool, any_reports: bool = False) -> list[tuple[str, float]]:
    """Name of each student worth a try and weight of the labels it takes from the graph; what learns most first."""
    experts = "expert+reports" if any_reports else "expert"
    options: list[tuple[str, float]] = []
    if config.pseudo.gate == "estimated" and config.pseudo.propagate > 0.0:
        options.append((f"{experts}+pseudo+neighbours", config.pseudo.propagate))
    if any_admitted:
        options.append((f"{experts}+pseudo", 0.0))
    return options or ([(experts, 0.0)] if any_reports else [])
