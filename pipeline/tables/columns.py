"""Which column is meant: blanks, case, `_` and `-` in a name do not matter; what only looks alike is named."""

import difflib
import unicodedata
from collections.abc import Sequence

from pipeline.contracts.errors import InputError

# What people call the known columns; a hint in messages, never read without being asked.
OTHER_NAMES = {
    "image_path": "path file filepath filename file_name image img image_file image_name fpath imageid image_id "
    "imageindex dicom_path png_path jpg_path dicomid scan",
    "label": "labels class class_name classname classes finding findings finding_labels diagnosis dx target category "
    "disease pathology ground_truth gt y",
    "patient_id": "pat_id pat_no patient patient_no patient_number patientnr subject subject_id subjectid mrn pid "
    "person person_id case_id deid_patient_id medical_record_number",
    "source": "hospital site institution institute centre center dataset data_source clinic origin",
    "population": "cohort group",
    "age": "patient_age age_years age_in_years years age_at_study patientage",
    "sex": "gender patient_sex patient_gender patientsex sex_dicom",
    "view": "view_position viewposition projection ap_pa position orientation",
    "official_split": "split set fold subset partition data_split phase",
    "image_id": "id image scan",
    "annotator": "reader rater radiologist labeller labeler physician user name doctor",
    "certainty": "confidence sure certain",
}


def plain(name: str) -> str:
    """A column's name as it is compared: blanks around it, its case and the form of its letters do not matter."""
    return " ".join(unicodedata.normalize("NFKC", name).replace("\ufeff", "").split()).casefold()


def compact(name: str) -> str:
    """The same with letters and digits alone: `Patient ID` and `patient_id` are one."""
    return "".join(c for c in plain(name) if c.isalnum() or unicodedata.category(c).startswith("M"))


def find(header: Sequence[str], wanted: str, where: str) -> int | None:
    """The place of a column: the very name, else the one that differs in blanks, case and `_` alone; None: none.

    Raises:
        InputError: the name stands twice, or two others differ from it so.
    """
    for key in (str, plain, compact):
        places = [i for i, name in enumerate(header) if key(name) == key(wanted)]
        if len(places) > 1:
            own = sorted({header[i] for i in places})
            what = f"columns {own} stand twice in the header" if len(own) == 1 else f"each of {own} could be {wanted!r}"
            raise InputError(what, where=where, fix="rename one of them")
        if places:
            return places[0]
    return None


def others_alike(header: Sequence[str], place: int) -> list[str]:
    """Columns beside the one that is read that could as well be meant: `Label` beside `label`."""
    own = compact(header[place])
    return [name for i, name in enumerate(header) if i != place and compact(name) == own]


def near(wanted: str, header: Sequence[str]) -> str | None:
    """A column that looks like the one wanted, or is called what others call it."""
    names = {compact(name): name for name in reversed(header) if name.strip()}
    others = {compact(other): None for other in OTHER_NAMES.get(wanted, "").split()}
    for other in others:
        if other in names:
            return names[other]
    close = difflib.get_close_matches(compact(wanted), list(names), n=1, cutoff=0.8)
    return names[close[0]] if close else None
