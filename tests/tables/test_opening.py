"""One table in every form that people save it in says the same; what is no table is called what it is."""

import codecs
import datetime as dt
import gzip
import io
import zipfile

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.contracts.errors import InputError
from pipeline.tables import characters
from pipeline.tables import workbook as workbooks
from pipeline.tables.columns import compact
from pipeline.tables.notes import Notes
from pipeline.tables.opening import open_table

ROWS = [["Scan ID", "Größe", "note"], ["ä 1", "5,5", "a; b, c"], ["b", "", 'the "big" one'], ["c", "7", "x"]]


def text(separator=",", end="\n", rows=ROWS):
    def cell(value):
        return '"' + value.replace('"', '""') + '"' if any(c in value for c in ',;\t|"\n\r') else value

    return "".join(separator.join(map(cell, row)) + end for row in rows)


def of_zip_version(data, version):
    """An archive whose first entry asks for a reader of another version."""
    at = data.index(b"PK\x01\x02") + 6
    return data[:at] + bytes([version]) + data[at + 1 :]


def workbook(*sheets, hidden=()):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for i, rows in enumerate(sheets):
        sheet = book.create_sheet(f"Sheet {i}")
        for row in rows:
            sheet.append(row)
        if i in hidden:
            sheet.sheet_state = "hidden"
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def parquet(rows=ROWS):
    stream = io.BytesIO()
    pq.write_table(pa.table({name: [row[i] for row in rows[1:]] for i, name in enumerate(rows[0])}), stream)
    return stream.getvalue()


def is_header(cells):
    return "scanid" in map(compact, cells)


def opened(data, name="t.csv"):
    return open_table(name, data, is_header, Notes(name))


def rows_of(table):
    width = len(table.header)
    rows = [[*cells, *[""] * (width - len(cells))] for _, cells in table.records()]
    return [[name.lstrip("#") for name in table.header], *rows]


FORMS = {
    "commas": text().encode(),
    "semicolons": text(";").encode(),
    "tabs": text("\t").encode(),
    "bars": text("|").encode(),
    "a mark": codecs.BOM_UTF8 + text(";").encode(),
    "CRLF": text(end="\r\n").encode(),
    "CR": text(";", "\r").encode(),
    "UTF-16 LE": codecs.BOM_UTF16_LE + text("\t", "\r\n").encode("utf-16-le"),
    "UTF-16 BE": codecs.BOM_UTF16_BE + text(",").encode("utf-16-be"),
    "UTF-16 without a mark": text("\t").encode("utf-16-le"),
    "UTF-32": text(",").encode("utf-32"),
    "sep=": b"sep=;\r\n" + text(";", "\r\n").encode(),
    "a quoted sep=": b'"sep=|"\n' + text("|").encode(),
    "sep= in CR": b"SEP=,\r" + text(",", "\r").encode(),
    "gzip": gzip.compress(text("\t").encode()),
    "gzip in two parts": gzip.compress(text().encode()[:20]) + gzip.compress(text().encode()[20:]),
    "gzip of UTF-16": gzip.compress(text("\t").encode("utf-16")),
    "blank lines": ("\n\n" + text(end="\n\n") + "\n").encode(),
    "rows of separators": (text() + ",,\n,,\n").encode(),
    "a title": ("Exported by PACS on 2024-01-01\n\n" + text()).encode(),
    "two titles with separators": ("Ward 3;;\nprinted; by; me\n" + text(";")).encode(),
    "blanks behind the separators": text(", ").encode(),
    "a workbook": workbook(ROWS),
    "a workbook with a title": workbook([["Ward 3"], [], *ROWS]),
    "a workbook with other sheets": workbook([["what", "this is"], ["a", "list"]], ROWS, []),
    "a workbook with a hidden copy": workbook(ROWS, ROWS, hidden=(0,)),
    "the header again": (text() + text(rows=ROWS[:1])).encode(),
    "a header after #": b"#" + text().encode(),
    "Parquet": parquet(),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_table_says_the_same_in_every_form(form):
    assert rows_of(opened(FORMS[form])) == ROWS


@pytest.mark.parametrize("form", [form for form in FORMS if form not in ("commas", "semicolons", "tabs", "bars")])
def test_what_a_cell_holds_is_read_in_columns_too(form):
    table = opened(FORMS[form])
    assert table.load([1, 0]).columns[1].to_pylist() == ["ä 1", "b", "c"]


def test_the_line_of_each_row_is_right():
    data = 'x\n\nscan id,report\n\na,"one\ntwo\r\nthree"\nb,x\n,\n"c\nc",y\n'
    for end in ("\n", "\r\n"):
        table = opened(data.replace("\r\n", "\n").replace("\n", end).encode())
        assert [place for place, _ in table.records()] == [5, 8, 10]
        assert table.load([0]).place_N.to_pylist() == [5, 8, 10]
    assert [place for place, _ in opened(("sep=,\n" + data).encode()).records()] == [6, 9, 11]
    book = opened(workbook([["title"], [], ["scan id"], ["a"], [], ["b"]]), "t.xlsx")
    assert [place for place, _ in book.records()] == [4, 6]
    assert (book.where(6), table.where(5), table.places([5, 8])) == ("t.xlsx, row 6", "t.csv:5", "lines 5, 8")


def test_cells_of_a_workbook_are_what_a_csv_would_hold():
    row = ["a", 3.0, 2.5, True, dt.datetime(2024, 2, 1), dt.datetime(2024, 2, 1, 13, 30), None, 10**15, "#N/A"]
    table = opened(workbook([["scan id", *"bcdefghi"], row]))
    assert rows_of(table)[1] == [
        "a",
        "3",
        "2.5",
        "True",
        "2024-02-01",
        "2024-02-01T13:30:00",
        "",
        "1" + "0" * 15,
        "",
    ]
    assert "1 cell of the workbook holds an error such as #N/A: read as blank" in table.notes.lines


def test_a_sheet_may_begin_anywhere():
    table = opened(workbook([[], [None, None, "scan id", "b"], [], [None, None, "a", 1]]))
    assert rows_of(table) == [["scan id", "b"], ["a", "1"]] and [place for place, _ in table.records()] == [4]


def test_parquet_lists_are_lists_of_names():
    stream = io.BytesIO()
    pq.write_table(pa.table({"scan id": ["a", "b", "c"], "found": [["x", "y z"], [], None]}), stream)
    assert opened(stream.getvalue()).load([1]).columns[0].to_pylist() == ['["x", "y z"]', None, None]


def test_bytes_in_parquet_are_text_or_refused():
    def cells(*values):
        stream = io.BytesIO()
        pq.write_table(pa.table({"scan id": list(values)}), stream)
        return opened(stream.getvalue()).load([0]).columns[0].to_pylist()

    assert cells(b"a", "ä".encode()) == ["a", "ä"]
    with pytest.raises(InputError, match=r"holds no UTF-8 text.*scan id"):
        cells(b"a", "ä".encode("latin-1"))


def test_short_rows_are_filled_and_counted_long_ones_refused():
    table = opened(b"scan id,b,c\na\nb,1\nc,1,2,,\nd,1,2\n")
    assert [c.to_pylist() for c in table.load([0, 2]).columns] == [["a", "b", "c", "d"], ["", "", "2", "2"]]
    assert "2 rows end before the last column (lines 2, 3)" in table.notes.lines[-1]
    with pytest.raises(InputError, match=r"t\.csv:3: has 4 cells, the header has 3 columns") as refused:
        opened(b"scan id,b,c\nx,,\na,b,c,secret\n").load([0])
    assert "secret" not in str(refused.value), "it may be a piece of a report"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (text().encode("cp1252"), r"t\.csv:1: is not UTF-8 text \(byte 0xf6\)"),
        (b"scan id\nok\nM\xfcller\n", r"t\.csv:3: is not UTF-8 text"),
        (b'scan id,b\na,"never closed\nb,c\n', r"t\.csv:2: is no CSV table \(a quotation mark is never closed"),
        (b'scan id,b\na,"x"y\n', r"t\.csv:2: is no CSV table"),
        (gzip.compress(b"scan id\n" * 99, mtime=0)[:-12], "cut off"),
        (b"\x1f\x8b damaged", "damaged gzip"),
        (b"\xd0\xcf\x11\xe0" + b"x" * 600, r"old form \(\.xls\)"),
        (b"%PDF-1.4", "a PDF"),
        (b"\x89PNG\r\n\x1a\n", "a picture"),
        (b"\0" * 128 + b"DICM", "a DICOM file"),
        (b"<!doctype html><table>", "a web page"),
        (b"PAR1 and nothing else", "cannot be read as Parquet"),
        (workbook([]), "the workbook is empty"),
        (b"PK\x03\x04" + b"\0" * 26 + b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet", "an OpenDocument"),
        (b"PK\x03\x04 xl/workbook.bin", r"\.xlsb"),
        (b"PK\x03\x04 Index/Document.iwa", "a Numbers document"),
        (workbook(ROWS)[:-300], "no table but a ZIP archive|cannot be read"),
        (of_zip_version(workbook(ROWS), 255), "no table but a ZIP archive|cannot be read"),
        (workbook(ROWS, ROWS), r"2 sheets of the workbook could be the table: 'Sheet 0', 'Sheet 1'.*[Kk]eep one"),
        (workbook([["a"], [1]], [["b"], [2]]), "2 sheets of the workbook could be the table"),
    ],
)
def test_what_cannot_be_read_is_called_what_it_is(data, words):
    with pytest.raises(InputError, match=words):
        opened(data).load([0])


def test_bombs_are_refused_without_being_unpacked(monkeypatch):
    monkeypatch.setattr(characters, "MAX_BYTES", 2**21)
    for bomb in (gzip.compress(b"\0" * 2**22, 9), gzip.compress(b"\0" * 2**20) * 3):
        with pytest.raises(InputError, match="unpacks to more than 2 MiB"):
            opened(bomb)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", "x")
        with archive.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as sheet:
            for _ in range(70):
                sheet.write(b"\0" * 2**20)
    with pytest.raises(InputError, match="unpacks to 73,400"):
        opened(stream.getvalue())


def test_which_sheet_is_read_and_which_lines_are_skipped_is_said():
    table = opened(FORMS["a workbook with other sheets"])
    assert table.notes.lines == ["of 3 sheets 'Sheet 1' is read, 'Sheet 0', 'Sheet 2' not"]
    table = opened(FORMS["a title"])
    assert table.notes.lines == ["1 line above the header is no part of the table"]
    assert opened(FORMS["UTF-16 LE"]).notes.lines == ["is UTF-16 text"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'[{"image_path": "a.png"}]', "text in JSON"),
        (b'{"image_path": "a.png"}\n{"image_path": "b.png"}\n', "text in JSON"),
        (b"ARROW1\0\0", "an Arrow file"),
        (b"\x80\x04\x95", "a Python pickle"),
        (b"a.png".ljust(257, b"\0") + b"ustar\x0000", "a tar archive"),
        (gzip.compress(b"a.png".ljust(257, b"\0") + b"ustar  ", mtime=0), "a tar archive"),  # the same name at any time
        (b"<table><tr><td>image_path", "a web page"),
    ],
)
def test_other_files_are_called_what_they_are(data, words):
    with pytest.raises(InputError, match=f"is no table but {words}"):
        opened(data)


def test_names_in_brackets_are_no_json():
    assert opened(b"[Scan ID],[note]\na,b\n").header == ("[Scan ID]", "[note]")


def edited(edit):
    """A workbook of the rows, changed by a function of its sheet."""
    book = openpyxl.Workbook()
    for row in ROWS:
        book.active.append(row)
    edit(book.active)
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def cells(table):
    return [list(row) for _, row in table.records()]


@pytest.mark.parametrize("corner", ["A2:A4", "C2:C4", "A3:C4"])
def test_what_stands_in_merged_cells_stands_in_each(corner):
    table = opened(edited(lambda sheet: sheet.merge_cells(corner)), "t.xlsx")
    first, last = corner.split(":")
    columns, top = range(ord(first[0]) - 65, ord(last[0]) - 64), int(first[1]) - 2
    for row in cells(table)[top:]:
        assert [row[i] for i in columns] == [ROWS[top + 1][columns[0]]] * len(columns)


def test_merged_cells_of_a_table_that_begins_elsewhere():
    def edit(sheet):
        sheet.insert_cols(1, 2)
        sheet.insert_rows(1, 3)
        sheet.merge_cells("C5:C6")

    assert [row[0] for row in cells(opened(edited(edit), "t.xlsx"))] == ["ä 1", "ä 1", "c"]


def test_a_formula_without_its_result_is_counted():
    def edit(sheet):
        sheet["B2"], sheet["B3"] = "=1+1", '=IF(A3="b","x","y")'

    table = opened(edited(edit), "t.xlsx")
    assert "2 cells of the workbook hold a formula" in "\n".join(table.notes.lines)
    assert [row[1] for row in cells(table)] == ["", "", "7"]


@pytest.mark.parametrize("seen", [[["x", "y"], ["1", "2"]], []])
def test_a_table_on_a_hidden_sheet_is_named(seen):
    book = workbook(seen, ROWS, hidden=(1,))
    with pytest.raises(InputError, match="hidden sheet"):
        opened(book, "t.xlsx")


@pytest.mark.parametrize("sign", ["\u200b", "\u00ad", "\u2060"])
def test_signs_that_nobody_sees_are_left_out_and_counted(sign):
    table = opened(f"Scan{sign} ID,note\na{sign},b\n".encode())
    assert table.header == ("Scan ID", "note") and cells(table) == [["a", "b"]]
    assert "2 signs that nobody sees" in "\n".join(table.notes.lines)


@pytest.mark.parametrize("separator", [",", ";"])
def test_cells_that_a_spreadsheet_marks_as_text_are_that_text(separator):
    table = opened(f'Scan ID{separator}note\n"=""0012"""{separator}="5 mm"\n'.encode())
    assert cells(table) == [["0012", "5 mm"]]


def test_numbers_of_two_bytes_are_read():
    stream = io.BytesIO()
    halves = pa.array(np.array([45.5, 3.0], np.float16))
    pq.write_table(pa.table({"scan id": ["a", "b"], "age": halves, "whole": halves.take(pa.array([1, 1]))}), stream)
    age, whole = opened(stream.getvalue()).load([1, 2]).columns
    assert (age.to_pylist(), whole.to_pylist()) == ([45.5, 3.0], [3, 3])


@pytest.mark.parametrize("first", ["ORCID", "Arrow1", "fea1"])
def test_a_column_may_begin_like_a_file_of_another_kind(first):
    assert opened(f"{first},scan id\n1,a\n".encode()).header == (first, "scan id")


def test_blanks_at_the_end_of_a_line_separate_nothing():
    assert rows_of(opened(b"note scan_id  \nx a\ny b \n"))[1:] == [["x", "a"], ["y", "b"]]
    with pytest.raises(InputError, match="cells"):
        opened(b"scan_id note  \na two words\n").load([0, 1])


def test_an_empty_text_is_a_result_of_a_formula():
    sheet = (
        b'<c r="A1" t="str"><f>IF(1,"","")</f><v></v></c><c r="A2"><f>1+1</f><v></v></c><c r="A3" s="1"><f>2</f></c>'
    )
    assert len(workbooks._NEVER_WORKED_OUT.findall(sheet)) == 2
