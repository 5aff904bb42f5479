"""What the label table keeps of an answer: its time and certainty, a pool's own labels, findings without an answer."""

import datetime as dt
import os

import numpy as np
import pyarrow as pa
import pytest

from pipeline.contracts.answers import ORACLE, POOL, Answer
from pipeline.contracts.errors import InputError
from pipeline.contracts.finding_line import Independent
from pipeline.contracts.tables import LABELS
from pipeline.labels import label_table
from pipeline.labels.journal import Journal
from tests.support.people import say

FINDINGS = ("normal", "pneumonia")
INDEPENDENT = Independent(("effusion", "mass"))
WHEN = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def pseudo_value(image_id, finding, value=1.0):
    return {
        "image_id": image_id,
        "finding": finding,
        "value": value,
        "origin": "pseudo",
        "annotator": "model",
        "answer": -1,
        "round": 1,
        "probability": 0.75,
    }


def replace(folder, *rows):
    label_table.replace_pseudo_values(folder, pa.Table.from_pylist(list(rows), LABELS.schema))
    return [
        (row["image_id"], row["finding"], row["value"])
        for row in label_table.read(folder).to_pylist()
        if row["origin"] == "pseudo"
    ]


def test_time_and_certainty_of_an_answer_are_in_its_rows(tmp_path):
    say(tmp_path, [Answer("a", "normal", "ann", 3, WHEN, "sure")], FINDINGS)
    rows = label_table.read(tmp_path).to_pylist()
    assert {(row["time"], row["certainty"], row["round"], row["reply"]) for row in rows} == {
        (WHEN, "sure", 3, "normal")
    }


def test_a_table_without_a_journal_gives_it_all_that_it_knows(tmp_path):
    told = [Answer("b", "normal", "ann", 1, WHEN, "sure"), Answer("a", "pneumonia", "bob", 2, None)]
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    say(tmp_path / "first", told, FINDINGS)
    LABELS.write(tmp_path / "second", label_table.read(tmp_path / "first"))
    label_table.settle(tmp_path / "second", FINDINGS)
    adopted = {entry.answer.image_id: entry.answer for entry in Journal.open(tmp_path / "second").active()}
    kept = {i: (a.reply, a.annotator, a.round_index, a.certainty) for i, a in adopted.items()}
    assert kept == {"b": ("normal", "ann", 1, "sure"), "a": ("pneumonia", "bob", 2, None)}
    assert adopted["b"].time == WHEN


def test_answers_of_the_pool_are_those_of_the_scans_asked_for_up_to_a_round(tmp_path):
    label_table.add_answers(tmp_path, [Answer(i, "normal", POOL, 0) for i in "ab"], FINDINGS)
    label_table.add_answers(tmp_path, [Answer("c", "pneumonia", POOL, 2), Answer("d", "normal", ORACLE, 1)], FINDINGS)
    say(tmp_path, [Answer("b", "normal", "ann", 1)], FINDINGS)

    def of_pool(ids, up_to_round):
        return [
            (answer.image_id, answer.annotator) for answer in label_table.answers_of_pool(tmp_path, ids, up_to_round)
        ]

    assert of_pool("bcd", 1) == [("b", POOL)]
    assert of_pool("bcd", 2) == [("b", POOL), ("c", POOL)]


@pytest.mark.parametrize(
    ("findings", "reply", "without"),
    [(FINDINGS, "pneumonia", ("normal",)), (INDEPENDENT, "effusion=1|mass=0", Independent(("effusion",)))],
)
def test_findings_that_people_named_may_not_go(tmp_path, findings, reply, without):
    say(tmp_path, [Answer("a", reply, "ann", 1)], findings)
    table = label_table.read(tmp_path)
    label_table.check_people(tmp_path, findings)
    label_table.check_table(table, findings)
    with pytest.raises(InputError, match="outside the classes"):
        label_table.check_people(tmp_path, without)
    with pytest.raises(InputError, match="outside the classes"):
        label_table.check_table(table, without)


def test_pseudo_labels_that_say_the_same_are_not_written_again_and_a_new_value_is(tmp_path):
    assert replace(tmp_path, pseudo_value("a", "mass")) == [("a", "mass", 1.0)]
    os.utime(tmp_path / LABELS.file, (0, 0))
    replace(tmp_path, pseudo_value("a", "mass"))
    assert (tmp_path / LABELS.file).stat().st_mtime == 0
    assert replace(tmp_path, pseudo_value("a", "mass", 0.0)) == [("a", "mass", 0.0)]


def test_who_was_asked_for_a_finding_and_left_it_open_has_spoken_of_that_one_alone(tmp_path):
    say(tmp_path, [Answer("a", "effusion=1|mass=?", "ann", 1)], Independent(("effusion", "mass", "nodule")))
    label_table.add_answers(tmp_path, [Answer("b", "effusion=1|mass=?", POOL, 0)], INDEPENDENT)
    rows = [pseudo_value(i, finding) for i in "ab" for finding in ("effusion", "mass", "nodule")]
    assert replace(tmp_path, *rows) == [
        ("a", "nodule", 1.0),
        ("b", "mass", 1.0),
        ("b", "nodule", 1.0),
    ]


def rows_one_by_one(answers, findings, values):
    """The rows of some answers, each made by itself."""
    return [
        {
            "image_id": answer.image_id,
            "finding": finding,
            "value": value,
            "origin": "expert",
            "annotator": answer.annotator,
            "answer": number,
            "reply": answer.reply,
            "certainty": answer.certainty,
            "round": answer.round_index,
            "probability": None,
            "time": answer.time,
        }
        for number, answer in enumerate(answers, 1)
        for finding, value in zip(findings, values[answer.reply], strict=True)
    ]


@pytest.mark.parametrize("findings", [FINDINGS, INDEPENDENT])
def test_the_rows_of_answers_say_of_each_finding_what_the_answer_does(tmp_path, findings):
    nothing = float("nan")
    values = {
        FINDINGS: {"normal": (1.0, 0.0), "pneumonia": (0.0, 1.0), "cannot tell": (nothing, nothing)},
        INDEPENDENT: {"effusion=1|mass=?": (1.0, nothing), "effusion=0|mass=1": (0.0, 1.0)},
    }[findings]
    replies = [*values, *values]
    answers = [Answer(f"scan{i}", reply, POOL, i % 2, WHEN, "sure") for i, reply in enumerate(replies)]
    answers.append(Answer("last", replies[0], ORACLE, 1))
    assert label_table.add_answers(tmp_path, answers, findings) == len(answers)
    wanted = pa.Table.from_pylist(rows_one_by_one(answers, findings, values), LABELS.schema)
    table = label_table.read(tmp_path)
    assert str(table.to_pylist()) == str(wanted.to_pylist()), "NaN is not equal to itself, its text is"


def test_pseudo_labels_come_scan_by_scan_and_class_by_class(tmp_path):
    ids = pa.chunked_array([["b"], ["a", "c"]])
    say(tmp_path, [Answer("a", "normal", "ann", 1, WHEN, "sure")], FINDINGS)
    label_table.replace_pseudo(tmp_path, ids, np.array([1, 0, 0]), np.array([0.9, 0.8, 0.75]), FINDINGS, 2)
    table = label_table.read(tmp_path)
    pseudo = [row for row in table.to_pylist() if row["origin"] == "pseudo"]
    columns = ("image_id", "finding", "value", "annotator", "answer", "round")
    assert [tuple(row[name] for name in columns) for row in pseudo] == [
        ("b", "normal", 0.0, "model", -1, 2),
        ("b", "pneumonia", 1.0, "model", -1, 2),
        ("c", "normal", 1.0, "model", -1, 2),
        ("c", "pneumonia", 0.0, "model", -1, 2),
    ], "a person has answered scan a"
    assert [row["probability"] for row in pseudo] == pytest.approx([0.9, 0.9, 0.75, 0.75])
    assert {row["reply"] for row in pseudo} == {row["time"] for row in pseudo} == {None}
