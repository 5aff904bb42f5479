"""Columns of the manifest from a DICOM file's tags; names, dates and ids stay behind, but for pseudonyms.

PS3.3 C.7.1.1 (patient), C.7.2.1 (study), C.8.1.1 (CR), C.8.11.1 (DX).
"""

import datetime as dt
import math
from typing import TYPE_CHECKING, Any

from pipeline.pool.dicom import words

if TYPE_CHECKING:
    from pydicom import Dataset

BURNED_IN = "text is burnt into it"
_NO_ID = "0"  # also written, once or several times, where there is no patient's id
_LATERALITIES = {"L": "L", "R": "R", "B": "B", "LEFT": "L", "RIGHT": "R"}
_LATERALS = frozenset({"LL", "RL", "LAT", "LATERAL", "LLAT", "RLAT", "L", "ML", "LM", "LEFTLATERAL", "RIGHTLATERAL"})
# Codes of views (PS3.16 CID 4010), SNOMED CT and the older SNOMED RT, for files that give no words with them.
_VIEW_CODES = {
    **dict.fromkeys(("272479007", "R-40888", "R-10214"), "PA"),
    **dict.fromkeys(("399348003", "R-10206"), "AP"),
    **dict.fromkeys(("399067008", "399173006", "399198007", "399260004", "399352003"), "LL"),
    **dict.fromkeys(("R-102CD", "R-10236", "R-10232", "R-10224", "R-10228"), "LL"),
}
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_DATES = {"StudyDate": "study date", "AcquisitionDate": "date", "PatientBirthDate": "birth date"}
_DAYS_A_YEAR = 365.25


def facts(dataset: "Dataset", salt: str) -> dict[str, Any]:
    """What the manifest takes from the tags; None where they do not say it.

    Args:
        dataset: The tags.
        salt: Of the hashes of patient, study and series.
    """
    return {
        "view": view(dataset),
        "laterality": _LATERALITIES.get((text(dataset, "ImageLaterality") or text(dataset, "Laterality")).upper()),
        "age_years": _age_years(dataset),
        "sex": {"M": "M", "F": "F"}.get(text(dataset, "PatientSex").upper()[:1]),
        "patient_id": hashed(patient(dataset), salt),
        "study_id": hashed(text(dataset, "StudyInstanceUID") or None, salt),
        "series_id": hashed(text(dataset, "SeriesInstanceUID") or None, salt),
        "manufacturer": text(dataset, "Manufacturer") or None,
        "pixel_spacing_mm": _spacing_mm(dataset),
        "note": "; ".join(_notes(dataset)) or None,
    }


def _notes(dataset: "Dataset") -> list[str]:
    """What a reader should know of the tags; no value of theirs."""
    return [*([BURNED_IN] if is_written_on(dataset) else []), *_impossible(dataset)]


def is_written_on(dataset: "Dataset") -> bool:
    """Whether the tags say that text is burnt into the picture: BurnedInAnnotation (0028,0301)."""
    return text(dataset, "BurnedInAnnotation").upper() == "YES"


def _impossible(dataset: "Dataset") -> list[str]:
    """Ages and dates that cannot be, by their names."""
    today = dt.datetime.now(dt.UTC).date()
    age = text(dataset, "PatientAge")
    notes = [f"the age in its tags {words.CANNOT_BE}"] if words.is_impossible_age(age) else []
    for name, what in _DATES.items():
        doubt = words.doubt_of_date(text(dataset, name), today, is_film=what != "birth date")
        notes += [f"the {what} in its tags {words.CANNOT_BE}: {doubt}"] if doubt else []
    born, seen = _date(text(dataset, "PatientBirthDate")), _date(text(dataset, "StudyDate"))
    if born is not None and seen is not None and born > seen:
        notes.append(f"the birth date in its tags {words.CANNOT_BE}: it is after the study")
    return notes


def hashed(value: str | None, salt: str) -> str | None:
    """The pseudonym of an id, the same as of one that a table gives."""
    from pipeline.runtime.private_files import pseudonym  # here: an exported model has a copy of this file alone

    return None if value is None else pseudonym(value, salt)


def text(dataset: "Dataset", name: str) -> str:
    """The first value of an element as text without blanks around it; empty where there is none."""
    try:
        value = dataset.get(name)
    except Exception:  # noqa: BLE001 - a value of an impossible form is no value
        return ""
    if value is None:
        return ""
    if not isinstance(value, str | bytes) and hasattr(value, "__iter__") and not hasattr(value, "components"):
        value = next(iter(value), "")
    return str(value).strip(" \0")


def view(dataset: "Dataset") -> str:
    """PA, AP, LL (any lateral) or unknown: by position, code, the series' own words, the film's rows."""
    position = text(dataset, "ViewPosition").upper().replace(" ", "").replace("_", "")
    if position in _LATERALS:
        return "LL"
    known = words.view(text(dataset, "ViewPosition"))
    if known != "unknown":
        return known
    code = next(iter(dataset.get("ViewCodeSequence") or ()), None)
    by_code = None if code is None else _VIEW_CODES.get(text(code, "CodeValue").upper())
    if by_code is not None:
        return by_code
    meaning = "" if code is None else text(code, "CodeMeaning")
    description = " ".join([meaning, text(dataset, "SeriesDescription"), text(dataset, "ProtocolName")])
    return _view_in_words(description, _faces_a_side(dataset))


def _faces_a_side(dataset: "Dataset") -> bool:
    """Whether the rows of the film run from front to back of an upright person, as PatientOrientation says."""
    try:
        along_rows, along_columns = (str(value).upper() for value in dataset.get("PatientOrientation") or ())
    except (TypeError, ValueError):  # one value, or more than two
        return False
    return along_rows[:1] in ("A", "P") and along_columns[:1] in ("F", "H")


def _view_in_words(description: str, faces_a_side: bool) -> str:
    """`CHEST LAT`, `Thorax p.a.`, `view: PA`: only whole words count, and only where they agree."""
    plain = "".join(c if c.isalnum() or c == "-" else " " for c in description.upper().replace(".", "")).split()
    views = {
        "PA": {"PA", "POSTERO-ANTERIOR", "POSTEROANTERIOR"},
        "AP": {"AP", "ANTERO-POSTERIOR", "ANTEROPOSTERIOR"},
    }
    # A decubitus view is lateral to the light, frontal to the chest.
    if "DECUBITUS" in plain:
        return "unknown"
    named = [name for name, own in views.items() if own & set(plain)]
    named += ["LL"] if words.says_lateral(description.replace(".", "")) or (faces_a_side and not named) else []
    return named[0] if len(named) == 1 else "unknown"


def _age_years(dataset: "Dataset") -> float | None:
    age = words.age_years(text(dataset, "PatientAge"))
    if age is not None:
        return age
    born = _date(text(dataset, "PatientBirthDate"))
    seen = _date(text(dataset, "StudyDate")) or _date(text(dataset, "AcquisitionDate"))
    if born is None or seen is None:
        return None
    years = (seen - born).days / _DAYS_A_YEAR
    return years if 0 <= years <= words.MAX_AGE_YEARS else None


def _date(value: str) -> dt.date | None:
    """`20200102`, and `2020.01.02` as files of before 1993 have it."""
    return words.date(value if "." in value else value[:8])


def patient(dataset: "Dataset") -> str | None:
    """The patient's id as the file writes it; None where it is none."""
    from pipeline.tables.placeholders import is_placeholder

    own = text(dataset, "PatientID")
    is_nobody = not own.strip(_NO_ID) or is_placeholder(own.rstrip("^"))
    return None if is_nobody else own


def _spacing_mm(dataset: "Dataset") -> float | None:
    """Distance of two rows; at the patient where that is said, else at the detector."""
    for name in _SPACINGS:
        try:
            value = float(text(dataset, name))
        except ValueError:
            continue
        if math.isfinite(value) and value > 0:
            return value
    return None
