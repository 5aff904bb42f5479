"""What a round of learning is given: scans, expert classes, patient groups, the neighbour graph."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


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
