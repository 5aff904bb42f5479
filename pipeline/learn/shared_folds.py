"""Folds that several questions share: one network learns them all, so a patient is held out of all or of none."""

from collections.abc import Sequence

import numpy as np

from pipeline.learn.lesson import STOPPING_FOLDS
from pipeline.learn.material import Material
from pipeline.learn.scan_rows import ScanRows
from pipeline.measures import folds as measures_folds

# E scans labelled by experts, of one question; N of any; Q questions


def shared_folds(
    materials: Sequence[Material], num_folds: int, rng: np.random.Generator, seen: Sequence[np.ndarray] | None = None
) -> list[np.ndarray]:
    """Fold of each expert-labelled scan, (E,) for each question; of one question those it would have by itself.

    Args:
        materials: Of each question; all of the same run.
        num_folds: At least 2.
        rng: Breaks ties.
        seen: The labels that are dealt out, a mask (E,) for each question, whose folds alone are returned; None: all.

    Raises:
        ValueError: fewer than two patients have a label.
    """
    seen = [np.ones(len(material.expert_E), bool) for material in materials] if seen is None else seen
    labelled = [material.expert_E.keep(seen_E) for material, seen_E in zip(materials, seen, strict=True)]
    group: dict[str, str] = {}
    for material, seen_E in zip(materials, seen, strict=True):
        ids = material.expert_E.image_id.to_pylist()
        group |= {image_id: g for image_id, g, is_seen in zip(ids, material.group_E, seen_E, strict=True) if is_seen}
    scans_N = ScanRows.of(group)
    class_NQ = np.full((len(scans_N), len(materials)), measures_folds.UNKNOWN)
    for question, (material, seen_E) in enumerate(zip(materials, seen, strict=True)):
        class_NQ[scans_N.positions(labelled[question]), question] = material.class_E[seen_E]
    fold_N = measures_folds.shared_folds(list(group.values()), class_NQ, num_folds, rng)
    return [fold_N[scans_N.positions(scans)] for scans in labelled]


def shared_stopping_masks(
    materials: Sequence[Material], learn: Sequence[np.ndarray], seed: int
) -> list[np.ndarray] | None:
    """The labels to stop a shared training by, a mask (E,) for each question; see `lesson.stopping_mask`.

    None where some question would lose a class to it: a patient must not stop the network by one question's label and
    teach it by another's.

    Args:
        materials: Of each question.
        learn: Labels the fold may see, a mask (E,) for each question.
        seed: Of the choice.
    """
    seen_groups = {
        g
        for material, learn_E in zip(materials, learn, strict=True)
        for g, is_seen in zip(material.group_E, learn_E, strict=True)
        if is_seen
    }
    if len(seen_groups) < 2:
        return None
    folds = shared_folds(materials, STOPPING_FOLDS, np.random.default_rng(seed), learn)
    last = max(int(fold.max()) for fold in folds)
    masks = []
    for material, learn_E, fold in zip(materials, learn, folds, strict=True):
        class_of_seen, stops = material.class_E[learn_E], fold == last
        if stops.all() or len(np.unique(class_of_seen[~stops])) < len(np.unique(class_of_seen)):
            return None
        stop_E = np.zeros(len(learn_E), bool)
        stop_E[learn_E] = stops
        masks.append(stop_E)
    return masks
