"""A run's scans as its rounds see them: what does not change from round to round."""

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
from pipeline.labels.training_labels import Heard
from pipeline.learn.material import Material
from pipeline.runtime.context import StageContext
from pipeline.vectors import neighbor_graph, principal_components
from pipeline.vectors.clusters import NEIGHBORS, train_ids
from pipeline.vectors.matrix import Vectors

# N scans with a vector, T of them in the training pool, E expert-labelled, P features


@dataclass(frozen=True)
class Dataset:
    """The scans of a run.

    Attributes:
        folder: Run directory.
        findings: C classes.
        split, group: Of every scan of the manifest.
        ids_N: image_id of every scan with a vector.
        train_T: Rows of the training pool among them.
        pool_labels: What the pool itself says.
    """

    folder: Path
    findings: tuple[str, ...]
    split: dict[str, str]
    group: dict[str, str]
    vectors: Vectors
    ids_N: np.ndarray
    train_T: np.ndarray
    pool_labels: pa.Table

    @classmethod
    def open(cls, ctx: StageContext) -> "Dataset":
        """Read the tables of the stages before."""
        vectors = Vectors.open(ctx.folder)
        splits = SPLIT_TABLE.read(ctx.folder)
        ids = splits["image_id"].to_pylist()
        return cls(
            folder=ctx.folder,
            findings=findings_of(ctx),
            split=dict(zip(ids, splits["split"].to_pylist(), strict=True)),
            group=dict(zip(ids, splits["group_id"].to_pylist(), strict=True)),
            vectors=vectors,
            ids_N=vectors.ids.to_numpy(zero_copy_only=False).astype(str),
            train_T=vectors.positions(train_ids(splits)),
            pool_labels=POOL_LABELS.read(ctx.folder),
        )

    @cached_property
    def graph_TT(self) -> Any:
        """Neighbour graph of the training pool."""
        return neighbor_graph.load(self.folder / NEIGHBORS)

    @cached_property
    def x_NP(self) -> np.ndarray:
        """Features, memory-mapped."""
        return principal_components.load(self.folder)

    def pool_answers(self) -> list[Answer]:
        """Labels that came with the training pool."""
        known = zip(self.pool_labels["image_id"].to_pylist(), self.pool_labels["label"].to_pylist(), strict=True)
        return [
            Answer(image_id, label, POOL, 0)
            for image_id, label in known
            if label is not None and self.split.get(image_id) == "train"
        ]

    def material(self, heard: Heard, uniform: set[str]) -> tuple[Material, list[str]]:
        """What a round learns from, and the ids of its expert-labelled training scans."""
        known = {i: f for i, f in heard.training.items() if self.split.get(i) == "train"}
        rejected = pa.array([i for i in heard.rejected if self.split.get(i) == "train"], pa.string())
        ids, class_E = verdicts.class_array(known, self.findings)
        has = self.vectors.has(pa.array(ids, pa.string())).to_numpy(zero_copy_only=False)
        ids = [image_id for image_id, found in zip(ids, has, strict=True) if found]
        return Material(
            folder=self.folder,
            train_T=self.train_T,
            expert_E=self.vectors.positions(ids),
            class_E=class_E[has],
            group_E=[self.group[image_id] for image_id in ids],
            uniform_E=np.array([image_id in uniform for image_id in ids], dtype=bool),
            graph_TT=self.graph_TT,
            rejected_R=self.vectors.positions(rejected),
        ), ids
