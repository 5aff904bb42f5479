"""DICOMDIR: the list of files that lies on CDs and in exports of archives (PS3.3 annex F)."""

from pathlib import Path

from embeddings.decoding import dicom_file
from embeddings.decoding.unusable import DecodeError
from pipeline.contracts.errors import InputError

NAME = "DICOMDIR"


def is_dicomdir(path: str) -> bool:
    """Whether a path's file is such a list, which is itself no scan."""
    return path.rpartition("/")[2].upper().startswith(NAME)


def files(path: Path) -> list[str]:
    """Paths of the pictures that a DICOMDIR lists, relative to its folder, in its order.

    Names of CDs are upper case; on disk they may be lower case.

    Raises:
        InputError: it cannot be read, or lists no pictures.
    """
    try:
        dataset = dicom_file.parse(path.read_bytes(), with_pixels=False)
    except (OSError, DecodeError) as error:
        raise InputError(
            f"the DICOMDIR cannot be read: {error}", where=path, fix="point pool.uri at the folder of the files instead"
        ) from error
    records = dataset.get("DirectoryRecordSequence") or []
    listed = [
        "/".join([name] if isinstance(name := record.ReferencedFileID, str) else name)
        for record in records
        if record.get("DirectoryRecordType") == "IMAGE" and record.get("ReferencedFileID")
    ]
    if not listed:
        raise InputError("the DICOMDIR lists no pictures", where=path, fix="point pool.uri at the folder of the files")
    lower = {p.relative_to(path.parent).as_posix().lower(): p for p in path.parent.rglob("*") if p.is_file()}
    return [
        lower[name.lower()].relative_to(path.parent).as_posix() if name.lower() in lower else name
        for name in dict.fromkeys(listed)
    ]
