"""The tables of the parts that have joined, behind those of the run's own pool.

Shapes: N scans.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.contracts.tables import MANIFEST, POOL_LABELS, POOL_READINGS
from pipeline.runtime import run_files
from pipeline.runtime.growth import record


@dataclass(frozen=True)
class Tables:
    """What the manifest stage writes of scans.

    Attributes:
        manifest: Rows of the `MANIFEST` contract.
        labels: Of `POOL_LABELS`.
        split_keys: Columns image_id and split_key.
        readings: Of `POOL_READINGS`.
        patient_forms: One row an id, see `pipeline.pool.listing.patient_forms`.
    """

    manifest: pa.Table
    labels: pa.Table
    split_keys: pa.Table
    readings: pa.Table
    patient_forms: pa.Table


def with_parts(folder: Path, own: Tables) -> tuple[Tables, np.ndarray]:
    """The tables of a run's own pool and of what has joined it, and the part of each scan (N,).

    A scan that came before, by path and content, is left out: it keeps its first row.
    """
    kept, part_N = [own], np.zeros(len(own.manifest), np.int64)
    seen = own.manifest["image_id"].combine_chunks()
    for part in record.parts(folder):
        listed = _of_part(record.part_folder(folder, part.part), seen)
        kept.append(listed)
        seen = pa.concat_arrays([seen, listed.manifest["image_id"].combine_chunks()])
        part_N = np.concatenate([part_N, np.full(len(listed.manifest), part.part)])
    if len(kept) == 1:
        return own, part_N
    joined = {name: pa.concat_tables([getattr(listed, name) for listed in kept]) for name in _TABLES}
    forms = joined["patient_forms"]
    first = np.unique(forms["patient_id"].to_numpy(zero_copy_only=False).astype(str), return_index=True)[1]
    return Tables(**joined | {"patient_forms": forms.take(pa.array(np.sort(first)))}), part_N


_TABLES = tuple(field.name for field in fields(Tables))


def _of_part(place: Path, seen: pa.Array) -> Tables:
    manifest = run_files.read(place, MANIFEST)
    manifest = manifest.filter(pc.invert(pc.is_in(manifest["image_id"], value_set=seen)))
    ids = manifest["image_id"].combine_chunks()

    def own(table: pa.Table) -> pa.Table:
        return table.filter(pc.is_in(table["image_id"], value_set=ids))

    has_readings = (place / POOL_READINGS.file).exists()
    readings = run_files.read(place, POOL_READINGS) if has_readings else POOL_READINGS.empty()
    keys = pq.read_table(place / run_files.SPLIT_KEYS, partitioning=None)
    forms = pq.read_table(place / run_files.PATIENT_FORMS, partitioning=None)
    return Tables(manifest, own(POOL_LABELS.read(place)), own(keys), own(readings), forms)
