"""CVAT's export "CVAT for images 1.1": the tags of each picture; shapes drawn on it are counted and not read."""

import re
from collections import Counter
from pathlib import PurePosixPath
from xml.etree import ElementTree

from pipeline.annotate.filled_row import Filled
from pipeline.contracts.errors import InputError
from pipeline.tables.notes import Notes

_SCAN = re.compile("[0-9a-f]{16}")
_AGAIN = "export the task as 'CVAT for images 1.1'"


def read(name: str, data: bytes, notes: Notes) -> list[Filled]:
    """The answers of an export; a picture without a tag is a blank one.

    Args:
        name: The file, for messages.
        data: UTF-8 text.
        notes: Takes what is not read.

    Raises:
        InputError: it is damaged or no such export.
    """
    if re.search(rb"<!(DOCTYPE|ENTITY)", data[:65_536], re.IGNORECASE):  # CVAT writes none; entities can be bombs
        raise InputError("is XML or HTML with a document type, no export of CVAT", where=name, fix=_AGAIN)
    try:
        # Without the declaration, whose encoding was the file's before it was read.
        root = ElementTree.fromstring(re.sub(rb"^\s*<\?xml[^>]*\?>", b"", data))
    except ElementTree.ParseError as error:
        raise InputError(f"the XML breaks off or is damaged ({error})", where=name, fix=_AGAIN) from error
    images = list(root.iter("image"))
    if root.tag != "annotations" or not images:
        raise InputError(f"is no export of CVAT with pictures (<{root.tag}>)", where=name, fix=_AGAIN)
    skipped: Counter[str] = Counter()
    rows = []
    for number, image in enumerate(images, 1):
        tags = [child.get("label", "") for child in image if child.tag == "tag"]
        skipped.update(child.tag for child in image if child.tag != "tag")
        where = f"{name}, image {image.get('id', str(number))}"
        rows.append(Filled(where, _scan(image.get("name", "")), "|".join(dict.fromkeys(tags))))
    if skipped:
        shown = ", ".join(f"{count} {kind}" for kind, count in skipped.most_common())
        notes.warn(f"shapes are not read, tags alone are: {shown}")
    return rows


def _scan(name: str) -> str:
    """The scan that a picture is of: pictures are handed out under its id."""
    stem = PurePosixPath(name.replace("\\", "/")).name.partition(".")[0]
    return stem if _SCAN.fullmatch(stem) else name
