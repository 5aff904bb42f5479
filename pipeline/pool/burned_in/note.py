"""What the manifest's note says of text burnt into a scan: told by the file's tags, or seen in its picture."""

from pipeline.pool.dicom.tags import BURNED_IN as TOLD

SEEN = "text seems to be burnt into it"


def noted(note: str | None) -> str:
    """The note of a scan in which a line of text was seen."""
    return SEEN if note is None else f"{note}; {SEEN}"


def reason_in(note: str | None) -> str | None:
    """What the note of a scan says of burnt-in text; None where it says nothing."""
    reasons = [part for part in (note or "").split("; ") if part in (TOLD, SEEN)]
    return reasons[0] if reasons else None  # what the file itself says comes first
