"""How far reports may be trusted is learned from blind checks alone."""

import pytest

from pipeline.contracts.options.labelling import ReportsConfig
from pipeline.radiology_reports import learned_errors
from pipeline.radiology_reports.learned_errors import FINDING_REFUSED, TOO_FEW, TOO_WRONG, USED
from pipeline.radiology_reports.proposals import Kind, one_class_a_scan, proposals

CLASSES = ("no mass", "mass")
SICK, WELL = Kind("rules en", 1, "present"), Kind("rules en", 0, "absent")


def learned(errors_of, options=None):
    """Verdicts by kind, of so many checks each that found so many errors, the errors first."""
    of_kind, answers = {}, {}
    for kind, (num, num_errors) in errors_of.items():
        of_kind[kind] = [f"{kind.says}{i}" for i in range(100)]
        for i in range(num):
            answers[f"{kind.says}{i}"] = CLASSES[kind.class_index if i >= num_errors else 1 - kind.class_index]
    rows = learned_errors.learn(of_kind, list(answers), answers, CLASSES, options or ReportsConfig())
    return {row.kind: row for row in rows}


def test_seventeen_clean_checks_are_enough_and_sixteen_are_not():
    enough, few = learned({SICK: (17, 0)})[SICK], learned({SICK: (16, 0)})[SICK]
    assert (enough.verdict, enough.checks_needed) == (USED, 0) and enough.bound >= 0.8
    assert (few.verdict, few.checks_needed) == (TOO_FEW, 1)
    assert "1 more without an error would do" in learned_errors.in_words(few)


def test_min_precision_and_confidence_set_how_many():
    stricter = ReportsConfig(min_precision=0.9)
    assert learned({SICK: (0, 0)}, stricter)[SICK].checks_needed == 36
    assert learned({SICK: (0, 0)}, ReportsConfig(confidence=0.9))[SICK].checks_needed == 14


def test_what_is_wrong_too_often_is_refused_for_good():
    row = learned({SICK: (20, 10)})[SICK]
    assert (row.verdict, row.checks_needed, row.is_used) == (TOO_WRONG, None, False)


def test_without_checks_nothing_is_used():
    row = learned({SICK: (0, 0)})[SICK]
    assert (row.verdict, row.bound, row.precision) == (TOO_FEW, 0.0, None)


def test_the_absence_of_a_finding_that_is_refused_is_not_believed_either():
    assert learned({SICK: (20, 10), WELL: (60, 0)})[WELL].verdict == FINDING_REFUSED
    assert learned({SICK: (20, 0), WELL: (60, 0)})[WELL].verdict == USED


def test_cannot_tell_is_an_error_and_a_scan_counts_once():
    of_kind = {SICK: ["a", "b"]}
    row = learned_errors.learn(of_kind, ["a", "a", "b", "c"], {"a": None, "b": "mass"}, CLASSES, ReportsConfig())[0]
    assert (row.num_checked, row.num_errors) == (2, 1)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"mass": "present", "effusion": "absent"}, (2, "present")),
        ({"mass": "present", "effusion": "present"}, None),
        ({"mass": "present", "effusion": "uncertain"}, None),
        ({"mass": "not mentioned", "effusion": "absent"}, (1, "absent")),
        ({"mass": "not mentioned", "effusion": "not mentioned"}, (1, "not mentioned")),
        ({}, None),
    ],
)
def test_of_exclusive_classes_a_report_proposes_one_or_none(said, expected):
    of_kind = proposals({"rules en": {"scan": said}}, ("effusion", "normal", "mass"), None)
    assert of_kind == ({Kind("rules en", *expected): ["scan"]} if expected else {})


@pytest.mark.parametrize(
    ("says", "expected"),
    [("present", (1, "present")), ("not mentioned", (0, "not mentioned")), ("uncertain", None)],
)
def test_of_one_finding_it_proposes_that_or_its_absence(says, expected):
    of_kind = proposals({"rules en": {"scan": {"mass": says}}}, CLASSES, "mass")
    assert of_kind == ({Kind("rules en", *expected): ["scan"]} if expected else {})


def test_two_sources_that_contradict_each_other_propose_nothing():
    other = Kind("columns", 0, "absent")
    of_kind = {SICK: ["a", "b"], other: ["b", "c"]}
    assert one_class_a_scan(of_kind, [SICK, other]) == {"a": SICK, "c": other}
