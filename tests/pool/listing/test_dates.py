"""Dates of a table that cannot be are counted by reason; what they say stays behind."""

import pyarrow as pa
import pytest

from pipeline.contracts.options.scans import PoolConfig
from pipeline.pool.listing import dates
from pipeline.pool.sources import open_pool
from pipeline.tables.notes import Notes


def said(name, *values):
    notes = Notes("pool.csv")
    dates.say_impossible(name, pa.chunked_array([pa.array(values, pa.string())]), notes)
    return notes.lines


def test_columns_of_dates_are_known_by_their_names():
    header = ["image_path", "StudyDate", "date of birth", "DOB", "updated_by", "candidate", "exam_date", "view"]
    assert dates.columns(header) == ["StudyDate", "date of birth", "DOB", "exam_date"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("2999-01-01", "in the future"),
        ("30.02.2020", "no day of the calendar"),
        ("20201301", "no day of the calendar"),
        ("1890-05-05", "before there were X-rays"),
    ],
)
def test_a_date_that_cannot_be_is_said_without_its_value(value, reason):
    assert said("StudyDate", "2020-01-02", value, "2020-01-03", None) == [
        f"1 date of 'StudyDate' cannot be: 1 {reason}"
    ]


def test_what_is_possible_or_no_date_is_not_said():
    assert said("StudyDate", "20200102", "2020-01-02 10:11", "02.01.2020", "1/2/2020", "unknown", "17", None) == []
    assert said("birth_date", "1880-01-01") == [] and "too long ago" in said("birth_date", "1700-01-01")[0]


def test_dates_that_were_moved_to_hide_them_are_no_fault():
    (line,) = said("StudyDate", *["2180-05-06"] * 9, "2020-01-01")
    assert "cannot be" not in line and "moved" in line


def test_opening_a_pool_says_it(tmp_path):
    rows = [f"{i}.png,{'2999-01-01' if i == 3 else '2020-05-06'}" for i in range(6)]
    (tmp_path / "pool.csv").write_text("\n".join(["image_path,StudyDate", *rows]), "utf-8")
    lines = open_pool(PoolConfig(uri=str(tmp_path / "pool.csv")), tmp_path).notes.lines
    assert "1 date of 'StudyDate' cannot be: 1 in the future" in lines and "2999" not in "".join(lines)
