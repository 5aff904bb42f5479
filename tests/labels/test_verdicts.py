"""Who answered which scan, up to a round, and what their readings as a whole say."""

import numpy as np
import pytest

from pipeline.contracts.answers import BAD_QUALITY, NOT_CXR, POOL, Answer
from pipeline.contracts.errors import InputError
from pipeline.contracts.finding_line import Independent
from pipeline.labels import label_table, verdicts
from tests.support.people import say

FINDINGS = ("normal", "pneumonia")


@pytest.fixture
def table(tmp_path):
    """Two people over three rounds; a label of the machine on a scan that nobody was asked for."""
    for image_id, reply, annotator, round_index in (
        ("a", "pneumonia", "ann", 1),
        ("b", "normal", "ann", 1),
        ("a", "normal", "bob", 2),
        ("c", BAD_QUALITY, "bob", 3),
        ("a", NOT_CXR, "ann", 3),
    ):
        say(tmp_path, [Answer(image_id, reply, annotator, round_index)], FINDINGS)
    label_table.replace_pseudo(tmp_path, np.array(["d"], object), np.array([1]), np.array([0.9]), FINDINGS, 1)
    return label_table.read(tmp_path)


def who(table, ids, up_to_round):
    return {(one.image_id, one.annotator, one.reply) for one in verdicts.answers(table, ids, up_to_round)}


def test_answers_are_those_of_the_scans_asked_for(table):
    assert who(table, ["b", "c"], 3) == {("b", "ann", "normal"), ("c", "bob", BAD_QUALITY)}
    assert who(table, [], 3) == set()


def test_answers_are_those_up_to_a_round_and_both_of_a_correction(table):
    assert who(table, "abcd", 1) == {("a", "ann", "pneumonia"), ("b", "ann", "normal")}
    assert who(table, "abcd", 2) == who(table, "abcd", 1) | {("a", "bob", "normal")}
    assert who(table, "a", 3) == {("a", "ann", "pneumonia"), ("a", "bob", "normal"), ("a", "ann", NOT_CXR)}


def test_a_pseudo_label_is_nobodys_answer(table):
    assert {row["origin"] for row in table.to_pylist() if row["image_id"] == "d"} == {"pseudo"}
    assert who(table, "d", 3) == set()
    assert verdicts.read_whole(table) == {"a", "b", "c"}


def test_rejections_know_only_what_was_said_up_to_their_round(table):
    assert verdicts.rejections(table, 2) == {}
    assert verdicts.rejections(table, 3) == {"c": BAD_QUALITY}
    assert verdicts.rejections(table) == {"c": BAD_QUALITY}


def test_disagreements_know_only_what_was_said_up_to_their_round(table):
    assert verdicts.disagreements(table, 1) == []
    assert verdicts.disagreements(table, 2) == ["a"]


def test_a_label_of_the_pool_that_leaves_a_finding_open_is_no_answer(tmp_path):
    findings = Independent(("effusion", "mass"))
    lines = {"whole": "effusion=1|mass=0", "open": "effusion=1|mass=?"}
    label_table.add_answers(tmp_path, [Answer(i, line, POOL, 0) for i, line in lines.items()], findings)
    table = label_table.read(tmp_path)
    assert who(table, lines, 1) == {("whole", POOL, lines["whole"])}
    assert verdicts.read_whole(table) == {"whole"}


def test_a_class_outside_the_run_is_refused_with_the_way_out(table):
    with pytest.raises(InputError, match=r"outside the classes.*Keep the classes") as refused:
        verdicts.expert_classes(table, ("normal", "covid"), 1)
    assert "pneumonia" in str(refused.value) and "pool.findings" in str(refused.value)
