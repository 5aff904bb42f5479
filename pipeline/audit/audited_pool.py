"""What is audited: the usable scans of a pool, one row each, with all that is known of them.

Legend: N usable scans, D dimensions of the embedding.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.contracts.config import Config
from pipeline.contracts.tables import CLUSTERS, DUPLICATES, MANIFEST, POOL_LABELS, SPLIT_TABLE
from pipeline.labels import label_table, verdicts
from pipeline.labels.holdout import sealed_classes
from pipeline.pool.splits import refuse_unknown_names, uses_own_split
from pipeline.pool.vocabulary import HOLDOUT_NAMES, VALIDATION_NAMES
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.vectors.matrix import Vectors

Names = NDArray[np.object_]  # text or None
AGE_BANDS = ((0, 2), (2, 18), (18, 40), (40, 65), (65, 121))
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Subject:
    """The scans of a pool as the checks see them.

    Attributes:
        ctx: Configuration, folder, randomness.
        scans: Manifest rows of the N usable scans.
        num_files: Rows of the manifest, broken ones too.
        reason_counts: Why files are quarantined, and how many.
        rejected_counts: Why experts hold scans to be no good, and how many.
        label_N: The experts' label, else the pool's; of sealed scans see `holdout.sealed_classes`; None unknown.
        answered_N: Whether an expert (or a pool that is not an oracle's) has labelled it for training.
        side_N: train, val or test: the pool's own split before any repair, else the run's; None without one.
        drawn: The split was drawn by us, by group.
        split_N: train, holdout or excluded in the run; None where no split was made.
        change_N: How a near copy differs from the first scan of its picture; None of all others.
    """

    ctx: StageContext
    scans: pa.Table
    num_files: int
    reason_counts: dict[str, int]
    rejected_counts: dict[str, int]
    label_N: Names
    answered_N: NDArray[np.bool_]
    side_N: Names
    drawn: bool
    split_N: Names
    group_N: Names
    canonical_N: Names
    kind_N: Names
    change_N: Names

    @property
    def config(self) -> Config:
        """The run's configuration."""
        return self.ctx.config

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.ctx.folder

    def __len__(self) -> int:
        return len(self.scans)

    def rng(self, name: str) -> np.random.Generator:
        """Randomness of one check."""
        return self.ctx.rng(f"audit/{name}")

    @cached_property
    def image_id_N(self) -> Names:
        """Identity of each scan."""
        return self._column("image_id")

    @cached_property
    def uri_N(self) -> Names:
        """Where each scan is read from."""
        return self._column("uri")

    @cached_property
    def sha256_N(self) -> Names:
        """Content of each scan's file."""
        return self._column("sha256")

    @cached_property
    def path_N(self) -> Names:
        """Path inside the pool, for people."""
        return self._column("path")

    @cached_property
    def patient_N(self) -> Names:
        """Hashed patient id; None unknown."""
        return self._column("patient_id")

    @cached_property
    def source_N(self) -> Names:
        """Who supplied the scan; None unknown."""
        return self._column("source")

    @cached_property
    def population_N(self) -> Names:
        """The population as the pool names it; None unknown."""
        return self._column("population")

    @cached_property
    def sex_N(self) -> Names:
        """M, F; None unknown."""
        return self._column("sex")

    @cached_property
    def view_N(self) -> Names:
        """PA, AP, LL or unknown."""
        return self._column("view")

    @cached_property
    def format_N(self) -> Names:
        """Format of each scan's file, such as DICOM or PNG."""
        return self._column("format")

    @cached_property
    def age_N(self) -> NDArray[np.float32]:
        """Age in years; NaN unknown."""
        return np.asarray(pc.fill_null(self.scans["age_years"], np.nan), dtype=np.float32)

    @cached_property
    def turned_N(self) -> NDArray[np.int64]:
        """By how many degrees a scan lies turned against its pool: 0, 90, 180 or 270."""
        from pipeline.audit.orientation import turned_degrees
        from pipeline.pool.duplicates import hash_bytes

        turned_N = np.zeros(len(self), np.int64)
        hashed = np.flatnonzero(np.asarray(pc.is_valid(self.scans["picture_hash"])))
        turned_N[hashed] = turned_degrees(hash_bytes(self.scans["picture_hash"].take(pa.array(hashed))))
        return turned_N

    @cached_property
    def age_band_N(self) -> Names:
        """Age band such as `18-39`; None unknown."""
        band_N: Names = np.full(len(self), None, dtype=object)
        for low, high in AGE_BANDS:
            band_N[(self.age_N >= low) & (self.age_N < high)] = f"{low}-{high - 1}" if high < 121 else f"{low}+"
        return band_N

    @cached_property
    def cluster_N(self) -> Names:
        """Embedding cluster; None where clusters were not computed."""
        if not run_files.path(self.folder, CLUSTERS.file).exists():
            return np.full(len(self), None, dtype=object)
        table = run_files.read(self.folder, CLUSTERS)
        place = pc.index_in(self.scans["image_id"], value_set=table["image_id"].combine_chunks())
        return _objects(table["cluster"].take(place).cast(pa.string()))

    @cached_property
    def findings(self) -> tuple[str, ...]:
        """The classes that have a label, in a fixed order with a healthy one first."""
        from pipeline.contracts.healthy_class import healthy_first
        from pipeline.labels.classes import asked_for

        labels = {label for label in self.label_N if label is not None}
        if self.config.pool.finding is not None:
            return tuple(name for name in asked_for(self.config.pool) if name in labels)
        return healthy_first(sorted(labels), self.config.pool.positive)

    @cached_property
    def labelled(self) -> NDArray[np.int64]:
        """Rows of known label."""
        return np.flatnonzero([label is not None for label in self.label_N])

    @cached_property
    def person_N(self) -> Names:
        """The unit that is counted as one person: a patient, with all copies of the patient's pictures."""
        return self.group_N

    @cached_property
    def has_emb_N(self) -> NDArray[np.bool_]:
        """Whether a scan has an embedding."""
        if self._vectors is None:
            return np.zeros(len(self), np.bool_)
        return np.asarray(self._vectors.has(self.scans["image_id"]).to_numpy(zero_copy_only=False))

    def embeddings(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The backbone's own embeddings of these rows, (len(rows), D); every one must have one."""
        assert self._vectors is not None
        return self.features(rows)[:, : self._vectors.own_dim]

    def features(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """All that the run keeps of these rows (`embed.features`), (len(rows), D); every one must have a vector."""
        assert self._vectors is not None
        places = self._vectors.positions(self.scans["image_id"].take(pa.array(rows)))
        assert len(places) == len(rows)
        return np.asarray(self._vectors.emb_ND[places], dtype=np.float32)

    @cached_property
    def emb_ND(self) -> NDArray[np.float32]:
        """All own embeddings; rows without one are 0."""
        out = np.zeros((len(self), 0 if self._vectors is None else self._vectors.own_dim), np.float32)
        rows = np.flatnonzero(self.has_emb_N)
        if len(rows):
            out[rows] = self.embeddings(rows)
        return out

    def components(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Features of these rows for a linear probe: the run's principal components where it has them."""
        from pipeline.audit import probes
        from pipeline.vectors import principal_components

        assert self._vectors is not None
        if not run_files.path(self.folder, run_files.FEATURES).exists():
            return probes.components(self.embeddings(rows))
        places = self._vectors.positions(self.scans["image_id"].take(pa.array(rows)))
        return np.asarray(principal_components.load(self.folder)[places, : probes.NUM_COMPONENTS], dtype=np.float64)

    @cached_property
    def _vectors(self) -> Vectors | None:
        return Vectors.open(self.folder) if run_files.path(self.folder, run_files.EMBEDDED).exists() else None

    def sample(self, rows: NDArray[np.int64], name: str, limit: int | None = None) -> NDArray[np.int64]:
        """At most `limit` of the rows, else `audit.max_scans`: groups at random, every class with its share or more.

        Small classes are kept whole as far as they fit, because it is they that a probe starves of.
        """
        limit = self.config.audit.max_scans if limit is None else limit
        if len(rows) <= limit:
            return rows
        order_N = self.rng(f"sample/{name}").permutation(len(rows))
        classes, class_R = np.unique(self.label_N[rows].astype(str), return_inverse=True)
        quota_C = _quotas(np.bincount(class_R, minlength=len(classes)), limit)
        _, group_R = np.unique(self.group_N[rows].astype(str), return_inverse=True)
        rank_G = np.full(group_R.max() + 1, len(rows))
        np.minimum.at(rank_G, group_R[order_N], np.arange(len(rows)))
        kept = []
        for c in range(len(classes)):
            of_class = np.flatnonzero(class_R == c)
            kept.append(of_class[np.argsort(rank_G[group_R[of_class]], kind="stable")[: quota_C[c]]])
        return np.sort(rows[np.concatenate(kept)])

    def evidence(
        self, rows: Sequence[int] | NDArray[np.int64], note: str | Sequence[str]
    ) -> tuple[dict[str, Any], ...]:
        """Rows of a check's evidence."""
        notes = [note] * len(rows) if isinstance(note, str) else list(note)
        return tuple(
            {"image_id": str(self.image_id_N[row]), "note": text} for row, text in zip(rows, notes, strict=True)
        )

    def labels_hash(self) -> str:
        """Changes when a label becomes known or changes."""
        text = "\n".join(f"{i} {label}" for i, label in zip(self.image_id_N, self.label_N, strict=True))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _column(self, name: str) -> Names:
        return _objects(self.scans[name])


def open_subject(ctx: StageContext) -> Subject:
    """Read what the stages before have left in the folder.

    Raises:
        InputError: the pool's split has unknown names.
    """
    manifest = run_files.read(ctx.folder, MANIFEST)
    usable = np.asarray(pc.equal(manifest["status"], "ok"))
    rows = pa.array(np.flatnonzero(usable))
    scans = manifest.take(rows)
    truth = POOL_LABELS.read(ctx.folder).take(rows)
    copies = run_files.read(ctx.folder, DUPLICATES).take(rows)
    split_N = _run_split(ctx.folder, scans)
    own = uses_own_split(ctx.config.splits, truth["pool_split"])
    if own:
        refuse_unknown_names(truth["pool_split"])
    reasons = pc.value_counts(manifest["reason"].drop_null()).to_pylist()
    label_N, answered_N = _labels(ctx, scans, truth, split_N)
    return Subject(
        ctx=ctx,
        scans=scans,
        num_files=len(manifest),
        reason_counts={row["values"]: row["counts"] for row in reasons},
        rejected_counts=dict(Counter(verdicts.rejections(label_table.read(ctx.folder)).values())),
        label_N=label_N,
        answered_N=answered_N,
        side_N=_sides(truth["pool_split"]) if own else _sides_of_run(split_N),
        drawn=not own,
        split_N=split_N,
        group_N=_objects(copies["group_id"]),
        canonical_N=_objects(copies["canonical_id"]),
        kind_N=_objects(copies["kind"]),
        change_N=_objects(copies["change"]),
    )


def known(values_N: Names) -> NDArray[np.bool_]:
    """Where a value is known."""
    return np.array([value is not None and value != UNKNOWN for value in values_N], dtype=np.bool_)


def named(values_N: Names) -> Names:
    """The values, with a word for what is not known."""
    return np.array([UNKNOWN if value is None else value for value in values_N], dtype=object)


def _objects(column: pa.ChunkedArray) -> Names:
    return np.array(column.to_pylist(), dtype=object) if len(column) else np.empty(0, dtype=object)


def _labels(ctx: StageContext, scans: pa.Table, truth: pa.Table, split_N: Names) -> tuple[Names, NDArray[np.bool_]]:
    """Label of each scan, and whether it was given for training; of sealed scans as `evaluate` takes them."""
    ids = scans["image_id"].to_pylist()
    label_N = _objects(truth["label"])
    given_N = np.array([False if ctx.config.oracle else label is not None for label in label_N], dtype=np.bool_)
    table = label_table.read(ctx.folder)
    findings = tuple(sorted({*table["finding"].to_pylist(), *label_N} - {None}))
    expert = verdicts.expert_classes(table, findings)
    of_pool = {i: label for i, label, split in zip(ids, label_N, split_N, strict=True) if split == "holdout"}
    sealed = sealed_classes(of_pool, table, findings)
    for i, image_id in enumerate(ids):
        answer = expert.get(image_id)
        given_N[i] |= answer is not None
        label_N[i] = sealed[image_id] if image_id in sealed else answer or label_N[i]
    return label_N, given_N


def _run_split(folder: Path, scans: pa.Table) -> Names:
    if not run_files.path(folder, SPLIT_TABLE.file).exists():
        return np.full(len(scans), None, dtype=object)
    table = run_files.read(folder, SPLIT_TABLE, ["image_id", "split"])
    place = pc.index_in(scans["image_id"], value_set=table["image_id"].combine_chunks())
    return _objects(table["split"].take(place))


def _sides(pool_split: pa.ChunkedArray) -> Names:
    def side(name: str | None) -> str:
        word = (name or "train").lower()  # as `splits.by_pool` reads a blank
        return "test" if word in HOLDOUT_NAMES else "val" if word in VALIDATION_NAMES else "train"

    return np.array([side(name) for name in pool_split.to_pylist()], dtype=object)


def _sides_of_run(split_N: Names) -> Names:
    words = {"train": "train", "holdout": "test"}
    return np.array([words.get(name) for name in split_N], dtype=object)


def _quotas(count_C: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """How many of each class: all of the small ones, the rest shared by the large ones."""
    quota_C = np.zeros_like(count_C)
    left, open_ = limit, list(np.argsort(count_C))
    while open_:
        c = open_.pop(0)
        quota_C[c] = min(int(count_C[c]), left // (len(open_) + 1))
        left -= int(quota_C[c])
    return quota_C
