"""Comments, flags and drawings: kept on disk, the latest of each person, told in a table, and never a label."""

import csv
import json

import pytest

from pipeline.annotate.scan_notes import COLUMNS, Note, ScanNotes, Shape
from pipeline.contracts.errors import RunDirError

BOX = Shape("box", 1.0, 2.0, 30.5, 40.0)
LENGTH = Shape("length", 0.0, 0.0, 30.0, 40.0, 35.0)


def rows(folder):
    with (folder / "notes.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_the_latest_note_of_each_person_stands_and_all_are_kept(tmp_path):
    notes = ScanNotes(tmp_path)
    notes.keep("a" * 16, "Ann", 1, Note("left base?", shapes=(BOX,)))
    notes.keep("a" * 16, "Bob", 1, Note(flag=True))
    notes.keep("a" * 16, "Ann", 2, Note("no: skin fold", flag=True, shapes=(BOX, LENGTH)))
    assert len((tmp_path / "notes.jsonl").read_bytes().splitlines()) == 3
    again = ScanNotes(tmp_path)
    assert again.of("a" * 16, "Ann") == Note("no: skin fold", flag=True, shapes=(BOX, LENGTH))
    assert again.of("a" * 16, "Bob") == Note(flag=True) and again.of("b" * 16, "Ann") is None
    ann, bob = rows(tmp_path)
    assert tuple(ann) == COLUMNS and (ann["annotator"], ann["round"], ann["flag"]) == ("Ann", "2", "True")
    assert [shape["kind"] for shape in json.loads(ann["shapes"])] == ["box", "length"]
    assert json.loads(ann["shapes"])[1]["length_mm"] == 35.0 and bob["shapes"] == ""


def test_a_comment_is_no_formula_in_a_spreadsheet(tmp_path):
    ScanNotes(tmp_path).keep("a" * 16, "Ann", 1, Note("=HYPERLINK(1)\nline, two"))
    assert rows(tmp_path)[0]["comment"] == "'=HYPERLINK(1)\nline, two"


@pytest.mark.parametrize("line", ["nonsense", "{}", '{"image_id": "a", "annotator": "b", "shapes": [{"no": 1}]}'])
def test_a_damaged_file_is_told_with_its_line(tmp_path, line):
    ScanNotes(tmp_path).keep("a" * 16, "Ann", 1, Note("good"))
    with (tmp_path / "notes.jsonl").open("a") as stream:
        stream.write(f"{line}\n")
    with pytest.raises(RunDirError, match="line 2 is no note"):
        ScanNotes(tmp_path)
