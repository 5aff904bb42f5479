"""A run's scans as its rounds see them: what does not change from round to round."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.contracts.answers import POOL, Answer
from pipeline.contracts.tables import POOL_LABELS, SPLIT_TABLE
from pipeline.labels import verdicts
from pipeline.labels.classes import findings_of
from pipeline.labels.training_labels import ExpertLabels
from pipeline.learn.material import FeaturesOfRun, Material, SoftLabels
from pipeline.learn.scan_rows import ScanRows
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.growth import record
from pipeline.vectors import neighbor_graph, principal_components
from pipeline.vectors.clusters import train_ids
from pipeline.vectors.matrix import Vectors

# N scans with a vector, T of them in the training pool, E of those labelled by experts, P features


@dataclass(frozen=True)
class Dataset:
    """The scans of a run.

    Attributes:
        folder: Run directory.
        findings: C classes.
        split: Of every scan of the manifest, by image_id: `train`, `holdout` or `excluded`.
        group: Patient group of every scan of the manifest, by image_id.
        scans_N: Every scan with a vector, in the order of the run's features.
        pool_T: Those of the training pool, in the order of the neighbour graph.
        pool_labels: The labels that came with the pool, see `POOL_LABELS`.
    """

    folder: Path
    findings: tuple[str, ...]
    split: dict[str, str]
    group: dict[str, str]
    scans_N: ScanRows
    pool_T: ScanRows
    pool_labels: pa.Table

    @classmethod
    def open(cls, ctx: StageContext) -> "Dataset":
        """Read the tables of the stages before."""
        scans_N = ScanRows.of(Vectors.open(ctx.folder).ids)
        splits = run_files.read(ctx.folder, SPLIT_TABLE, ["image_id", "group_id", "split"])
        ids = splits["image_id"].to_pylist()
        train = ScanRows.of(train_ids(splits))
        return cls(
            folder=ctx.folder,
            findings=findings_of(ctx),
            split=dict(zip(ids, splits["split"].to_pylist(), strict=True)),
            group=dict(zip(ids, splits["group_id"].to_pylist(), strict=True)),
            scans_N=scans_N,
            pool_T=train.keep(train.among(scans_N)),
            pool_labels=POOL_LABELS.read(ctx.folder),
        )

    @cached_property
    def graph_TT(self) -> Any:
        """Neighbour graph of the training pool; None where no label spreads over it."""
        path = run_files.path(self.folder, run_files.NEIGHBORS)
        return neighbor_graph.load(path) if path.exists() else None

    @cached_property
    def group_T(self) -> np.ndarray:
        """Patient group of every scan of the training pool."""
        return np.array([self.group[image_id] for image_id in self.pool_T.image_id.to_pylist()], dtype=object)

    @cached_property
    def x_NP(self) -> np.ndarray:
        """Features, memory-mapped."""
        return principal_components.load(self.folder)

    def train_ids(self) -> list[str]:
        """Every scan of the training pool, in the manifest's order."""
        return [image_id for image_id, side in self.split.items() if side == "train"]

    def pool_answers(self) -> list[Answer]:
        """Labels that came with the training pool."""
        known = zip(self.pool_labels["image_id"].to_pylist(), self.pool_labels["label"].to_pylist(), strict=True)
        return [
            Answer(image_id, label, POOL, 0)
            for image_id, label in known
            if label is not None and self.split.get(image_id) == "train"
        ]

    def material(
        self,
        expert: ExpertLabels,
        uniform: Collection[str],
        checks: Collection[str] = (),
        reports: SoftLabels | None = None,
    ) -> Material:
        """What a round learns from: answers about scans of the training pool that have a vector.

        Args:
            expert: What experts have said so far.
            uniform: image_ids drawn uniformly.
            checks: image_ids that were asked about as checks of a release.
            reports: What radiology reports propose along the training pool.
        """
        ids, class_E = verdicts.class_array(expert.training, self.findings)
        answered = ScanRows.of(ids)
        known = answered.among(self.pool_T)
        expert_E = answered.keep(known)
        rejected = ScanRows.of(expert.rejected)
        judges_E = np.array([image_id not in checks for image_id in expert_E.image_id.to_pylist()], dtype=bool)
        if len(np.unique(class_E[known][judges_E])) < len(np.unique(class_E[known])):
            judges_E[:] = True  # a class that only checks have brought: better judged by sure scans than not at all
        uniform_E = np.array([image_id in uniform for image_id in expert_E.image_id.to_pylist()], dtype=bool)
        return Material(
            folder=self.folder,
            features=FeaturesOfRun(self.folder),
            scans_N=self.scans_N,
            pool_T=self.pool_T,
            expert_E=expert_E,
            class_E=class_E[known],
            group_E=[self.group[image_id] for image_id in expert_E.image_id.to_pylist()],
            uniform_E=uniform_E,
            judges_E=judges_E,
            graph_TT=self.graph_TT,
            rejected_R=rejected.keep(rejected.among(self.pool_T)),
            group_T=self.group_T,
            weight_E=self._weights(expert_E, uniform_E),
            reports=reports,
        )

    def _weights(self, expert_E: ScanRows, uniform_E: np.ndarray) -> np.ndarray | None:
        """What each uniformly drawn label counts, so that each part of a grown pool has its share; None: all alike.

        The mean over the labels stays 1. A part that has no such label yet counts as the others do together.
        """
        part_T = record.part_of(self.folder, self.pool_T.image_id)
        if not part_T.any() or not uniform_E.any():
            return None
        part_E = record.part_of(self.folder, expert_E.image_id)
        num_S = np.bincount(part_E[uniform_E], minlength=int(part_T.max()) + 1)
        share_S = np.where(num_S > 0, np.bincount(part_T, minlength=len(num_S)), 0.0)
        weight_S = share_S / share_S.sum() * num_S.sum() / np.maximum(num_S, 1)
        return np.asarray(weight_S[part_E])
