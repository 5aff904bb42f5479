"""What patient ids look like as the pool writes them: spelled in several ways, or the names of files.

Only here are they known; the manifest holds pseudonyms. What is kept of them is as little as the audit needs.
"""

import re
from collections.abc import Callable
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

_NUMBERED = re.compile(r"(?:(?:patient|pat|pt|subject|subj|sub|person|case|id|p)[\s_.#:-]*)?0*(\d+)")
_BETWEEN = re.compile(r"[\s_.-]+")


def normal_form(patient: str) -> str:
    """`P00012`, `pat-12` and `12` -> `12`; what holds more than a number loses case, blanks and strokes alone."""
    plain = patient.strip().casefold()
    numbered = _NUMBERED.fullmatch(plain)
    return numbered[1] if numbered else _BETWEEN.sub("", plain)


def forms_of(
    patients: pa.ChunkedArray,
    pseudonyms: pa.Array,
    paths: pa.ChunkedArray,
    hide: Callable[[pa.ChunkedArray], pa.Array],
) -> pa.Table:
    """Of each id its pseudonym, that of its normal form, whether it is a file's name: `patient_forms.parquet`.

    Args:
        patients: Ids as written; null unknown.
        pseudonyms: Of the ids, in the same order.
        paths: Of the scans.
        hide: Makes pseudonyms.
    """
    is_name: dict[str, bool] = {}
    for patient, path in zip(patients.to_pylist(), paths.to_pylist(), strict=True):
        if patient is not None:
            file = PurePosixPath(path)
            is_name[patient] = is_name.get(patient, True) and patient in (file.stem, file.name, path)
    known = pa.array(list(is_name), pa.string())
    forms = pa.array([normal_form(patient) for patient in is_name], pa.string())
    columns = {
        "patient_id": pseudonyms.take(pc.index_in(known, patients.combine_chunks())),
        "form": hide(pa.chunked_array([forms])),
        "is_file_name": pa.array(list(is_name.values()), pa.bool_()),
    }
    return pa.table(columns)
