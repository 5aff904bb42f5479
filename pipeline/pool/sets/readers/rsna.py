"""RSNA Pneumonia Detection Challenge 2018: `stage_2_train_labels.csv`, a row a box.

Shih et al., Radiology: Artificial Intelligence 2019. Its `patientId` names a picture, not a person: the pictures are of
ChestX-ray14, where one person has several. Who is who stands in `pneumonia-challenge-dataset-mappings_2018.json` and
is taken from there where it lies beside the table; without it the patients are unknown.
"""

import json

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.errors import InputError
from pipeline.pool.sets.public_set import ON_SCAN, SetFolder, SetScans
from pipeline.pool.sets.readings import majority_of, readings_of
from pipeline.pool.sets.set_tables import coded, columns, constant, signs

TITLE = "RSNA Pneumonia"
_HEADERS = {"PatientAge": "age", "PatientSex": "sex", "ViewPosition": "view"}


def read(folder: SetFolder) -> SetScans:
    """The set's table; see `public_set.Reader`."""
    path = folder.need(TITLE, "*stage_2_train_labels.csv*", "*stage_1_train_labels.csv*")
    cells = columns(folder, path, ("patientId", "Target"))
    pictures, picture_T = coded(cells["patientId"])
    target_T1, _ = signs({"Target": cells["Target"]}, f"{folder.root}/{path}")
    rows = readings_of(picture_T, constant(None, len(picture_T)), target_T1)
    file_N = pa.chunked_array([pa.array(pictures, pa.string())])
    about = {"source": constant("rsna-pneumonia", len(file_N))} | _tags(folder, file_N)
    people = folder.find("pneumonia-challenge-dataset-mappings*.json")
    if people is not None:
        about["patient_id"] = _people(folder, people, pictures)
    return SetScans(
        title=TITLE,
        file_N=file_N,
        findings=("pneumonia",),
        present_NC=majority_of(rows.scan_R, rows.present_RC, len(pictures)),
        about=about,
        provenance_N=constant(ON_SCAN, len(file_N)),
    )


def _tags(folder: SetFolder, file_N: pa.ChunkedArray) -> dict[str, pa.ChunkedArray]:
    """Age, sex and view from a table of DICOM tags where one lies there; else they come from the files."""
    path = folder.find("*stage_2_train_images_dicom_headers.csv*")
    if path is None:
        return {}
    cells = columns(folder, path, ("PatientID",), tuple(_HEADERS))
    place = pc.index_in(file_N, value_set=cells["PatientID"].combine_chunks())
    return {known: cells[own].take(place) for own, known in _HEADERS.items() if own in cells}


def _people(folder: SetFolder, path: str, pictures: list[str]) -> pa.ChunkedArray:
    """The person of each picture: the number that ChestX-ray14 gives, before `_` in the name of its own picture."""
    try:
        rows = json.loads(folder.read(path))
        person = {row["subset_img_id"]: row["img_id"].partition("_")[0] for row in rows}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"the set's table of persons cannot be read: {error!r}",
            where=f"{folder.root}/{path}",
            fix="download it again",
        ) from error
    return pa.chunked_array([pa.array([person.get(picture) for picture in pictures], pa.string())])
