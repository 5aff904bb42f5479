import csv
import datetime as dt
import io

import pytest

from pipeline.annotate.queue_csv import Origin, Row, is_filled, read_csv, write_csv
from pipeline.contracts.answers import REMARKS
from pipeline.contracts.errors import InputError
from pipeline.contracts.spreadsheet import FORMULA

FINDINGS = ("normal", "pneumonia")
ROWS = (Row("a" * 16, 1, "images/a.png"), Row("b" * 16, 2, "images/b.png"))
ORIGIN = Origin("Ann", 2, "c0ffee")


def replies(text):
    return {row.image_id: row.reply for row in read_csv("queue.csv", text)}


def test_a_queue_to_fill_and_back():
    text = write_csv(ROWS, FINDINGS, ORIGIN)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == ["image_id", "rank", "file", "label", "choices", "certainty", "annotator", "round", "run"]
    assert {row["choices"] for row in rows} == {" | ".join([*FINDINGS, *REMARKS])}
    assert {row["label"] for row in rows} == {row["certainty"] for row in rows} == {""}
    assert not is_filled("queue.csv", text)
    found = read_csv("queue.csv", text.replace("images/b.png,,", "images/b.png,normal,"))
    assert [(f.where, f.image_id, f.reply, f.reader, f.round_index, f.run) for f in found] == [
        ("queue.csv:2", "a" * 16, "", "Ann", 2, "c0ffee"),
        ("queue.csv:3", "b" * 16, "normal", "Ann", 2, "c0ffee"),
    ]


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t"])
def test_no_cell_is_a_formula_and_none_is_changed_by_that(sign):
    """A class or a name that begins so is quoted for spreadsheets, and read back as it was."""
    evil = f"{sign}cmd|' /C calc'!A0"
    text = write_csv([Row(evil, 1, evil)], [evil, "normal"], Origin(evil, 1, evil))
    row = next(csv.DictReader(io.StringIO(text, newline="")))
    assert [name for name, cell in row.items() if cell.startswith(FORMULA)] == []
    (found,) = read_csv("queue.csv", text)
    assert (found.image_id, found.reader, found.run) == (evil, evil, evil)
    for cell in (evil, f"'{evil}"):
        stream = io.StringIO()
        csv.writer(stream).writerows([["image_id", "label"], ["a", cell]])
        assert replies(stream.getvalue()) == {"a": evil}


@pytest.mark.parametrize("space", ["\r", "\n", "\r\n", "\u2028"])
def test_a_class_with_a_line_break_breaks_no_row(space):
    text = write_csv(ROWS, [f"one{space}two", "normal"], ORIGIN)
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["choices"].partition(" | ")[0] for row in rows] == ["one two"] * 2
    assert [row.run for row in read_csv("queue.csv", text)] == [ORIGIN.run] * 2


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_as_spreadsheets_save_it(end, mark):
    lines = ["image_id,rank,file,label,choices", "aaaa,1,a.png,normal,x", "", ",,,,", 'bbbb,2,b.png,"PNEU ""X""",x', ""]
    text = end.join(lines).replace(",", mark)
    found = read_csv("queue.csv", text)
    assert [(row.image_id, row.reply) for row in found if row.reply] == [("aaaa", "normal"), ("bbbb", 'PNEU "X"')]
    assert found[-1].where == "queue.csv:5"
    assert is_filled("queue.csv", text)


@pytest.mark.parametrize(
    ("image_id", "shown"),
    [
        ("1234567890123456", "1.23457E+15"),  # as one spreadsheet saves it
        ("1234567890123456", "1234567890123460"),  # and another
        ("0012345678901234", "12345678901234"),
        ("123456789012e100", "1,23457E+111"),
    ],
)
def test_an_id_that_looks_like_a_number_is_known_by_its_picture(image_id, shown):
    assert replies(f"image_id\tfile\tlabel\n{shown}\t../../images/{image_id}.png\tnormal\n") == {image_id: "normal"}
    assert replies(f"image_id\tlabel\n{shown}\tnormal\n") == {shown: "normal"}
    assert replies(f"image_id,file,label\n{image_id},images/{'f' * 16}.png.jpg,normal\n") == {image_id: "normal"}
    assert replies(f"image_id,file,label\nabc,images/{'f' * 16}.png,normal\n") == {"abc": "normal"}


@pytest.mark.parametrize("image_id", ["ABCDEF0123456789", "abcdef0123456789.png", "pictures\\abcdef0123456789.png"])
def test_an_id_may_stand_in_capitals_or_as_the_name_of_its_picture(image_id):
    assert replies(f"image_id,label\n{image_id},normal\n") == {"abcdef0123456789": "normal"}


def test_columns_may_come_in_any_order_and_bring_others():
    assert replies("note, label ,image_id\nsee me,normal,aaaa\n") == {"aaaa": "normal"}


def test_a_short_row_is_blank():
    assert replies("image_id,rank,label\naaaa\n") == {"aaaa": ""}


def test_what_the_page_of_a_bundle_measured():
    text = "image_id,label,certainty,seconds,labelled_at\na,normal,sure,2.5,2026-03-01T11:00:00.5+01:00\n"
    (found,) = read_csv("answers.csv", text)
    assert (found.certainty, found.seconds) == ("sure", 2.5)
    assert found.time == dt.datetime(2026, 3, 1, 10, 0, 0, 500000, tzinfo=dt.UTC)
    comma = read_csv("answers.csv", text.replace(",", ";").replace("2.5", "2,5"))
    assert comma[0].seconds == 2.5
    naive = read_csv("answers.csv", text.replace("+01:00", ""))
    assert naive[0].time == dt.datetime(2026, 3, 1, 11, 0, 0, 500000, tzinfo=dt.UTC)
    blank = read_csv("answers.csv", "image_id,label,seconds,labelled_at,round\na,normal,,,\n")
    assert (blank[0].seconds, blank[0].time, blank[0].round_index) == (None, None, None)


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        ("seconds", ["soon", "-1", "nan", "inf", "1e999"]),
        ("labelled_at", ["yesterday", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "45000"]),
        ("round", ["one", "-1", "1.5", "²", "1234567", "=1"]),
    ],
)
def test_cells_that_cannot_be_read_are_told_with_their_line(column, cells):
    for cell in cells:
        with pytest.raises(InputError, match=rf"^queue\.csv:3, {column}: .*([Ll]eave)"):
            read_csv("queue.csv", f"image_id,label,{column}\na,normal,\nb,normal,{cell}\n")


@pytest.mark.parametrize("text", ["a b c\n", "image_id,finding\naaaa,normal\n", "\x00", "%PDF-1.7\n", "x" * 200_000])
def test_missing_columns(text):
    with pytest.raises(InputError, match=r"^queue\.csv: columns .* are missing"):
        read_csv("queue.csv", text)


@pytest.mark.parametrize(
    "text",
    [
        "image_id,label\na," + "x" * 2_200_000,
        'image_id,label,note\na,normal,fine\nb,normal,"never closed\nc,normal,\nd,normal,\n',
    ],
)
def test_a_table_that_is_none_is_refused_as_a_whole(text):
    """An open quotation mark swallows the rows behind it; their labels would be lost without a word."""
    with pytest.raises(InputError, match=r"^queue\.csv:\d+: is no CSV table .*Save it as CSV, UTF-8\.$"):
        read_csv("queue.csv", text)
    assert is_filled("queue.csv", text)  # and it is never overwritten


def test_control_characters_stay_what_they_are():
    assert replies("image_id,label\na\x00a,nor\x00mal\nb,\u202enormal\n") == {
        "a\x00a": "nor\x00mal",
        "b": "\u202enormal",
    }


@pytest.mark.parametrize(("name", "other"), [("label", "Label"), ("image_id", "Image ID")])
def test_another_column_of_the_same_name_is_said(name, other, caplog):
    text = f"image_id,label,{other}\n{'a' * 16},normal,pneumonia\n"
    assert replies(text) == {"a" * 16: "normal"}
    assert f"the column {name!r} is read as {name}, and {other!r} beside it not" in caplog.text
