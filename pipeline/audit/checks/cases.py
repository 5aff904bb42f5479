"""Checks of how much there is: broken files, missing metadata, rare classes, cases enough to know anything."""

import json
import re
from collections import Counter

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.audit.audited_pool import Names, Subject, known
from pipeline.audit.check import Check, Severity, Table, counted
from pipeline.labels.classes import asked_for
from pipeline.pool.dicom import words
from pipeline.pool.dicom.rules import PREFIX as SET_ASIDE
from pipeline.pool.dicom.words import CANNOT_BE
from pipeline.pool.vocabulary import NOT_UNDERSTOOD
from pipeline.runtime import run_files

_NO_DAY_HOLDS = "ages and the order of a patient's films may hold, no day does"
_MAX_SAID = 6  # of a list in a sentence; the table holds them all
_BLOCK_PATIENTS = 2  # a class of one patient cannot be both learnt and tested


def check(subject: Subject) -> list[Check]:
    """All checks of this family."""
    return [_quarantined(subject), _missing(subject), _imbalance(subject), _too_few(subject)]


def _quarantined(subject: Subject) -> Check:
    by_rule = sum(count for reason, count in subject.reason_counts.items() if reason.startswith(SET_ASIDE))
    num = subject.num_files - len(subject) - by_rule
    share = num / max(subject.num_files, 1)
    limit = subject.config.audit.warn_quarantined_share
    unread = {reason: count for reason, count in subject.reason_counts.items() if not reason.startswith(SET_ASIDE)}
    common = "; ".join(f"{count} × {reason}" for reason, count in _most(unread)[:3])
    rejected = _most(subject.rejected_counts)
    reasons = "; ".join(f"{count} × {reason}" for reason, count in rejected)
    rows = [*_most(subject.reason_counts), *((f"{reason}, say experts", count) for reason, count in rejected)]
    return Check(
        "quarantined-scans",
        "warn" if share > limit else "ok",
        (
            f"{num} of {subject.num_files} files cannot be read ({share:.1%}): {common}."
            if num
            else f"All {subject.num_files} files can be read."
        )
        + (f" {by_rule} more are set aside by rule (pool.set_aside)." if by_rule else "")
        + (f" Experts set more scans aside: {reasons}." if reasons else ""),
        why="Files that drop out are seldom a fair sample: one scanner, one class or one night may be missing.",
        fix="Export them again, or say in the paper what was left out and why.",
        count=num,
        value=share,
        threshold=limit,
        table=Table(("reason", "files"), tuple(rows)) if rows else None,
    )


def _most(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _missing(subject: Subject) -> Check:
    audit = subject.config.audit
    unknown_N = {
        "patient": ~known(subject.patient_N),
        "source": ~known(subject.source_N),
        "age": np.isnan(subject.age_N),
        "sex": ~known(subject.sex_N),
        "view": ~known(subject.view_N),
    }
    share = {name: float(mask.mean()) if len(mask) else 1.0 for name, mask in unknown_N.items()}
    limits = dict.fromkeys(share, audit.warn_unknown_share) | {"patient": audit.warn_unknown_patient_share}
    over = [name for name in share if share[name] > limits[name]]
    parts = [f"{name} {share[name]:.0%}" for name in over]
    cannot = {
        "patient": "whether a patient is in training and test",
        "source": "whether a source gives the label away, and how a model does elsewhere",
        "age": "whether age gives the label away",
        "sex": "whether sex gives the label away",
        "view": "whether the view gives the label away",
    }
    wholly = [cannot[name] for name in over if share[name] == 1.0]
    some = [f"{name} {share[name]:.1%}" for name in share if share[name] > 0]
    message = f"Unknown: {', '.join(parts)} of the scans." if over else "Patient, source, age, sex and view are known"
    if not over:
        message += f", but for {', '.join(some)} of the scans." if some else "."
    if wholly:
        message += f" It cannot be checked {'; '.join(wholly)}."
    respelled = [names for names in _spellings(subject.source_N) if len(names) > 1]
    for names in respelled[:3]:
        message += f" One source is spelled in several ways: {', '.join(map(repr, names))}."
    unread = _values_that_cannot_be(subject)
    message += "".join(f" {line}." for line in unread)
    return Check(
        "missing-metadata",
        "warn" if over or respelled or unread else "ok",
        message,
        why="What is not known cannot be checked: leaks between patients and confounding stay invisible.",
        fix="Add the columns (pool.columns, pool.patient_regex); a patient id matters most.",
        count=int(np.any([unknown_N[name] for name in over], axis=0).sum()) if over else 0,
        value=max((share[name] for name in over), default=0.0),
        threshold=audit.warn_unknown_patient_share if "patient" in over else audit.warn_unknown_share,
        table=Table(("column", "unknown", "warned from"), tuple((n, share[n], limits[n]) for n in share)),
    )


def _values_that_cannot_be(subject: Subject) -> list[str]:
    """What is no value: an age of 400 or -3, a sex of `7`, a date in the future, in the table or in tags of files."""
    path = run_files.path(subject.folder, run_files.POOL_NOTES)
    notes: list[str] = json.loads(path.read_text("utf-8"))["notes"] if path.exists() else []
    of_table = [line for line in notes if NOT_UNDERSTOOD in line or CANNOT_BE in line]
    moved = [line for line in notes if words.MOVED in line]
    of_table += [f"{'; '.join(moved)}: {_NO_DAY_HOLDS}"] if moved else []
    in_tags = pc.equal(subject.scans["format"], "DICOM")
    return of_table + _of_tags(subject.scans.filter(pc.fill_null(in_tags, False))["note"].to_pylist())


def _of_tags(notes: list[str | None]) -> list[str]:
    """Ages and dates of tags that cannot be, with the scans of each; dates that were moved, in one sentence.

    Args:
        notes: Of the scans that have tags.
    """
    counts = Counter(part for note in notes for part in (note or "").split("; ") if CANNOT_BE in part)
    moved = {
        part: num
        for part, num in counts.items()
        if part.endswith(words.IN_THE_FUTURE) and num > words.MOST * len(notes)
    }
    lines = [f"Of {counted(num, 'scan')} {part}" for part, num in (counts - Counter(moved)).most_common(_MAX_SAID)]
    if moved:
        which = " and ".join(part.split(" in its tags")[0] for part in sorted(moved))
        most = max(moved.values())
        lines.append(f"Of {most} of {len(notes)} DICOM scans {which} {words.MOVED}: {_NO_DAY_HOLDS}")
    return lines


def _spellings(values_N: Names) -> list[list[str]]:
    """The known values, those together that differ in case, blanks and strokes alone."""
    spelled: dict[str, set[str]] = {}
    for value in values_N[known(values_N)]:
        spelled.setdefault(re.sub(r"[\s_.-]+", "", value.casefold()), set()).add(value)
    return [sorted(names) for _, names in sorted(spelled.items())]


def _imbalance(subject: Subject) -> Check:
    why = "With a rare class a model that never names it still looks accurate."
    fix = "Collect more of it, judge by AUROC and balanced accuracy, and state the prevalence."
    counts = Counter(subject.label_N[subject.labelled])
    if len(counts) < 2:
        what = "no label is known" if not counts else f"only one class is known ({next(iter(counts))})"
        return Check("class-imbalance", "ok", f"Not checked: {what}.", why, fix, checked=False)
    total = counts.total()
    rarest, num = min(counts.items(), key=lambda item: (item[1], item[0]))
    commonest, most = max(counts.items(), key=lambda item: (item[1], item[0]))
    limit = subject.config.audit.warn_min_class_share
    return Check(
        "class-imbalance",
        "warn" if num / total < limit else "ok",
        f"The rarest class, {rarest}, is {num / total:.1%} of the labelled scans ({num} of {total}); naming "
        f"{commonest} always would be right in {most / total:.1%}.",
        why,
        fix,
        count=num,
        value=num / total,
        threshold=limit,
        table=Table(
            ("class", "scans", "share"), tuple((name, n, n / total) for name, n in sorted(counts.items(), key=str))
        ),
    )


def _too_few(subject: Subject) -> Check:
    from pipeline.measures.interval_widths import share_width

    why = "Of few cases nothing can be known: the interval is as wide as the claim."
    fix = "Label more cases of these classes, or leave the class out of the claim."
    if len(subject.labelled) == 0:
        return Check("too-few-cases", "ok", "Not checked: no label is known.", why, fix, checked=False)
    limit = subject.config.audit.warn_min_patients
    rows, few = [], []
    for finding in dict.fromkeys((*subject.findings, *asked_for(subject.config.pool))):
        of = subject.label_N == finding
        patients = len(set(subject.person_N[of]))
        sealed = of & (subject.side_N == "test")
        width = share_width(int(sealed.sum()), len(set(subject.person_N[sealed])))["half_width"]
        rows.append(
            (finding, int(of.sum()), patients, int(sealed.sum()), None if width is None else round(100 * width))
        )
        if patients < limit:
            few.append(finding)
    thin = _hardly_tested(subject, few)
    least = min(patients for _, _, patients, _, _ in rows)
    missing, blocks = _missing_sides(subject, [row[0] for row in rows])
    num_testable = sum(patients >= _BLOCK_PATIENTS for _, _, patients, _, _ in rows)
    blocks |= num_testable < 2 and _mostly_labelled(subject, np.ones(len(subject), dtype=np.bool_))
    severity: Severity = "block" if blocks else "warn" if few or missing or thin else "ok"
    return Check(
        "too-few-cases",
        severity,
        " ".join([*missing, *thin, *_sentences(rows, few, limit), *_auroc_words(subject)]),
        why,
        fix,
        count=len(few) + len(missing) + len(thin),
        value=float(least),
        threshold=float(limit),
        evidence=subject.evidence(*_examples(subject, few)),
        table=Table(("class", "scans", "patients", "in test", "sensitivity known to ± points"), tuple(rows)),
    )


def _missing_sides(subject: Subject, findings: list[str]) -> tuple[list[str], bool]:
    """What a split lacks, in sentences, and whether fewer than two classes can be both learnt and tested.

    Silent where labels are to come.
    """
    if not known(subject.side_N).any():
        return [], False
    messages, both, blocks = [], set(findings), False
    for word, side_N in (
        ("training", np.isin(subject.side_N.astype(str), ("train", "val"))),
        ("test", subject.side_N == "test"),
    ):
        if not side_N.any():
            messages.append(f"No scan is in {word}.")
            blocks = True
        elif _mostly_labelled(subject, side_N):
            absent = [finding for finding in findings if not (side_N & (subject.label_N == finding)).any()]
            both -= set(absent)
            if absent:
                messages.append(f"No {word} scan is labelled {_listed(absent, ' or ')}.")
    return messages, blocks or len(both) < 2


def _hardly_tested(subject: Subject, few: list[str]) -> list[str]:
    """Classes of patients enough of whom next to none are in the test, in one sentence; empty where there are none.

    Args:
        subject: The pool.
        few: Classes that are too rare in the whole pool, which is said elsewhere.
    """
    limit = subject.config.audit.warn_min_test_patients
    test_N = subject.side_N == "test"
    if not _mostly_labelled(subject, test_N):
        return []
    patients_of = {f: len(set(subject.person_N[test_N & (subject.label_N == f)])) for f in subject.findings}
    named = [f"{finding} ({num})" for finding, num in patients_of.items() if 0 < num < limit and finding not in few]
    return [f"Fewer than {limit} patients in the test: {_listed(named, ', ')}."] if named else []


def _mostly_labelled(subject: Subject, of_N: NDArray[np.bool_]) -> bool:
    return bool(of_N.any() and np.mean([label is not None for label in subject.label_N[of_N]]) >= 0.5)


def _sentences(rows: list[tuple[str, int, int, int, int | None]], few: list[str], limit: int) -> list[str]:
    short = [f"{name} ({counted(scans, 'scan')} of {patients})" for name, scans, patients, _, _ in rows if name in few]
    sealed = [
        f"{num} {name} in the test set: the sensitivity can be known to ± {points} points"
        for name, _, _, num, points in sorted(rows, key=lambda row: row[3])
        if points is not None
    ]
    text = [f"Fewer than {limit} patients: {_listed(short, ', ')}."] if short else []
    return [*text, f"{_listed(sealed, '; ')}."] if sealed else text


def _auroc_words(subject: Subject) -> list[str]:
    """How well an AUROC of .9 of the rarest tested class can be known."""
    from pipeline.measures.interval_widths import auroc_width, share_width

    test_N = (subject.side_N == "test") & np.array([label is not None for label in subject.label_N], dtype=np.bool_)
    tested = [finding for finding in subject.findings if (test_N & (subject.label_N == finding)).any()]
    if len(tested) < 2:
        return []
    rarest = min(tested, key=lambda finding: int((test_N & (subject.label_N == finding)).sum()))
    of_N = test_N & (subject.label_N == rarest)
    effect = share_width(int(of_N.sum()), len(set(subject.person_N[of_N])))["design_effect"]
    width = auroc_width(0.9, int(of_N.sum()), int((test_N & ~of_N).sum()), design_effect=max(1.0, effect))
    return [f"An AUROC of .9 for {rarest} can be known to ± {width['half_width']:.2f}."]


def _listed(words: list[str], between: str) -> str:
    """The first few of a list, and how many more there are."""
    rest = f" and {len(words) - _MAX_SAID} more" if len(words) > _MAX_SAID else ""
    return between.join(words[:_MAX_SAID]) + rest


def _examples(subject: Subject, few: list[str]) -> tuple[list[int], list[str]]:
    rows = [int(row) for finding in few for row in np.flatnonzero(subject.label_N == finding)[:6]]
    return rows, [str(subject.label_N[row]) for row in rows]
