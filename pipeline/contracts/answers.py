"""What an expert can say of a scan, and who may be said to have said it."""

import datetime as dt
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.contracts import finding_line
from pipeline.contracts.errors import InputError

CANNOT_TELL, BAD_QUALITY, NOT_CXR = "cannot tell", "bad quality", "not a chest X-ray"
REMARKS = (CANNOT_TELL, BAD_QUALITY, NOT_CXR)  # answers that name no class
REJECTIONS = (BAD_QUALITY, NOT_CXR)  # the scan is no good, whoever looks at it
SURE, UNSURE = "sure", "unsure"
CERTAINTIES = (SURE, UNSURE)
POOL, ORACLE = "pool", "oracle"  # annotators that are not people
RESERVED = (POOL, ORACLE, "model")
SYNONYMS = {"unknown": CANNOT_TELL, "?": CANNOT_TELL, "not a cxr": NOT_CXR, "poor quality": BAD_QUALITY}
MAX_NAME = 64
ADJUDICATOR, THIRD_READER = "adjudicator", "third reader"
ROLES = (ADJUDICATOR, THIRD_READER)  # answers that were asked for because two readers differ


@dataclass(frozen=True)
class Answer:
    """One answer of one annotator about one scan.

    Attributes:
        image_id: The scan.
        reply: A class, or one of `REMARKS`; of independent findings a line of `finding_line`.
        annotator: Who; with a role in brackets where two readers differed before, see `signature`.
        round_index: The round that asked; 0 = given with the pool.
        time: When it was given, UTC; None where that was not recorded.
        certainty: `sure`, `unsure`, or None where it was not said.
        seconds: Time spent on the scan; None where it was not measured.
        key: Name of this answer, given where it was made; an answer of a known key changes nothing.
    """

    image_id: str
    reply: str
    annotator: str
    round_index: int
    time: dt.datetime | None = None
    certainty: str | None = None
    seconds: float | None = None
    key: str | None = None

    @property
    def finding(self) -> str | None:
        """The class named, if any."""
        return None if self.reply in REMARKS else self.reply

    @property
    def person(self) -> str:
        """Who, whatever the role."""
        return person_of(self.annotator)

    @property
    def role(self) -> str | None:
        """One of `ROLES`; None of a reading that was asked for whatever others say."""
        return role_of(self.annotator)


def signature(person: str, role: str | None) -> str:
    """How somebody signs in a role: `Dr Lee (adjudicator)`; no name may hold a bracket, so no file can forge it."""
    return person if role is None else f"{person} ({role})"


def role_of(annotator: str) -> str | None:
    """The role that an annotator signs in."""
    return next((role for role in ROLES if annotator.endswith(f" ({role})")), None)


def person_of(annotator: str) -> str:
    """The annotator without a role."""
    role = role_of(annotator)
    return annotator if role is None else annotator.removesuffix(f" ({role})")


def reply_of(text: str, findings: Sequence[str]) -> str | None:
    """The reply a text means, whatever its case and outer blanks; None when it means none.

    Of a class neither quotation marks or a full stop around it matter, nor `_` or `-` for a blank.
    """
    value = " ".join(text.split()).casefold()
    several = finding_line.are_independent(findings)
    names = {" ".join(name.split()).casefold(): name for name in (*REMARKS, *(() if several else findings))}
    known = names.get(value) or SYNONYMS.get(value)
    if several and known is None:
        return finding_line.meant(text, findings)
    alike = [] if known is not None else [name for key, name in names.items() if _loose(key) == _loose(value)]
    return alike[0] if len(alike) == 1 else known


def _loose(name: str) -> str:
    return " ".join(re.sub(r"[\s_-]+", " ", name.strip(" .'\"\u201c\u201d\u201e")).split())


def in_words(reply: str, findings: Sequence[str]) -> str:
    """A reply as people read it."""
    if finding_line.are_independent(findings) and reply not in REMARKS:
        return finding_line.in_words(reply)
    return reply


def annotator_name(text: str, where: str = "--annotator") -> str:
    """A name fit to stand in tables, pages and file names: letters, digits and ` ._@'+:/-`, blanks made single.

    Raises:
        InputError: when it is empty, too long, reserved, begins with a sign, or holds other characters.
    """
    name = " ".join(unicodedata.normalize("NFC", text).split())
    fix = f"use 1 to {MAX_NAME} letters, digits, blanks or . _ @ ' + : / -, beginning with a letter or digit"
    strange = sorted({c for c in name if not (c.isalnum() or unicodedata.category(c) == "Mn" or c in " ._@'’+:/-")})
    if not name or len(name) > MAX_NAME or strange or not name[0].isalnum():
        raise InputError("is no annotator's name", value=text[: MAX_NAME + 20], where=where, fix=fix)
    if name.casefold() in RESERVED:
        raise InputError(
            "this name is reserved for what is not a person",
            value=text,
            where=where,
            fix="use the annotator's own name",
        )
    return name
