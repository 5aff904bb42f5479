"""Checks of pictures that are in the pool more than once."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.audited_pool import Names, Subject, known
from pipeline.audit.check import Check, Severity, Table, are, counted

Groups = list[NDArray[np.int64]]  # rows of the scans that show one picture, two or more each

_BLOCK_SHARE = 0.5  # a pool that is mostly copies is not the pool it says it is


def check(subject: Subject) -> list[Check]:
    """All checks of this family."""
    groups = copied_pictures(subject)
    return [
        _repeated(subject, groups, "exact"),
        _repeated(subject, groups, "near"),
        _across_splits(subject, groups),
        _across_patients(subject, groups),
        _label_conflict(subject, groups),
    ]


def copied_pictures(subject: Subject) -> Groups:
    """Scans that show one picture, exact and near copies together."""
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, canonical in enumerate(subject.canonical_N):
        rows_of[canonical].append(row)
    return [np.array(rows) for rows in rows_of.values() if len(rows) > 1]


def _repeated(subject: Subject, groups: Groups, kind: str) -> Check:
    rows = np.flatnonzero(subject.kind_N == kind)
    share = len(rows) / max(len(subject), 1)
    limit = subject.config.audit.warn_duplicate_share
    severity: Severity = "block" if share >= _BLOCK_SHARE else "warn" if share > limit else "ok"
    notes = [f"copy of {subject.canonical_N[row]}{_changed(subject, row)}" for row in rows[:100]]
    what = "byte for byte" if kind == "exact" else _looked_for(subject)
    kinds = _kinds_of_change(subject, rows)
    if kind == "near":
        kinds += _kept_in_several_formats(subject, groups)
    return Check(
        f"{kind}-duplicates",
        severity,
        f"{len(rows)} of {len(subject)} scans ({share:.1%}) repeat another one {what}.{kinds}"
        if len(rows)
        else f"No scan repeats another one {what}.",
        why="A picture counted twice makes a pool look larger and its results surer than they are.",
        fix="Remove the copies; until then all scans of one picture are kept on one side of every split.",
        count=len(rows),
        value=share,
        threshold=limit,
        evidence=subject.evidence(rows[:100], notes),
    )


def _kept_in_several_formats(subject: Subject, groups: Groups) -> str:
    """How many pictures are there as files of several formats, as where PNGs were made of DICOM files."""
    counts = Counter(tuple(sorted(_distinct(subject.format_N[rows]))) for rows in groups)
    told = ", ".join(
        f"{num} as {' and as '.join(formats)}" for formats, num in counts.most_common() if len(formats) > 1
    )
    return f" Pictures that are there in several formats: {told}." if told else ""


def _looked_for(subject: Subject) -> str:
    what = "resized, re-encoded, cropped, brightened, windowed or inverted"
    return f"turned, mirrored, shifted, padded, written upon, {what}" if subject.config.duplicates.changed else what


def _changed(subject: Subject, row: int) -> str:
    change = subject.change_N[row]
    return "" if change is None else f": {change}"


def _kinds_of_change(subject: Subject, rows: Iterable[int]) -> str:
    """How many copies were made in each way; one copy may count in several."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update({_kind_of_change(word) for word in (subject.change_N[row] or "").split(", ") if word})
    kinds = ", ".join(f"{num} {kind}" for kind, num in counts.most_common())
    return f" Of them {kinds}." if kinds else ""


def _kind_of_change(word: str) -> str:
    """Small turns are counted together."""
    small = word.startswith("turned by") and int(word.split()[2]) % 90
    return "turned a little" if small else word


def _across_splits(subject: Subject, groups: Groups) -> Check:
    why = "A model that has seen a test picture in training is tested on its memory."
    fix = (
        "Split by patient and picture: --set splits.column=none draws such a split, or correct the split column; "
        "a run leaves the training copies out."
    )
    if not known(subject.side_N).any():
        return Check("duplicates-across-splits", "ok", "Not checked: the pool has no split.", why, fix, checked=False)
    sides = [_distinct(subject.side_N[rows]) for rows in groups]
    # Validation is learnt from as well: models are chosen by it.
    leaking = [
        rows
        for rows, sides_of_group in zip(groups, sides, strict=True)
        if "test" in sides_of_group and len(sides_of_group) > 1
    ]
    beside = [rows for rows, sides_of_group in zip(groups, sides, strict=True) if {"train", "val"} <= sides_of_group]
    tests = [row for rows in leaking for row in rows if subject.side_N[row] == "test"]
    num_test = int((subject.side_N == "test").sum())
    if leaking:
        message = (
            f"{counted(len(leaking), 'picture')} {are(leaking)} in training and in test: "
            f"{len(tests)} of {num_test} test scans ({len(tests) / num_test:.1%})."
            + _kinds_of_change(subject, [row for rows in leaking for row in rows])
        )
    elif beside:
        few = f"{counted(len(beside), 'picture')} {are(beside)}"
        message = f"No picture is in training and in test; {few} in training and validation."
    else:
        message = "No picture is in training and in test" + (", which were drawn by group." if subject.drawn else ".")
    return Check(
        "duplicates-across-splits",
        "block" if leaking else "warn" if beside else "ok",
        message,
        why,
        fix,
        count=len(leaking) or len(beside),
        value=len(tests) / num_test if num_test else 0.0,
        threshold=0.0,
        evidence=_pictures(subject, leaking, lambda row: f"{subject.side_N[row]}{_changed(subject, row)}"),
    )


def _pictures(subject: Subject, groups: Groups, word: Callable[[int], str]) -> tuple[dict[str, Any], ...]:
    """Evidence, picture by picture. Never a file's name, which may tell who the patient is."""
    rows = [(row, f"picture {number}: {word(row)}") for number, group in enumerate(groups, 1) for row in group]
    return subject.evidence([row for row, _ in rows], [note for _, note in rows])


def _across_patients(subject: Subject, groups: Groups) -> Check:
    why = "One picture under two patients means that patient ids are wrong, or that one person has several."
    fix = "Correct the ids at their origin; the patients concerned are kept together as one group."
    if not known(subject.patient_N).any():
        return Check("duplicates-across-patients", "ok", "Not checked: no patient is known.", why, fix, checked=False)
    differing = _differing(subject.patient_N, groups)
    rows = [row for group in differing for row in group]
    return Check(
        "duplicates-across-patients",
        "warn" if differing else "ok",
        f"{counted(len(differing), 'picture')} under more than one patient, {counted(len(rows), 'scan')}."
        if differing
        else "No picture appears under more than one patient.",
        why,
        fix,
        count=len(differing),
        value=float(len(differing)),
        threshold=0.0,
        evidence=_pictures(subject, differing, lambda row: f"patient {str(subject.patient_N[row] or '?')[:8]}"),
    )


def _label_conflict(subject: Subject, groups: Groups) -> Check:
    why = "One picture with two labels: at least one of them is wrong, and every measure counts it as an error."
    fix = "Let an expert look at these pictures; remove or correct the copies."
    if len(subject.labelled) == 0:
        return Check("label-conflict", "ok", "Not checked: no label is known.", why, fix, checked=False)
    audit = subject.config.audit
    differing = _differing(subject.label_N, groups)
    visits = [rows for rows in differing if _may_be_visits(subject, rows)]
    alike = [rows for rows in groups if _may_be_visits(subject, rows)]
    doubtful = len(visits) <= audit.warn_conflict_share * len(alike)
    conflicting = [rows for rows in differing if not (doubtful and _may_be_visits(subject, rows))]
    rows = [row for group in conflicting for row in group]
    share = len(rows) / len(subject.labelled)
    blocks = share > audit.block_conflict_share
    message = (
        f"{len(conflicting)} of {counted(len(groups), 'copied picture')} with different labels, "
        f"{counted(len(rows), 'scan')} ({share:.1%} of the labelled)."
        if conflicting
        else "No copied picture carries different labels."
    )
    if doubtful and visits:
        message += (
            f" {counted(len(visits), 'picture')} of one patient with near copies of another label may be two visits."
        )
    classes = classes_of_patients(subject)
    if classes:
        together = ", ".join(f"{num} in {' and '.join(names)}" for names, num in list(classes.items())[:4])
        who = counted(sum(classes.values()), "patient")
        message += f" {who} with scans of several classes ({together}); illness may change."
    return Check(
        "label-conflict",
        "block" if blocks else "warn" if conflicting else "ok",
        message,
        why,
        fix,
        count=len(conflicting),
        value=share,
        threshold=audit.block_conflict_share if blocks else 0.0,
        evidence=_pictures(subject, conflicting, lambda row: str(subject.label_N[row])),
        table=Table(("classes", "patients"), tuple((" + ".join(names), num) for names, num in classes.items()))
        if classes
        else None,
    )


def _may_be_visits(subject: Subject, rows: NDArray[np.int64]) -> bool:
    """Whether these are near copies, none exact, of one known patient: two films can be as alike as a film's copy."""
    kinds = [kind for kind, row in zip(subject.kind_N[rows], rows, strict=True) if row != rows[0]]
    patients = subject.patient_N[rows]
    return bool(set(kinds) == {"near"} and known(patients).all() and len(set(patients)) == 1)


def classes_of_patients(subject: Subject) -> dict[tuple[str, ...], int]:
    """Patients with scans of more than one class, counted by the classes, most frequent first."""
    classes_of: dict[str, set[str]] = defaultdict(set)
    for patient, label in zip(subject.patient_N, subject.label_N, strict=True):
        if patient is not None and label is not None:
            classes_of[patient].add(label)
    counts: dict[tuple[str, ...], int] = defaultdict(int)
    for labels in classes_of.values():
        if len(labels) > 1:
            counts[tuple(sorted(labels))] += 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _differing(values_N: Names, groups: Groups) -> Groups:
    """Groups whose known values differ."""
    return _where(groups, lambda rows: len(_distinct(values_N[rows])) > 1)


def _where(groups: Groups, holds: Callable[[NDArray[np.int64]], bool]) -> Groups:
    return [rows for rows in groups if holds(rows)]


def _distinct(values: Iterable[str | None]) -> set[str]:
    return {value for value in values if value is not None}
