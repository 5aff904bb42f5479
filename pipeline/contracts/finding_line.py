"""Independent findings: a scan may show several, or none, and of each it is known or not whether it is there.

What is said of a scan is one line of text, `effusion=1|mass=0|nodule=?`, so that journals, queues and tables carry it
as they carry a class. People write it shorter: `effusion|?nodule` (the rest is absent), or `no finding`. One finding by
itself is a question with two classes, `no effusion` and `effusion`: so all that is known of classes holds for it.
"""

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence

from pipeline.contracts.healthy_class import is_negative

NONE = "no finding"
UNKNOWN = float("nan")
RESERVED = "|;="  # what separates findings in a line of text
_SIGNS = {1.0: "1", 0.0: "0"}
_VALUES = {"1": 1.0, "0": 0.0, "?": UNKNOWN}


class Independent(tuple[str, ...]):
    """C findings in a fixed order, of which a scan may show several; a plain tuple of names stands for classes."""

    __slots__ = ()


def are_independent(findings: Sequence[str]) -> bool:
    """Whether a scan may show several of these findings, or none; False of classes, of which it shows one."""
    return isinstance(findings, Independent)


def write(values: Mapping[str, float], findings: Sequence[str]) -> str:
    """The line of text that says of each finding 1 present, 0 absent, NaN unknown; one not in `values` is unknown."""
    return "|".join(f"{finding}={_SIGNS.get(values.get(finding, UNKNOWN), '?')}" for finding in findings)


def read(text: str) -> dict[str, float]:
    """What `write` wrote: finding to 1, 0 or NaN.

    Raises:
        ValueError: the text is no such line.
    """
    parts = [part.rpartition("=") for part in text.split("|")]
    once = len({name for name, _, _ in parts}) == len(parts)
    if not once or not all(name and sign in _VALUES for name, _, sign in parts):
        raise ValueError(f"not a line of findings: {text[:80]!r}")
    return {name: _VALUES[sign] for name, _, sign in parts}


def meant(text: str, findings: Sequence[str]) -> str | None:
    """What a line that people wrote says, as `write` would; None when it names something else or contradicts itself.

    Args:
        text: `effusion|?nodule` (or with `;`, or `,` where no finding's name has one), `no finding`, or a full line;
            case and blanks do not matter. A finding that is not named is absent, in a full line it is unknown.
        findings: The C names.
    """
    names = {plain(finding): finding for finding in findings}
    if is_negative(text):
        return write(dict.fromkeys(findings, 0.0), findings)
    parts = [plain(part) for part in re.split(separators(findings), text) if part.strip()]
    full = all("=" in part for part in parts)
    signs: dict[str, str] = {}
    for part in parts:
        name, sign = _full(part) if full else (part.removeprefix("?").strip(), "?" if part.startswith("?") else "1")
        if name not in names or sign not in _VALUES or signs.setdefault(names[name], sign) != sign:
            return None
    values = dict.fromkeys(findings, UNKNOWN if full else 0.0)
    return write(values | {name: _VALUES[sign] for name, sign in signs.items()}, findings) if parts else None


def separators(findings: Sequence[str]) -> str:
    """Regular expression of what may stand between findings; a comma only where no finding's name has one."""
    return r"[|;]" if any("," in finding for finding in findings) else r"[|;,]"


def named(reply: str) -> tuple[str, ...]:
    """The findings a line speaks of; none of a class or a remark."""
    try:
        return tuple(read(reply))
    except ValueError:
        return ()


def leaves_open(reply: str) -> bool:
    """Whether a reply is a line that leaves a finding unknown; no class and no remark does."""
    return bool(named(reply)) and any(math.isnan(value) for value in read(reply).values())


def in_words(reply: str) -> str:
    """A line for people: `effusion, mass`, `no finding`, `effusion; mass unknown`."""
    values = read(reply)
    there = [finding for finding, value in values.items() if value == 1.0]
    open_ = [finding for finding, value in values.items() if math.isnan(value)]
    if len(open_) == len(values):
        return "unknown"
    head = ", ".join(there) or ("nothing else" if open_ else NONE)
    return f"{head}; {', '.join(open_)} unknown" if open_ else head


def absent(finding: str) -> str:
    """The class of scans without a finding."""
    return f"no {finding}"


def question(finding: str) -> tuple[str, str]:
    """The two classes of one finding, absent first."""
    return absent(finding), finding


def class_of(reply: str, finding: str) -> str | None:
    """What a line says of one finding, as a class of its `question`; None where it is unknown."""
    value = read(reply).get(finding, UNKNOWN)
    return None if math.isnan(value) else question(finding)[int(value)]


def plain(text: str) -> str:
    """A name as it is compared: whatever its case, its blanks, and how its letters are put together."""
    return " ".join(unicodedata.normalize("NFC", text).split()).casefold()


def _full(part: str) -> tuple[str, str]:
    name, _, sign = part.rpartition("=")
    return name.strip(), sign.strip()
