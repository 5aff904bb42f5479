import numpy as np

from pipeline.audit import overrides
from pipeline.audit.check import TITLES, Check, Override, judged
from pipeline.audit.checks import left_out_source, patients
from pipeline.contracts.errors import InputError
from tests.support.audit_pools import many, scan, subject

import pytest  # isort: skip


def half(i):
    return ("normal", "sick")[i % 2]


def vectors(rows, *, gap=3.0, seed=0):
    rng = np.random.default_rng(seed)
    sick = np.array([row["label"] == "sick" for row in rows])
    emb_ND = rng.normal(size=(len(rows), 8))
    emb_ND[:, 0] += gap * sick
    return emb_ND


def test_each_source_is_tested_by_a_model_that_never_saw_it(tmp_path):
    rows = many(120, label=half, source=lambda i: "ab"[i // 2 % 2])
    one = subject(tmp_path, rows, emb_ND=vectors(rows))
    found = left_out_source.leave_one_source_out(one)
    assert [row.source for row in found] == ["a", "b"]
    assert all(row.auroc > 0.9 and row.within > 0.9 for row in found)
    check = left_out_source.check(one, found)
    assert (check.severity, check.count) == ("ok", 2)
    worst = max(found, key=lambda row: row.within - row.auroc)
    assert f"against {worst.within:.3f} when it may learn from {worst.source} too" in check.message
    assert (check.value, check.threshold) == (worst.within - worst.auroc, one.config.audit.warn_external_drop)
    assert check.why and check.fix


def test_a_model_that_fails_elsewhere_is_a_warning(tmp_path):
    rows = many(240, label=half, source=lambda i: "ab"[i // 2 % 2])
    emb_ND = vectors(rows)
    away = np.array([row["source"] == "b" for row in rows])
    emb_ND[away, 0] *= -1  # the sign of the finding is the other way round there
    emb_ND[away, 1] += 6.0  # and the place can be seen
    check = left_out_source.check(
        one := subject(tmp_path, rows, emb_ND=emb_ND), left_out_source.leave_one_source_out(one)
    )
    assert check.severity == "warn"
    assert check.value > 0.3


def test_a_patient_seen_at_both_places_is_left_out_of_training(tmp_path):
    # The label is each patient's own and nothing shows it but the patient: only the leak could tell.
    rng = np.random.default_rng(0)
    label = rng.permutation(np.repeat(["normal", "sick"], 30))
    person = rng.normal(size=(60, 8))
    rows = [
        scan(100 * place + i, label=str(label[i]), source="ab"[place], patient_id=f"p{i}")
        for place in (0, 1)
        for i in range(60)
    ]
    emb_ND = np.concatenate([person, person]) + 0.01 * rng.normal(size=(120, 8))
    extra = [scan(500 + i, label=half(i), source="ab"[i // 2 % 2]) for i in range(40)]
    emb_ND = np.concatenate([emb_ND, rng.normal(size=(40, 8))])
    found = left_out_source.leave_one_source_out(subject(tmp_path, [*rows, *extra], emb_ND=emb_ND))
    assert all(row.auroc < 0.75 for row in found)


def test_where_no_source_shares_classes_it_is_refused_with_the_reason(tmp_path):
    rows = [*many(40, label="normal", source="a"), *many(40, 100, label="sick", source="b")]
    one = subject(tmp_path, rows, emb_ND=vectors(rows))
    check = left_out_source.check(one, left_out_source.leave_one_source_out(one))
    assert (check.severity, check.value) == ("warn", None)
    assert "possible: a shares no class with the other sources; b shares no class with the other sources." in (
        check.message
    )
    assert (check.count, check.threshold) == (2, one.config.audit.warn_external_drop)


def test_one_class_in_common_is_named_and_of_many_sources_some_are(tmp_path):
    rows = [*many(20, label="normal", source="a"), *many(20, 50, label=half, source="b")]
    refused = left_out_source.leave_one_source_out(subject(tmp_path / "two", rows, emb_ND=vectors(rows)))
    assert [row.to_json()["findings"] for row in refused] == [["normal"], ["normal"]]
    assert {row.reason for row in refused} == {"shares only normal with the other sources"}
    rows = many(30, label=lambda i: f"class-{i % 6}", source=lambda i: "abcdef"[i % 6])
    one = subject(tmp_path / "six", rows, emb_ND=vectors(rows))
    check = left_out_source.check(one, left_out_source.leave_one_source_out(one))
    assert check.message.count("shares no class") == 4 and "; and 2 more" in check.message


@pytest.mark.parametrize(
    ("known", "reason"),
    [({"source": "a"}, "one source (a)"), ({"source": None}, "no source is known"), ({"label": None}, "no label")],
)
def test_what_is_missing_is_said(tmp_path, known, reason):
    rows = many(40, **({"label": half} | known))
    one = subject(tmp_path, rows, emb_ND=vectors(rows))
    check = left_out_source.check(one, left_out_source.leave_one_source_out(one))
    assert check.severity == "warn"
    assert reason in check.message


def test_an_override_must_name_a_check_and_say_why(tmp_path):
    assert overrides.parse(None, None) == []
    with pytest.raises(InputError, match="--because"):
        overrides.parse(["all"], None)
    with pytest.raises(InputError, match="--because"):
        overrides.parse(["all"], "  ")
    with pytest.raises(InputError, match="Did you mean exact-duplicates"):
        overrides.parse(["exact-duplicate"], "why not")
    with pytest.raises(InputError, match="no check that it is for"):
        overrides.parse(None, "why not")
    first = overrides.parse(["all"], "a demonstration")
    overrides.add(tmp_path, first)
    overrides.add(tmp_path, overrides.parse(["label-conflict"], "checked by Dr. Ä."))
    assert [(one.check, one.because) for one in overrides.read(tmp_path)] == [
        ("all", "a demonstration"),
        ("label-conflict", "checked by Dr. Ä."),
    ]


def finding(check_id, severity):
    return Check(check_id, severity, "m", "w", "f")


def audit_of(*checks, words=(), strict=False):
    return judged({"strict": strict, "checks": [check.to_json() for check in checks]}, words)


def test_the_verdict_is_the_worst_check_and_an_override_does_not_change_it():
    ok, warn, block = (
        finding("exact-duplicates", "ok"),
        finding("near-duplicates", "warn"),
        finding("label-conflict", "block"),
    )
    assert audit_of(ok)["verdict"] == "valid"
    assert audit_of(ok, warn)["verdict"] == "caution"
    assert audit_of(ok, warn)["blocking"] == []
    assert audit_of(ok, warn, strict=True)["blocking"] == ["near-duplicates"]
    assert audit_of(block)["blocking"] == ["label-conflict"]
    accepted = audit_of(block, warn, ok, words=[Override("label-conflict", "known", "2026-01-01")])
    assert (accepted["verdict"], accepted["blocking"]) == ("invalid", [])
    row = next(row for row in accepted["checks"] if row["id"] == "label-conflict")
    assert row["accepted"] == "known"
    assert {"id", "severity", "count", "value", "message", "evidence"} <= set(row)
    assert [row["id"] for row in accepted["checks"]] == sorted(
        ["exact-duplicates", "near-duplicates", "label-conflict"], key=list(TITLES).index
    )
    assert audit_of(ok, words=[Override("all", "known", "2026-01-01")])["checks"][0]["accepted"] is None


def test_a_copy_in_test_hides_no_other_scan_of_its_patient(tmp_path):
    def pool(folder, rows):
        clean = many(40, label=half, pool_split=lambda i: "test" if i < 12 else "train")
        return patients.across_splits(subject(folder, [*clean, *rows]))

    trained = scan(100, patient_id="p100", pool_split="train", label="normal")
    copied = scan(101, patient_id="p100", pool_split="test", label="normal", copy_of=trained["image_id"], kind="exact")
    other = scan(102, patient_id="p100", pool_split="test", label="normal")
    assert pool(tmp_path / "copy", [trained, copied]).severity == "ok"  # that is duplicates-across-splits
    leak = pool(tmp_path / "leak", [trained, copied, other])
    assert (leak.severity, leak.count) == ("block", 1)
    seen = scan(103, patient_id="p100", pool_split="val", label="normal")
    assert pool(tmp_path / "val", [seen, other]).severity == "block"
