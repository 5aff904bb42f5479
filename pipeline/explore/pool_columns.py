"""What is known of scans before anybody has labelled one: source, view, age, split, cluster, copies, audit.

Legend: N embedded scans.
"""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.tables import CLUSTERS, DUPLICATES, MANIFEST, SPLIT_TABLE, Contract
from pipeline.explore.columns import Column, aligned, category, flag, floats, is_among, number
from pipeline.runtime import run_files

OF_A_SCAN = ("source", "view", "sex", "population", "manufacturer", "laterality")
ABOUT_LABELS = ("label-conflict",)  # checks whose examples tell that two labels differ


def of_pool(folder: Path, ids_N: pa.Array) -> dict[str, Column]:
    """Columns of the manifest, the split, the clusters and the copies, as far as the run has come."""
    names = [*OF_A_SCAN, "age_years"]
    manifest = aligned(run_files.read(folder, MANIFEST, ["image_id", *names]), ids_N, names)
    columns: dict[str, Column] = {}
    if _has(folder, SPLIT_TABLE):
        splits = aligned(run_files.read(folder, SPLIT_TABLE, ["image_id", "split"]), ids_N, ["split"])
        columns["split"] = category("split", "pool", splits["split"])
    for name in OF_A_SCAN:
        if _known(manifest[name]).null_count < len(manifest):
            columns[name] = category(name, "scan", _known(manifest[name]))
    if manifest["age_years"].null_count < len(manifest):
        columns["age_years"] = number("age, years", "scan", floats(manifest["age_years"]))
    if _has(folder, CLUSTERS):
        clusters = aligned(run_files.read(folder, CLUSTERS, ["image_id", "cluster"]), ids_N, ["cluster"])
        columns["cluster"] = category("cluster", "pool", clusters["cluster"])
    if _has(folder, DUPLICATES):
        columns["copies"] = _copies(run_files.read(folder, DUPLICATES, ["image_id", "canonical_id", "kind"]), ids_N)
    return columns


def pictures(folder: Path, ids_N: pa.Array) -> np.ndarray:
    """Number of the picture that each scan is a copy of (N,), int64; without a list of copies each is its own."""
    if not _has(folder, DUPLICATES):
        return np.arange(len(ids_N))
    duplicates = run_files.read(folder, DUPLICATES, ["image_id", "canonical_id"])
    canonical = aligned(duplicates, ids_N, ["canonical_id"])["canonical_id"].combine_chunks()
    return np.asarray(pc.dictionary_encode(canonical).indices.to_numpy(zero_copy_only=False), np.int64)


def of_audit(folder: Path, ids_N: pa.Array) -> dict[str, Column]:
    """A column of yes and no for each check of the audit that names scans; it names examples, not always all."""
    path = run_files.path(folder, run_files.AUDIT)
    if not path.exists():
        return {}
    columns = {}
    for check in json.loads(path.read_text("utf-8")).get("checks", []):
        named = [row["image_id"] for row in check.get("evidence") or () if row.get("image_id")]
        is_N = is_among(ids_N, named)
        if is_N.any():
            meaning = f"named by the audit's check {check['id']} ({check['severity']}), which names examples"
            title = f"audit: {check.get('title') or check['id']}"
            num_all = check.get("count") or 0
            title += f" ({is_N.sum()} examples of {num_all:,})" if num_all > len(named) else ""
            tells = check["id"] in ABOUT_LABELS
            columns[f"audit.{check['id']}"] = flag(title, "audit", is_N, meaning, about_labels=tells)
    return columns


def _known(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Words of the manifest, null where one says that it is not known."""
    return pc.if_else(pc.equal(pc.utf8_lower(values), "unknown"), pa.scalar(None, pa.string()), values)


def _copies(duplicates: pa.Table, ids_N: pa.Array) -> Column:
    """none, exact or near; the scan that others are copies of has the kind of its copies."""
    copies = duplicates.filter(pc.not_equal(duplicates["kind"], "unique"))
    kind = dict(zip(copies["canonical_id"].to_pylist(), copies["kind"].to_pylist(), strict=True))
    kind |= dict(zip(copies["image_id"].to_pylist(), copies["kind"].to_pylist(), strict=True))
    place = pc.index_in(ids_N, value_set=pa.array(list(kind), pa.string()))
    words = pc.fill_null(pa.array(list(kind.values()), pa.string()).take(place), "none")
    return category("copies", "pool", words, "the same picture again, to the byte or nearly")


def _has(folder: Path, table: Contract) -> bool:
    """Whether the run has come to a table."""
    return run_files.path(folder, table.file).exists()
