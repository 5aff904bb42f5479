import pytest

from pipeline.audit.checks import copies
from tests.support.audit_pools import many, scan, subject


def found(tmp_path, rows, **overrides):
    return {check.id: check for check in copies.check(subject(tmp_path, rows, **overrides))}


def copy(number, of, **known):
    return scan(number, copy_of=f"{of:016x}", kind=known.pop("kind", "exact"), **known)


def test_a_clean_pool_has_nothing_to_say(tmp_path):
    checks = found(tmp_path, many(20, label="normal", pool_split=lambda i: "test" if i < 5 else "train"))
    assert {check.severity for check in checks.values()} == {"ok"}
    assert all(check.checked and check.count == 0 for check in checks.values())
    assert all(check.why and check.fix for check in checks.values())


@pytest.mark.parametrize("kind", ["exact", "near"])
def test_copies_are_counted_and_named_by_kind(tmp_path, kind):
    rows = [*many(30), copy(90, 0, kind=kind, patient_id="p0"), copy(91, 1, kind=kind, patient_id="p1")]
    checks = found(tmp_path, rows)
    mine, other = checks[f"{kind}-duplicates"], checks["near-duplicates" if kind == "exact" else "exact-duplicates"]
    assert (mine.severity, mine.count) == ("warn", 2)
    assert mine.value == pytest.approx(2 / 32)
    assert mine.message.startswith("2 of 32 scans (6.2%) repeat another one ")
    assert other.message.startswith("No scan repeats another one ")
    assert [row["image_id"] for row in mine.evidence] == [f"{90:016x}", f"{91:016x}"]
    assert mine.evidence[0]["note"] == f"copy of {0:016x}"
    assert (other.severity, other.count) == ("ok", 0)


def test_scans_kept_as_dicom_and_as_png_are_told(tmp_path):
    rows = [*many(30, format="DICOM"), copy(90, 0, kind="near", format="PNG"), copy(91, 1, kind="near", format="DICOM")]
    check = found(tmp_path, rows)["near-duplicates"]
    assert check.count == 2 and check.message.endswith(
        "Pictures that are there in several formats: 1 as DICOM and as PNG."
    )


def test_a_pool_of_copies_alone_is_blocked(tmp_path):
    rows = [scan(0, label="normal"), *[copy(i, 0, label="normal", patient_id="p0") for i in range(1, 10)]]
    check = found(tmp_path, rows)["exact-duplicates"]
    assert (check.severity, check.count, check.value) == ("block", 9, 0.9)


def test_a_picture_in_training_and_test_blocks_and_counts_test_scans(tmp_path):
    rows = [
        *many(10, pool_split="train"),
        *many(10, 20, pool_split="test"),
        copy(90, 0, pool_split="test", patient_id="p0"),
        copy(91, 1, pool_split="TEST", patient_id="p1"),
        copy(92, 2, pool_split="val", patient_id="p2"),
    ]
    check = found(tmp_path, rows)["duplicates-across-splits"]
    assert (check.severity, check.count) == ("block", 2)
    assert "2 of 12 test scans (16.7%)" in check.message
    assert {row["note"] for row in check.evidence} == {
        "picture 1: train",
        "picture 1: test",
        "picture 2: train",
        "picture 2: test",
    }
    assert not any(".png" in row["note"] for row in check.evidence)


def test_a_picture_in_training_and_validation_is_a_warning(tmp_path):
    rows = [*many(10, pool_split="train"), scan(50, pool_split="test"), copy(92, 2, pool_split="val", patient_id="p2")]
    check = found(tmp_path, rows)["duplicates-across-splits"]
    assert (check.severity, check.count) == ("warn", 1)


def test_a_split_we_drew_is_judged_and_the_pools_own_is_not_when_it_is_not_used(tmp_path):
    rows = [
        *many(10, pool_split="train", split="train"),
        copy(90, 0, pool_split="test", split="train", patient_id="p0"),
        scan(91, pool_split="test", split="holdout"),
    ]
    assert found(tmp_path / "own", rows)["duplicates-across-splits"].severity == "block"
    ignored = found(tmp_path / "drawn", rows, **{"splits.column": "none"})["duplicates-across-splits"]
    assert (ignored.severity, ignored.checked) == ("ok", True)
    assert "drawn by group" in ignored.message


def test_without_a_split_it_says_that_nothing_was_checked(tmp_path):
    check = found(tmp_path, many(5))["duplicates-across-splits"]
    assert (check.severity, check.checked) == ("ok", False) and check.why and check.fix


def test_copies_under_other_patients_and_labels(tmp_path):
    rows = [
        *many(40, label=lambda i: ("normal", "sick")[i % 2]),
        copy(90, 0, label="normal", patient_id="someone else"),
        copy(91, 1, label="normal", patient_id="p1"),
        copy(92, 2, label="normal", patient_id=None),
    ]
    checks = found(tmp_path, rows)
    assert (checks["duplicates-across-patients"].severity, checks["duplicates-across-patients"].count) == ("warn", 1)
    conflict = checks["label-conflict"]
    assert (conflict.severity, conflict.count) == ("block", 1)
    assert "1 of 3 copied pictures with" in conflict.message
    assert {row["image_id"] for row in conflict.evidence} == {f"{1:016x}", f"{91:016x}"}


def test_a_few_conflicts_of_many_labels_are_a_warning(tmp_path):
    rows = [*many(400, label="normal"), copy(900, 1, label="sick", patient_id="p1")]
    assert found(tmp_path, rows)["label-conflict"].severity == "warn"


def test_patients_of_several_classes_are_told_but_do_not_accuse(tmp_path):
    rows = [*many(10, label="normal"), scan(90, label="sick", patient_id="p3"), scan(91, label="sick", patient_id="p4")]
    check = found(tmp_path, rows)["label-conflict"]
    assert check.severity == "ok"
    assert "2 patients with scans of several classes (2 in normal and sick)" in check.message
    assert (check.table.columns, check.table.rows) == (("classes", "patients"), (("normal + sick", 2),))


def test_without_patients_or_labels_it_says_what_cannot_be_checked(tmp_path):
    checks = found(tmp_path, many(5, patient_id=None))
    for name in ("duplicates-across-patients", "label-conflict"):
        assert (checks[name].severity, checks[name].checked) == ("ok", False) and checks[name].why and checks[name].fix


def test_validation_is_learnt_from_so_a_test_picture_in_it_blocks(tmp_path):
    rows = [
        *many(10, pool_split="train"),
        scan(50, pool_split="val"),
        copy(90, 50, pool_split="test", patient_id="p50"),
    ]
    check = found(tmp_path, rows)["duplicates-across-splits"]
    assert (check.severity, check.count) == ("block", 1)


def test_near_copies_of_one_patient_may_be_two_visits_unless_many_differ(tmp_path):
    def pool(num_differing):
        originals = many(60, label="normal")
        copies_ = [
            copy(100 + i, i, kind="near", patient_id=f"p{i}", label="sick" if i < num_differing else "normal")
            for i in range(10)
        ]
        return [*originals, *copies_]

    one = found(tmp_path / "one", pool(1))["label-conflict"]
    assert (one.severity, one.count) == ("ok", 0)
    assert "may be two visits" in one.message
    assert found(tmp_path / "many", pool(6))["label-conflict"].severity == "block"
    other = [*many(400, label="normal"), copy(900, 0, kind="near", patient_id="stranger", label="sick")]
    assert found(tmp_path / "other", other)["label-conflict"].severity == "warn"
