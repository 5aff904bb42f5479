"""A folder as the stages before the audit leave it, from a few words a scan; no picture is decoded."""

import numpy as np
import pyarrow as pa

from pipeline.audit.audited_pool import open_subject
from pipeline.contracts import config_file
from pipeline.contracts.tables import DUPLICATES, MANIFEST, POOL_LABELS, SPLIT_TABLE
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from pipeline.vectors.matrix import save_ids


def scan(number, **known):
    """One scan; what is not said is unknown, its patient is its own."""
    return {
        "image_id": f"{number:016x}",
        "patient_id": f"p{number}",
        "source": "site-a",
        "population": None,
        "sex": "F",
        "view": "PA",
        "age_years": 50.0,
        "label": None,
        "pool_split": None,
        "split": None,
        "copy_of": None,
        "kind": "unique",
        "status": "ok",
        "reason": None,
        "note": None,
        "format": "PNG",
    } | known


def many(count, start=0, **known):
    """Scans of as many patients; a callable value is asked with the scan's number."""
    return [
        scan(start + i, **{key: value(start + i) if callable(value) else value for key, value in known.items()})
        for i in range(count)
    ]


def context(folder, rows, *, emb_ND=None, **overrides):
    """Write the tables of these scans and return their context."""
    folder.mkdir(parents=True, exist_ok=True)
    column = {name: [row[name] for row in rows] for name in rows[0]}
    ids = column["image_id"]
    of = dict(zip(ids, rows, strict=True))
    group = {}
    for row in rows:
        first = row["copy_of"] or row["image_id"]
        group[row["image_id"]] = f"g{of[first]['patient_id'] or first}"
    MANIFEST.write(
        folder,
        pa.table(
            {name: [None] * len(ids) for name in MANIFEST.schema.names}
            | {
                "image_id": ids,
                "uri": [f"/nowhere/{i}.png" for i in ids],
                "path": [f"{i}.png" for i in ids],
                "sha256": ids,
                "phash": ["0" * 16] * len(ids),
                "width_px": [64] * len(ids),
                "height_px": [64] * len(ids),
                "bit_depth": [8] * len(ids),
                **{
                    name: column[name]
                    for name in (
                        "view",
                        "patient_id",
                        "source",
                        "population",
                        "age_years",
                        "sex",
                        "status",
                        "reason",
                        "note",
                        "format",
                    )
                },
            },
            schema=MANIFEST.schema,
        ),
    )
    POOL_LABELS.write(
        folder,
        pa.table(
            {"image_id": ids, "label": column["label"], "pool_split": column["pool_split"]}, schema=POOL_LABELS.schema
        ),
    )
    DUPLICATES.write(
        folder,
        pa.table(
            {
                "image_id": ids,
                "group_id": [group[i] for i in ids],
                "canonical_id": [row["copy_of"] or row["image_id"] for row in rows],
                "kind": column["kind"],
                "distance_bits": [None] * len(ids),
                "change": [None] * len(ids),
            },
            schema=DUPLICATES.schema,
        ),
    )
    if any(column["split"]):
        SPLIT_TABLE.write(
            folder,
            pa.table(
                {
                    "image_id": ids,
                    "group_id": [group[i] for i in ids],
                    "split": column["split"],
                    "reason": [None] * len(ids),
                },
                schema=SPLIT_TABLE.schema,
            ),
        )
    if emb_ND is not None:
        np.save(folder / run_files.EMBEDDINGS, np.asarray(emb_ND, np.float16))
        save_ids(folder, pa.array([row["image_id"] for row in rows if row["status"] == "ok"]))
    settings = {"pool.uri": "made-up", "engine.backend": "serial", "audit.num_bootstrap": 50} | overrides
    return StageContext(config_file.load(None, settings), folder, SerialEngine())


def subject(folder, rows, **given):
    """The subject of these scans."""
    return open_subject(context(folder, rows, **given))
