"""The lesson of one fold: the scans a head or a network learns from, their targets and weights.

Student and network learn from the same scans of the training pool: those whose labels the fold may see, those whose
pseudo-label was admitted, and, at a weight of their own, the open rest. What differs is the soft target of a scan
without an expert's label, which the caller gives.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from pipeline.learn.material import Material
from pipeline.learn.scan_rows import ScanRows
from pipeline.measures import calibrate
from pipeline.measures import folds as measures_folds

# T scans of the training pool, E of them labelled by experts, L to learn from, V to stop by, C findings, Q questions

S = TypeVar("S")  # how the scans are named: by id, by content, or as rows of the scan cache
R = TypeVar("R")

STOPPING_FOLDS = 5  # one fold of so many stops a training


@dataclass(frozen=True)
class StoppingSet(Generic[S]):
    """Expert-labelled scans of patients a training does not see; their loss stops it.

    Attributes:
        scans: V scans.
        target_VC: Class probabilities of each; rows sum to 1.
        weight_V: Weight of each in the loss, >= 0.
    """

    scans: S
    target_VC: np.ndarray
    weight_V: np.ndarray


@dataclass(frozen=True)
class Lesson(Generic[S]):
    """What a head or a network learns.

    A network may learn several questions of C classes at once. Then targets have one more axis, (L, Q, C), weights and
    `open_L` are (L, Q), and a weight of 0 says that the answer is not known; the same holds of the scans to stop by.

    Attributes:
        scans: L scans.
        target_LC: Class probabilities of each, at the learning prior; rows sum to 1.
        weight_L: Weight of each in the loss, >= 0.
        open_L: Whether neither an expert nor an admitted pseudo-label stands behind the target.
        stop: Scans to stop by; None: the training goes on to its last epoch.
    """

    scans: S
    target_LC: np.ndarray
    weight_L: np.ndarray
    open_L: np.ndarray
    stop: StoppingSet[S] | None = None

    def of_questions(self) -> "Lesson[S]":
        """The same lesson with the axis of the questions, one where it had none."""
        if self.target_LC.ndim == 3:
            return self
        stop = self.stop
        if stop is not None:
            stop = StoppingSet(stop.scans, stop.target_VC[:, None], stop.weight_V[:, None])
        return Lesson(self.scans, self.target_LC[:, None], self.weight_L[:, None], self.open_L[:, None], stop)

    def renamed(self, rename: Callable[[S], R]) -> "Lesson[R]":
        """The same lesson with its scans named in another way."""
        stop = self.stop
        return Lesson(
            rename(self.scans),
            self.target_LC,
            self.weight_L,
            self.open_L,
            None if stop is None else StoppingSet(rename(stop.scans), stop.target_VC, stop.weight_V),
        )


def learn_masks(fold_E: np.ndarray) -> list[np.ndarray]:
    """Which expert labels each fit may see: for each fold those of all others, and last every one; masks (E,)."""
    return [fold_E != fold for fold in np.unique(fold_E)] + [np.ones(len(fold_E), bool)]


def expert_lesson(
    material: Material, learn_E: np.ndarray, stop_E: np.ndarray | None, num_classes: int
) -> Lesson[ScanRows]:
    """Expert labels alone, each class with its share of `calibrate.learning_prior`; no checks of a release.

    Args:
        material: What the round learns from.
        learn_E: Expert labels the fold may see.
        stop_E: Those of them to stop by; None: no early stopping.
        num_classes: C.
    """
    learn_E = learn_E & material.judges_E
    teach_E = learn_E if stop_E is None else learn_E & ~stop_E
    weight_E = np.zeros(len(learn_E))
    weight_E[learn_E] = scan_weights(material.class_E[learn_E], num_classes)
    target_EC = np.eye(num_classes)[material.class_E]
    return Lesson(
        material.expert_E.keep(teach_E),
        target_EC[teach_E],
        weight_E[teach_E],
        np.zeros(int(teach_E.sum()), bool),
        _stopping_set(material, learn_E, stop_E, num_classes),
    )


def pool_lesson(
    material: Material,
    learn_E: np.ndarray,
    stop_E: np.ndarray | None,
    soft_TC: np.ndarray,
    admitted_T: np.ndarray,
    *,
    open_weight: float,
    max_scans: int,
    seed: int,
) -> Lesson[ScanRows]:
    """Soft targets of the pool, hard ones of the fold's experts, nothing of the other folds' scans.

    An expert's scan of another fold teaches neither by its label nor by a guess at it. A report that is used comes
    before a pseudo-label, and an expert's label before both.

    Args:
        material: What the round learns from.
        learn_E: Expert labels the fold may see.
        stop_E: Those of them to stop by, which then teach nothing; None: no early stopping.
        soft_TC: Targets of the scans without such a label, at the learning prior, see `with_reports`.
        admitted_T: Which scans have an admitted pseudo-label.
        open_weight: Weight of a scan with neither, 0 to 1; at 0 it is left out.
        max_scans: A larger pool is sampled; its experts' scans stay.
        seed: Of that sample.
    """
    num_classes = soft_TC.shape[1]
    row_E = material.expert_in_pool_E
    expert_T = np.zeros(len(soft_TC), bool)
    expert_T[row_E[learn_E]] = True
    target_TC = soft_TC.copy()
    target_TC[row_E[learn_E]] = np.eye(num_classes)[material.class_E[learn_E]]
    weight_T = np.where(expert_T | admitted_T, 1.0, open_weight)
    reported_T = report_weights(material, learn_E)
    told_T = (reported_T > 0.0) & ~expert_T
    weight_T[told_T] = reported_T[told_T]
    weight_T[material.rejected_T] = 0.0
    weight_T[row_E[~learn_E]] = 0.0
    if stop_E is not None:
        weight_T[row_E[stop_E]] = 0.0
    kept_T = sampled(weight_T > 0.0, expert_T, max_scans, seed)
    return Lesson(
        material.pool_T.keep(kept_T),
        target_TC[kept_T],
        weight_T[kept_T],
        ~(expert_T | admitted_T | told_T)[kept_T],
        _stopping_set(material, learn_E, stop_E, num_classes),
    )


def report_weights(material: Material, learn_E: np.ndarray) -> np.ndarray:
    """Weight (T,) of what reports propose: none of the patients whose expert labels a fold may not see."""
    if material.reports is None:
        return np.zeros(len(material.pool_T))
    held_out = {group for group, seen in zip(material.group_E, learn_E, strict=True) if not seen}
    weight_T = material.reports.weight_T.copy()
    weight_T[[group in held_out for group in material.group_T]] = 0.0
    return weight_T


def with_reports(
    soft_TC: np.ndarray, material: Material, learn_E: np.ndarray, at_learning_prior: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Soft targets (T, C) of the pool, where a report that a fold may see is used: by that.

    Args:
        soft_TC: At the learning prior.
        material: What the round learns from.
        learn_E: Expert labels the fold may see: a mask.
        at_learning_prior: Takes probabilities from the pool's prevalence there.
    """
    told_T = report_weights(material, learn_E) > 0.0
    if material.reports is None or not told_T.any():
        return soft_TC
    out_TC = soft_TC.copy()
    out_TC[told_T] = at_learning_prior(material.reports.target_TC[told_T])
    return out_TC


def sampled(teaches_T: np.ndarray, expert_T: np.ndarray, max_scans: int, seed: int) -> np.ndarray:
    """Which scans teach: all that may, or a random `max_scans` of them and the experts' besides; a mask."""
    teaching = np.flatnonzero(teaches_T)
    if len(teaching) <= max_scans:
        return teaches_T
    kept_T: np.ndarray = teaches_T & expert_T
    kept_T[np.random.default_rng(seed).choice(teaching, max_scans, replace=False)] = True
    return kept_T


def stopping_mask(material: Material, learn_E: np.ndarray, seed: int) -> np.ndarray | None:
    """A patient-disjoint fifth of the expert labels a fold may see, to stop its training by: a mask over all of them.

    None where a class would be lost to the training.
    """
    class_of_seen = material.class_E[learn_E]
    groups = [group for group, seen in zip(material.group_E, learn_E, strict=True) if seen]
    if len(set(groups)) < 2:
        return None
    fold = measures_folds.grouped_folds(groups, class_of_seen, STOPPING_FOLDS, np.random.default_rng(seed))
    stops = fold == fold.max()
    if stops.all() or len(np.unique(class_of_seen[~stops])) < len(np.unique(class_of_seen)):
        return None
    stop_E = np.zeros(len(learn_E), bool)
    stop_E[learn_E] = stops
    return stop_E


def _stopping_set(
    material: Material, learn_E: np.ndarray, stop_E: np.ndarray | None, num_classes: int
) -> StoppingSet[ScanRows] | None:
    if stop_E is None:
        return None
    weight_C = calibrate.class_weights(material.class_E[learn_E], num_classes)
    class_V = material.class_E[stop_E]
    return StoppingSet(material.expert_E.keep(stop_E), np.eye(num_classes)[class_V], weight_C[class_V])


def scan_weights(class_E: np.ndarray, num_classes: int) -> np.ndarray:
    """Weight of each scan (E,), by its class, see `calibrate.class_weights`."""
    return np.asarray(calibrate.class_weights(class_E, num_classes)[class_E])
