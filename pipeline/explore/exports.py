"""A choice of scans as a table to take away: what is known of them, or a manifest that other programs and we can read.

What is sealed is empty in the one; a manifest, whose addresses may name the class of a scan, leaves the holdout out.

Legend: n rows of the table.
"""

import csv
import io
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from embeddings.decoding.files import place_of
from pipeline.contracts.options.scans import PoolConfig
from pipeline.contracts.spreadsheet import defused
from pipeline.contracts.tables import MANIFEST
from pipeline.explore.columns import aligned
from pipeline.explore.scan_table import ScanTable
from pipeline.pool.burned_in import scans as burned_in
from pipeline.runtime import run_files

log = logging.getLogger(__name__)

# Of the manifest, and as a pool's manifest calls it.
POOL_NAMES = {
    "patient_id": "patient_id",
    "source": "source",
    "view": "view",
    "age_years": "age",
    "sex": "sex",
    "population": "population",
}


def as_csv(table: ScanTable, rows: np.ndarray) -> str:
    """One line a scan: its id and every column of the page, in the order of `rows`."""
    columns = {column.title: column for column in table.columns.values()}
    texts = ([column.text(int(row)) or "" for column in columns.values()] for row in rows)
    lines = ([image_id, *cells] for image_id, cells in zip(table.ids(rows), texts, strict=True))
    return _csv(["image_id", *columns], lines)


def as_manifest(folder: Path, table: ScanTable, rows: np.ndarray, pool: PoolConfig) -> str:
    """One line a scan that is not sealed: where it lies, who the patient is, what experts said of it so far.

    Scans with text burnt in are left out unless `pool.allow_burned_in_text` is set.
    """
    rows = rows[~table.sealed_N[rows]]
    ids = table.ids(rows)
    kept_back = burned_in.kept_back(folder, pool, ids)
    if kept_back:
        log.warning("%d of %d scans are left out, for text seems to be burnt into them", len(kept_back), len(ids))
        rows = rows[[image_id not in kept_back for image_id in ids]]
    names = ["uri", *POOL_NAMES]
    scans = aligned(
        run_files.read(folder, MANIFEST, ["image_id", *names]), pa.array(table.ids(rows), pa.string()), names
    ).to_pylist()
    label = table.columns.get("label")
    lines = (
        [
            place_of(scan["uri"]),
            (label.text(int(row)) if label else None) or "",
            *("" if scan[name] in (None, "unknown") else str(scan[name]) for name in POOL_NAMES),
        ]
        for row, scan in zip(rows, scans, strict=True)
    )
    return _csv(["image_path", "label", *POOL_NAMES.values()], lines)


def _csv(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow([defused(cell) for cell in header])
    writer.writerows([defused(cell) for cell in line] for line in lines)
    return sink.getvalue()
