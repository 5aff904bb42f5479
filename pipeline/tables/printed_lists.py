"""Lists that a program printed into a cell: Python's, JSON's, numpy's."""

import ast
import json
import re
from collections.abc import Sequence

from pipeline.tables.placeholders import NO_LABEL, is_placeholder

_WORDS_OF_LISTS = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")
_WRAPPED = re.compile(
    r"(?:np\.|numpy\.)?(?:array|list|frozenset|Index|Series)\(([\[({].*?[\])}])(?:,\s*dtype=.*)?\)", re.S
)
_OF_NUMPY = re.compile(r"""('[^']*'|"[^"]*")(\s+('[^']*'|"[^"]*"))+""")


def signs_of_object(text: str) -> dict[str, str] | None:
    """Name -> value, as text, of a printed object such as `{"Edema": 1, "Mass": null}`; None: it is none."""
    values = _read(text.strip()) if text.strip()[:1] == "{" else None
    return {str(name): str(value) for name, value in values.items()} if values and isinstance(values, dict) else None


def holds_objects(text: str) -> bool:
    """Whether it is a printed list of objects or lists."""
    values = _read(text.strip()) if text.strip()[:1] in ("[", "(") else None
    return isinstance(values, list | tuple) and any(isinstance(value, dict | list | tuple) for value in values)


def _read(text: str) -> object:
    """What a program printed, as JSON or Python; None: neither."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue
    return None


def parts_of_list(text: str) -> list[str] | None:
    """The entries of a printed Python or JSON list, tuple or set, also of one that numpy printed; None: it is none.

    Entries are without blanks around them; `None`, `nan` and empty ones are left out.
    """
    text = text.strip()
    if (wrapped := _WRAPPED.fullmatch(text)) is not None:
        text = wrapped[1].strip()
    if not (text[:1] + text[-1:] in ("[]", "()", "{}") or text in ("set()", "list()", "array([])")):
        return None
    inner = text[1:-1].strip() if text[:1] in "[({" else ""
    if not inner:
        return []
    if _OF_NUMPY.fullmatch(inner):  # Python would join them
        return _entries([a or b for a, b in _WORDS_OF_LISTS.findall(inner)])
    values = _read(text)
    if isinstance(values, dict):
        return None
    if isinstance(values, list | tuple | set | frozenset):
        return _entries(sorted(values, key=str) if isinstance(values, set | frozenset) else list(values))
    if values is not None:
        return None if text[:1] == "(" else _entries([values])
    if text[0] != "[" or any(c in inner for c in "'\"[]{}"):
        return None
    return _entries(re.split(r"\s*[,;|]\s*", inner))


def _entries(values: Sequence[object]) -> list[str]:
    texts = [" ".join(str(value).split()) for value in values if value is not None]
    return [text for text in dict.fromkeys(texts) if not is_placeholder(text, NO_LABEL)]
