"""What a strategy sees of the pool, and what it answers."""

import logging
from dataclasses import dataclass, replace

import numpy as np

from pipeline.contracts.options.labelling import StrategyConfig
from pipeline.vectors.row_blocks import row_blocks

# N scans of the training pool, D dimensions, C classes

log = logging.getLogger(__name__)
NAMED = 5  # scans that a message names


@dataclass(frozen=True)
class Pick:
    """One scan chosen, with the strategy's own score and cluster."""

    image_id: str
    score: float | None = None
    cluster: int | None = None


@dataclass(frozen=True)
class SelectionPool:
    """The training pool as a strategy may see it: no holdout, and no label but those that experts gave.

    Attributes:
        ids_N: image_id of each scan, in manifest order.
        unit_ND: The scans' features, centred on the pool and of unit norm, float32: one centring for all strategies.
        labelled_N: Whether an expert has answered.
        candidate_N: Whether it may be picked: unlabelled, first of its picture.
        group_N: The unit that is never split (patient with duplicates), as integers.
        config: Options of the strategies.
        queued_N: Whether it is in this queue already. It covers its neighbourhood as a labelled scan does, and its
            patient comes last. None: the queue is empty.
        prob_NC: Calibrated probabilities of the last round's classifier; None before there is one.
        exclusive: Whether the C columns are classes that exclude each other; else each is a finding by itself, NaN
            where it has no classifier yet.
        class_N: Index of the class that experts gave, -1 where none; None where findings are independent.
        slice_N: Part of the pool that each scan belongs to, as integers; None: the pool has one part.
        length_N: Length of each scan's centred features before they were made unit, 0 or more; None: not known.
        num_classes: C.
    """

    ids_N: np.ndarray
    unit_ND: np.ndarray
    labelled_N: np.ndarray
    candidate_N: np.ndarray
    group_N: np.ndarray
    config: StrategyConfig
    queued_N: np.ndarray | None = None
    prob_NC: np.ndarray | None = None
    exclusive: bool = True
    class_N: np.ndarray | None = None
    slice_N: np.ndarray | None = None
    length_N: np.ndarray | None = None
    num_classes: int = 2

    @property
    def covered_N(self) -> np.ndarray:
        """Whether a scan is labelled, or about to be: it is in the queue."""
        covered_N: np.ndarray = self.labelled_N if self.queued_N is None else self.labelled_N | self.queued_N
        return covered_N

    def queue(self, taken_N: np.ndarray) -> "SelectionPool":
        """The pool after the scans of a mask (N,) came into the queue."""
        return replace(self, queued_N=taken_N if self.queued_N is None else self.queued_N | taken_N)


def quarantined(pool: SelectionPool) -> SelectionPool:
    """The pool without scans whose features are not finite; they are named in the log.

    Such a scan is near to nothing and would make every distance NaN.
    """
    broken_N = np.concatenate([~np.isfinite(pool.unit_ND[rows]).all(axis=1) for rows in row_blocks(len(pool.ids_N))])
    if pool.length_N is not None:  # too large to be squared
        broken_N |= ~np.isfinite(pool.length_N)
    if not broken_N.any():
        return pool
    names = ", ".join(pool.ids_N[broken_N][:NAMED].tolist())
    log.warning(
        "%d scans are not asked for: their embeddings hold values that are not finite; first: %s", broken_N.sum(), names
    )
    kept = np.flatnonzero(~broken_N)
    return replace(
        pool,
        ids_N=pool.ids_N[kept],
        unit_ND=pool.unit_ND[kept],
        labelled_N=pool.labelled_N[kept],
        candidate_N=pool.candidate_N[kept],
        group_N=pool.group_N[kept],
        queued_N=_at(pool.queued_N, kept),
        prob_NC=_at(pool.prob_NC, kept),
        class_N=_at(pool.class_N, kept),
        slice_N=_at(pool.slice_N, kept),
        length_N=_at(pool.length_N, kept),
    )


def _at(array_N: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    return None if array_N is None else np.asarray(array_N[rows])
