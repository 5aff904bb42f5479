"""A small run directory as the stages before the rounds leave it: gaussian classes instead of embedded scans.

Nothing is decoded but one tiny picture, which stands for every scan, so rounds take milliseconds.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.contracts import config_file
from pipeline.contracts.config import Config
from pipeline.contracts.tables import DUPLICATES, MANIFEST, POOL_LABELS, SPLIT_TABLE, write_text
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from pipeline.vectors import clusters
from pipeline.vectors.matrix import save_ids

FINDINGS = ("normal", "pneumonia", "covid")


@dataclass(frozen=True)
class Synthetic:
    """A run and what it hides.

    Attributes:
        ctx: Ready for `selection`, `rounds` and what they call.
        truth: Class of every scan by image_id.
        patient: Group of every scan.
        split: train, holdout or excluded.
        duplicates: image_ids that are copies of another scan.
    """

    ctx: StageContext
    truth: dict[str, str]
    patient: dict[str, str]
    split: dict[str, str]
    duplicates: set[str]

    @property
    def folder(self):
        return self.ctx.folder

    def ids(self, split):
        return [image_id for image_id, side in self.split.items() if side == split]

    def table(self, truth=None):
        """Rewrite what the pool says; a scan that `truth` leaves out has no label."""
        truth = self.truth if truth is None else truth
        ids = list(self.truth)
        columns = {"image_id": ids, "label": [truth.get(i) for i in ids], "pool_split": [None] * len(ids)}
        POOL_LABELS.write(self.folder, pa.table(columns, schema=POOL_LABELS.schema))


def image_id(number, seed=0):
    return hashlib.sha256(f"{seed}/{number}".encode()).hexdigest()[:16]


def synthetic_run(
    folder: Path,
    *,
    num_scans=240,
    num_classes=2,
    scans_per_patient=1,
    num_quarantined=0,
    num_copies=0,
    num_holdout=60,
    distance=3.0,
    dim=12,
    seed=0,
    oracle=True,
    labelled=("train", "holdout"),
    **options,
) -> Synthetic:
    """Write the tables.

    Args:
        folder: The run directory.
        num_scans: Decodable scans, copies included; then `num_quarantined` more.
        num_classes: 2 or 3 gaussian blobs of unit variance in each of `dim` dimensions.
        scans_per_patient: Consecutive scans of one patient.
        num_copies: The last so many train scans are copies of the first ones, in their groups.
        num_holdout: The first so many scans are sealed.
        distance: Of the class centres from the middle.
        labelled: Splits in which the pool brings labels.
        options: Dotted options of the configuration with `__` for the dot.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)).save(folder / "scan.png")
    total = num_scans + num_quarantined
    ids = [image_id(i, seed) for i in range(total)]
    class_N = rng.integers(num_classes, size=total)
    emb_ND = 5.0 + rng.normal(size=(total, dim))
    emb_ND[np.arange(total), class_N] += distance * np.sqrt(2)
    patient = [f"p{i // scans_per_patient:04d}" for i in range(total)]
    split = ["holdout" if i < num_holdout else "train" for i in range(num_scans)] + ["excluded"] * num_quarantined
    canonical = list(ids)
    copies = {num_scans - 1 - k: num_holdout + k for k in range(num_copies)}
    for copy, first in copies.items():
        canonical[copy], patient[copy] = ids[first], patient[first]
        emb_ND[copy], class_N[copy] = emb_ND[first], class_N[first]

    broken = [i >= num_scans for i in range(total)]
    manifest = {name: [None] * total for name in MANIFEST.schema.names} | {
        "image_id": ids,
        "uri": [str(folder / "scan.png")] * total,
        "path": [f"secretfolder/{FINDINGS[c]}/{i}.png" for i, c in zip(ids, class_N, strict=True)],
        "sha256": [hashlib.sha256(i.encode()).hexdigest() for i in canonical],
        "view": ["PA"] * total,
        "patient_id": patient,
        "status": ["quarantined" if b else "ok" for b in broken],
        "reason": ["truncated" if b else None for b in broken],
    }
    MANIFEST.write(folder, pa.table(manifest, schema=MANIFEST.schema))
    DUPLICATES.write(
        folder,
        pa.table(
            {
                "image_id": ids,
                "group_id": patient,
                "canonical_id": canonical,
                "kind": ["exact" if i in copies else "unique" for i in range(total)],
                "distance_bits": [0 if i in copies else None for i in range(total)],
                "change": [None] * total,
            },
            schema=DUPLICATES.schema,
        ),
    )
    SPLIT_TABLE.write(
        folder,
        pa.table(
            {"image_id": ids, "group_id": patient, "split": split, "reason": [None] * total},
            schema=SPLIT_TABLE.schema,
        ),
    )
    np.save(folder / run_files.EMBEDDINGS, emb_ND[:num_scans].astype(np.float16))
    save_ids(folder, pa.array(ids[:num_scans]))
    write_text(folder / "backbone.json", json.dumps({"name": "gaussians", "dim": dim}))
    fast = {"oracle": oracle, "evaluate.num_bootstrap": 20, "train.max_epochs": 20, "stop.advise": False}
    fast |= {"engine.backend": "serial"}
    given = {key.replace("__", "."): value for key, value in options.items()}
    config = config_file.load(None, {"pool.findings": list(FINDINGS[:num_classes]), **fast, **given})
    ctx = StageContext(config, folder, SerialEngine())
    found = Synthetic(
        ctx=ctx,
        truth=dict(zip(ids, (FINDINGS[c] for c in class_N), strict=True)),
        patient=dict(zip(ids, patient, strict=True)),
        split=dict(zip(ids, split, strict=True)),
        duplicates={ids[i] for i in copies},
    )
    found.table({i: c for i, c in found.truth.items() if found.split[i] in labelled})
    clusters.run(ctx)
    return found


def options(run: Synthetic, **changed) -> StageContext:
    """The same run with other options, `__` for the dot."""
    tree = json.loads(run.ctx.config.model_dump_json())
    for dotted, value in changed.items():
        *parents, last = dotted.split("__")
        node = tree
        for name in parents:
            node = node[name]
        node[last] = value
    return StageContext(Config.model_validate_json(json.dumps(tree)), run.folder, run.ctx.engine)
