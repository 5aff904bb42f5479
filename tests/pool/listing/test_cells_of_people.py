"""Cells as spreadsheets, programs and people of several countries write them."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.contracts.errors import InputError
from tests.pool.listing.test_tables_of_people import opened, said, values

HEAD = "image_path,label,patient_id\n"


@pytest.mark.parametrize("short", ["1.23457E+11", "1e+15", "1,2E+10"])
def test_ids_that_a_spreadsheet_shortened_are_said(tmp_path, short):
    pool = opened(tmp_path, f"image_path;patient_id\na.png;{short}\nb.png;{short}\nc.png;E12\n")
    assert "2 patient ids are numbers that a spreadsheet shortened" in said(pool)


def test_ids_with_an_e_are_no_short_numbers(tmp_path):
    assert said(opened(tmp_path, HEAD + "a.png,x,12E3\nb.png,y,1E5\n")) == ""


def test_one_patient_is_one_whether_a_whole_number_or_floating(tmp_path):
    pool = opened(tmp_path, HEAD + "a.png,x,12.0\nb.png,x,12\nc.png,y,013.00\n")
    assert values(pool, "patient_id") == [["12", "12", "013"]]
    assert "2 patient ids such as 12.0 are whole numbers" in said(pool)


def test_long_floating_ids_of_parquet_are_whole(tmp_path):
    table = pa.table({"image_path": ["a.png", "b.png", "c.png"], "patient_id": [12345678901.0, 1e15, None]})
    pq.write_table(table, tmp_path / "scans.parquet")
    pool = opened(tmp_path, (tmp_path / "scans.parquet").read_bytes(), "t.parquet")
    assert values(pool, "patient_id") == [["12345678901", "1000000000000000", None]]


@pytest.mark.parametrize("sign", ["\u200b", "\ufeff", "\0", "\u00ad"])
def test_signs_that_nobody_sees_make_no_class_and_no_patient(tmp_path, sign):
    pool = opened(tmp_path, HEAD + f"a.png,normal{sign},p{sign}1\nb.png,normal,p1\nc.png,sick,p2\n")
    assert values(pool, "label", "patient_id") == [["normal", "normal", "sick"], ["p1", "p1", "p2"]]


def test_cells_that_a_spreadsheet_marks_as_text(tmp_path):
    pool = opened(tmp_path, HEAD + '"=""a.png""",x,"=""0012"""\nb.png,y,0013\n')
    assert values(pool, "path", "patient_id") == [["a.png", "b.png"], ["0012", "0013"]]


def test_m_beside_h_may_be_a_woman(tmp_path):
    pool = opened(tmp_path, "image_path,sex\na.png,H\nb.png,M\n")
    assert values(pool, "sex") == [[None, None]] and "2 values of sex are not understood" in said(pool)
    assert values(opened(tmp_path, "image_path,sex\na.png,M\nb.png,F\n"), "sex") == [["M", "F"]]
    assert values(opened(tmp_path, "image_path,sex\na.png,H\nb.png,F\n"), "sex") == [[None, "F"]]


@pytest.mark.parametrize("labels", [("2024-01-02", "2024-03-04"), ("1-Feb", "02. Mär 2024")])
def test_classes_that_are_dates_are_said(tmp_path, labels):
    pool = opened(tmp_path, HEAD + "".join(f"{i}.png,{label},p\n" for i, label in enumerate(labels)))
    assert f"classes look like dates, which spreadsheets make of codes such as 1-2: {labels[0]!r}" in said(pool)


def test_a_class_of_minus_one_is_said(tmp_path):
    assert "-1 is taken for a class" in said(opened(tmp_path, HEAD + "a.png,0,p\nb.png,1,q\nc.png,-1,r\n"))
    asked = opened(tmp_path, HEAD + "a.png,0,p\nb.png,1,q\nc.png,-1,r\n", findings=("0", "1", "-1"))
    assert "-1" not in said(asked)


@pytest.mark.parametrize("label", [{"label": "sick"}, {"sick": 1}, [{"name": "sick"}]])
def test_objects_are_no_classes(tmp_path, label):
    cell = json.dumps(label).replace('"', '""')
    with pytest.raises(InputError, match="objects of a program"):
        opened(tmp_path, HEAD + f'a.png,"{cell}",p\nb.png,normal,q\n')


def test_objects_of_parquet_are_refused_in_words(tmp_path):
    for column, words in (({"label": [{"a": 1}]}, "objects of a program"), ({"label": [{"bytes": b"x"}]}, "no text")):
        pq.write_table(pa.table({"image_path": ["a.png"], **column}), tmp_path / "scans.parquet")
        with pytest.raises(InputError, match=words):
            opened(tmp_path, (tmp_path / "scans.parquet").read_bytes(), "t.parquet")


@pytest.mark.parametrize("other", ["Label", "LABEL", "label_"])
def test_another_column_of_the_same_name_is_said(tmp_path, other):
    pool = opened(tmp_path, f"image_path,label,{other}\na.png,x,y\n")
    assert values(pool, "label") == [["x"]]
    assert f"the column 'label' is read as label, and {other!r} beside it not" in said(pool)


@pytest.mark.parametrize("columns", ["Pneumonia", "Normal,Pneumonia"])
def test_columns_of_findings_that_nobody_reads_are_said(tmp_path, columns):
    cells = ["1", "0"][: columns.count(",") + 1]
    pool = opened(tmp_path, f"image_path,{columns}\na.png,{','.join(cells)}\nb.png,{','.join(cells[::-1])}\n")
    assert "all scans count as unlabelled; 'Pneumonia' looks like a finding" in said(pool)


@pytest.mark.parametrize("separator", [" ", "   "])
def test_blanks_may_separate_the_cells(tmp_path, separator):
    rows = (("image_path", "label", "patient_id"), ("a.png", "x", "p1"), ("b.png", "y", "p2"))
    pool = opened(tmp_path, "".join(separator.join(row) + "\n" for row in rows), "t.txt")
    assert values(pool, "path", "label", "patient_id") == [["a.png", "b.png"], ["x", "y"], ["p1", "p2"]]
    with pytest.raises(InputError, match="has 4 cells, the header has 3"):
        opened(tmp_path, "image_path label patient_id\na b.png x p1\n", "t.txt")


def test_a_table_without_names_of_columns_is_called_that(tmp_path):
    with pytest.raises(InputError, match="its first line holds a file and no names of columns"):
        opened(tmp_path, "a.png,normal\nb.dcm,sick\n")
    with pytest.raises(InputError, match="its first line holds a file and no names of columns"):
        opened(tmp_path, "p1 a.png normal cohen\np2 b.png sick cohen\n", "train.txt")


@pytest.mark.parametrize("begin", ["file:///D:/scans/", "file://localhost/old/place/", "FILE:/old/"])
def test_paths_may_be_addresses_of_files(tmp_path, begin):
    (tmp_path / "a b.png").write_bytes(b"x")
    pool = opened(tmp_path, f"image_path\n{begin}a%20b.png\n{begin}c.png\n")
    assert pool.scans["path"][0].as_py() == "a b.png"
    whole = opened(tmp_path, f"image_path\nfile://{tmp_path}/a b.png\n")
    assert values(whole, "path") == [["a b.png"]]


@pytest.mark.parametrize("labels", [("01", "1", "00"), ("1", "1.0", "002")])
def test_codes_that_lost_their_zeros_are_one_class(tmp_path, labels):
    pool = opened(tmp_path, HEAD + "".join(f"{i}.png,{label},p\n" for i, label in enumerate(labels)))
    classes = pool.scans["label"].to_pylist()
    assert classes[0] == classes[1] != classes[2]


@pytest.mark.parametrize(("column", "first", "second"), [("age", "45", "46"), ("sex", "M", "F")])
def test_rows_of_one_scan_that_differ_are_counted(tmp_path, column, first, second):
    text = f"image_path,label,{column}\na.png,x,{first}\na.png,x,{second}\nb.png,y,{first}\n"
    pool = opened(tmp_path, text)
    assert len(pool.scans) == 2 and f"rows of 1 scan differ in {column}: the first counts" in said(pool)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["tr", "te", "val1"], ["train", "test", "val"]),
        (["Train set", "TEST-2", "Validierung"], ["train", "test", "val"]),
        (["train", "Testing", "fold1"], ["train", "Testing", "fold1"]),
        (["external test", "tester", "0"], ["external test", "tester", "0"]),
    ],
)
def test_words_for_the_sides_of_a_split(tmp_path, written, read):
    rows = "".join(f"{i}.png,{word}\n" for i, word in enumerate(written))
    pool = opened(tmp_path, "image_path,official_split\n" + rows)
    assert values(pool, "pool_split") == [read]
    assert ("names of the split are read" in said(pool)) == (written != read)


def test_one_id_for_all_scans_is_said(tmp_path):
    rows = "".join(f"{i}.png,0\n" for i in range(12))
    assert "all 12 scans have one patient id" in said(opened(tmp_path, "image_path,patient_id\n" + rows))
    assert said(opened(tmp_path, "image_path,patient_id\na.png,p1\nb.png,p1\n")) == ""
