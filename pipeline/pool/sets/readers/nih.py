"""NIH ChestX-ray14: `Data_Entry_2017*.csv`, files anywhere below (`images_001/images/` ...), boxes, the owner's split.

Wang et al., ChestX-ray8, CVPR 2017: labels are mined from reports. `A|B` names what is there, the rest is absent.
"""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.contracts.errors import InputError
from pipeline.contracts.healthy_class import is_negative
from pipeline.pool.sets.public_set import NLP_ON_REPORT, PRESENT, UNKNOWN, SetFolder, SetScans
from pipeline.pool.sets.set_tables import coded, columns, constant, rows
from pipeline.tables.columns import compact

TITLE = "NIH ChestX-ray14"
FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Hernia",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pleural_Thickening",
    "Pneumonia",
    "Pneumothorax",
)
_SPELLINGS = {compact(name): name for name in FINDINGS}
_LISTS = {"train": "train_val_list.txt", "test": "test_list.txt"}


def read(folder: SetFolder) -> SetScans:
    """The set's table; see `public_set.Reader`."""
    path = folder.need(TITLE, "Data_Entry_2017*.csv*", "sample_labels.csv*")
    needed = ("Image Index", "Finding Labels", "Patient ID")
    cells = columns(folder, path, needed, ("Patient Age", "Patient Gender", "Patient Sex", "View Position"))
    file_N = cells["Image Index"]
    about = {"patient_id": cells["Patient ID"], "source": constant("nih-chestx-ray14", len(file_N))}
    names = (("Patient Age", "age"), ("Patient Gender", "sex"), ("Patient Sex", "sex"), ("View Position", "view"))
    about |= {known: cells[own] for own, known in names if own in cells}
    present_NC = _present(cells["Finding Labels"], f"{folder.root}/{path}")
    _add_boxes(folder, file_N, present_NC)
    split = _split(folder, file_N)
    return SetScans(
        title=TITLE,
        file_N=file_N,
        findings=FINDINGS,
        present_NC=present_NC,
        about=about | ({} if split is None else {"official_split": split}),
        provenance_N=constant(NLP_ON_REPORT, len(file_N)),
    )


def _present(lists: pa.ChunkedArray, where: str) -> NDArray[np.int8]:
    """(N, 14) of `A|B` and `No Finding`."""
    texts, code_N = coded(lists)
    present_TC = np.zeros((len(texts), len(FINDINGS)), np.int8)
    for row, text in zip(present_TC, texts, strict=True):
        for written in [] if text is None or is_negative(text) else re.split(r"[|;,]", text):
            name = _SPELLINGS.get(compact(written))
            if name is None:
                raise InputError(
                    "the table names a finding that the set does not have",
                    value=written,
                    where=where,
                    fix="use the table as its owner ships it, or give it as a manifest of your own",
                )
            row[FINDINGS.index(name)] = PRESENT
        if text is None:
            row[:] = UNKNOWN
    return present_TC[code_N]


def _add_boxes(folder: SetFolder, file_N: pa.ChunkedArray, present_NC: NDArray[np.int8]) -> None:
    """What a radiologist drew a box around is present (`BBox_List_2017.csv`, 984 boxes of 880 scans)."""
    path = folder.find("BBox_List_2017.csv*")
    if path is None:
        return
    boxes = [(row[0], row[1]) for row in rows(folder, path) if len(row) > 1]
    places = pc.index_in(pa.array([file for file, _ in boxes], pa.string()), value_set=file_N.combine_chunks())
    for place, (_, label) in zip(places.to_pylist(), boxes, strict=True):
        name = {"Infiltrate": "Infiltration"}.get(label, label)
        if place is not None and name in FINDINGS:
            present_NC[place, FINDINGS.index(name)] = PRESENT


def _split(folder: SetFolder, file_N: pa.ChunkedArray) -> pa.ChunkedArray | None:
    split = None
    for name, own in _LISTS.items():
        path = folder.find(own)
        if path is not None:
            listed = pa.array(folder.read(path).decode("utf-8-sig").split(), pa.string())
            part = pc.if_else(pc.is_in(file_N, value_set=listed), name, pa.scalar(None, pa.string()))
            split = part if split is None else pc.coalesce(split, part)
    return split
