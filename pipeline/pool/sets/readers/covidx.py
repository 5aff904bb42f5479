"""COVIDx: text files of `patient file class source`, one a part (`train_COVIDx9A.txt` ...), blanks between.

Wang et al., COVID-Net, Scientific Reports 2020. Its A-lists have normal, pneumonia and COVID-19; its B-lists positive
and negative. The set is made of others, whose labels come from case records.
"""

import re

import numpy as np
import pyarrow as pa

from pipeline.contracts.errors import InputError
from pipeline.contracts.healthy_class import is_negative
from pipeline.pool.sets.public_set import CASE_RECORD, PRESENT, SetFolder, SetScans
from pipeline.pool.sets.set_tables import coded, constant

TITLE = "COVIDx"
COVID = "COVID-19"
_PART = re.compile(r"(train|val|test)(.*)\.txt", re.IGNORECASE)
_LINE = re.compile(r"(\S+)\s+(\S.*\S)\s+(\S+)\s+(\S+)")  # a file's name may hold blanks, the others do not


def read(folder: SetFolder) -> SetScans:
    """The set's lists; see `public_set.Reader`."""
    rows = [(part, *line) for part, path in _lists(folder).items() for line in _lines(folder, path)]
    parts, patients, files, classes, sources = (
        pa.chunked_array([pa.array(column, pa.string())]) for column in zip(*rows, strict=True)
    )
    names, code_N = coded(classes)
    is_binary = {name.lower() for name in names} <= {"positive", "negative"}
    meant = [_meant(name, is_binary) for name in names]
    findings = tuple(sorted({name for name in meant if not is_negative(name) and name != f"no {COVID}"}))
    present_KC = np.array([[PRESENT * (name == finding) for finding in findings] for name in meant], np.int8)
    return SetScans(
        title=TITLE,
        file_N=pa.chunked_array([pa.array([f"{row[0]}/{row[2]}" for row in rows], pa.string())]),
        findings=findings,
        present_NC=present_KC[code_N],
        about={"patient_id": patients, "source": sources, "official_split": parts},
        provenance_N=constant(CASE_RECORD, len(rows)),
        class_N=pa.chunked_array([pa.array(meant, pa.string()).take(pa.array(code_N))]),
        other_file_N=files,
    )


def _lists(folder: SetFolder) -> dict[str, str]:
    """Part to its list; where several versions lie there, those of the last."""
    versions: dict[str, dict[str, str]] = {}
    for path in reversed(folder.find_all("train*.txt", "val*.txt", "test*.txt")):
        match = _PART.fullmatch(path.rpartition("/")[2])
        if match is not None:
            versions.setdefault(match[2], {})[match[1].lower()] = path
    if not versions:
        folder.need(TITLE, "train*.txt", "test*.txt")
    return dict(sorted(versions[max(versions)].items()))


def _lines(folder: SetFolder, path: str) -> list[tuple[str, ...]]:
    lines = folder.read(path).decode("utf-8-sig").splitlines()
    matches = [(number, _LINE.fullmatch(line.strip())) for number, line in enumerate(lines, 1) if line.strip()]
    strange = [number for number, match in matches if match is None]
    if strange or not matches:
        raise InputError(
            f"line {strange[0]} does not name a patient, a file, a class and a source" if strange else "it is empty",
            where=f"{folder.root}/{path}",
            fix="use the list as its owner ships it",
        )
    return [match.groups() for _, match in matches if match is not None]


def _meant(name: str, is_binary: bool) -> str:
    """A class under one name, whatever the version of the list."""
    if is_binary:
        return COVID if name.lower() == "positive" else f"no {COVID}"
    return COVID if name.lower() in ("covid-19", "covid19", "covid") else name
