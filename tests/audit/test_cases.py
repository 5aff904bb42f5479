import json

import pyarrow as pa
import pytest

from pipeline.audit.checks import cases
from pipeline.runtime import run_files
from tests.support.audit_pools import many, scan, subject


@pytest.mark.parametrize(
    ("names", "severity"), [(("Site A", "site-a", "SITE_A"), "warn"), (("Site A", "Site B", "Site C"), "ok")]
)
def test_one_source_in_several_spellings_is_said(names, severity, tmp_path):
    one = subject(tmp_path, many(60, source=lambda i: names[i % 3]))
    (check,) = [check for check in cases.check(one) if check.id == "missing-metadata"]
    assert check.severity == severity
    assert ("spelled in several ways: 'SITE_A', 'Site A', 'site-a'" in check.message) is (severity == "warn")


def test_values_that_cannot_be_are_said_and_not_only_blanked(tmp_path):
    from pipeline.pool import vocabulary
    from pipeline.tables.notes import Notes

    written = pa.chunked_array([["40", "400", "-3", None]], pa.string())
    notes = Notes("manifest.csv")
    vocabulary.say_unread(written, vocabulary.ages(written), "age", notes)
    one = subject(tmp_path, many(60))
    checks = {}
    for name, lines in (("silent", []), ("told", notes.lines)):
        (tmp_path / run_files.POOL_NOTES).write_text(json.dumps({"notes": lines}))
        checks[name] = next(check for check in cases.check(one) if check.id == "missing-metadata")
    assert (checks["silent"].severity, checks["told"].severity) == ("ok", "warn")
    assert "2 values of age are not understood" in checks["told"].message
    assert "'400'" in checks["told"].message and "'-3'" in checks["told"].message


def found(tmp_path, rows, **overrides):
    return {check.id: check for check in cases.check(subject(tmp_path, rows, **overrides))}


def half(i):
    return ("normal", "sick")[i % 2]


def test_a_good_pool_has_nothing_to_say(tmp_path):
    rows = many(60, label=half, pool_split=lambda i: "test" if i < 20 else "train")
    assert {check.severity for check in found(tmp_path, rows).values()} == {"ok"}


def test_quarantined_files_are_counted_with_their_reasons(tmp_path):
    broken = [scan(900 + i, status="quarantined", reason=("empty", "empty", "no image")[i]) for i in range(3)]
    check = found(tmp_path, [*many(97), *broken])["quarantined-scans"]
    assert (check.severity, check.count, check.value) == ("warn", 3, pytest.approx(0.03))
    assert "3 of 100" in check.message
    assert check.table.rows == (("empty", 2), ("no image", 1))


def test_files_set_aside_by_rule_are_counted_and_no_fault(tmp_path):
    aside = [scan(900 + i, status="quarantined", reason="set aside: modality CT, no radiograph") for i in range(50)]
    check = found(tmp_path, [*many(97), *aside])["quarantined-scans"]
    assert (check.severity, check.count) == ("ok", 0) and "50 more are set aside by rule" in check.message
    assert check.table.rows == (("set aside: modality CT, no radiograph", 50),)


def test_reasons_come_by_how_often_and_then_by_name(tmp_path):
    reasons = ["a rare one", *["truncated"] * 3, *["empty"] * 3, *["no image"] * 4]
    broken = [scan(900 + i, status="quarantined", reason=reason) for i, reason in enumerate(reasons)]
    check = found(tmp_path, [*many(9), *broken])["quarantined-scans"]
    assert "4 × no image; 3 × empty; 3 × truncated." in check.message
    assert check.table.rows == (("no image", 4), ("empty", 3), ("truncated", 3), ("a rare one", 1))


def test_a_missing_patient_column_is_a_warning_that_says_what_cannot_be_checked(tmp_path):
    check = found(tmp_path, many(20, patient_id=None))["missing-metadata"]
    assert (check.severity, check.count) == ("warn", 20)
    assert "patient 100%" in check.message
    assert "whether a patient is in training and test" in check.message


def test_some_missing_metadata_is_weighed_by_column(tmp_path):
    rows = many(100, patient_id=lambda i: None if i < 4 else f"p{i}", sex=lambda i: None if i < 19 else "M")
    assert found(tmp_path / "a", rows)["missing-metadata"].severity == "ok"
    rows = many(100, sex=lambda i: None if i < 30 else "M", view=lambda i: "unknown" if i < 10 else "PA")
    check = found(tmp_path / "b", rows)["missing-metadata"]
    assert (check.severity, check.count, check.value) == ("warn", 30, pytest.approx(0.3))


@pytest.mark.parametrize(
    ("column", "unknown", "cannot"),
    [
        ("source", None, "whether a source gives the label away, and how a model does elsewhere"),
        ("age_years", None, "whether age gives the label away"),
        ("sex", None, "whether sex gives the label away"),
        ("view", "unknown", "whether the view gives the label away"),
    ],
)
def test_a_column_that_is_wholly_unknown_costs_its_check(tmp_path, column, unknown, cannot):
    check = found(tmp_path, many(20, **{column: unknown}))["missing-metadata"]
    assert (check.severity, check.count, check.value) == ("warn", 20, 1.0)
    assert check.message.endswith(f" It cannot be checked {cannot}.")


def test_the_limit_told_is_that_of_patients_where_patients_are_unknown(tmp_path):
    limits = {"audit.warn_unknown_share": 0.3, "audit.warn_unknown_patient_share": 0.1}
    rows = many(20, sex=lambda i: None if i < 8 else "M")
    check = found(tmp_path / "sex", rows, **limits)["missing-metadata"]
    assert (check.threshold, check.value) == (0.3, 0.4)
    assert check.table.columns == ("column", "unknown", "warned from")
    assert ("sex", 0.4, 0.3) in check.table.rows and ("patient", 0.0, 0.1) in check.table.rows
    rows = [row | {"patient_id": None if i < 5 else row["patient_id"]} for i, row in enumerate(rows)]
    check = found(tmp_path / "both", rows, **limits)["missing-metadata"]
    assert (check.threshold, check.value, check.count) == (0.1, 0.4, 8)


def test_a_rare_class_is_named_with_the_majority_baseline(tmp_path):
    rows = many(200, label=lambda i: "rare" if i < 2 else "normal")
    check = found(tmp_path, rows)["class-imbalance"]
    assert (check.severity, check.count, check.value) == ("warn", 2, pytest.approx(0.01))
    assert "rare, is 1.0%" in check.message
    assert "always would be right in 99.0%" in check.message
    assert check.table.columns == ("class", "scans", "share")
    assert check.table.rows == (("normal", 198, 0.99), ("rare", 2, 0.01))


def test_one_class_or_none_cannot_be_checked(tmp_path):
    for name, label in (("none", None), ("one", "normal")):
        checks = found(tmp_path / name, many(30, label=label))
        assert (checks["class-imbalance"].severity, checks["class-imbalance"].checked) == ("ok", False)
        assert checks["too-few-cases"].checked is (label is not None)


def test_few_patients_warn_and_one_patient_blocks(tmp_path):
    rows = many(40, label=lambda i: "rare" if i < 6 else "normal")
    check = found(tmp_path / "few", rows)["too-few-cases"]
    assert (check.severity, check.count, check.value) == ("warn", 1, 6.0)
    assert "rare (6 scans of 6)" in check.message
    rows = [*many(40, label="normal"), scan(90, label="rare"), scan(91, label="rare", patient_id="p90")]
    check = found(tmp_path / "one", rows)["too-few-cases"]
    assert (check.severity, check.value) == ("block", 1.0)


def test_the_width_a_test_set_can_give_is_said_in_numbers(tmp_path):
    rows = many(400, label=half, pool_split=lambda i: "test" if i < 84 else "train")
    check = found(tmp_path, rows)["too-few-cases"]
    assert "42 sick in the test set: the sensitivity can be known to ± 14 points" in check.message
    assert dict(zip(check.table.columns, check.table.rows[1], strict=True))["in test"] == 42


@pytest.mark.parametrize(("there", "words"), [("test", "No training scan"), ("train", "No test scan")])
def test_a_class_on_one_side_only_blocks(tmp_path, there, words):
    rows = many(80, label=half, pool_split=lambda i: there if i % 2 else ("train", "test")[i // 2 % 2])
    check = found(tmp_path, rows)["too-few-cases"]
    assert check.severity == "block"
    assert f"{words} is labelled sick." in check.message


@pytest.mark.parametrize(("side", "words"), [("val", "No scan is in test."), ("test", "No scan is in training.")])
def test_a_split_without_a_side_blocks(tmp_path, side, words):
    check = found(tmp_path, many(60, label=half, pool_split=side))["too-few-cases"]
    assert check.severity == "block"
    assert words in check.message


def test_a_blank_split_is_training_as_a_run_reads_it(tmp_path):
    rows = many(60, label=half, pool_split=lambda i: "test" if i < 20 else None)
    assert found(tmp_path, rows)["too-few-cases"].severity == "ok"


def test_a_third_class_that_is_nowhere_or_on_one_side_is_a_warning(tmp_path):
    classes = {"pool.findings": ["normal", "sick", "covid"]}
    check = found(tmp_path / "all", many(60, label=half), **classes)["too-few-cases"]
    assert check.severity == "warn"
    assert "covid (0 scans of 0)" in check.message
    rows = many(90, label=half, pool_split=lambda i: ("train", "test")[i // 2 % 2])
    rows += many(20, 200, label="covid", pool_split="train")
    check = found(tmp_path / "side", rows)["too-few-cases"]
    assert check.severity == "warn"
    assert "No test scan is labelled covid." in check.message
    few = many(60, label=lambda i: half(i) if i < 6 else None)
    assert found(tmp_path / "few", few, **classes)["too-few-cases"].severity == "warn"


def test_many_classes_are_not_a_wall_of_text(tmp_path):
    rows = many(300, label=lambda i: f"class-{i % 30:02d}", pool_split=lambda i: "test" if i < 60 else "train")
    check = found(tmp_path, rows)["too-few-cases"]
    assert "and 24 more" in check.message
    assert len(check.table.rows) == 30


def test_dates_and_ages_of_tags_that_cannot_be_are_said(tmp_path):
    doubt = "the study date in its tags cannot be: in the future"
    rows = many(60, note=lambda i: f"{doubt}; another note" if i < 3 else None, format="DICOM")
    checks = {check.id: check for check in cases.check(subject(tmp_path, rows))}
    assert checks["missing-metadata"].severity == "warn"
    assert f"Of 3 scans {doubt}." in checks["missing-metadata"].message


@pytest.mark.parametrize("num_scans", [31, 60])
def test_dates_of_tags_that_were_all_moved_are_one_sentence(num_scans, tmp_path):
    dates = [f"the {what} in its tags cannot be: in the future" for what in ("study date", "birth date")]
    rows = many(60, note=lambda i: "; ".join([*dates, "another note"]) if i < num_scans else None, format="DICOM")
    rows += many(80, start=60, format="PNG")  # which have no tags, and say nothing of how many dates were moved
    checks = {check.id: check for check in cases.check(subject(tmp_path, rows))}
    message = checks["missing-metadata"].message
    assert checks["missing-metadata"].severity == "warn" and "cannot be" not in message
    assert message.count(f"Of {num_scans} of 60 DICOM scans the birth date and the study date lie in the future") == 1
    assert "moved to hide them" in message


def test_dates_of_a_table_that_were_moved_are_told_with_what_they_cost(tmp_path):
    from pipeline.pool.listing.dates import say_impossible
    from pipeline.tables.notes import Notes

    notes = Notes("manifest.csv")
    say_impossible("StudyDate", pa.chunked_array([["2150-01-02"] * 60], pa.string()), notes)
    one = subject(tmp_path, many(60))
    (tmp_path / run_files.POOL_NOTES).write_text(json.dumps({"notes": notes.lines}))
    (check,) = [check for check in cases.check(one) if check.id == "missing-metadata"]
    assert check.severity == "warn" and "moved to hide them: ages" in check.message and "2150" not in check.message


@pytest.mark.parametrize(("num", "limit", "severity"), [(4, 5, "warn"), (5, 5, "ok"), (5, 6, "warn")])
def test_a_class_of_few_patients_in_the_test_is_a_warning(num, limit, severity, tmp_path):
    """Enough in the pool, and several scans of one patient are one patient."""
    rows = many(200, label=half, pool_split=lambda i: "test" if i % 2 < 1 and i < 60 else "train")
    rows += many(num, 300, label="sick", pool_split="test")
    rows += [scan(400 + i, label="sick", pool_split="test", patient_id="p300") for i in range(9)]
    check = found(tmp_path, rows, **{"audit.warn_min_test_patients": limit})["too-few-cases"]
    assert check.severity == severity
    assert (f"Fewer than {limit} patients in the test: sick ({num})." in check.message) is (severity == "warn")
