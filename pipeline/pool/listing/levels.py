"""Which level of nested folders names the classes, and which the split, where it is not the first.

`siteA/normal/a.png`: one level holds a class that is asked for, or a healthy one. Where none does, the first counts.
"""

from collections import Counter
from collections.abc import Collection, Sequence

from pipeline.contracts.finding_line import plain
from pipeline.contracts.healthy_class import is_negative
from pipeline.pool import vocabulary
from pipeline.pool.dicom.words import view
from pipeline.pool.listing import folder_names
from pipeline.tables.notes import Notes, listed

Folders = Sequence[Sequence[str]]  # of each scan those that it lies in, from the first

_MAX_CLASSES = 20
_STRAY = 0.2  # share of the scans that may lie above the level of the others


def of_classes(folders: Folders, findings: Sequence[str] | None) -> int:
    """The level whose folders are classes: the first with one that is asked for, or, where none is, a healthy one."""
    asked = {plain(finding) for finding in findings or ()}
    for level in range(_depth(folders)):
        names = _names(folders, level)
        if asked & {plain(name) for name in names}:
            return level
        if not asked and 2 <= len(names) <= _MAX_CLASSES and any(map(is_negative, names)):
            return level
    return 0


def sides(names: Collection[str]) -> set[str]:
    """The names, where each is a word for a side of a split (`tr`, `val1`) and both sides are there; else none."""
    words = {vocabulary.split_name(name).lower() for name in names}
    are_sides = words <= vocabulary.SPLIT_NAMES and words & vocabulary.TRAIN_NAMES and words & vocabulary.HOLDOUT_NAMES
    return set(names) if are_sides else set()


def of_splits(folders: Folders, level_of_classes: int) -> int | None:
    """Another level whose folders all name a side of a split, both sides among them; None: there is none."""
    for level in range(_depth(folders)):
        if level != level_of_classes and sides(_names(folders, level)):
            return level
    return None


def say(folders: Folders, level: int, notes: Notes) -> None:
    """Say which folders are classes where others could be."""
    if level:
        above, inside = (sorted(_names(folders, own)) for own in (0, level))
        notes.warn(
            f"folders in its folders are the classes ({listed(inside)}), and {listed(above)} above them are none; if "
            "these are a split, call them train, val and test; if they are patients, pool.patient_regex reads their ids"
        )
        return
    if (names := _twice(folders)) is not None:
        above = sorted(_names(folders, 0))
        notes.warn(
            f"each of its folders {listed(above)} holds folders {listed(sorted(names))}: the first are taken for the "
            "classes; if the second are, name them in pool.findings"
        )


def _twice(folders: Folders) -> frozenset[str] | None:
    """What several first folders alike hold, where it may be classes; None where nothing does."""
    tops = _names(folders, 0)
    if _depth(folders) < 2 or not 1 < len(tops) <= _MAX_CLASSES or any(map(is_negative, tops)):
        return None
    inside: dict[str, set[str]] = {top: set() for top in tops}
    for parts in folders:
        if len(parts) > 1 and parts[0] in inside:
            inside[parts[0]].add(parts[1])
    names = frozenset(next(iter(inside.values())))
    alike = all(own == names for own in inside.values()) and 2 <= len(names) <= _MAX_CLASSES
    if not alike or any(name.lower() in vocabulary.SPLIT_NAMES or view(name) != "unknown" for name in names):
        return None
    scans_of = Counter(parts[1] for parts in folders if len(parts) > 1)
    return None if folder_names.why_no_classes(scans_of, (), findings=None) else names


def _depth(folders: Folders) -> int:
    """How many levels nearly all scans have, but for those that nobody has labelled: a stray one decides nothing."""
    depths = sorted(len(parts) for parts in folders if not any(map(folder_names.is_unlabelled, parts[:1])))
    return depths[int(_STRAY * len(depths))] if depths else 0


def _names(folders: Folders, level: int) -> set[str]:
    return {parts[level] for parts in folders if len(parts) > level and not folder_names.is_unlabelled(parts[0])}
