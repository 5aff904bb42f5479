"""One task: scans read, embedded and predicted as `predict` does, with all that streams are made of.

Legend: N scans, Q leading features, X pixels of a thumbnail.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.audit.picture_facts import GRID
from pipeline.monitor import picture_facts
from pipeline.pool.reading import Read
from pipeline.predict import columns, predictor, scan_shard
from pipeline.predict.scan_shard import Shard

# Of the file, or of what the pool says of it.
CATEGORIES = ("source", "population", "sex", "view", "manufacturer", "format")
NUMBERS = ("age_years", "width_px", "height_px", "bit_depth")
PATIENT = "patient"  # known only while a batch is compared: never written


def schema(findings: Sequence[str]) -> pa.Schema:
    """The columns of `predict`, then metadata, picture facts, features and thumbnail."""
    return pa.schema(
        [
            *columns.schema(findings),
            pa.field(PATIENT, pa.string()),
            *(pa.field(name, pa.string()) for name in CATEGORIES),
            *(pa.field(name, pa.float64()) for name in (*NUMBERS, *picture_facts.FACTS)),
            pa.field("features", pa.list_(pa.float32())),
            pa.field("thumbnail", pa.list_(pa.float32(), GRID * GRID)),
        ]
    )


def observe_shard(shard: Shard) -> pa.Table:
    """The rows of a shard, in its order; of an unusable scan only what its file says."""
    model = predictor.load(shard.recipe)
    rows: list[dict[str, Any]] = []
    for batch in scan_shard.read_ahead(shard):
        usable = []
        for row, read in batch:
            if read is not None:
                row |= _of_the_file(read)
                if read.square_SS is not None:
                    usable.append((row, read.square_SS))
            rows.append(row)
        if usable:
            observe([row for row, _ in usable], [square_SS for _, square_SS in usable], model)
    return pa.Table.from_pylist(rows, schema=schema(model.findings))


def observe(rows: list[dict[str, Any]], squares: list[np.ndarray], model: predictor.Predictor) -> None:
    """Write into rows what the model and a look at the picture say of squares that networks see."""
    predicted = model.predict(np.stack(squares)[:, None])
    scan_shard.fill(rows, predicted, model.findings)
    for row, square_SS, x_Q in zip(rows, squares, predicted.x_NQ, strict=True):
        row |= picture_facts.facts_of(square_SS)
        row |= {"features": x_Q.tolist(), "thumbnail": picture_facts.thumbnail(square_SS).tolist()}


def _of_the_file(read: Read) -> dict[str, Any]:
    """What the file says of its picture and its patient."""
    facts = {name: read.facts.get(name) for name in (*CATEGORIES, *NUMBERS) if read.facts.get(name) is not None}
    return facts | {PATIENT: read.facts.get("patient_id")}
