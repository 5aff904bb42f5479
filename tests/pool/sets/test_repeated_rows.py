"""Tables of people with several rows a scan: a row a box, a row a reader, the same row twice."""

import logging

import pytest

from pipeline.contracts.errors import InputError
from pipeline.contracts.options.scans import PoolConfig
from pipeline.pool.sources import open_pool


def opened(tmp_path, text, **options):
    (tmp_path / "table.csv").write_text(text)
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.png").touch()
    return open_pool(PoolConfig(uri=str(tmp_path / "table.csv"), **options), tmp_path / "cache")


def labels(pool):
    return dict(zip(pool.scans["path"].to_pylist(), pool.scans["label"].to_pylist(), strict=True))


def said(pool):
    rows = pool.statements.to_pylist()
    return {(row["image_path"], row["reader"]): row["label"] for row in rows}


def test_rows_that_agree_are_one_scan(tmp_path, caplog):
    text = "image_path,label,patient_id,age\na.png,ill,1,\na.png,ill,1,44\nb.png,well,2,50\nb.png,,2,50\n"
    pool = opened(tmp_path, text)
    assert labels(pool) == {"a.png": "ill", "b.png": "well"} and pool.statements is None
    assert pool.scans["age_years"].to_pylist() == [44, 50], "the first that is known"
    assert "4 rows are of 2 scans, and agree" in caplog.text


def test_classes_that_differ_are_refused_with_three_ways_out(tmp_path):
    text = "image_path,label\nb.png,well\na.png,ill\na.png,well\n"
    with pytest.raises(InputError, match=r"several classes: ill, well \(lines 3, 4\)") as refused:
        opened(tmp_path, text)
    for way in ("pool.findings_are: independent", "pool.columns.reader", "one row per scan"):
        assert way in str(refused.value)


def test_boxes_of_a_scan_are_joined_as_findings(tmp_path, caplog):
    text = "image_path,label\na.png,Mass\na.png,Effusion\na.png,Mass\nb.png,No finding\nc.png,\n"
    pool = opened(tmp_path, text, findings_are="independent")
    assert labels(pool) == {"a.png": "Effusion=1|Mass=1", "b.png": "Effusion=0|Mass=0", "c.png": None}
    assert "what one row of a scan calls present is present" in caplog.text
    one = opened(tmp_path, text, findings_are="independent", finding="Mass")
    assert labels(one) == {"a.png": "Mass", "b.png": "no Mass", "c.png": None}


def test_columns_of_findings_are_joined_too(tmp_path):
    text = "image_path,Mass,Edema\na.png,1,0\na.png,0,-1\nb.png,,0\nb.png,,\n"
    pool = opened(tmp_path, text, findings_are="independent", findings=("Mass", "Edema"))
    assert labels(pool) == {"a.png": "Mass=1|Edema=0", "b.png": "Mass=?|Edema=0"}


def test_readers_are_readings_and_most_of_them_the_label(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    rows = ("a,Mass,x", "a,Edema,x", "a,Mass,y", "a,No finding,z", "b,Edema,x", "b,No finding,y")
    text = "image_path,label,who\n" + "".join(f"{row.replace(',', '.png,', 1)}\n" for row in rows)
    pool = opened(tmp_path, text, findings_are="independent", columns={"reader": "who"})
    assert labels(pool) == {"a.png": "Edema=0|Mass=1", "b.png": "Edema=?|Mass=0"}
    assert said(pool)["a.png", "x"] == "Edema=1|Mass=1" and said(pool)["a.png", "z"] == "Edema=0|Mass=0"
    assert len(said(pool)) == 5 and "6 rows are readings of 2 scans" in caplog.text


def test_readers_of_classes(tmp_path):
    rows = ["a.png,ill,x", "a.png,ill,y", "a.png,well,z", "b.png,ill,x", "b.png,well,y", "c.png,well,x", "c.png,,y"]
    text = "image_path,label,reader\n" + "\n".join(rows) + "\n"
    pool = opened(tmp_path, text)
    assert labels(pool) == {"a.png": "ill", "b.png": None, "c.png": "well"}
    assert said(pool)["a.png", "z"] == "well" and said(pool)["c.png", "y"] is None
    with pytest.raises(InputError, match=r"several classes: ill, well"):
        opened(tmp_path, text + "a.png,well,x\n")


def test_one_row_a_reader_and_scan_keeps_the_reader(tmp_path):
    pool = opened(tmp_path, "image_path,label,reader\na.png,ill,x\nb.png,well,\n")
    assert said(pool) == {("a.png", "x"): "ill"} and labels(pool)["b.png"] == "well"


@pytest.mark.parametrize("name", ["patient_id", "official_split"])
def test_rows_of_one_scan_cannot_be_two_people(tmp_path, name):
    with pytest.raises(InputError, match=rf"differ in {name} \(lines 3, 4\)"):
        opened(tmp_path, f"image_path,{name}\nb.png,test\na.png,train\na.png,test\n")
