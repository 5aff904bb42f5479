"""What a strategy sees of the pool, and what it answers."""

from dataclasses import dataclass

import numpy as np

from pipeline.contracts.config import StrategyConfig

# N scans of the training pool, D dimensions


@dataclass(frozen=True)
class Pick:
    """One scan chosen, with the strategy's own score and cluster."""

    image_id: str
    score: float | None = None
    cluster: int | None = None


@dataclass(frozen=True)
class SelectionPool:
    """The training pool as a strategy may see it: no label, no holdout.

    Attributes:
        ids_N: image_id of each scan, in manifest order.
        unit_ND: Embeddings of unit norm, float32.
        labelled_N: Whether an expert has answered.
        candidate_N: Whether it may be picked: unlabelled, first of its picture, its patient not yet in the queue.
        group_N: The unit that is never split (patient with duplicates), as integers.
        config: Options of the strategies.
    """

    ids_N: np.ndarray
    unit_ND: np.ndarray
    labelled_N: np.ndarray
    candidate_N: np.ndarray
    group_N: np.ndarray
    config: StrategyConfig
