"""Shenzhen and Montgomery County: no table; the last digit of a file's name is the label, a text file tells the rest.

Jaeger et al., Quantitative Imaging in Medicine and Surgery 2014. `CHNCXR_0001_0.png` has no tuberculosis and
`ClinicalReadings/CHNCXR_0001_0.txt` says `male 45yrs`; Montgomery's texts say `Patient's Sex: F` and `Age: 040Y`.
"""

import re

import numpy as np
import pyarrow as pa

from pipeline.contracts.errors import InputError
from pipeline.pool.sets.files import images_of
from pipeline.pool.sets.public_set import ON_SCAN, SetFolder, SetScans
from pipeline.pool.sets.set_tables import constant

_SEX = re.compile(r"\b(female|male|f|m)\b", re.IGNORECASE)
_AGE = re.compile(r"(\d+)\s*(y|m|w|d)", re.IGNORECASE)  # of 45yrs, 040Y, 8month


def read_shenzhen(folder: SetFolder) -> SetScans:
    """The Shenzhen Hospital set; see `public_set.Reader`."""
    return _read(folder, "Shenzhen", "CHNCXR")


def read_montgomery(folder: SetFolder) -> SetScans:
    """The Montgomery County set; see `public_set.Reader`."""
    return _read(folder, "Montgomery County", "MCUCXR")


def _read(folder: SetFolder, title: str, prefix: str) -> SetScans:
    name = re.compile(rf"({prefix}_\d+)_([01])\.\w+")
    matches = {path: match for path in images_of(folder) if (match := name.fullmatch(path.rpartition("/")[2]))}
    if not matches:
        raise InputError(
            f"no scan of the {title} set is in this folder: no file is called {prefix}_0001_0.png or the like",
            where=folder.root,
            fix="point pool.uri at the folder that the set was unpacked to",
        )
    texts = {path.rpartition("/")[2].lower(): path for path in folder.find_all(f"{prefix}_*.txt")}
    text_N = [
        folder.read(texts[own]).decode("utf-8", errors="replace")
        if (own := f"{match[0].rpartition('.')[0]}.txt".lower()) in texts
        else ""
        for match in matches.values()
    ]
    ages = [f"{match[1]}{match[2]}" if (match := _AGE.search(text)) else None for text in text_N]
    sexes = [match[1] if (match := _SEX.search(text)) else None for text in text_N]
    num = len(matches)
    return SetScans(
        title=title,
        file_N=_column(list(matches)),
        findings=("tuberculosis",),
        present_NC=np.array([[int(match[2])] for match in matches.values()], np.int8),
        about={
            "patient_id": _column([match[1] for match in matches.values()]),
            "age": _column(ages),
            "sex": _column(sexes),
            "view": constant("PA", num),
            "source": constant(title.partition(" ")[0].lower(), num),
        },
        provenance_N=constant(ON_SCAN, num),
    )


def _column(values: list[str] | list[str | None]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, pa.string())])
