"""The network in the student's place: it learns in the same folds, from what the student says of the pool."""

import logging
from dataclasses import dataclass

import numpy as np

from pipeline.contracts.config import Config
from pipeline.learn.acceptance import Acceptance, screening_of
from pipeline.learn.candidate import Candidate, auroc_drop
from pipeline.learn.head import Head
from pipeline.learn.head_fits import FittedHead
from pipeline.learn.lesson import Lesson, learn_masks, pool_lesson, stopping_mask
from pipeline.learn.material import Material
from pipeline.learn.network import design
from pipeline.learn.network.adapter import Adapter
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
class NetworkStudent:
    """What became of a round's network.

    Attributes:
        chosen: The network, or the student it learned from where that is better out of fold.
        curves: Of the network that learned from everything.
        gain: Out-of-fold AUROC of the network less that of the student.
    """

    chosen: Candidate
    curves: Curves
    gain: float


def adapted(
    adapter: Adapter,
    student: Candidate,
    teacher: Candidate,
    acceptance: Acceptance,
    material: Material,
    config: Config,
    fold_E: np.ndarray,
    rng: np.random.Generator,
) -> NetworkStudent:
    """Train the networks of a round, and choose between network and student.

    Args:
        adapter: Trains them.
        student: Heads on frozen embeddings, which the networks start from.
        teacher: Heads on expert labels, which say what is a pseudo-label.
        acceptance: From which of their probabilities on it is one.
        material: What the round learns from.
        config: Options.
        fold_E: Fold of each expert-labelled scan.
        rng: Seed of the networks, and the bootstrap of the comparison.
    """
    seed = int(rng.integers(2**31))
    temperature, bias_C = student.calibration(material)
    folds = [
        _fold(head, fit, acceptance, material, config, learn_E, (temperature, bias_C), seed)
        for learn_E, head, fit in zip(learn_masks(fold_E), student.heads, teacher.heads, strict=True)
    ]
    *of_folds, whole = adapter.train(folds, seed)
    oof_EC = np.empty_like(student.oof_logit_EC)
    for fold, fit in zip(np.unique(fold_E), of_folds, strict=True):
        oof_EC[fold_E == fold] = fit.logit_HC
    start_EC = (student.oof_logit_EC + bias_C) / temperature
    allowed = config.pseudo.rollback_auroc
    drop, _ = auroc_drop(start_EC, oof_EC, material, allowed, rng)
    if drop > allowed:  # the simpler model stays, chance or not
        log.info("the adapted network: out-of-fold AUROC is %.3f below the frozen one; left out of this round", drop)
        return NetworkStudent(student, whole.curves, -drop)
    chosen = Candidate(f"{student.name}+network", whole.trained, adapter.predict(whole.trained), oof_EC)
    return NetworkStudent(chosen, whole.curves, -drop)


def _fold(
    student: FittedHead,
    teacher: FittedHead,
    acceptance: Acceptance,
    material: Material,
    config: Config,
    learn_E: np.ndarray,
    calibration: tuple[float, np.ndarray],
    seed: int,
) -> Fold:
    """One fold's network: it starts from the calibrated head of the student, whose probabilities are its targets."""
    temperature, bias_C = calibration
    prob_TC = calibrate.apply_temperature(material.of_pool(student.logit_NC) + bias_C, temperature)
    stop_E = stopping_mask(material, learn_E, seed) if config.network.patience else None
    admitted_T = _admitted(material, acceptance, config, learn_E, teacher)
    return Fold(
        _first_head(student, material, temperature, bias_C, seed),
        network_lesson(material, config, learn_E, stop_E, prob_TC, admitted_T, seed),
        acceptance.learning_threshold_C,
        material.expert_E.keep(~learn_E),
    )


def _first_head(student: FittedHead, material: Material, temperature: float, bias_C: np.ndarray, seed: int) -> Head:
    """The student, calibrated, as a head on the network's own embedding.

    The network has no pooled stages to show its head; where the student saw them, the head is the linear one that
    comes nearest to its logits on the training pool.
    """
    vectors = Vectors.open(material.folder)
    if vectors.own_dim == vectors.emb_ND.shape[1]:
        basis = principal_components.load_basis(material.folder)
        return design.first_head(student.head.shifted(bias_C), *basis, temperature)
    rows = vectors.positions(material.pool_T.image_id)
    logit_TC = (material.of_pool(student.logit_NC) + bias_C) / temperature
    if len(rows) > MAX_IMITATED:
        some = np.sort(np.random.default_rng(seed).choice(len(rows), MAX_IMITATED, replace=False))
        rows, logit_TC = rows[some], logit_TC[some]
    return design.imitating_head(np.asarray(vectors.own_ND[rows], np.float32), logit_TC)


def network_lesson(
    material: Material,
    config: Config,
    learn_E: np.ndarray,
    stop_E: np.ndarray | None,
    prob_TC: np.ndarray,
    admitted_T: np.ndarray,
    seed: int,
) -> Lesson[ScanRows]:
    """The lesson of one fold's network: the student's probabilities of the pool are its soft targets.

    Unlike the student, it takes no labels spread over the graph, every scan weighs alike (`network.balance` sees to
    the classes), and the open scans come in or stay out as the gate says, whatever the student chosen made of them.

    Args:
        material: What the round learns from.
        config: Options.
        learn_E: Expert labels the fold may see: a mask.
        stop_E: Those of them to stop by; None: no early stopping.
        prob_TC: Calibrated probabilities of the fold's student, at balanced classes.
        admitted_T: Which scans have an admitted pseudo-label.
        seed: Of the sample of a pool larger than `train.max_rows`.
    """
    whole_pool = config.pseudo.gate == "estimated" and config.pseudo.propagate > 0.0
    return pool_lesson(
        material,
        learn_E,
        stop_E,
        prob_TC,
        admitted_T,
        open_weight=1.0 if whole_pool else 0.0,
        max_scans=config.train.max_rows,
        seed=seed,
    )


def _admitted(
    material: Material, acceptance: Acceptance, config: Config, learn_E: np.ndarray, teacher: FittedHead
) -> np.ndarray:
    """Which scans of the training pool have an admitted pseudo-label, as the round decides: a mask over the pool."""
    prob_TC = material.of_pool(acceptance.probabilities(teacher.logit_NC))
    admitted_T = np.zeros(len(prob_TC), bool)
    screening = screening_of(material, config.pseudo, learn_E, prob_TC.shape[1]).keep(material.open_T)
    admitted_T[material.open_T] = acceptance.decide(prob_TC[material.open_T], screening).admitted_N
    return admitted_T
