"""The file that a DICOM object is about: who, which study, which instance; and the UIDs of what is made of it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embeddings.decoding import dicom_file

if TYPE_CHECKING:
    from pydicom import Dataset

_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
# Of patient and study, which the new object shares with the file: (tag, longest value).
_SHARED = {
    "PatientID": 64,
    "PatientName": 324,
    "PatientBirthDate": 8,
    "PatientSex": 16,
    "AccessionNumber": 16,
    "StudyID": 16,
    "StudyDate": 8,
    "StudyTime": 16,
    "ReferringPhysicianName": 324,
}
_SEXES = ("M", "F", "O")


@dataclass(frozen=True)
class ModelIdentity:
    """What made an object.

    Attributes:
        version: Of this program.
        fingerprint: Changes with the model; 16 hex digits.
        round_index: Of the run.
    """

    version: str
    fingerprint: str
    round_index: int


class SourceError(Exception):
    """A file that no DICOM object can be about; says why."""


def header(data: bytes) -> "Dataset":
    """What a new object takes from a file: its references, and patient and study, empty where the file says nothing.

    The file's picture was decoded before in a guarded process, so its tags have been read without harm.

    Args:
        data: The file's bytes.

    Raises:
        SourceError: it is no DICOM file, or does not say which study, series or instance it is.
    """
    from pydicom import Dataset

    if not dicom_file.is_dicom(data):
        raise SourceError("the file is not DICOM")
    whole = dicom_file.parse(data, with_pixels=False)
    missing = [name for name in _NEEDED if not _value(whole, name)]
    if missing:
        raise SourceError(f"its header lacks {', '.join(missing)}")
    source = Dataset()
    for name in _NEEDED:
        setattr(source, name, str(_value(whole, name)))
    for name, longest in _SHARED.items():
        value = _value(whole, name)
        setattr(source, name, value if value is not None and len(str(value)) <= longest else "")
    if source.PatientSex not in _SEXES:
        source.PatientSex = ""
    if whole.get("SpecificCharacterSet"):  # one, or several that a name changes between
        source.SpecificCharacterSet = whole.SpecificCharacterSet
    return source


def _value(dataset: "Dataset", name: str) -> Any:
    """One value of a tag; None where there is none, several, or one that cannot be read."""
    try:
        value = dataset.get(name)
    except Exception:  # noqa: BLE001 - pydicom reads values when they are asked for, and raises of odd ones what it likes
        return None
    is_several = not isinstance(value, str) and hasattr(value, "append")
    return None if value in (None, "") or is_several else value


def uid(*parts: object) -> str:
    """A DICOM UID that the same parts always give: 2.25. and 128 bits of their hash (DICOM PS3.5, annex B.2)."""
    from hashlib import sha256

    digest = sha256("\0".join(map(str, parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"
