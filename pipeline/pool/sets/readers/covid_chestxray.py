"""covid-chestxray-dataset: `metadata.csv`, with pictures in `images/`; findings are paths, CT stands among X-rays.

Cohen et al., COVID-19 Image Data Collection, 2020. `Pneumonia/Viral/COVID-19` says that all three are there and all
others are not; `Pneumonia` alone leaves open which. `todo` and `Unknown` say nothing.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.contracts.healthy_class import is_negative
from pipeline.pool.sets.public_set import CASE_RECORD, PRESENT, UNKNOWN, SetFolder, SetScans
from pipeline.pool.sets.set_tables import coded, columns, constant

TITLE = "covid-chestxray-dataset"
USUAL = ("Pneumonia", "Viral", "Bacterial", "COVID-19")
_SILENT = frozenset({"todo", "unknown"})
_KNOWN = {"patientid": "patient_id", "sex": "sex", "age": "age", "view": "view"}
_XRAY = "X-ray"


def read(folder: SetFolder) -> SetScans:
    """The set's table; see `public_set.Reader`."""
    path = folder.need(TITLE, "metadata.csv*")
    cells = columns(folder, path, ("finding", "filename"), ("folder", "modality", *_KNOWN))
    num, left_out = len(cells["finding"]), {}
    if "modality" in cells:
        is_xray = pc.fill_null(pc.equal(pc.utf8_lower(cells["modality"]), _XRAY.lower()), True)
        cells = {name: column.filter(is_xray) for name, column in cells.items()}
        left_out = {"another modality than X-ray": num - len(cells["finding"])}
    file_N = cells["filename"]
    if "folder" in cells:
        file_N = pc.coalesce(pc.binary_join_element_wise(cells["folder"], file_N, "/"), file_N)
    findings, present_NC, class_N = _present(cells["finding"])
    about = {known: cells[own] for own, known in _KNOWN.items() if own in cells}
    return SetScans(
        title=TITLE,
        file_N=file_N,
        findings=findings,
        present_NC=present_NC,
        about=about | {"source": constant("covid-chestxray", len(file_N))},
        provenance_N=constant(CASE_RECORD, len(file_N)),
        usual=tuple(name for name in USUAL if name in findings) or None,
        class_N=class_N,
        left_out={reason: number for reason, number in left_out.items() if number},
    )


def _present(column: pa.ChunkedArray) -> tuple[tuple[str, ...], NDArray[np.int8], pa.ChunkedArray]:
    """The parts of all paths, what is known of each (N, C), and the path itself as a class (N)."""
    texts, code_N = coded(column)
    paths = [tuple(part.strip() for part in text.split("/")) if text is not None else () for text in texts]
    paths = [() if path and path[0].lower() in _SILENT else path for path in paths]
    findings = tuple(sorted({part for path in paths for part in path if not is_negative(part)}))
    place = {name: c for c, name in enumerate(findings)}
    present_TC = np.zeros((len(texts), len(findings)), np.int8)
    for row, path in zip(present_TC, paths, strict=True):
        if not path:
            row[:] = UNKNOWN
            continue
        deeper = {part for other in paths if other[: len(path)] == path for part in other[len(path) :]}
        row[[place[part] for part in deeper if part in place]] = UNKNOWN
        row[[place[part] for part in path if part in place]] = PRESENT
    classes = pa.array(["/".join(path) or None for path in paths], pa.string())
    return findings, present_TC[code_N], pa.chunked_array([classes.take(pa.array(code_N))])
