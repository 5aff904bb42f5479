"""A run's scans as its rounds see them: what does not change from round to round."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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
        splits: Side and patient group of every scan of the manifest: columns image_id, split, group_id.
        scans_N: Every scan with a vector, in the order of the run's features.
        pool_T: Those of the training pool, in the order of the neighbour graph.
        pool_labels: The labels that came with the pool, see `POOL_LABELS`.
    """

    folder: Path
    findings: tuple[str, ...]
    splits: pa.Table
    scans_N: ScanRows
    pool_T: ScanRows
    pool_labels: pa.Table

    @classmethod
    def open(cls, ctx: StageContext) -> "Dataset":
        """Read the tables of the stages before."""
        scans_N = ScanRows.of(Vectors.open(ctx.folder).ids)
        splits = run_files.read(ctx.folder, SPLIT_TABLE, ["image_id", "group_id", "split"])
        train = ScanRows.of(train_ids(splits))
        return cls(
            folder=ctx.folder,
            findings=findings_of(ctx),
            splits=splits,
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
        return self._groups(self.pool_T)

    @cached_property
    def x_NP(self) -> np.ndarray:
        """Features, memory-mapped."""
        return principal_components.load(self.folder)

    def sides(self, scans: ScanRows) -> pa.ChunkedArray:
        """`train`, `holdout` or `excluded` of each scan; null of one that the manifest does not have."""
        return self._of_splits("split", scans)

    def _groups(self, scans: ScanRows) -> np.ndarray:
        """Patient group of each scan, as objects; scans of a group share one."""
        group = self._of_splits("group_id", scans)
        names = pc.unique(group)
        return np.array(names.to_pylist(), dtype=object)[np.asarray(pc.index_in(group, value_set=names), np.int64)]

    def _of_splits(self, column: str, scans: ScanRows) -> pa.ChunkedArray:
        place = pc.index_in(scans.image_id, value_set=self.splits["image_id"].combine_chunks())
        return self.splits[column].take(place)

    def train_ids(self) -> pa.ChunkedArray:
        """Every scan of the training pool, in the manifest's order."""
        return train_ids(self.splits)

    def pool_answers(self) -> list[Answer]:
        """Labels that came with the training pool."""
        labels = self.pool_labels
        is_train = pc.is_in(labels["image_id"], value_set=self.train_ids().combine_chunks())
        known = labels.filter(pc.and_(is_train, pc.is_valid(labels["label"])))
        pairs = zip(known["image_id"].to_pylist(), known["label"].to_pylist(), strict=True)
        return [Answer(image_id, label, POOL, 0) for image_id, label in pairs]

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
            group_E=self._groups(expert_E).tolist(),
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
