"""CheXpert Plus: `df_chexpert_plus_*.csv`, with labels in `report_fixed.json` (or of findings, or of impressions).

Chambon et al., CheXpert Plus, 2024. The labels are those of CheXbert, a network that reads reports.
"""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.contracts.errors import InputError
from pipeline.pool.sets import labeler_columns
from pipeline.pool.sets.public_set import NETWORK_ON_REPORT, UNKNOWN, SetFolder, SetScans
from pipeline.pool.sets.set_tables import columns, constant

TITLE = "CheXpert Plus"
_LABELS = ("report_fixed.json*", "findings_fixed.json*", "impression_fixed.json*")  # the most that was read comes first
_PERSON = {"deid_patient_id": "patient_id", "age": "age", "sex": "sex", "split": "official_split"}


def read(folder: SetFolder) -> SetScans:
    """The set's table and its file of labels; see `public_set.Reader`."""
    path = folder.need(TITLE, "df_chexpert_plus*.csv*")
    cells = columns(folder, path, ("path_to_image",), ("frontal_lateral", "ap_pa", *_PERSON))
    file_N = cells["path_to_image"]
    labels = next((file for name in _LABELS if (file := folder.find(name))), None)
    if labels is None:
        present_NC, num_uncertain = np.full((len(file_N), len(labeler_columns.FINDINGS)), UNKNOWN, np.int8), 0
    else:
        present_NC, num_uncertain = _present(folder, labels, file_N)
    about = {known: cells[own] for own, known in _PERSON.items() if own in cells}
    if "frontal_lateral" in cells:
        is_lateral = pc.equal(cells["frontal_lateral"], "Lateral")
        about["view"] = pc.if_else(is_lateral, "LATERAL", cells.get("ap_pa", constant(None, len(file_N))))
    return SetScans(
        title=TITLE,
        file_N=file_N,
        findings=labeler_columns.FINDINGS,
        present_NC=present_NC,
        about=about | {"source": constant("chexpert-plus", len(file_N))},
        provenance_N=constant(NETWORK_ON_REPORT, len(file_N)),
        num_uncertain=num_uncertain,
        num_parts=3,
    )


def _present(folder: SetFolder, path: str, file_N: pa.ChunkedArray) -> tuple[NDArray[np.int8], int]:
    """What a file of labels says of each scan (N, 13): JSON, an object a line or all in a list."""
    where, text = f"{folder.root}/{path}", folder.read(path).decode("utf-8-sig").strip()
    try:
        rows = json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines() if line]
        place = {row["path_to_image"]: number for number, row in enumerate(rows)}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"the set's labels cannot be read: {error!r}", where=where, fix="download the file again"
        ) from error
    listed = {
        name: pa.chunked_array([pa.array([_cell(row.get(name)) for row in rows], pa.string())])
        for name in labeler_columns.COLUMNS
    }
    said_LC, num_uncertain = labeler_columns.present(listed, where)
    row_N = np.array([place.get(file, -1) for file in file_N.to_pylist()], np.int64)
    present_NC = np.full((len(row_N), said_LC.shape[1]), UNKNOWN, np.int8)
    present_NC[row_N >= 0] = said_LC[row_N[row_N >= 0]]
    return present_NC, num_uncertain


def _cell(value: object) -> str | None:
    return None if value is None or value != value else str(value)
