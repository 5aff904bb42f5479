"""Checks of patient ids: one patient on both sides of the split, and one id that stands for several people.

Legend: N usable scans, P pairs of pictures under one id, I ids.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.audited_pool import Names, Subject, known
from pipeline.audit.check import Check, Table, are, counted
from pipeline.audit.same_person import MIN_IDS, Judgement, People, look_at, pictures

Reasons = dict[str, list[str]]  # patient id to what speaks for several people

MAX_AGE_GAP_YEARS = 15.0  # follow-up over more years is rare, a reused number is not
_NEARLY_ALL = 0.9
_MOST = 0.5  # visits far apart can halve the likeness of one person, so less than this accuses nobody
_ERROR = 0.05  # of accusing any group of ids wrongly
_MAX_ROWS = 20
_LEAK_WHY = "A model that has seen a patient in training is tested on its memory of that patient."
_LEAK_FIX = (
    "Split by patient: --set splits.column=none draws such a split, or correct the split column; a run leaves these "
    "training scans out; "
    "where ids collide by naming, make what tells the people apart a part of the id."
)
_BY_PICTURES = "unlike pictures across"


def check(subject: Subject) -> list[Check]:
    """All checks of this family; the pictures are looked at once."""
    people = look_at(subject) if known(subject.patient_N).any() else None
    return [across_splits(subject, people), id_collision(subject, people)]


def across_splits(subject: Subject, people: People | None = None) -> Check:
    """Patients with scans in training and in test, and whether the pictures agree that they are one person each.

    Args:
        subject: The pool.
        people: Its pictures compared, where that is done already.
    """
    known_N = known(subject.patient_N)
    if not known_N.any() or not known(subject.side_N).any():
        lack = "no patient ids" if not known_N.any() else "no split"
        message = f"Not checked: the pool has {lack}, so nobody can say whether a patient is on both sides."
        return Check("patient-across-splits", "ok", message, _LEAK_WHY, _LEAK_FIX, checked=False)
    sides = _values(subject, subject.side_N, _without_copies(subject))
    leaking = {patient for patient, names in sides.items() if "test" in names and len(names) > 1}
    trained = {patient for patient in leaking if "train" in sides[patient]}
    check = _leak(subject, people or look_at(subject), leaking, trained) if leaking else _no_leak(subject, sides)
    unknown = int((~known_N).sum())
    rest = f" {unknown} scans of unknown patient cannot be checked." if unknown else ""
    return replace(check, message=check.message + rest)


def _without_copies(subject: Subject) -> NDArray[np.int64]:
    """All scans but test scans that copy a training scan: those are the business of duplicates-across-splits."""
    test_N = subject.side_N == "test"
    learnt = set(subject.canonical_N[np.isin(subject.side_N.astype(str), ("train", "val"))])
    return np.flatnonzero(
        [not test or picture not in learnt for test, picture in zip(test_N, subject.canonical_N, strict=True)]
    )


def _no_leak(subject: Subject, sides: dict[str, set[str]]) -> Check:
    beside = {patient for patient, names in sides.items() if {"train", "val"} <= names}
    rows = _rows_of(subject, beside)
    rest = f"; {len(beside)} {are(beside)} in training and in validation." if beside else "."
    return Check(
        "patient-across-splits",
        "warn" if beside else "ok",
        f"No patient of {len(sides)} is in training and in test{rest}",
        _LEAK_WHY,
        _LEAK_FIX,
        count=len(beside),
        value=0.0,
        evidence=subject.evidence(rows, _side_notes(subject, rows)),
    )


def _leak(subject: Subject, people: People | None, leaking: set[str], trained: set[str]) -> Check:
    """Patients in the test and elsewhere.

    Args:
        subject: The pool.
        people: Its pictures compared.
        leaking: The patients.
        trained: Those of them with scans in training; the others are in validation and in the test.
    """
    rows = _rows_of(subject, leaking)
    num_tests, num_test = (int((side_N == "test").sum()) for side_N in (subject.side_N[rows], subject.side_N))
    judged = _judge_shared(subject, people, leaking)
    words, cleared = _people_words(subject, leaking, judged)
    return Check(
        "patient-across-splits",
        "warn" if cleared else "block",
        f"{_where_else(leaking, trained)}: {num_tests} of {num_test} test scans ({num_tests / num_test:.1%}). {words}",
        _LEAK_WHY,
        _LEAK_FIX,
        count=len(leaking),
        value=num_tests / num_test,
        evidence=subject.evidence(rows, _side_notes(subject, rows)),
        table=_shared_table(subject, leaking, judged),
    )


def _where_else(leaking: set[str], trained: set[str]) -> str:
    """Training with test, and validation with test, each with its own number."""
    chosen_by = leaking - trained
    parts = [f"{counted(len(trained), 'patient')} {are(trained)} in training and in test"] if trained else []
    if chosen_by:
        more = f"{len(chosen_by)} more" if trained else counted(len(chosen_by), "patient")
        parts.append(f"{more} {are(chosen_by)} in validation and in test, not in training")
    return "; ".join(parts)


def id_collision(subject: Subject, people: People | None = None) -> Check:
    """Ids that hold several people, by what is known of them or by their pictures."""
    why = "Scans of two people under one id are split, counted and resampled as one person."
    fix = "Make what tells the people apart (source, series, site) a part of the id, e.g. with pool.patient_regex."
    if not known(subject.patient_N).any():
        message = "Not checked: the pool has no patient ids."
        return Check("patient-id-collision", "ok", message, why, fix, checked=False)
    people = people or look_at(subject)
    reasons = metadata_conflicts(subject)
    acquitted = _acquit(subject, people, reasons)
    num_metadata = len(reasons)
    groups = suspect_groups(subject, people) if people else []
    num_groups = 0.0
    for name, judged in groups:
        fresh = [patient for patient in judged.patient_I if patient not in reasons]
        num_groups += judged.share * len(fresh)
        order = np.argsort(-judged.odds_I, kind="stable")
        for patient in judged.patient_I[order[judged.odds_I[order] > 1]]:
            reasons[patient].append(f"{_BY_PICTURES} {name}")
    count = num_metadata + round(num_groups)
    return Check(
        "patient-id-collision",
        "warn" if count else "ok",
        _collision_words(subject, reasons, num_metadata, groups, acquitted) + _limits(subject, people),
        why,
        fix,
        count=count,
        evidence=_collision_evidence(subject, reasons),
        table=_collision_table(subject, reasons),
    )


def _named(key: str) -> str:
    """File-name patterns with as few of their folders as tell them apart: folders are the user's own business."""
    parts = key.split(" and ")
    for depth in range(1, 10):
        tails = ["/".join(part.split("/")[-depth:]) for part in parts]
        if len(set(tails)) == len(parts):
            break
    return " and ".join(tails)


def metadata_conflicts(subject: Subject) -> Reasons:
    """Ids with two sexes, ages too far apart or two sources; copies filed under several ids are left out."""
    rows = pictures(subject)
    reasons: Reasons = defaultdict(list)
    for values_N, what in ((subject.sex_N, "two sexes"), (subject.source_N, "two sources")):
        for patient, names in _values(subject, values_N, rows).items():
            if len(names) > 1:
                reasons[patient].append(f"{what} ({', '.join(sorted(names))})")
    ages: dict[str, list[float]] = defaultdict(list)
    for row in rows[np.isfinite(subject.age_N[rows])]:
        ages[subject.patient_N[row]].append(float(subject.age_N[row]))
    for patient, years in ages.items():
        if max(years) - min(years) > MAX_AGE_GAP_YEARS:
            reasons[patient].append(f"ages {min(years):.0f} and {max(years):.0f}")
    return reasons


def suspect_groups(subject: Subject, people: People) -> list[tuple[str, Judgement]]:
    """Groups of ids most of which hold several people by their pictures, beyond what chance gives any group.

    A group shares what sets its pairs apart: the two sides of the split, or two manners of naming files. Pairs of
    one manner are a group too, held against the others.
    """
    side_P = people.differ(subject.side_N)
    like_P = ~people.differ(subject.source_N) & ~people.differ(subject.view_N)
    keys = [
        " and ".join(sorted({people.series_N[left], people.series_N[right]}))
        for left, right in zip(people.left_P, people.right_P, strict=True)
    ]
    series_P = np.array(keys, dtype=object)
    masks = {"training and test": side_P & like_P}
    masks |= {f"files {_named(key)}": (series_P == key) & like_P & ~side_P for key in sorted(set(keys))}
    large = {name: mask_P for name, mask_P in masks.items() if _num_ids(people, mask_P) >= MIN_IDS}
    level = 1 - 2 * _ERROR / max(len(large), 1)
    judged = {name: people.judge(mask_P, name=name, level=level) for name, mask_P in large.items()}
    return [(name, judgement) for name, judgement in judged.items() if judgement.can_tell and judgement.low >= _MOST]


def _judge_shared(subject: Subject, people: People | None, leaking: set[str]) -> Judgement | None:
    """What the pictures say of patients in training and in test, by their pairs across the split.

    Only pairs of one source and view count: across those one person may look like two, and a leak must not be
    excused by that.
    """
    if people is None:
        return None
    test_N = subject.side_N == "test"
    across_P = test_N[people.left_P] != test_N[people.right_P]
    for rows_P in (people.left_P, people.right_P):
        across_P &= np.isin(subject.patient_N[rows_P].astype(str), list(leaking))
    like_P = across_P & ~people.differ(subject.source_N) & ~people.differ(subject.view_N)
    judged = people.judge(like_P, name="splits")
    if len(judged.patient_I) < _NEARLY_ALL * _num_ids(people, across_P):
        return replace(judged, unable="their scans in training and in test differ in source or view")
    return judged if len(judged.patient_I) else None


def _people_words(subject: Subject, leaking: set[str], judged: Judgement | None) -> tuple[str, bool]:
    """What is known of the people behind shared ids, and whether nearly all are cleared as naming collisions."""
    by_metadata = len(leaking & set(metadata_conflicts(subject)))
    extra = f" {by_metadata} of them have two sexes, two sources or ages far apart." if by_metadata else ""
    if judged is None or not judged.can_tell:
        reason = judged.unable if judged and judged.unable else "too few pictures to compare"
        return f"The pictures cannot tell whether they are one person each: {reason}.{extra}", False
    num = len(leaking)
    range_ = f"{round(judged.low * num)} to {round(judged.high * num)}"
    measured = f"(95 % interval {range_}; a pair of one person is told from strangers with AUROC {judged.auroc:.2f})"
    if judged.low >= _MOST:
        words = (
            f"Of these {num} shared ids, about {round(judged.share * num)} look like naming collisions: "
            f"different people by the pictures {measured}."
        )
        cleared = judged.low >= _NEARLY_ALL
        return words + (" That is nearly all, so this warns and does not block." if cleared else "") + extra, cleared
    if judged.high < _MOST:
        return f"The pictures agree that most are one person each {measured}.{extra}", False
    return f"The pictures leave open how many are one person each {measured}.{extra}", False


def _acquit(subject: Subject, people: People | None, reasons: Reasons) -> int:
    """Drop ids whose only fault is a second source where the pictures speak for one person; how many."""
    if people is None:
        return 0
    judged = people.judge(people.differ(subject.source_N), name="sources")
    alike = set(judged.together())
    cleared = [p for p, why in reasons.items() if p in alike and all(text.startswith("two sources") for text in why)]
    for patient in cleared:
        del reasons[patient]
    return len(cleared)


def _collision_words(
    subject: Subject, reasons: Reasons, num_metadata: int, groups: list[tuple[str, Judgement]], acquitted: int
) -> str:
    parts = []
    if num_metadata:
        texts_of_ids = [text for texts in reasons.values() for text in texts if not text.startswith(_BY_PICTURES)]
        kinds = Counter(text[: text.index(" (")] if " (" in text else "ages far apart" for text in texts_of_ids)
        list_ = ", ".join(f"{kind} {num}" for kind, num in sorted(kinds.items()))
        parts.append(f"{num_metadata} patient ids hold several people by what is known of them ({list_}).")
    for name, judged in groups:
        num = len(judged.patient_I)
        parts.append(
            f"Of {num} ids compared across {name}, about {round(judged.share * num)} look like different people by the "
            f"pictures (at least {judged.low:.0%}; AUROC {judged.auroc:.2f})."
        )
    if acquitted:
        parts.append(f"{acquitted} ids in two sources look like one person each.")
    return " ".join(parts) if parts else "No patient id is seen to hold several people."


def _limits(subject: Subject, people: People | None) -> str:
    """What this check could not look at."""
    return _turned_words(subject) + _limits_of_pictures(people)


def _turned_words(subject: Subject) -> str:
    """Turned scans are no sign of other people."""
    turned = Counter(subject.turned_N[subject.turned_N > 0].tolist())
    if not turned:
        return ""
    list_ = ", ".join(f"{num} by {degrees} degrees" for degrees, num in sorted(turned.items()))
    return (
        f" {counted(turned.total(), 'scan')} {are(range(turned.total()))} turned ({list_}) and not held against others."
    )


def _limits_of_pictures(people: People | None) -> str:
    if people is None:
        return " Too few patients have several pictures for the pictures to tell people apart."
    judged = people.judge(np.zeros(len(people.left_P), np.bool_), name="limits")
    if judged.unable:
        return f" By the pictures nobody can be told apart here: {judged.unable}."
    return f" {people.num_left_out} more ids were not compared: a sample was." if people.num_left_out else ""


def _values(
    subject: Subject, values_N: Names, rows: Iterable[int] | NDArray[np.int64] | None = None
) -> dict[str, set[str]]:
    """The known values of each known patient."""
    known_N = known(values_N) & known(subject.patient_N)
    values_of: dict[str, set[str]] = defaultdict(set)
    for row in np.flatnonzero(known_N) if rows is None else rows:
        if known_N[row]:
            values_of[subject.patient_N[row]].add(values_N[row])
    return values_of


def _num_ids(people: People, mask_P: NDArray[np.bool_]) -> int:
    return len(set(people.subject.patient_N[people.left_P[mask_P]]))


def _rows_of(subject: Subject, patients: Iterable[str]) -> NDArray[np.int64]:
    wanted = set(patients)
    rows = [row for row, patient in enumerate(subject.patient_N) if patient in wanted]
    rows.sort(key=lambda row: (str(subject.patient_N[row]), str(subject.side_N[row])))
    return np.array(rows, dtype=np.int64)


def _side_notes(subject: Subject, rows: NDArray[np.int64]) -> list[str]:
    return [f"patient {subject.patient_N[row][:8]} in {subject.side_N[row] or 'no split'}" for row in rows]


def _shared_table(subject: Subject, leaking: set[str], judged: Judgement | None) -> Table:
    """The shared patients with the most test scans."""
    sides: dict[str, Counter[str]] = {patient: Counter() for patient in leaking}
    for row in _rows_of(subject, leaking):
        sides[subject.patient_N[row]][subject.side_N[row]] += 1
    odds = dict(zip(judged.patient_I, judged.odds_I, strict=True)) if judged and not judged.unable else {}
    worst = sorted(leaking, key=lambda patient: (-sides[patient]["test"], patient))[:_MAX_ROWS]
    rows = tuple((p[:8], sides[p]["train"], sides[p]["test"], _rounded(odds.get(p))) for p in worst)
    return Table(("patient", "training scans", "test scans", "odds of two people by the pictures"), rows)


def _rounded(odds: float | None) -> float | None:
    return None if odds is None else float(f"{odds:.2g}")


def _collision_evidence(subject: Subject, reasons: Reasons) -> tuple[dict[str, Any], ...]:
    """Two pictures of each id, as unlike in what is known as they come."""
    scans: dict[str, list[int]] = defaultdict(list)
    for row in pictures(subject):
        if subject.patient_N[row] in reasons:
            scans[subject.patient_N[row]].append(int(row))
    rows = []
    for patient in list(reasons)[:_MAX_ROWS]:
        ordered = sorted(scans[patient], key=lambda row: _described(subject, row))
        rows += [ordered[0], ordered[-1]]
    notes = [f"patient {subject.patient_N[row][:8]}: {_described(subject, row)}" for row in rows]
    return subject.evidence(rows, notes)


def _described(subject: Subject, row: int) -> str:
    age = subject.age_N[row]
    known_ = [subject.sex_N[row], f"{age:.0f} years" if np.isfinite(age) else None, subject.source_N[row]]
    return ", ".join(str(value) for value in known_ if value is not None)


def _collision_table(subject: Subject, reasons: Reasons) -> Table | None:
    if not reasons:
        return None
    scans = Counter(subject.patient_N[known(subject.patient_N)])
    worst = sorted(reasons, key=lambda patient: -len(reasons[patient]))[:_MAX_ROWS]
    rows = tuple((patient[:8], scans[patient], "; ".join(reasons[patient])) for patient in worst)
    return Table(("patient", "scans", "what speaks for several people"), rows)
