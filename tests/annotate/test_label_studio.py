"""Label Studio's page, tasks and exports without a server; the exports were written by one (label_studio_server.py)."""

import csv
import datetime as dt
import io
import json
import random
import re
import xml.etree.ElementTree as ElementTree

import pytest

from pipeline.annotate.label_studio import exports
from pipeline.annotate.label_studio import tasks as label_studio_tasks
from pipeline.annotate.label_studio.tasks import labelling_config, tasks
from pipeline.contracts.answers import REMARKS
from pipeline.contracts.errors import InputError
from tests.support.label_studio_server import ADMIN, EXPORTS, FINDINGS, NUM_UNANSWERED, ROUND, RUN, SECOND

JSON_FILES = ("json.json", "json-all.json", "json-e-mails.json", "json-min.json", "json-min-e-mails.json")
CSV_FILES = ("csv.csv", "tsv.tsv", "csv-e-mails.csv")
NUM_SCANS = 12
BY_MAIL = {ADMIN: "1", SECOND: "2"}


def whole(exported):
    """An export without a mistake."""
    if exported.mistakes:
        raise InputError("\n".join(exported.mistakes))
    return exported


def read_json(name, text):
    return whole(exports.read_json(name, text))


def read_csv(name, text):
    return whole(exports.read_csv(name, text))


def text_of(name):
    return (EXPORTS / name).read_bytes().decode("utf-8")


def read(name, text=None):
    return (read_json if name.endswith("json") else read_csv)(name, text_of(name) if text is None else text)


def essence(exported):
    """What the answers are, whichever way they were exported."""
    return {row._replace(where="", reader=BY_MAIL.get(row.reader, row.reader)) for row in exported.rows if row.reply}


def annotation(**changed):
    whole = {
        "id": 1,
        "completed_by": 1,
        "was_cancelled": False,
        "lead_time": 3.5,
        "updated_at": "2026-03-01T10:00:00.5Z",
        "created_at": "2026-03-01T09:00:00Z",
        "result": [choice("normal")],
    }
    return whole | changed


def choice(*names, control="finding"):
    return {"from_name": control, "to_name": "image", "type": "choices", "value": {"choices": list(names)}}


def task(*annotations, **changed):
    data = {"image": "/x.png", "image_id": "a" * 16, "rank": 1, "round": 2, "run": "r"}
    return {"id": 7, "data": data, "annotations": list(annotations), "drafts": [], "predictions": []} | changed


def one(*items):
    return read_json("e.json", json.dumps(items))


def test_all_files_of_a_server_tell_the_same():
    told = {name: essence(read(name)) for name in (*JSON_FILES, *CSV_FILES)}
    first = told["json.json"]
    assert len(first) == NUM_SCANS + 1
    assert {row.reply for row in first} == set(FINDINGS[:NUM_SCANS])
    assert {(row.run, row.round_index, row.time.date()) for row in first} == {(RUN, ROUND, dt.date(2026, 11, 22))}
    assert [name for name, rows in told.items() if rows != first] == []


def test_a_file_of_a_server_row_by_row():
    rows = sorted(row for row in read("csv.csv").rows if row.reader == "1" and row.reply)
    by_scan = sorted(rows, key=lambda row: row.image_id)
    assert [row.reply for row in by_scan] == list(FINDINGS[:NUM_SCANS])
    assert [row.certainty for row in by_scan] == ["", "sure", "unsure"] * 4
    assert [row.seconds for row in by_scan] == [1 + i / 8 for i in range(NUM_SCANS)]
    assert by_scan[0].where == "csv.csv, row 2"
    assert by_scan[0].time == dt.datetime(2026, 11, 22, 7, 56, 51, 11253, tzinfo=dt.UTC)
    assert read("json.json").rows[0].where == "json.json, task 1"


def test_counts_of_a_full_export():
    found = read("json-all.json")
    assert (found.num_skipped, found.num_superseded, found.num_drafts) == (1, 1, 1)
    assert [row.reply for row in found.rows].count("") == NUM_UNANSWERED - 1  # the skipped one is no row
    assert (
        read("json.json").num_superseded == read("json-min.json").num_superseded == read("csv.csv").num_superseded == 1
    )


@pytest.mark.parametrize("name", JSON_FILES)
def test_order_does_not_matter(name):
    items = json.loads(text_of(name))
    for seed in range(5):
        random.Random(seed).shuffle(items)
        for item in items:
            random.Random(seed).shuffle(item.get("annotations", []))
        assert essence(read(name, json.dumps(items))) == essence(read(name))


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_spreadsheet_may_have_saved_the_csv(delimiter):
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter).writerows(csv.reader(io.StringIO(text_of("csv.csv"), newline="")))
    text = "\ufeff" + stream.getvalue()
    assert exports.is_export(next(csv.reader(io.StringIO(text.lstrip("\ufeff")), delimiter=delimiter)))
    assert essence(read("csv.csv", text)) == essence(read("csv.csv"))


@pytest.mark.parametrize("name", JSON_FILES)
def test_json_cut_anywhere_is_refused(name):
    text = text_of(name).rstrip()
    for end in range(1, len(text), 997):
        with pytest.raises(InputError, match=rf"^{name}: the JSON breaks off .* line \d+, column \d+ .* Export the "):
            read(name, text[:end])


@pytest.mark.parametrize("name", CSV_FILES)
def test_csv_cut_anywhere_is_refused_or_tells_whole_rows(name):
    text = text_of(name)
    whole = {row._replace(time=None) for row in essence(read(name))}
    ends = range(text.index("\n") + 1, len(text), 7)
    num_refused = 0
    for end in ends:
        try:
            part = essence(read(name, text[:end]))
        except InputError as error:
            num_refused += 1
            assert re.search(r"row \d+", str(error))
        else:  # cut between rows, or before the last cell, which is the time
            assert {row._replace(time=None) for row in part} <= whole
    assert num_refused > 0.95 * len(ends)


def test_the_page_asks_for_every_class_and_remark_by_key():
    page = ElementTree.fromstring(labelling_config(FINDINGS))
    assert page.find(".//Image").attrib == {
        "name": "image",
        "value": "$image",
        "zoom": "true",
        "zoomControl": "true",
        "brightnessControl": "true",
        "contrastControl": "true",
    }
    finding, certainty = page.findall(".//Choices")
    assert (finding.get("name"), finding.get("choice"), finding.get("required")) == ("finding", "single", "true")
    assert (certainty.get("name"), certainty.get("choice"), certainty.get("required")) == ("certainty", "single", None)
    answered = [one.get("alias") or one.get("value") for one in finding]
    assert answered == [*FINDINGS, *REMARKS]
    assert [one.get("value") for one in certainty] == ["sure", "unsure"]
    keys = [one.get("hotkey") for one in [*finding, *certainty]]
    assert keys == [*"123456789", *[None] * (len(FINDINGS) - 9), *"cbnsd"]
    styled = [one.get("value") for one in finding if one.get("style")]
    assert styled == list(REMARKS)


def test_the_page_shows_no_field_of_the_task_in_place_of_a_class():
    first, second, _ = ElementTree.fromstring(labelling_config(("<$image>", "true"))).findall(".//Choice")[:3]
    assert first.attrib == {"value": "<\uff04image>", "alias": "<$image>", "html": "&lt;$image&gt;", "hotkey": "1"}
    assert second.attrib == {"value": "true", "hotkey": "2"}


def test_a_class_xml_cannot_hold_is_refused():
    with pytest.raises(InputError, match=r"pool.findings: holds a character that XML cannot .*bell"):
        labelling_config(("normal", "bell\x07"))


def test_tasks_keep_the_order_and_tell_no_more_than_they_must():
    made = tasks([("b" * 16, 2), ("a" * 16, 1)], "u/{}".format, run="r", round_index=4, findings=FINDINGS)
    assert made == [
        {"data": {"image": "u/" + "b" * 16, "image_id": "b" * 16, "rank": 2, "round": 4, "run": "r"}},
        {"data": {"image": "u/" + "a" * 16, "image_id": "a" * 16, "rank": 1, "round": 4, "run": "r"}},
    ]
    named = tasks([("a", 1)], str, run="r", round_index=4, findings=FINDINGS, annotator="=Dr <X>")
    assert named[0]["data"]["asked"] == "=Dr <X>"
    assert json.loads(label_studio_tasks.task_json(named)) == named


def test_proposals_are_put_where_they_are_given():
    rows, shown = [("a", 1), ("b", 2)], {"b": ("=1+1", 0.75, "round-3")}
    blind, told = tasks(rows, str, run="r", round_index=4, findings=FINDINGS, predictions=shown)
    assert set(blind) == {"data"}
    assert told["predictions"] == [{"model_version": "round-3", "score": 0.75, "result": [choice("=1+1")]}]
    for wrong in (("pox", 0.5, "v"), ("normal", float("nan"), "v"), ("normal", 1.5, "v")):
        with pytest.raises(InputError, match="scan a: is no prediction"):
            tasks(rows, str, run="r", round_index=4, findings=FINDINGS, predictions={"a": wrong})


def test_the_address_of_a_local_file_is_quoted():
    assert label_studio_tasks.local_files_url("a b/&d=é#?.png") == "/data/local-files/?d=a%20b/%26d%3D%C3%A9%23%3F.png"


def test_the_latest_version_of_each_reader_counts():
    old, new = annotation(id=1, result=[choice("old")]), annotation(id=2, updated_at="2026-03-01T11:00:00.500000+00:30")
    other = annotation(id=3, completed_by={"id": 9, "email": "x@example.org"}, updated_at=None)
    for order in ((old, new, other), (new, other, old)):
        found = one(task(*order))
        assert found.num_superseded == 1
        by_reader = {row.reader: row for row in found.rows}
        assert by_reader["1"].reply == "normal"
        assert by_reader["1"].time == dt.datetime(2026, 3, 1, 10, 30, 0, 500000, tzinfo=dt.UTC)
        assert by_reader["x@example.org"].time == dt.datetime(2026, 3, 1, 9, tzinfo=dt.UTC)
    same_time = [annotation(id=5, result=[choice("fifth")]), annotation(id=4, result=[choice("fourth")])]
    assert one(task(*same_time)).rows[0].reply == "fifth"


def test_an_answer_is_not_superseded_by_a_blank_nor_by_another_task():
    blank = annotation(id=2, result=[], updated_at="2027-01-01T00:00:00Z")
    found = one(task(annotation(), blank), task(annotation(id=3, result=[choice("again")]), id=8))
    assert [row.reply for row in found.rows] == ["normal", "again"]
    assert found.num_superseded == 1


def test_answers_that_may_be_two_peoples_are_all_kept():
    unknown = [annotation(id=i, completed_by=None, result=[choice(name)]) for i, name in enumerate("ab", 1)]
    assert [row.reply for row in one(task(*unknown)).rows] == ["a", "b"]  # their accounts were deleted
    other = {"image_id": "b" * 16}
    for number in (7, None):  # exports of two projects put into one file
        found = one(task(annotation(), id=number), task(annotation(), id=number, data=other))
        assert [row.image_id for row in found.rows] == ["a" * 16, "b" * 16]
        assert found.num_superseded == 0


def test_what_is_no_answer():
    found = one(
        task(annotation(was_cancelled=True), drafts=[1, {"id": 2}]),
        task(annotation(result=[choice("sure", control="certainty")], completed_by=None, lead_time=-4), id=8),
        task(annotation(result=[], completed_by={}, lead_time=None, updated_at=None, created_at=None), id=9),
        task(id=10, predictions=[{"result": [choice("normal")]}]),
        task(annotation(result=[choice("normal"), choice("a", "b", control="comment")]), id=11),
    )
    assert (found.num_skipped, found.num_drafts, found.num_superseded) == (1, 2, 0)
    told = [(row.where, row.reply, row.reader, row.certainty, row.seconds) for row in found.rows]
    assert told == [
        ("e.json, task 8", "", "", "sure", None),
        ("e.json, task 9", "", "", "", None),
        ("e.json, task 10", "", "", "", None),
        ("e.json, task 11", "normal", "1", "", 3.5),
    ]
    assert one() == exports.Exported(())


WRONG = [
    (task(annotation(result=[choice("a", "b")])), r"finding has 2 choices, \['a', 'b'\]; one was asked for"),
    (task(annotation(result=[choice("a"), choice("b")])), "finding has 2 choices"),
    (task(annotation(result=[choice(7)])), "finding is 7, no text"),
    (task(annotation(result=[choice("\ud83d")])), r"finding is '\\ud83d', no text that can be written"),
    (task(annotation(result={"finding": "a"})), "result is missing or broken"),
    (task(annotation(result=["a"])), "result is missing or broken"),
    (task(annotation(result=[{"from_name": "finding"}])), "finding: value is missing or broken"),
    (task(annotation(lead_time="soon")), "lead_time is 'soon', no number of seconds"),
    (task(annotation(lead_time=True)), "lead_time is True"),
    (task(annotation(lead_time=[])), r"lead_time is \[\]"),
    (task(annotation(updated_at="yesterday")), "updated_at is 'yesterday', no time"),
    (task(annotation(updated_at=5)), "updated_at is 5"),
    (task(annotation(updated_at="0001-01-01T00:00:00+14:00")), r"updated_at is '0001.*', no time"),
    (task(annotation(completed_by=[1])), r"annotator is \[1\], no text"),
    (task(annotation(completed_by=True)), "annotator is True"),
    (task(annotation(id="x")), "id is 'x', no whole number"),
    (task("answer"), "annotations is missing or broken"),
    (task(annotations=None), "annotations is missing or broken"),
    (task(annotation(), drafts=3), "drafts is missing or broken"),
    (task(annotation(), data=None), "data is missing or broken"),
    (task(annotation(), data={}), "no image_id"),
    (task(annotation(), data={"image_id": 5}), "no image_id"),
    (task(annotation(), data={"image_id": "a", "round": -1}), "round is -1"),
    (task(annotation(), data={"image_id": "a", "round": "two"}), "round is 'two'"),
    (task(annotation(), data={"image_id": "a", "run": 3}), "run is 3"),
    ({"id": 7, "image_id": "a", "annotation_id": 1, "finding": ["a", "b"]}, "finding has 2 choices"),
    ({"id": 7, "image_id": "a", "annotation_id": 1, "finding": {"choices": ["a", "b"]}}, "finding has 2 choices"),
    ({"id": 7, "image_id": "a", "annotation_id": 1.5, "finding": "a"}, "annotation_id is 1.5"),
    ({"id": 7, "finding": "a"}, "no image_id"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_what_cannot_be_used_is_told_with_its_task(wrong, message):
    good = task(annotation(), id=6)
    with pytest.raises(InputError, match=rf"^e\.json, task 7: {message}"):
        one(good, wrong)
    kept = exports.read_json("e.json", json.dumps([good, wrong]))
    assert [row.where for row in kept.rows] == ["e.json, task 6"]


def test_all_that_cannot_be_used_is_told_at_once():
    wrong = [task(annotation(lead_time="x"), id=i) for i in range(30)]
    found = exports.read_json("e.json", json.dumps(wrong))
    assert [text.partition(":")[0] for text in found.mistakes] == [f"e.json, task {i}" for i in range(30)]
    assert found.rows == ()
    with pytest.raises(InputError, match=r"e\.json, entry 2: is no task"):
        one(task(), 5)


@pytest.mark.parametrize(
    "text",
    ["", "null", "3", '"x"', "{}", '{"a": 1}', "[NaN]", "[" * 100_000, "[" + "9" * 5000 + "]", "image_id,label\n"],
)
def test_what_is_no_export_is_refused(text):
    with pytest.raises(InputError, match=r"^e.json: .* Export the project again, as JSON, JSON-MIN or CSV\.$"):
        read_json("e.json", text)
    with pytest.raises(InputError, match=r"^e.csv: .* Export the project again, as JSON, JSON-MIN or CSV\.$"):
        read_csv("e.csv", text)


def test_a_number_that_is_none_is_refused():
    for text in ("NaN", "Infinity", "1e999"):
        with pytest.raises(InputError, match=r"is no JSON|lead_time is inf"):
            read_json("e.json", json.dumps([task(annotation(lead_time=0.5))]).replace("0.5", text))


def test_tasks_handed_back_unanswered_are_no_export():
    sent = tasks([("a", 1)], str, run="r", round_index=1, findings=FINDINGS)
    with pytest.raises(InputError, match="tasks as they were sent out, not an export"):
        read_json("queue.labelstudio.json", label_studio_tasks.task_json(sent))


def test_answers_to_another_page_are_refused():
    full = json.dumps([task(annotation(result=[choice("normal", control="diagnosis")]))])
    flat = json.dumps([{"id": 1, "image_id": "a", "annotation_id": 1, "annotator": 1, "diagnosis": "normal"}])
    table = 'annotation_id,annotator,image_id,lead_time,id,diagnosis\n1,"1","a",2.5,1,"normal"\n'
    records = json.dumps([{"image_id": "a", "label": "normal"}, {"image_id": "b", "label": None}])
    for reader, text in ((read_json, full), (read_json, flat), (read_json, records), (read_csv, table)):
        with pytest.raises(InputError, match="nobody answered a control named 'finding'"):
            reader("e", text)


def test_several_choices_in_a_csv_cell_are_told_from_a_class_that_looks_like_them():
    header = "annotation_id,annotator,image_id,lead_time,id,finding\n"
    for cell in ('{""choices"":[""a"",""b""]}', "[1, 2]"):
        with pytest.raises(InputError, match=r"e\.csv, row 2: finding has 2 choices"):
            read_csv("e.csv", f'{header}1,1,a,2.5,1,"{cell}"\n')
    for cell in ('["normal"]', "[atypical", '{"choices": x'):
        doubled = cell.replace('"', '""')
        assert read_csv("e.csv", f'{header}1,1,a,2.5,1,"{doubled}"\n').rows[0].reply == cell


def test_a_field_no_csv_may_have_is_refused():
    header = "annotation_id,annotator,image_id,lead_time,id,finding\n"
    with pytest.raises(InputError, match=r"e.csv: breaks off or is damaged after row 2 .*a cell is longer than"):
        read_csv("e.csv", f"{header}1,1,a,2.5,1,x\n1,1,a,2.5,1,{'x' * 2_200_000}\n")
