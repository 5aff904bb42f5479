"""Whether training and test ask the same question."""

import pytest

from pipeline.audit.checks import between_splits
from tests.support.audit_pools import many, scan, subject


def sick_every(n):
    return lambda i: "sick" if i % n == 0 else "normal"


def check_of(tmp_path, rows):
    return between_splits.check(subject(tmp_path, rows))


def test_equal_shares_are_quiet(tmp_path):
    rows = [
        *many(90, label=sick_every(3), pool_split="train"),
        *many(60, 300, label=sick_every(3), pool_split="test"),
    ]
    check = check_of(tmp_path, rows)
    assert (check.severity, check.value) == ("ok", pytest.approx(0.0, abs=0.05))
    assert "sick is 33% of the people in training and 33% in the test" in check.message


def test_a_class_common_in_training_and_rare_in_the_test_is_a_warning(tmp_path):
    rows = [
        *many(84, label="sick", pool_split="train"),
        *many(16, 100, label="normal", pool_split="train"),
        *many(26, 200, label="sick", pool_split="test"),
        *many(74, 300, label="normal", pool_split="test"),
    ]
    check = check_of(tmp_path, rows)
    assert check.severity == "warn" and check.value > check.threshold
    assert "84% of the people in training and 26% in the test" in check.message
    assert {row[0]: row[1:3] for row in check.table.rows} == {"normal": (16, 74), "sick": (84, 26)}


def test_validation_is_held_against_training_too_and_the_worse_is_told(tmp_path):
    rows = [
        *many(90, label=sick_every(3), pool_split="train"),
        *many(60, 300, label=sick_every(3), pool_split="test"),
        *many(60, 400, label=lambda i: "normal" if i % 10 == 0 else "sick", pool_split="val"),
    ]
    check = check_of(tmp_path / "val", rows)
    assert (check.severity, check.count) == ("warn", 1) and check.value > check.threshold
    assert "sick is 33% of the people in training and 90% in validation" in check.message
    assert {row[0]: row[1:4] for row in check.table.rows} == {"normal": (60, 6, 40), "sick": (30, 54, 20)}
    few = [row for row in rows if row["pool_split"] != "val"] + many(3, 400, label="sick", pool_split="val")
    assert check_of(tmp_path / "few", few).severity == "ok"


def test_many_scans_of_few_people_are_few(tmp_path):
    """The whole difference is one patient's series."""
    rows = [
        *many(40, label=sick_every(2), pool_split="train"),
        *many(40, 100, label=sick_every(2), pool_split="test"),
        *[scan(500 + i, label="sick", pool_split="train", patient_id="series") for i in range(200)],
    ]
    assert check_of(tmp_path, rows).severity == "ok"


@pytest.mark.parametrize("rows", [many(40, label=sick_every(2)), many(40, label="sick", pool_split="train")])
def test_without_both_sides_and_two_classes_nothing_is_checked(tmp_path, rows):
    check = check_of(tmp_path, rows)
    assert (check.severity, check.checked) == ("ok", False)
