"""What may be answered, in words for people, and what is wrong with a text that is no answer."""

import difflib
import re
from collections.abc import Sequence

from pipeline.contracts.answers import REMARKS, reply_of
from pipeline.contracts.finding_line import NONE, are_independent, plain, separators
from pipeline.contracts.healthy_class import is_negative

MAX_SHOWN = 80


def offered(findings: Sequence[str]) -> list[str]:
    """The answers a text may give; how several independent findings are written is told with their names."""
    if not are_independent(findings):
        return [*findings, *REMARKS]
    first, last = findings[0], findings[-1]
    several = f"several as {first}|{findings[1]}, " if len(findings) > 1 else ""
    head = "any of " if several else ""
    return [f"{head}{', '.join(findings)} ({several}an unknown one as ?{last})", NONE, *REMARKS]


def wrong(text: str, findings: Sequence[str]) -> str | None:
    """What keeps a text from being an answer, with what was probably meant; None when it is one."""
    if not are_independent(findings) or reply_of(text, ()) is not None or is_negative(text):
        return None if reply_of(text, findings) is not None else _strange(text, [*findings, *REMARKS])
    parts = _parts(text, findings)
    if len(parts) == 1 and reply_of(text, findings) is None:
        return _strange(parts[0], [*findings, NONE, *REMARKS])
    for part in parts:
        if says_all(part):
            return f"{part!r} speaks of the whole scan, so nothing can stand beside it"
    names = [_name(part, parts) for part in parts]
    known = {plain(finding) for finding in findings}
    for name in names:
        if not name:
            return f"a name is missing in {text.strip()[:MAX_SHOWN]!r}"
        if plain(name) not in known:
            return _strange(name, findings)
        if [plain(other) for other in names].count(plain(name)) > 1:
            return f"{name!r} is named twice"
    return None if reply_of(text, findings) is not None else f"{text.strip()[:MAX_SHOWN]!r} is no answer"


def says_all(text: str) -> bool:
    """Whether a text is said of the whole scan: a remark, or that there is no finding."""
    return reply_of(text, ()) is not None or is_negative(text)


def _strange(text: str, names: Sequence[str]) -> str:
    shown = text.strip()[:MAX_SHOWN]
    near = difflib.get_close_matches(shown.casefold(), names, n=1)
    return f"unknown finding {shown!r}" + (f"; did you mean {near[0]!r}?" if near else "")


def _parts(text: str, findings: Sequence[str]) -> list[str]:
    """What stands between the separators that `finding_line.meant` knows."""
    return [part.strip() for part in re.split(separators(findings), text)]


def _name(part: str, parts: Sequence[str]) -> str:
    """The finding that a part names: without its sign in a full line, else without its question mark."""
    full = all("=" in other for other in parts)
    return part.rpartition("=")[0] if full else part.removeprefix("?").strip()
