import numpy as np

from pipeline.audit import overrides
from pipeline.audit.check import TITLES, Check, Override, judged
from pipeline.audit.checks import holdout_reads, left_out_source, patients, unlabelled_slices
from pipeline.contracts.errors import InputError
from pipeline.labels.holdout import log_read
from tests.support.audit_pools import context, many, scan, subject

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
    assert "a shares no class with the other sources" in check.message


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


def test_slices_show_where_no_label_is(tmp_path):
    rows = many(
        100, sex=lambda i: "MF"[i % 2], split="train", label=lambda i: "normal" if i % 2 == 0 and i < 60 else None
    )
    table = {(row["by"], row["slice"]): row for row in unlabelled_slices.coverage(subject(tmp_path, rows))}
    assert table["sex", "M"]["num_labelled"] == 30
    assert table["sex", "M"]["note"] is None
    assert (table["sex", "F"]["num_labelled"], table["sex", "F"]["note"]) == (0, "no label")
    assert table["sex", "F"]["share"] == 0.5
    assert table["age band", "40-64"]["num_scans"] == 100


def test_sealed_scans_are_not_the_pool_that_labels_cover(tmp_path):
    rows = [*many(10, split="train", label="normal"), *many(10, 50, split="holdout", label="normal")]
    table = unlabelled_slices.coverage(subject(tmp_path, rows))
    assert {row["num_scans"] for row in table} == {10}


def test_reads_of_the_holdout_are_counted_by_reader(tmp_path):
    rows = many(10, label=half)
    ctx = context(tmp_path, rows, **{"audit.warn_holdout_reads": 2})
    from pipeline.audit.audited_pool import open_subject

    assert not holdout_reads.check(open_subject(ctx)).checked
    for reader in ("audit", "evaluate", "evaluate", "report"):
        log_read(tmp_path, reader, 1, 7)
    check = holdout_reads.check(open_subject(ctx))
    assert (check.severity, check.count, check.value) == ("ok", 4, 2.0)
    log_read(tmp_path, "comparison", None, 7)
    assert holdout_reads.check(open_subject(ctx)).severity == "warn"


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
