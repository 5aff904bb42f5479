"""Uncertainty Herding that first looks for rare classes: while one has few labels, far from all labels.

Herding goes where the scans are many, so it meets a class of two scans in a hundred late, later than random draws do.
Such a class is more likely where no label is near: there core-set looks (Sener, Savarese, ICLR 2018, arXiv 1708.00489,
algorithm 1). Far is taken in two senses, in turn. By the angle of centred features a scan counts that hardly differs
from the mean, but in its own direction: there a faint finding is. By their distance a scan counts that stands out.

A class with few labels is not rare by that: of 20 labels one of a quarter of the pool has four or five. So it is
sought only while its share of the labels is small as well. As soon as no class is rare, or every rare one has `FEW`
labels, the queue is Uncertainty Herding's again. What was measured stands in `docs/how-to/choosing.md`.
"""

import numpy as np

from pipeline.selection import uncertainty
from pipeline.selection.pool import Pick, SelectionPool
from pipeline.selection.strategies import core_set, uncertainty_herding
from pipeline.selection.strategies.core_set import View

NAME = "rare_class_herding"
FEW = 5
"""A class of fewer expert labels is sought; with as many it has its say in roll-backs and operating points."""
RARE_SHARE = 0.15
"""A class of this share of the labels is not rare, nor one of its even share where classes are many."""
SHARED = 0.7
"""What all scans share where distance counts, in typical lengths of centred features; without it the angle is left."""
MOST_LABELS_A_CLASS = 50
"""With more labels than this for each class nothing is sought any more: a class may be named that no scan shows."""


def select(pool: SelectionPool, num: int, rng: np.random.Generator) -> list[Pick]:
    """Up to `num` scans, with the score of the strategy that chose them."""
    if lacks_a_class(pool):
        lacks = f"a class is rare and has fewer than {FEW} labels"
        if pool.length_N is None:
            uncertainty.say_fallback(NAME, lacks, "core_set, by angle")
            return core_set.select(pool, num, rng)
        uncertainty.say_fallback(NAME, lacks, "core_set, by angle and by distance in turn")
        return core_set.select(pool, num, rng, _views(pool))
    return uncertainty_herding.select(pool, num, rng, NAME)


def lacks_a_class(pool: SelectionPool) -> bool:
    """Whether a class is rare and has fewer than `FEW` labels, although there are labels and hope of finding it.

    Its share is that of all labels, each class counted once more (Laplace's rule). Independent findings are never
    sought: of most scans it is not known which of them they show.
    """
    if pool.class_N is None:
        return False
    labels_C = np.bincount(pool.class_N[pool.class_N >= 0], minlength=pool.num_classes)
    num_labels = int(labels_C.sum())
    if not 0 < num_labels < MOST_LABELS_A_CLASS * pool.num_classes:
        return False
    share_C = (labels_C + 1) / (num_labels + pool.num_classes)
    is_rare_C = share_C < min(RARE_SHARE, 1.0 / pool.num_classes)
    return bool((is_rare_C & (labels_C < FEW)).any())


def _views(pool: SelectionPool) -> tuple[View, View]:
    """Far by angle, and far by distance.

    For the second one more dimension, the same for all, is thought of beside the centred features before they are made
    unit, so that scans near the middle of the pool are near each other.
    """
    length_N = np.asarray(pool.length_N, np.float64)
    shared = SHARED * np.sqrt(np.square(length_N).mean())
    whole_N = np.maximum(np.sqrt(np.square(length_N) + shared**2), 1e-12)
    own_N, shared_N = (length_N / whole_N).astype(np.float32), (shared / whole_N).astype(np.float32)

    def distance(cosine_ML: np.ndarray, rows_M: np.ndarray, rows_L: np.ndarray) -> np.ndarray:
        own_ML = cosine_ML * own_N[rows_M, None] * own_N[rows_L]
        return np.asarray(own_ML + shared_N[rows_M, None] * shared_N[rows_L])

    return core_set.angle, distance
