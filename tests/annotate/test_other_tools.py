"""Answers from spreadsheets and other tools: read by the room that reads pools, what is not read is said."""

import csv
import gzip
import io
import json
import zipfile

import openpyxl
import pytest

from pipeline.annotate.import_files import Scans, Who, harvest, refuse
from pipeline.contracts.errors import InputError
from pipeline.contracts.finding_line import Independent

IDS = [f"{i:x}" * 16 for i in (10, 11, 12)]
SCANS = Scans({image_id: [1] for image_id in IDS}, frozenset(), frozenset(), 1, "c0ffee")
HEAD = ["image_id", "rank", "file", "label", "certainty", "annotator", "round", "run"]
ROWS = [
    [IDS[0], "1", f"images/{IDS[0]}.png", " NORMAL ", "sure", "Müller", "1", "c0ffee"],
    [IDS[1], "2", f"images/{IDS[1]}.png", "Pneumonia", "", "Müller", "1", "c0ffee"],
    [IDS[2], "3", f"images/{IDS[2]}.png", "", "", "", "1", "c0ffee"],
]
FINDINGS = ("normal", "pneumonia")
SEVERAL = Independent(("effusion", "mass, left"))


def table(rows, separator=",", end="\n"):
    stream = io.StringIO()
    csv.writer(stream, delimiter=separator, lineterminator=end).writerows(rows)
    return stream.getvalue()


def workbook(*sheets):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for rows in sheets:
        sheet = book.create_sheet()
        for row in rows:
            sheet.append([int(cell) if cell.isdecimal() and len(cell) < 3 else cell or None for cell in row])
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def read(tmp_path, data, name="answers.csv", findings=FINDINGS, annotator=None):
    (tmp_path / name).write_bytes(data)
    found = harvest([tmp_path / name], SCANS, findings, Who(annotator))
    refuse(found, "labels import", findings)
    return found


WHOLE = [HEAD, *ROWS]
FORMS = {
    "tabs in UTF-16": table(WHOLE, "\t", "\r\n").encode("utf-16"),
    "UTF-16 BE": b"\xfe\xff" + table(WHOLE, ";").encode("utf-16-be"),
    "CR": table(WHOLE, ";", "\r").encode(),
    "sep=": b"sep=;\r\n" + table(WHOLE, ";", "\r\n").encode(),
    "capitals and blanks": table([[f" {name.upper()} " for name in HEAD], *ROWS]).encode(),
    "other words between": table([[name.replace("_", " ").title() for name in HEAD], *ROWS]).encode(),
    "a workbook": workbook(WHOLE),
    "the second sheet": workbook([["How to fill this in"], ["Write into the column label"]], WHOLE),
    "a title above": ("Round 1;;;;;;;\n\n" + table(WHOLE, ";")).encode(),
    "gzip": gzip.compress(table(WHOLE).encode()),
    "empty and repeated columns": table([[*row, "", f"{row[1]}x", f"{row[1]}x"] for row in WHOLE]).encode(),
    "without ids": table([row[1:] for row in WHOLE]).encode(),
    "Windows paths without ids": table([[c.replace("/", "\\") for c in row[1:]] for row in WHOLE]).encode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_as_spreadsheets_save_it(tmp_path, form):
    found = read(tmp_path, FORMS[form])
    assert [(a.image_id, a.reply, a.annotator, a.certainty) for a in found.answers] == [
        (IDS[0], "normal", "Müller", "sure"),
        (IDS[1], "pneumonia", "Müller", None),
    ]
    assert found.counts["blank"] == 1


def test_two_filled_sheets_and_an_old_workbook_are_refused(tmp_path):
    with pytest.raises(InputError, match="2 sheets of the workbook could be the table"):
        read(tmp_path, workbook(WHOLE, WHOLE))
    with pytest.raises(InputError, match=r"old form \(\.xls\)"):
        read(tmp_path, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
    with pytest.raises(InputError, match="an OpenDocument spreadsheet"):
        read(tmp_path, b"PK\x03\x04" + b"\0" * 26 + b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet")
    with pytest.raises(InputError, match=r"answers\.csv:2: is not UTF-8 text \(byte 0xfc\)"):
        read(tmp_path, table(WHOLE).encode("cp1252"))


@pytest.mark.parametrize("column", ["reader", "Rater", "Radiologist", "Annotator name"])
def test_a_column_that_looks_like_the_annotators_is_named(tmp_path, column):
    data = table([["image_id", "label", column], [IDS[0], "normal", "dr-kim"]]).encode()
    found = read(tmp_path, data, annotator="lee")
    assert [answer.annotator for answer in found.answers] == ["lee"]
    assert f"the column {column!r} is not read; did you mean annotator?" in found.notes[0]


def test_lists_that_a_program_printed(tmp_path):
    rows = [
        ["image_id", "label"],
        [IDS[0], "['effusion', 'mass, left']"],
        [IDS[1], '["Effusion"]'],
        [IDS[2], "no finding"],
    ]
    found = read(tmp_path, table(rows).encode(), findings=SEVERAL)
    assert [a.reply for a in found.answers] == [
        "effusion=1|mass, left=1",
        "effusion=1|mass, left=0",
        "effusion=0|mass, left=0",
    ]


def fiftyone(labels, **more):
    return json.dumps(more | {"labels": labels}).encode()


def samples(*values, field="ground_truth"):
    own = [
        {"filepath": f"/data/{image_id}.png", "id": "6", field: value}
        for image_id, value in zip(IDS, values, strict=False)
    ]
    return json.dumps({"name": "x", "samples": own}).encode()


def one(label, **more):
    return {"_cls": "Classification", "label": label} | more


OTHERS = {
    "names": fiftyone({IDS[0]: "normal", IDS[1]: "Pneumonia", IDS[2]: None}),
    "numbers of classes": fiftyone({IDS[0]: 1, IDS[1]: 0, IDS[2]: None}, classes=["pneumonia", "normal"]),
    "objects by file": fiftyone(
        {f"img/{IDS[0]}.png": {"label": "normal"}, f"{IDS[1]}.jpg": {"label": "pneumonia"}, IDS[2]: {}}
    ),
    "samples": samples(one("normal"), one("pneumonia"), None),
    "samples with boxes too": samples(one("normal"), one("pneumonia"), None, field="finding"),
    "CVAT": (
        '<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta/>'
        f'<image id="0" name="images/{IDS[0]}.png"><tag label="normal" source="manual"></tag></image>'
        f'<image id="1" name="{IDS[1]}.png"><box label="x" xtl="0"/>'
        '<tag label="PNEUMONIA"><attribute name="a"/></tag></image>'
        f'<image id="2" name="{IDS[2]}.png"></image></annotations>'
    ).encode(),
}
OTHERS["CVAT in UTF-16"] = OTHERS["CVAT"].decode().replace("utf-8", "utf-16").encode("utf-16")


@pytest.mark.parametrize("tool", OTHERS)
def test_exports_of_other_tools(tmp_path, tool):
    found = read(tmp_path, OTHERS[tool], "export", annotator="lee")
    assert [(a.image_id, a.reply) for a in found.answers] == [(IDS[0], "normal"), (IDS[1], "pneumonia")]
    assert found.counts["blank"] == 1
    assert any("shapes are not read" in line for line in found.notes) == tool.startswith("CVAT")


def test_exports_in_a_zip_and_predictions_among_them(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("task/annotations.xml", OTHERS["CVAT"])
        archive.writestr("task/images/x.png", b"x")
    assert len(read(tmp_path, stream.getvalue(), "cvat.zip").answers) == 2
    scored = read(tmp_path, fiftyone({IDS[0]: {"label": "normal", "confidence": 0.9}}), "scored.json")
    assert "1 label carry a confidence, as predictions of a network do" in scored.notes[0]


def test_several_tags_are_several_findings(tmp_path):
    tags = '<tag label="effusion"/><tag label="mass, left"/>'
    data = f'<annotations><image id="0" name="{IDS[0]}.png">{tags}</image></annotations>'.encode()
    assert read(tmp_path, data, "a.xml", SEVERAL).answers[0].reply == "effusion=1|mass, left=1"
    lists = fiftyone({IDS[0]: [one("mass, left"), one("effusion")], IDS[1]: ["effusion"]})
    assert [a.reply for a in read(tmp_path, lists, "a.json", SEVERAL).answers] == [
        "effusion=1|mass, left=1",
        "effusion=1|mass, left=0",
    ]
    with pytest.raises(InputError, match=r"unknown finding 'normal\|pneumonia'"):
        read(tmp_path, fiftyone({IDS[0]: ["normal", "pneumonia"]}), "b.json")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'<annotations><image id="0"', "XML breaks off"),
        (b"<annotations></annotations>", "no export of CVAT with pictures"),
        (b"<html><body>Sign in</body></html>", "no export of CVAT with pictures"),
        (b'<!DOCTYPE a [<!ENTITY x "y">]><annotations/>', "document type"),
        (b'{"labels": {"a"', "JSON breaks off"),
        (fiftyone({IDS[0]: 7}, classes=["normal"]), "unknown finding 'class number 7'"),
        (
            json.dumps({"samples": [{"filepath": "a", "x": {"_cls": "Detections"}}]}).encode(),
            "0 fields of classifications",
        ),
        (json.dumps({"samples": [{"a": one("x"), "b": one("y")}]}).encode(), "2 fields of classifications: 'a', 'b'"),
        (fiftyone({"a.png": "normal"}), "never asked for 'a.png'"),
    ],
)
def test_what_is_damaged_or_another_export_is_told(tmp_path, data, words):
    with pytest.raises(InputError, match=words):
        read(tmp_path, data, "export")
