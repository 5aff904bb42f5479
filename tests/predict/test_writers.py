"""The files that predictions go to: the same rows in each, whole or not at all, and refused before any work."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.contracts.errors import InputError
from pipeline.predict import columns, writers

SCHEMA = columns.schema(("=cmd", "normal"))
ABOUT = {"run": "r", "round": 2}


def rows(*paths):
    blank = dict.fromkeys(SCHEMA.names)
    made = [
        blank
        | {
            "path": path,
            "image_id": f"{i:016x}",
            "status": "ok",
            "answer": "=cmd",
            "prob_=cmd": 0.1 + i,
            "outside": True,
        }
        for i, path in enumerate(paths)
    ]
    made.append(blank | {"path": "z.png", "image_id": "f" * 16, "status": "unusable", "reason": '-broken, "so"'})
    return pa.Table.from_pylist(made, SCHEMA)


def written(out, table):
    with writers.Output(str(out), SCHEMA, ABOUT) as output:
        output.write(table.slice(0, 1))
        output.write(table.slice(1))
    return out


def test_parquet_and_json_hold_the_rows_and_where_they_come_from(tmp_path):
    table = rows("a.png", "b/c.png")
    back = pq.read_table(written(tmp_path / "a.parquet", table))
    assert back.to_pylist() == table.to_pylist() and json.loads(back.schema.metadata[b"cxr_ssl"]) == ABOUT
    told = json.loads(written(tmp_path / "a.json", table).read_text("utf-8"))
    assert told == {**ABOUT, "scans": table.to_pylist()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.parquet"]


def test_a_spreadsheet_runs_nothing_of_a_csv(tmp_path):
    out = written(tmp_path / "a.csv", rows("=HYPERLINK(1)", "+a.png", "@b", "plain.png"))
    with out.open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [line["path"] for line in lines] == ["'=HYPERLINK(1)", "'+a.png", "'@b", "plain.png", "z.png"]
    assert {line["answer"] for line in lines[:-1]} == {"'=cmd"} and lines[-1]["reason"] == '\'-broken, "so"'
    assert not any(cell.startswith(("=", "+", "-", "@")) for line in lines for cell in line.values())
    assert float(lines[1]["prob_=cmd"]) == 1.1 and lines[-1]["prob_=cmd"] == "" and lines[0]["outside"] == "true"


def test_sidecars_lie_where_their_scans_do_and_never_outside(tmp_path):
    table = rows("a.png", "b/c.dcm", "../../up.png", "/etc/x.png")
    written(f"{tmp_path}/all/", table)
    found = sorted(path.relative_to(tmp_path / "all").as_posix() for path in (tmp_path / "all").rglob("*.json"))
    ids = [f"{i:016x}.json" for i in (2, 3)]
    assert found == sorted(["a.png.json", "b/c.dcm.json", "z.png.json", *ids])
    assert json.loads((tmp_path / "all" / "b" / "c.dcm.json").read_text())["prob_=cmd"] == 1.1


@pytest.mark.parametrize("out", ["a.parquet", "a.csv", "a.json", "a/"])
def test_what_fails_leaves_nothing(tmp_path, out):
    with pytest.raises(RuntimeError), writers.Output(f"{tmp_path}/{out}", SCHEMA, ABOUT) as output:
        output.write(rows("a.png"))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("out", "why"),
    [
        ("a.xlsx", "no form of file has this ending: .xlsx"),
        ("a", "no form of file has this ending: none"),
        ("missing/a.csv", "the folder it would lie in is missing"),
        ("there.csv", "is there already"),
        ("folder/", "is there already"),
    ],
)
def test_an_out_that_cannot_be_written_is_refused(tmp_path, out, why):
    (tmp_path / "there.csv").write_text("mine")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=why):
        writers.check(f"{tmp_path}/{out}")
    assert (tmp_path / "there.csv").read_text() == "mine"
