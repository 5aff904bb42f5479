"""PadChest: one table of 160,861 pictures; `Labels` is a printed Python list, `MethodLabel` tells who made it.

Bustos et al., PadChest, Medical Image Analysis 2020. `normal` says that nothing else is there. `unchanged` speaks of an
earlier picture that the reader does not have: what the row does not name stays unknown, and so it does after `exclude`
and `suboptimal study`.
"""

import ast
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.contracts import finding_line
from pipeline.contracts.errors import InputError
from pipeline.pool import vocabulary
from pipeline.pool.sets.public_set import (
    ABSENT,
    NETWORK_ON_REPORT,
    ON_REPORT,
    PRESENT,
    UNKNOWN,
    SetFolder,
    SetScans,
)
from pipeline.pool.sets.set_tables import coded, columns, constant

TITLE = "PadChest"
# Of 190 labels those that name what ChestX-ray14 asks for; `pool.findings` may name any others.
USUAL = (
    "atelectasis",
    "cardiomegaly",
    "consolidation",
    "emphysema",
    "hiatal hernia",
    "infiltrates",
    "nodule",
    "pleural effusion",
    "pleural thickening",
    "pneumonia",
    "pneumothorax",
    "pulmonary edema",
    "pulmonary fibrosis",
    "pulmonary mass",
)
_NORMAL = "normal"
_PLAIN = re.compile(r"\[(?:'[^'\\]*'(?:, '[^'\\]*')*)?\]")
_NAME = re.compile(r"'([^'\\]*)'")
_RESERVED = str.maketrans(dict.fromkeys(finding_line.RESERVED, " "))
_SILENT = frozenset({"unchanged", "exclude", "suboptimal study"})  # after these, not to be named says nothing
_NEEDED = ("ImageID", "PatientID", "Projection", "MethodLabel", "Labels")
_WANTED = ("StudyDate_DICOM", "PatientBirth", "PatientSex_DICOM")
_BY = {"Physician": ON_REPORT, "RNN_model": NETWORK_ON_REPORT}
_EXCLUDED = "its owner marks the projection EXCLUDE"


def read(folder: SetFolder) -> SetScans:
    """The set's table; see `public_set.Reader`."""
    path = folder.need(
        TITLE, "PADCHEST_chest_x_ray_images_labels*.csv*", "padchest*.csv*", "chest_x_ray_images_labels*"
    )
    cells = columns(folder, path, _NEEDED, _WANTED)
    keep = pc.fill_null(pc.not_equal(cells["Projection"], "EXCLUDE"), True)
    num_excluded = len(keep) - (pc.sum(keep).as_py() or 0)
    cells = {name: column.filter(keep) for name, column in cells.items()}
    findings, present_NC = _present(cells["Labels"], f"{folder.root}/{path}")
    about = {"patient_id": cells["PatientID"], "view": cells["Projection"]}
    if "PatientSex_DICOM" in cells:
        about["sex"] = cells["PatientSex_DICOM"]
    if {"StudyDate_DICOM", "PatientBirth"} <= cells.keys():
        about["age"] = _ages(cells["StudyDate_DICOM"], cells["PatientBirth"])
    methods, method_N = coded(cells["MethodLabel"])
    who = pa.array([_BY.get(str(method), method) for method in methods], pa.string())
    return SetScans(
        title=TITLE,
        file_N=cells["ImageID"],
        findings=findings,
        present_NC=present_NC,
        about=about | {"source": constant("padchest", len(cells["ImageID"]))},
        provenance_N=pa.chunked_array([who.take(pa.array(method_N))]),
        usual=USUAL,
        left_out={_EXCLUDED: num_excluded} if num_excluded else {},
    )


def labels_of(text: str) -> list[str]:
    """The labels of a printed Python list, blanks in them made single, empty ones left out.

    Raises:
        ValueError: it is no such list.
    """
    try:
        plain = _PLAIN.fullmatch(text)  # as nearly all are: a tenth of the time
        parts = _NAME.findall(text) if plain else ast.literal_eval(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ValueError(f"not a printed list: {text[:80]!r}") from error
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise ValueError(f"not a printed list of names: {text[:80]!r}")
    return [name for part in parts if (name := " ".join(part.translate(_RESERVED).split()))]


def _present(lists: pa.ChunkedArray, where: str) -> tuple[tuple[str, ...], NDArray[np.int8]]:
    """All names in the lists, the usual ones always among them, and what is known of each (N, C)."""
    texts, code_N = coded(lists)
    try:
        named = [labels_of(text) if text is not None else [] for text in texts]
    except ValueError as error:
        raise InputError(str(error), where=where, fix="use the table as its owner ships it") from error
    findings = tuple(sorted({*USUAL, *(name for names in named for name in names)} - {_NORMAL, *_SILENT}))
    place = {name: c for c, name in enumerate(findings)}
    present_TC = np.full((len(texts), len(findings)), UNKNOWN, np.int8)
    for row, names in zip(present_TC, named, strict=True):
        if names and not _SILENT & set(names):
            row[:] = ABSENT
        row[[place[name] for name in names if name in place]] = PRESENT
    return findings, present_TC[code_N]


def _ages(date: pa.ChunkedArray, birth: pa.ChunkedArray) -> pa.ChunkedArray:
    """Years between the year of birth and that of the study, as text."""
    year, born = (vocabulary.by_value(column, _year, pa.int32()) for column in (date, birth))
    return pc.subtract(year, born).cast(pa.string())


def _year(text: str) -> int | None:
    return int(text[:4]) if re.match(r"\d{4}", text) else None
