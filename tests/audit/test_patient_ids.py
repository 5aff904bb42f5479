"""Ids that are no ids of patients: respelled, placeholders, names of files."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline.audit.checks import patient_ids
from pipeline.contracts.tables import write_parquet
from pipeline.pool.listing import patient_forms
from pipeline.runtime import run_files
from tests.support.audit_pools import many, scan, subject


@pytest.mark.parametrize("spelled", ["12", "P00012", "pat-12", "Patient 012", " p_12 ", "ID#12", "subj.0012"])
def test_spellings_of_one_number_have_one_form(spelled):
    assert patient_forms.normal_form(spelled) == "12"


@pytest.mark.parametrize(("one", "other"), [("12", "13"), ("nih-12", "12"), ("a12", "b12"), ("120", "12")])
def test_different_patients_keep_different_forms(one, other):
    assert patient_forms.normal_form(one) != patient_forms.normal_form(other)


def hide(column):
    return pa.array([None if value is None else f"hid-{value}" for value in column.to_pylist()])


def with_forms(folder, rows, written, paths=None, **more):
    """A subject of these rows whose ids the pool wrote so."""
    hidden = hide(pa.chunked_array([pa.array(written, pa.string())]))
    for row, patient in zip(rows, hidden.to_pylist(), strict=True):
        row["patient_id"] = patient
    one = subject(folder, rows, **more)
    paths = paths or [f"images/{i}.png" for i in range(len(rows))]
    ids, paths = pa.chunked_array([written], pa.string()), pa.chunked_array([paths])
    write_parquet(folder / run_files.PATIENT_FORMS, patient_forms.forms_of(ids, hidden, paths, hide))
    return one


def respelled(num, side_of):
    rows = [*many(num, pool_split="train"), *many(num, num, pool_split=side_of)]
    return rows, [f"P{i:05d}" for i in range(num)] + [f"pat-{i}" for i in range(num)]


def test_ids_respelled_across_the_split_are_found_by_their_normal_form(tmp_path):
    rows, written = respelled(30, "test")
    check = patient_ids.check(with_forms(tmp_path, rows, written))
    assert (check.severity, check.count) == ("warn", 30)
    assert "30 patients are in training and in test under ids that differ in spelling alone" in check.message
    assert "too few pictures" in check.message
    first = {row["note"].split()[1] for row in check.evidence[:2]}
    assert len(first) == 1  # the two scans of one patient stand together


@pytest.mark.parametrize(("low", "high", "severity"), [(0.0, 0.2, "block"), (0.8, 1.0, "ok"), (0.2, 0.8, "warn")])
def test_the_pictures_decide_whether_a_respelled_id_is_one_person(low, high, severity, tmp_path, monkeypatch):
    from pipeline.audit.same_person import Judgement

    class People:
        left_P = right_P = np.arange(30)

        def differ(self, values_N):
            return np.zeros(30, np.bool_)

        def judge(self, pairs_P, name):
            return Judgement(np.array([f"p{i}" for i in range(30)], object), np.ones(30), 0.1, low, high, 0.9)

    monkeypatch.setattr(patient_ids, "look_at", lambda _: People())
    rows, written = respelled(30, "test")
    one = with_forms(tmp_path, rows, written, emb_ND=np.zeros((60, 4)))
    assert patient_ids.check(one).severity == severity


def test_respelled_ids_on_one_side_are_said_too(tmp_path):
    check = patient_ids.check(with_forms(tmp_path, *respelled(30, "train")))
    assert check.severity == "warn" and "30 patients are spelled in several ways" in check.message


def test_ids_that_are_names_of_files_are_no_patient_ids(tmp_path):
    rows, written = many(40), [f"scan{i}" for i in range(40)]
    named = with_forms(tmp_path / "named", rows, written, [f"a/scan{i}.png" for i in range(40)])
    check = patient_ids.check(named)
    assert check.severity == "warn" and "these are no patient ids" in check.message
    plain = patient_ids.check(with_forms(tmp_path / "plain", many(40), written))
    assert plain.severity == "ok" and "Every patient has one scan" in plain.message


def test_an_id_with_an_implausible_share_is_named(tmp_path):
    rows = [*many(60), *[scan(100 + i, patient_id="none", sex="FM"[i % 2]) for i in range(20)]]
    for limit, severity in ((0.24, "warn"), (0.25, "ok")):
        check = patient_ids.check(subject(tmp_path, rows, **{"audit.warn_patient_share": limit}))
        assert check.severity == severity
        assert ("has 20 of 80 scans (25%) with 2 sexes: no one person" in check.message) is (severity == "warn")


def test_without_ids_nothing_is_checked(tmp_path):
    assert not patient_ids.check(subject(tmp_path, many(30, patient_id=None))).checked
