"""Are the patient ids ids of patients? Names of files, placeholders, and one patient spelled in several ways."""

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.audit.audited_pool import Subject, known
from pipeline.audit.check import Check, Severity, Table, are, counted
from pipeline.audit.same_person import look_at
from pipeline.runtime import run_files

CHECK_ID = "patient-ids-doubtful"
MIN_PATIENTS = 20  # fewer ids say nothing of how they are given
_MOST = 0.5  # of ids that hold several people, as in `patients`
_MIN_SCANS = 20  # of one id
_TIMES_USUAL = 10  # as many scans as the usual patient
_WHY = "Where an id does not stand for a patient, no split by patient and no interval holds."
_FIX = "Give the patient's own id in one spelling (pool.columns, pool.patient_regex), and leave unknown ones blank."


def check(subject: Subject) -> Check:
    """All that makes ids doubtful; the worst of it is the severity."""
    if not known(subject.patient_N).any():
        return Check(CHECK_ID, "ok", "Not checked: the pool has no patient ids.", _WHY, _FIX, checked=False)
    forms = _forms(subject)
    parts = [part for part in (_spellings(subject, forms), _names_of_files(subject, forms), _too_many(subject)) if part]
    order = ("ok", "warn", "block")
    worst = max(parts, key=lambda part: order.index(part.severity), default=None)
    if worst is None:
        num = len(set(subject.patient_N[known(subject.patient_N)]))
        message = f"Nothing speaks against the {num} patient ids."
        return Check(CHECK_ID, "ok", message + _one_scan_each(subject), _WHY, _FIX)
    return replace(worst, message=" ".join(part.message for part in parts))


def _forms(subject: Subject) -> dict[str, tuple[str, bool]]:
    """Of each pseudonym that of its normal form, and whether it is a file's name; empty where none were written."""
    path = run_files.path(subject.folder, run_files.PATIENT_FORMS)
    if not path.exists():
        return {}
    table = pq.read_table(path, partitioning=None)
    rest = zip(table["form"].to_pylist(), table["is_file_name"].to_pylist(), strict=True)
    return dict(zip(table["patient_id"].to_pylist(), rest, strict=True))


def _spellings(subject: Subject, forms: dict[str, tuple[str, bool]]) -> Check | None:
    """Patients on both sides of the split under ids that differ in spelling alone, as far as pictures agree."""
    ids_of: dict[str, set[str]] = defaultdict(set)
    for patient in set(subject.patient_N[known(subject.patient_N)]):
        ids_of[forms.get(patient, (patient, False))[0]].add(patient)
    several = {form for form, ids in ids_of.items() if len(ids) > 1}
    if not several:
        return None
    form_N = np.array([None if p is None else forms.get(p, (p, False))[0] for p in subject.patient_N], dtype=object)
    where = _on_both_sides(subject, form_N, several)
    rows = np.flatnonzero(np.isin(form_N.astype(str), sorted(where or several)))
    rows = np.array(sorted(rows, key=lambda row: (form_N[row], str(subject.side_N[row]))), dtype=np.int64)
    severity, words = _by_pictures(subject, form_N, where) if where else ("warn", "")
    message = (
        f"{counted(len(where), 'patient')} {are(where)} in training and in test under ids that differ in spelling "
        f"alone.{words}"
        if where
        else f"{counted(len(several), 'patient')} {are(several)} spelled in several ways (as P00012, pat-12 and 12)."
    )
    return Check(
        CHECK_ID,
        severity,
        message,
        _WHY,
        _FIX,
        count=len(where or several),
        evidence=subject.evidence(rows, [f"patient {form_N[row][:8]} in {subject.side_N[row]}" for row in rows]),
    )


def _on_both_sides(subject: Subject, form_N: np.ndarray, several: set[str]) -> set[str]:
    """Forms with scans in the test and elsewhere, that no single id explains."""
    sides: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for form, patient, side in zip(form_N, subject.patient_N, subject.side_N, strict=True):
        if form in several and side is not None:
            sides[form].add((side, patient))
    return {
        form
        for form, pairs in sides.items()
        if any(a[0] == "test" and b[0] != "test" and a[1] != b[1] for a in pairs for b in pairs)
    }


def _by_pictures(subject: Subject, form_N: np.ndarray, forms: set[str]) -> tuple[Severity, str]:
    """What the pictures say of ids that share a form: one person each, several, or they cannot tell."""
    place = subject.scans.schema.get_field_index("patient_id")
    merged = replace(
        subject, scans=subject.scans.set_column(place, "patient_id", pa.array(form_N.tolist(), pa.string()))
    )
    people = look_at(merged) if subject.has_emb_N.any() else None
    if people is None:
        return "warn", " There are too few pictures to say whether they are one person each."
    pairs_P = people.differ(subject.patient_N) & np.isin(form_N[people.left_P].astype(str), sorted(forms))
    pairs_P &= ~people.differ(subject.source_N) & ~people.differ(subject.view_N)
    judged = people.judge(pairs_P, name="spellings")
    if not judged.can_tell:
        return "warn", f" The pictures cannot tell whether they are one person each: {judged.unable or 'too few'}."
    if judged.low >= _MOST:
        return "ok", " By the pictures they are different people."
    if judged.high < _MOST:
        return "block", f" By the pictures they are one person each (AUROC {judged.auroc:.2f})."
    return "warn", " The pictures leave open whether they are one person each."


def _names_of_files(subject: Subject, forms: dict[str, tuple[str, bool]]) -> Check | None:
    patients = set(subject.patient_N[known(subject.patient_N)])
    named = [patient for patient in patients if forms.get(patient, ("", False))[1]]
    if len(patients) < MIN_PATIENTS or len(named) < _MOST * len(patients):
        return None
    message = (
        f"{len(named)} of {len(patients)} patient ids are the names of their files, and every such patient has one "
        "scan: these are no patient ids."
    )
    return Check(CHECK_ID, "warn", message, _WHY, _FIX, count=len(named), value=len(named) / len(patients))


def _one_scan_each(subject: Subject) -> str:
    patients = subject.patient_N[known(subject.patient_N)]
    alone = len(patients) >= MIN_PATIENTS and len(set(patients)) == len(patients)
    return " Every patient has one scan: make sure that these are ids of patients, not of scans." if alone else ""


def _too_many(subject: Subject) -> Check | None:
    """An id with an implausible share of the scans: a placeholder, or a series that outweighs everybody."""
    counts = Counter(subject.patient_N[known(subject.patient_N)])
    limit = subject.config.audit.warn_patient_share
    usual = float(np.median(list(counts.values())))
    big = [
        (patient, num)
        for patient, num in counts.most_common(5)
        if num >= _MIN_SCANS and num > limit * len(subject) and num > _TIMES_USUAL * usual
    ]
    if len(counts) < MIN_PATIENTS or not big:
        return None
    patient, num = big[0]
    rows = np.flatnonzero(subject.patient_N == patient)
    sexes = {sex for sex in subject.sex_N[rows] if sex is not None}
    ages = subject.age_N[rows][np.isfinite(subject.age_N[rows])]
    people = [f"{len(sexes)} sexes"] if len(sexes) > 1 else []
    people += [f"ages {ages.min():.0f} to {ages.max():.0f}"] if len(ages) and np.ptp(ages) > 15 else []
    words = f" with {' and '.join(people)}: no one person" if people else ": a placeholder, or one very long series"
    return Check(
        CHECK_ID,
        "warn",
        f"Patient {patient[:8]} has {num} of {len(subject)} scans ({num / len(subject):.0%}){words}.",
        _WHY,
        _FIX,
        count=len(big),
        value=num / len(subject),
        threshold=limit,
        evidence=subject.evidence(rows, [_described(subject, int(row)) for row in rows]),
        table=Table(("patient", "scans"), tuple((p[:8], n) for p, n in big)),
    )


def _described(subject: Subject, row: int) -> str:
    age = subject.age_N[row]
    known_ = (subject.sex_N[row], f"{age:.0f} years" if np.isfinite(age) else None)
    return ", ".join(str(value) for value in known_ if value is not None) or "nothing is known"
