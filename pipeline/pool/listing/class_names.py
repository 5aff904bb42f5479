"""One spelling a class: case, outer blanks and Unicode forms make no class of their own; placeholders are none."""

import ast
import difflib
import json
import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.finding_line import plain
from pipeline.contracts.healthy_class import is_negative
from pipeline.pool import vocabulary
from pipeline.tables.notes import Notes, counted, listed

_ALIKE = 0.87  # of difflib's ratio, which swapped and left-out letters keep
_MAX_COMPARED = 60
_WHOLE_FLOAT = re.compile(r"(-?\d+)\.0+")
_WORDS_OF_LISTS = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")


def one_spelling(label: pa.ChunkedArray, findings: Sequence[str] | None, notes: Notes) -> pa.ChunkedArray:
    """Labels of exclusive classes in one spelling each.

    Args:
        label: N texts; null where there is none.
        findings: The classes, where the user names them: their spelling wins.
        notes: Takes what was changed.

    Returns:
        N texts, null for placeholders and blanks.
    """
    counts = {row["values"]: row["counts"] for row in pc.value_counts(label.drop_null()).to_pylist()}
    if not counts:
        return label
    asked = {_key(finding): finding for finding in findings or ()}
    single = {text: _single(text) for text in counts}
    unwrapped = [text for text, name in single.items() if name is not None and name != text]
    if unwrapped:
        notes.mention(f"{counted(len(unwrapped), 'label')} such as {unwrapped[0]!r} are lists of one class and read so")
    names = {text: text if name is None else name for text, name in single.items()}
    unknown = [t for t, name in names.items() if vocabulary.is_placeholder(name, _LABELS) and _key(name) not in asked]
    _say_unknown({text: counts[text] for text in unknown}, notes)
    chosen = _chosen({t: n for t, n in names.items() if t not in unknown}, counts, asked, notes)
    _warn_of_alike(sorted(set(chosen.values())), notes)
    return vocabulary.by_value(label, chosen.get, pa.string())


def parts_of_list(text: str) -> list[str] | None:
    """The entries of a printed Python or JSON list, tuple or set, also of one that numpy printed; None: it is none.

    Entries are without blanks around them; `None`, `nan` and empty ones are left out.
    """
    text = text.strip()
    if not (text[:1] + text[-1:] in ("[]", "()", "{}") or text in ("set()", "list()", "array([])")):
        return None
    inner = text[1:-1].strip() if text[:1] in "[({" else ""
    if not inner:
        return []
    for read in (json.loads, ast.literal_eval):
        try:
            values = read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(values, dict):
            return None
        if isinstance(values, list | tuple | set | frozenset):
            return _entries(sorted(values, key=str) if isinstance(values, set | frozenset) else list(values))
        return None if text[:1] == "(" else _entries([values])
    quoted = [a or b for a, b in _WORDS_OF_LISTS.findall(inner)]
    if quoted and not re.sub(r"[\s,]", "", _WORDS_OF_LISTS.sub("", inner)):
        return _entries(quoted)
    if text[0] != "[" or any(c in inner for c in "'\"[]{}"):
        return None
    return _entries(re.split(r"\s*[,;|]\s*", inner))


_LABELS = vocabulary.PLACEHOLDERS | vocabulary.NOT_LABELLED


def _entries(values: Sequence[object]) -> list[str]:
    texts = [" ".join(str(value).split()) for value in values if value is not None]
    return [text for text in dict.fromkeys(texts) if not vocabulary.is_placeholder(text, _LABELS)]


def _single(text: str) -> str | None:
    """The one entry of a printed list; an empty one is a blank; None: it is no list, or has several."""
    parts = parts_of_list(text)
    if parts is None or len(parts) > 1:
        return None
    return parts[0] if parts else ""


def _key(text: str) -> str:
    match = _WHOLE_FLOAT.fullmatch(text.strip())
    return match[1] if match else plain(text)


def _say_unknown(counts: dict[str, int], notes: Notes) -> None:
    if counts:
        shown = ", ".join(f"{text!r} {count}" for text, count in sorted(counts.items(), key=lambda item: -item[1])[:8])
        negative = [text for text in counts if is_negative(text)]
        hint = f"; if {negative[0]!r} means that nothing was found, name it in pool.findings" if negative else ""
        notes.warn(
            f"{counted(sum(counts.values()), 'label')} say that there is none, and count as blank: {shown}{hint}"
        )


def _chosen(names: dict[str, str], counts: dict[str, int], asked: dict[str, str], notes: Notes) -> dict[str, str]:
    """Text of the table -> class: as asked for, else its commonest spelling."""
    spellings: dict[str, dict[str, int]] = {}
    for text, name in names.items():
        own = spellings.setdefault(_key(name), {})
        own[name] = own.get(name, 0) + counts[text]
    best = {
        key: asked.get(key) or min(own, key=lambda name: (-own[name], _WHOLE_FLOAT.fullmatch(name) is not None, name))
        for key, own in spellings.items()
    }
    for key, own in sorted(spellings.items()):
        if set(own) != {best[key]}:
            shown = ", ".join(f"{name!r} {count}" for name, count in sorted(own.items(), key=lambda item: -item[1])[:8])
            notes.warn(f"one class, {best[key]!r}, is spelt {shown}")
    return {text: best[_key(name)] for text, name in names.items()}


def _warn_of_alike(classes: Sequence[str], notes: Notes) -> None:
    """Say which classes look like misspellings of each other; they stay apart."""
    classes = [name for name in classes if "|" not in name]  # lists are spoken of elsewhere
    if not 2 <= len(classes) <= _MAX_COMPARED:
        return
    pairs = []
    for i, name in enumerate(classes):
        for other in classes[i + 1 :]:
            short, long = _letters(name), _letters(other)
            if _digits(name) != _digits(other) or min(len(short), len(long)) < 5:
                continue
            if short == long or difflib.SequenceMatcher(None, short, long).ratio() >= _ALIKE:
                pairs.append(f"{name} / {other}")
    if pairs:
        notes.warn(f"classes that look alike are kept apart: {listed(pairs)}; if they are one, spell them alike")


def _letters(name: str) -> str:
    return "".join(c for c in plain(name) if c.isalpha())


def _digits(name: str) -> str:
    return "".join(c for c in name if c.isdigit())
