"""The network beside the student: it learns in the same folds, from what the student says of the pool."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.contracts.config import Config
from pipeline.learn import rollback
from pipeline.learn.acceptance import Acceptance, screening_of
from pipeline.learn.candidate import Candidate, calibration, falls
from pipeline.learn.heads.head import Head
from pipeline.learn.lesson import Lesson, learn_masks, pool_lesson, stopping_mask, with_reports
from pipeline.learn.material import Material
from pipeline.learn.network import design
from pipeline.learn.network.adapter import Adapter
from pipeline.learn.network.design import Trained
from pipeline.learn.network.fits import Fold
from pipeline.learn.network.training_loop import Curves
from pipeline.learn.scan_rows import ScanRows
from pipeline.measures import calibrate
from pipeline.vectors import principal_components
from pipeline.vectors.matrix import Vectors

# N scans with a vector, T of them in the training pool, E of those labelled by experts, C findings

log = logging.getLogger(__name__)
MAX_IMITATED = 20_000  # scans of the pool that a first head is fitted to


@dataclass(frozen=True)
class FrozenHeads:
    """What the heads on frozen embeddings have learned of a question: where its network starts.

    Attributes:
        material: What the round learns from.
        fold_E: Fold of each expert-labelled scan.
        teacher: Heads on expert labels, which say what is a pseudo-label.
        student: Heads that the networks start from, and learn the pool from.
        acceptance: From which of the teacher's probabilities on it is a pseudo-label.
    """

    material: Material
    fold_E: np.ndarray
    teacher: Candidate
    student: Candidate
    acceptance: Acceptance

    @cached_property
    def calibration(self) -> tuple[float, np.ndarray]:
        """Temperature of the student's logits and bias (C,) before it, see `Candidate.calibration`."""
        return self.student.calibration(self.material)

    def pool_logits(self, number: int) -> np.ndarray:
        """Calibrated logits (T, C) of the training pool by the student of a fold; -1: the one on everything."""
        temperature, bias_C = self.calibration
        logit_TC: np.ndarray = (self.material.of_pool(self.student.heads[number].logit_NC) + bias_C) / temperature
        return logit_TC

    def admitted(self, number: int, config: Config, learn_E: np.ndarray) -> np.ndarray:
        """Scans of the training pool with a pseudo-label that is let in, by the teacher of a fold: a mask (T,)."""
        material, acceptance = self.material, self.acceptance
        prob_TC = material.of_pool(acceptance.probabilities(self.teacher.heads[number].logit_NC))
        admitted_T = np.zeros(len(prob_TC), bool)
        screening = screening_of(material, config.pseudo, learn_E, prob_TC.shape[1]).keep(material.open_T)
        admitted_T[material.open_T] = acceptance.decide(prob_TC[material.open_T], screening).admitted_N
        return admitted_T


@dataclass(frozen=True)
class NetworkStudent:
    """What became of a round's network.

    Attributes:
        chosen: The mean of student and network; the student alone where that is worse out of fold, beyond chance.
        curves: Of the network that learned from everything.
        gain: Out-of-fold AUROC of the mean less that of the student.
        worse: Where the mean is worse beyond chance, so that the student alone stays.
    """

    chosen: Candidate
    curves: Curves
    gain: float
    worse: Sequence[rollback.Fall] = ()


def adapted(adapter: Adapter, heads: FrozenHeads, config: Config, rng: np.random.Generator) -> NetworkStudent:
    """Train the networks of a round, and take the mean of network and student, or the student alone.

    Args:
        adapter: Trains them.
        heads: What they start from.
        config: Options.
        rng: Seed of the networks, and the bootstrap of the comparison.
    """
    seed = int(rng.integers(2**31))
    folds = []
    for number, learn_E in enumerate(learn_masks(heads.fold_E)):
        stop_E = stopping_mask(heads.material, learn_E, seed) if config.network.patience else None
        lesson = fold_lesson(heads, number, config, learn_E, stop_E, config.train.max_rows, seed)
        held_out = heads.material.expert_E.keep(~learn_E)
        first = first_head([heads], [number], seed)
        folds.append(Fold(first, lesson, heads.acceptance.learning_threshold_C, held_out))
    *of_folds, whole = adapter.train(folds, seed)
    oof_EC = np.empty_like(heads.student.oof_logit_EC)
    for fold, fit in zip(np.unique(heads.fold_E), of_folds, strict=True):
        oof_EC[heads.fold_E == fold] = fit.logit_HC
    return chosen(heads, oof_EC, whole.trained, whole.curves, lambda: adapter.predict(whole.trained), config, rng)


def chosen(
    heads: FrozenHeads,
    oof_EC: np.ndarray,
    trained: Trained,
    curves: Curves,
    predict: Callable[[], np.ndarray],
    config: Config,
    rng: np.random.Generator,
) -> NetworkStudent:
    """The mean of student and network, unless it is worse out of fold than the student, beyond chance.

    A hundred labels cannot say which of the two is better: the student sees every stage of the frozen network and the
    middle of the scan, the network has learned what its last stages should see. The mean of their calibrated
    log-probabilities need not choose, see `candidate.average`.

    Args:
        heads: What the network started from.
        oof_EC: Its out-of-fold logits.
        trained: The one that learned from everything.
        curves: Of its training.
        predict: Its logits (N, C) of every scan with a vector; asked for only where it is chosen.
        config: Options.
        rng: Of the bootstrap.
    """
    student, material = heads.student, heads.material
    scale, scale_of_network = 0.5 / heads.calibration[0], 0.5 / calibration(oof_EC, material)[0]
    mean_EC = (scale * student.oof_logit_EC + scale_of_network * oof_EC).astype(np.float32)
    judged = falls(student.oof_logit_EC, mean_EC, material, rollback.Allowed.of(config.pseudo), rng)
    gain = next((-fall.amount for fall in judged if fall.measure == "AUROC"), 0.0)
    worse = [fall for fall in judged if fall.beyond_chance]
    if worse:
        by = ", ".join(f"{fall.measure} by {fall.amount:.3f}" for fall in worse)
        log.info("with the adapted network the classifier is worse out of fold (%s); left out of this round", by)
        return NetworkStudent(student, curves, gain, worse)
    logit_NC = (scale * student.logit_NC + scale_of_network * predict()).astype(np.float32)
    basis = principal_components.load_basis(material.folder)
    frozen = design.first_head(student.heads[-1].head, *basis, 1.0 / scale)
    both = trained.with_head(scale_of_network, frozen, config.embed.features)
    return NetworkStudent(Candidate(f"{student.name}+network", both, logit_NC, mean_EC), curves, gain)


def first_head(several: Sequence[FrozenHeads], numbers: Sequence[int], seed: int) -> Head:
    """The students of one question, or of several, calibrated, as one head on the network's own embedding.

    The network has no pooled stages to show its head; where the student saw them, the head is the linear one that
    comes nearest to its logits on the training pool. So it is where several students have hidden layers.

    Args:
        several: Of each question; all have the same training pool.
        numbers: Fold of each.
        seed: Of the sample of a large pool.
    """
    folder, pool_T = several[0].material.folder, several[0].material.pool_T
    vectors = Vectors.open(folder)
    students = [heads.student.heads[number].head for heads, number in zip(several, numbers, strict=True)]
    is_linear = all("weight1" not in student.arrays for student in students)
    if vectors.own_dim == vectors.emb_ND.shape[1] and (is_linear or len(several) == 1):
        basis = principal_components.load_basis(folder)
        first = []
        for heads, student in zip(several, students, strict=True):
            temperature, bias_C = heads.calibration
            first.append(design.first_head(student.shifted(bias_C), *basis, temperature))
        return first[0] if len(first) == 1 else design.side_by_side(first)
    rows = vectors.positions(pool_T.image_id)
    logit_TC = np.hstack([heads.pool_logits(number) for heads, number in zip(several, numbers, strict=True)])
    if len(rows) > MAX_IMITATED:
        some = np.sort(np.random.default_rng(seed).choice(len(rows), MAX_IMITATED, replace=False))
        rows, logit_TC = rows[some], logit_TC[some]
    return design.imitating_head(np.asarray(vectors.own_ND[rows], np.float32), logit_TC)


def fold_lesson(
    heads: FrozenHeads,
    number: int,
    config: Config,
    learn_E: np.ndarray,
    stop_E: np.ndarray | None,
    max_scans: int,
    seed: int,
) -> Lesson[ScanRows]:
    """The lesson of one fold's network: the probabilities of the fold's student are its targets.

    Args:
        heads: What the network starts from.
        number: Of the fold; -1: everything is learned.
        config: Options.
        learn_E: Expert labels the fold may see: a mask.
        stop_E: Those of them to stop by; None: no early stopping.
        max_scans: A larger pool is sampled; its experts' scans stay.
        seed: Of that sample.
    """
    prob_TC = calibrate.apply_temperature(heads.pool_logits(number), 1.0)
    prob_TC = with_reports(prob_TC, heads.material, learn_E, heads.acceptance.at_learning_prior)
    admitted_T = heads.admitted(number, config, learn_E)
    return network_lesson(heads.material, config, learn_E, stop_E, prob_TC, admitted_T, seed, max_scans)


def network_lesson(
    material: Material,
    config: Config,
    learn_E: np.ndarray,
    stop_E: np.ndarray | None,
    prob_TC: np.ndarray,
    admitted_T: np.ndarray,
    seed: int,
    max_scans: int | None = None,
) -> Lesson[ScanRows]:
    """What a network learns: the student's probabilities of the pool are its soft targets.

    Unlike the student, it takes no labels spread over the graph, every scan weighs alike (`network.balance` sees to
    the classes), and the open scans come in or stay out as the gate says, whatever the student chosen made of them.

    Args:
        material: What the round learns from.
        config: Options.
        learn_E: Expert labels the fold may see: a mask.
        stop_E: Those of them to stop by; None: no early stopping.
        prob_TC: Calibrated probabilities of the fold's student, at balanced classes.
        admitted_T: Which scans have an admitted pseudo-label.
        seed: Of the sample of a larger pool.
        max_scans: Scans that are learned from, besides the experts'; None: `train.max_rows`.
    """
    open_weight = config.network.open_scans if config.pseudo.gate == "estimated" else 0.0
    return pool_lesson(
        material,
        learn_E,
        stop_E,
        prob_TC,
        admitted_T,
        open_weight=open_weight,
        max_scans=max_scans or config.train.max_rows,
        seed=seed,
    )
