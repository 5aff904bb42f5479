"""What a round of learning is given: scans, expert classes, patient groups, the neighbour graph."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.learn.scan_rows import ScanRows
from pipeline.measures import calibrate
from pipeline.vectors import principal_components
from pipeline.vectors.matrix import Vectors

# N scans with a vector, T of them in the training pool, E of those labelled by experts, R rejected, C findings
# P features


@dataclass(frozen=True)
class Features:
    """What a head sees of each scan.

    Attributes:
        scans_N: Whose features.
        x_NP: Along them, float32, see `principal_components`.
    """

    scans_N: ScanRows
    x_NP: np.ndarray

    def load(self) -> "Features":
        """These."""
        return self


@dataclass(frozen=True)
class FeaturesOfRun:
    """The features of a run, mapped when they are needed.

    Attributes:
        folder: Run directory.
    """

    folder: Path

    def load(self) -> Features:
        """All of them, memory-mapped."""
        return Features(ScanRows.of(Vectors.open(self.folder).ids), principal_components.load(self.folder))


@dataclass(frozen=True)
class SoftLabels:
    """What radiology reports that experts have checked propose for the training pool.

    Attributes:
        target_TC: Class probabilities at the pool's prevalence; rows of 0 where nothing is proposed.
        weight_T: Weight of each, next to an expert's of 1; 0 where nothing is proposed.
    """

    target_TC: np.ndarray
    weight_T: np.ndarray


@dataclass(frozen=True)
class Material:
    """What a round learns from: three orders of scans, and the arrays that lie along them.

    Attributes:
        folder: Run directory, where the fits on several workers and the networks keep their files.
        features: What heads see of the scans with a vector.
        scans_N: Scans with a vector, in the order of the features.
        pool_T: The training pool, in the order of the neighbour graph, if there is any.
        expert_E: Its scans with an expert class.
        class_E: Their class index, int64.
        group_E: Their patient group; groups are never split over folds.
        uniform_E: Whether the scan came from a uniform slice of a queue, which alone is a sample of the pool.
        judges_E: Whether it may set temperature, thresholds and class shares, and teach the teacher. A check of a
            release may not: it was asked about because the model was sure of it, and looks easier than the pool is.
            The student learns it in the place of the pseudo-label that it checked.
        graph_TT: Neighbour graph of the training pool, see `neighbor_graph`; None: no label spreads over it.
        rejected_R: Scans of the pool that experts hold to be no good: they get no label and teach nothing.
        group_T: Patient group of every scan of the training pool.
        weight_E: What each label of the uniform slice counts for the pool's class shares; None: one each. Of a run
            that has grown the slice is a sample of each part, in other shares than the parts have of the pool.
        reports: Labels by report; None: there are none, or none is used. They teach the student alone.
    """

    folder: Path
    features: Features | FeaturesOfRun
    scans_N: ScanRows
    pool_T: ScanRows
    expert_E: ScanRows
    class_E: np.ndarray
    group_E: Sequence[str]
    uniform_E: np.ndarray
    judges_E: np.ndarray
    graph_TT: Any
    rejected_R: ScanRows
    group_T: np.ndarray
    weight_E: np.ndarray | None = None
    reports: SoftLabels | None = None

    def __post_init__(self) -> None:
        lengths = {
            len(along_E) for along_E in (self.expert_E, self.class_E, self.group_E, self.uniform_E, self.judges_E)
        }
        assert len(lengths) == 1, f"class, group and origin of every expert-labelled scan, not {lengths}"
        assert not self.expert_E.among(self.rejected_R).any(), "a rejected scan has no expert class"

    def of_experts(self, along_N: np.ndarray) -> np.ndarray:
        """The rows (E, …) that are the expert-labelled scans'."""
        assert len(along_N) == len(self.scans_N), "one row a scan with a vector"
        return np.asarray(along_N[self._expert_in_scans_E])

    def of_pool(self, along_N: np.ndarray) -> np.ndarray:
        """The rows (T, …) that are the training pool's."""
        assert len(along_N) == len(self.scans_N), "one row a scan with a vector"
        return np.asarray(along_N[self._pool_in_scans_T])

    @cached_property
    def expert_in_pool_E(self) -> np.ndarray:
        """Row of `pool_T` that each expert-labelled scan is, int64."""
        return self.pool_T.positions(self.expert_E)

    @cached_property
    def rejected_T(self) -> np.ndarray:
        """Which scans of the training pool are rejected: a mask."""
        return self.pool_T.among(self.rejected_R)

    @cached_property
    def open_T(self) -> np.ndarray:
        """Which scans of the training pool have neither an expert class nor a rejection: a mask."""
        open_T = ~self.rejected_T
        open_T[self.expert_in_pool_E] = False
        return open_T

    @cached_property
    def _expert_in_scans_E(self) -> np.ndarray:
        return self.scans_N.positions(self.expert_E)

    @cached_property
    def _pool_in_scans_T(self) -> np.ndarray:
        return self.scans_N.positions(self.pool_T)

    def prevalence(self, num_classes: int) -> np.ndarray:
        """Share of each class (C,) in the pool, from the uniform slice with a weak prior."""
        weight_U = None if self.weight_E is None else self.weight_E[self.uniform_E]
        uniform_C = np.bincount(self.class_E[self.uniform_E], weight_U, minlength=num_classes)
        return calibrate.estimate_prevalence(uniform_C, np.bincount(self.class_E, minlength=num_classes))
