"""A pool as simulated histories see it: features, classes, patients, and the sealed holdout; one file a pool."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.healthy_class import healthy_among
from pipeline.contracts.tables import DUPLICATES, POOL_LABELS, SPLIT_TABLE, write_bytes
from pipeline.labels.classes import findings_of
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.vectors import principal_components
from pipeline.vectors.matrix import Vectors

# T labelled scans of the training pool, one of each picture; H labelled scans of the holdout; P features, C classes


@dataclass(frozen=True)
class BenchPool:
    """What a simulated expert is asked from, and what the classifier is tested on.

    Attributes:
        findings: C classes.
        x_TP: Features of the training pool, which the classifier sees, float32.
        similar_TP: By which its scans are alike, which the strategies see, float32.
        class_T: Their true classes.
        group_T: Their patient groups.
        x_HP: Features of the holdout, float32.
        similar_HP: By which its scans are like those of the pool, float32.
        class_H: Their true classes.
    """

    findings: tuple[str, ...]
    x_TP: np.ndarray
    similar_TP: np.ndarray
    class_T: np.ndarray
    group_T: np.ndarray
    x_HP: np.ndarray
    similar_HP: np.ndarray
    class_H: np.ndarray

    def thinned(self, share: float, rng: np.random.Generator) -> "BenchPool":
        """The pool with its rarest class that is not healthy cut down to a share of the training pool.

        Args:
            share: Of the training pool, 0 to 1; a class that is rarer stays as it is, and one scan stays always.
            rng: Draws the scans that stay.
        """
        count_C = np.bincount(self.class_T, minlength=len(self.findings))
        healthy = healthy_among(self.findings)
        ill = [c for c, finding in enumerate(self.findings) if finding not in healthy and count_C[c]]
        rare = min(ill or np.flatnonzero(count_C).tolist(), key=lambda c: count_C[c])
        others = np.flatnonzero(self.class_T != rare)
        num = max(1, min(round(share / (1 - share) * len(others)), int(count_C[rare])))
        kept = np.sort(np.concatenate([others, rng.choice(np.flatnonzero(self.class_T == rare), num, replace=False)]))
        return replace(
            self,
            x_TP=self.x_TP[kept],
            similar_TP=self.similar_TP[kept],
            class_T=self.class_T[kept],
            group_T=self.group_T[kept],
        )


def write(ctx: StageContext, path: Path) -> None:
    """Gather a pool from what the stages up to the clusters have left in the folder."""
    from safetensors.numpy import save

    findings = findings_of(ctx)
    vectors = Vectors.open(ctx.folder)
    x_NP, similar_NP = principal_components.load(ctx.folder), principal_components.load_similarity(ctx.folder)
    truth = POOL_LABELS.read(ctx.folder)
    copies = run_files.read(ctx.folder, DUPLICATES)
    splits = run_files.read(ctx.folder, SPLIT_TABLE)
    splits = splits.append_column("label", truth["label"].take(_rows(splits, truth)))
    splits = splits.append_column("canonical_id", copies["canonical_id"].take(_rows(splits, copies)))
    splits = splits.filter(pc.and_(pc.is_valid(splits["label"]), vectors.has(splits["image_id"])))
    train = splits.filter(pc.equal(splits["split"], "train"))
    train = train.take(pa.array(_first_of_each(train["canonical_id"])))
    holdout = splits.filter(pc.equal(splits["split"], "holdout"))
    names = pa.array(findings, pa.string())
    arrays = {
        "x_TP": np.asarray(x_NP[vectors.positions(train["image_id"])]),
        "similar_TP": np.asarray(similar_NP[vectors.positions(train["image_id"])]),
        "class_T": np.asarray(pc.index_in(train["label"], value_set=names), np.int64),
        "group_T": np.asarray(pc.index_in(train["group_id"], pc.unique(train["group_id"])), np.int64),
        "x_HP": np.asarray(x_NP[vectors.positions(holdout["image_id"])]),
        "similar_HP": np.asarray(similar_NP[vectors.positions(holdout["image_id"])]),
        "class_H": np.asarray(pc.index_in(holdout["label"], value_set=names), np.int64),
    }
    write_bytes(path, save(arrays, {"findings": "\n".join(findings)}))


@lru_cache(maxsize=2)
def load(path: Path) -> BenchPool:
    """Read what `write` wrote."""
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        findings = tuple(file.metadata()["findings"].split("\n"))
        return BenchPool(findings, **{name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118


def _rows(table: pa.Table, other: pa.Table) -> pa.Array:
    """Row of `other` for each image_id of `table`."""
    return pc.index_in(table["image_id"], value_set=other["image_id"].combine_chunks())


def _first_of_each(canonical: pa.ChunkedArray) -> np.ndarray:
    return np.sort(np.unique(canonical.to_numpy(zero_copy_only=False).astype(str), return_index=True)[1])
