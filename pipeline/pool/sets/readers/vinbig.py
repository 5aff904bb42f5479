"""VinDr-CXR: Kaggle's `train.csv` (a row a box and reader) and PhysioNet's `image_labels_*.csv` (a row a reader).

Nguyen et al., VinDr-CXR, Scientific Data 2022. Three radiologists read each scan of the training part by themselves:
each is a reading here, and the label is what two of them say. Five agreed on the test part: its tables name no reader.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.pool.sets.public_set import ON_SCAN, PRESENT, UNKNOWN, Readings, SetFolder, SetScans
from pipeline.pool.sets.readings import majority_of, readings_of
from pipeline.pool.sets.set_tables import Columns, coded, columns, constant, header, signs

TITLE = "VinDr-CXR"
_NOTHING = "no finding"
_PARTS = {
    "train": ("image_labels_train.csv*", "annotations_train.csv*", "vinbigdata-train.csv*", "train.csv*"),
    "test": ("image_labels_test.csv*", "annotations_test.csv*"),
}


def read(folder: SetFolder) -> SetScans:
    """The set's tables; see `public_set.Reader`."""
    paths = {part: next((p for name in names if (p := folder.find(name))), None) for part, names in _PARTS.items()}
    parts = {part: _part(folder, path) for part, path in paths.items() if path is not None}
    if not parts:
        folder.need(TITLE, "image_labels_train.csv*", "annotations_train.csv*", "train.csv*")
    findings = tuple(sorted({name for _, names, _ in parts.values() for name in names}))
    ids: list[str] = []
    splits: list[str] = []
    present, readings = [], []
    for part, (scans, names, of_part) in parts.items():
        in_all = [findings.index(name) for name in names]
        said_RC = np.full((len(of_part.scan_R), len(findings)), UNKNOWN, np.int8)
        said_RC[:, in_all] = of_part.present_RC
        present.append(majority_of(of_part.scan_R, said_RC, len(scans)))
        known = np.asarray(pc.is_valid(of_part.reader_R))
        readings.append((of_part.scan_R[known] + len(ids), of_part.reader_R.filter(pa.array(known)), said_RC[known]))
        ids += scans
        splits += [part] * len(scans)
    scan_R, reader_R, present_RC = (list(parts_of) for parts_of in zip(*readings, strict=True))
    every = Readings(np.concatenate(scan_R), pa.concat_arrays(reader_R), np.concatenate(present_RC))
    return SetScans(
        title=TITLE,
        file_N=pa.chunked_array([pa.array(ids, pa.string())]),
        findings=findings,
        present_NC=np.concatenate(present),
        about={
            "source": constant("vindr-cxr", len(ids)),
            "official_split": pa.chunked_array([pa.array(splits, pa.string())]),
        },
        provenance_N=constant(ON_SCAN, len(ids)),
        readings=every if len(every.scan_R) else None,
    )


def _part(folder: SetFolder, path: str) -> tuple[list[str], list[str], Readings]:
    """Scans, findings and readings of one table; a reader that is not named is null."""
    if "class_name" in header(folder, path):
        cells = columns(folder, path, ("image_id", "class_name"), ("rad_id",))
        findings, present_NC = _of_boxes(cells["class_name"])
    else:
        names = [name for name in header(folder, path) if name not in ("image_id", "rad_id", "")]
        cells = columns(folder, path, ("image_id", *names), ("rad_id",))
        findings, present_NC = _of_columns({name: cells[name] for name in names}, f"{folder.root}/{path}")
    return _scans(cells, findings, present_NC)


def _scans(cells: Columns, findings: list[str], present_NC: NDArray[np.int8]) -> tuple[list[str], list[str], Readings]:
    scans, scan_N = coded(cells["image_id"])
    reader = cells.get("rad_id", constant(None, len(scan_N)))
    return scans, findings, readings_of(scan_N, reader, present_NC)


def _of_boxes(class_name: pa.ChunkedArray) -> tuple[list[str], NDArray[np.int8]]:
    """A box names one finding; a reader who saw none has one row that says so."""
    classes, code_N = coded(class_name)
    findings = sorted(str(name) for name in classes if name is not None and str(name).lower() != _NOTHING)
    present_KC = np.zeros((len(classes), len(findings)), np.int8)
    for row, name in zip(present_KC, classes, strict=True):
        if name in findings:
            row[findings.index(name)] = PRESENT
    return findings, present_KC[code_N]


def _of_columns(cells: Mapping[str, pa.ChunkedArray], where: str) -> tuple[list[str], NDArray[np.int8]]:
    findings = [name for name in cells if name.lower() != _NOTHING]
    present_NC, _ = signs({name: cells[name] for name in findings}, where)
    return findings, present_NC
