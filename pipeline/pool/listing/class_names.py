"""One spelling a class: case, outer blanks and Unicode forms make no class of their own; placeholders are none."""

import difflib
import re
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.errors import InputError
from pipeline.contracts.finding_line import plain
from pipeline.contracts.healthy_class import is_negative
from pipeline.pool import vocabulary
from pipeline.pool.dicom.words import date
from pipeline.tables.notes import Notes, counted, listed
from pipeline.tables.placeholders import NO_LABEL, is_placeholder
from pipeline.tables.printed_lists import holds_objects, parts_of_list, signs_of_object

_ALIKE = 0.87  # of difflib's ratio, which swapped and left-out letters keep
_MAX_COMPARED = 60
_MAX_SHOWN = 80
_FEWEST_JUDGED = 20  # labels of which it is said that they name too many classes
_SHORT_DATE = re.compile(
    r"\d{1,2}[-. ](jan|feb|mar|mär|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez)[a-z]*\.?([-. ]\d{2,4})?",
    re.IGNORECASE,
)
_OF_THE_PICTURE = re.compile(
    r"(bad|poor|low) ?quality|(un)?certain|unsure|doubtful|equivocal|indeterminate|inconclusive|cannot tell"
    r"|non ?diagnostic|not diagnostic|reject(ed)?|exclude[ds]?|invalid|corrupt(ed)?|broken|duplicates?|lateral|frontal"
    r"|pa|ap|cts?|mri|not a chest x ?ray|no chest|other views?|art[ei]facts?|blurr(ed|y)"
)
_OF_A_COPY = re.compile(
    r"([\s_.-]+(copy|copies|kopie|copia|copie|old|backup|bak|new|neu|final|v ?\d+|aug(mented|mentation)?|resized"
    r"|cropped|cleaned?|enhanced|flipped|rotated|extra|more|part ?\d+)([\s_.-]*\(?\d+\)?)?|\s*\(\d+\))$"
)
_WHOLE_FLOAT = re.compile(r"(-?\d+)(?:\.0+)?")


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
    unwrapped = [text for text, name in single.items() if name and name != text]
    if unwrapped:
        notes.mention(f"{counted(len(unwrapped), 'label')} such as {unwrapped[0]!r} are lists of one class and read so")
    _refuse_objects(counts, notes)
    names = {text: text.strip() if name is None else name for text, name in single.items()}
    unknown = [t for t, name in names.items() if is_placeholder(name, NO_LABEL) and _key(name) not in asked]
    if len({_key(name) for text, name in names.items() if text not in unknown}) == 1:
        unknown = [text for text in unknown if not _is_the_other_class(names[text], notes)]
    _say_unknown({text: counts[text] for text in unknown}, notes)
    chosen = _chosen({t: n for t, n in names.items() if t not in unknown}, counts, asked, notes)
    _warn_of_many(chosen, counts, notes)
    _warn_of_alike(sorted(set(chosen.values())), notes)
    _warn_of_odd({name: _key(name) in asked for name in chosen.values()}, notes)
    return vocabulary.by_value(label, chosen.get, pa.string())


def _refuse_objects(counts: Mapping[str, int], notes: Notes) -> None:
    """Refuse labels that a program printed as objects: which of their values is the class is not guessed.

    Raises:
        InputError: with the first.
    """
    objects = [text for text in counts if signs_of_object(text) is not None or holds_objects(text)]
    if objects:
        raise InputError(
            "labels are objects of a program, and no names of classes",
            value=objects[0][:_MAX_SHOWN],
            where=notes.where,
            fix="write the class alone into the column",
        )


def _warn_of_many(chosen: Mapping[str, str], counts: Mapping[str, int], notes: Notes) -> None:
    """Say so where hardly two scans have one class, as where a column holds reports, names or numbers of scans."""
    classes, num_labels = set(chosen.values()), sum(counts[text] for text in chosen)
    if num_labels >= _FEWEST_JUDGED and 2 * len(classes) > num_labels:
        notes.warn(
            f"{num_labels} labels name {len(classes)} classes: where the column holds something else than classes, "
            "name the right one, e.g. pool.columns={label: diagnosis}, or the classes in pool.findings"
        )


def _warn_of_odd(is_asked: dict[str, bool], notes: Notes) -> None:
    """Say which classes are no names: dates that a spreadsheet made of codes, and a number for what is uncertain."""
    unasked = sorted(name for name, asked in is_asked.items() if not asked)
    dates = [name for name in unasked if date(name) is not None or _SHORT_DATE.fullmatch(name)]
    if dates:
        notes.warn(f"classes look like dates, which spreadsheets make of codes such as 1-2: {listed(dates)}")
    of_pictures = [name for name in unasked if _OF_THE_PICTURE.fullmatch(re.sub(r"[\s_-]+", " ", plain(name)))]
    if of_pictures and len(is_asked) > len(of_pictures):
        notes.warn(
            f"classes speak of the picture or the reader, and not of a finding: {listed(of_pictures)}; leave such "
            "labels blank, or leave the scans out with pool.where"
        )
    if "-1" in unasked and {"0", "1"} & set(is_asked):
        notes.warn(
            "-1 is taken for a class of its own; where it means uncertain, name the others, e.g. pool.findings="
            "['0', '1'], and leave those labels blank"
        )


def _is_the_other_class(name: str, notes: Notes) -> bool:
    """Whether a word such as `none` names the healthy class: beside one other class alone it is no blank."""
    if is_negative(name):
        notes.mention(f"{name!r} is read as a class, the healthy one: beside it the labels name one class alone")
    return is_negative(name)


def _single(text: str) -> str | None:
    """The one entry of a printed list; an empty one is a blank; None: it is no list, or has several."""
    parts = parts_of_list(text)
    if parts is None or len(parts) > 1:
        return None
    return parts[0] if parts else ""


def _key(text: str) -> str:
    match = _WHOLE_FLOAT.fullmatch(text.strip())
    return _without_zeros(match[1]) if match else plain(text)


def _without_zeros(digits: str) -> str:
    """`01` and `1` are one code: a spreadsheet takes the zeros of some away."""
    return digits.lstrip("0") or "0"


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
    plain_names = {plain(name): name for name in classes}
    for name in classes:
        end = _OF_A_COPY.search(plain(name))
        original = None if end is None else plain_names.get(plain(name)[: end.start()])
        if original is not None:
            pairs.append(f"{original} / {name}")
    if pairs:
        notes.warn(f"classes that look alike are kept apart: {listed(pairs)}; if they are one, spell them alike")


def _letters(name: str) -> str:
    return "".join(c for c in plain(name) if c.isalpha())


def _digits(name: str) -> str:
    return "".join(c for c in name if c.isdigit())
