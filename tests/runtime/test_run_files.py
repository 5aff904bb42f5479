"""Where files lie, of a run and of one finding of it."""

import ast
import json
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.contracts.errors import RunDirError
from pipeline.contracts.tables import LABELS, MANIFEST, QUEUE
from pipeline.runtime import finding_folders, run_files


def drawn(folder, round_index, image_ids, kind="uniform"):
    place = run_files.round_folder(folder, round_index)
    place.mkdir(parents=True)
    rows = [
        {"image_id": image_id, "rank": rank, "kind": kind, "cluster": None, "score": None, "proposed": None}
        for rank, image_id in enumerate(image_ids, start=1)
    ]
    QUEUE.write(place, pa.Table.from_pylist(rows, QUEUE.schema))


@pytest.fixture
def finding(tmp_path):
    """The folder of a finding in a run that asked for another one before."""
    part = tmp_path / "findings" / "mass"
    part.mkdir(parents=True)
    index = {"findings": [{"finding": "mass", "folder": "mass"}], "names": {"mass": "mass", "old one": "old-one"}}
    (part.parent / "index.json").write_text(json.dumps(index))
    return part


def test_no_name_stands_for_two_files():
    """A second assignment would move the file of the first, unseen."""
    targets = [
        name.id
        for node in ast.parse(Path(run_files.__file__).read_text("utf-8")).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        for name in ast.walk(target)
        if isinstance(name, ast.Name)
    ]
    assert len(targets) > 50 and sorted(set(targets)) == sorted(targets)


def test_a_findings_folder_is_known_by_whatever_path(finding, tmp_path, monkeypatch):
    monkeypatch.chdir(finding)
    assert run_files.home(Path()) == tmp_path
    assert run_files.home(finding / "rounds" / "..") == tmp_path


@pytest.mark.parametrize("index", [["mass"], {"names": {"mass": "mass"}}, {"findings": "mass"}])
def test_a_run_may_lie_in_somebodys_own_folder_of_that_name(tmp_path, index):
    own = tmp_path / "findings" / "mass"
    own.mkdir(parents=True)
    (own.parent / "index.json").write_text(json.dumps(index))
    assert run_files.home(own) == own and finding_folders.parts_in(tmp_path) == {}


def test_an_index_that_is_damaged_is_named(finding):
    (finding.parent / "index.json").write_text('{"findings": [')
    with pytest.raises(RunDirError, match=r"index\.json: is not JSON"):
        run_files.home(finding)


def test_what_no_finding_changes_is_the_runs_and_the_rest_its_own(finding, tmp_path):
    assert run_files.home(finding) == tmp_path == run_files.home(tmp_path)
    assert run_files.path(finding, MANIFEST.file) == tmp_path / "manifest.parquet"
    assert run_files.path(finding, run_files.PRETRAINED_HISTORY) == tmp_path / "pretrain" / "history.jsonl"
    assert run_files.path(finding, LABELS.file) == finding / "labels.parquet"
    assert run_files.path(finding, run_files.METRICS) == finding / "metrics.jsonl"
    assert run_files.href(finding, MANIFEST.file) == "../../../manifest.parquet"
    assert run_files.href(finding, run_files.RESOLVED) == "../resolved.yaml"
    assert run_files.href(finding, "rounds/01/model") == "../rounds/01/model"
    assert run_files.href(tmp_path, MANIFEST.file) == "../manifest.parquet"


def test_a_finding_asked_for_no_more_is_of_its_run_still_but_a_stray_folder_is_not(finding, tmp_path):
    assert finding_folders.whole_of(finding.with_name("old-one")) == tmp_path
    assert finding_folders.whole_of(finding.with_name("stray")) is None
    assert finding_folders.whole_of(tmp_path / "elsewhere" / "mass") is None


def test_rounds_are_counted_as_numbers_and_what_is_no_round_is_none(tmp_path):
    for round_index in (2, 100, 99, 1):
        drawn(tmp_path, round_index, [f"scan{round_index}"])
    (tmp_path / "rounds" / "02 copy").mkdir()
    (tmp_path / "rounds" / "02 copy" / "queue.parquet").write_bytes(b"")
    assert run_files.drawn_rounds(tmp_path) == [1, 2, 99, 100]
    assert run_files.latest_round(tmp_path) == 100 and run_files.last_round(tmp_path) is None
    assert list(run_files.asked(tmp_path).values()) == [1, 2, 99, 100]
    assert run_files.kinds(tmp_path, before_round=2) == {"scan1": {"uniform": 1}}


def test_finished_rounds_end_at_a_gap(tmp_path):
    assert run_files.finished_rows(tmp_path, 5) == [] and not run_files.has_rounds(tmp_path)
    for round_index in (1, 2, 4):
        place = run_files.round_folder(tmp_path, round_index)
        place.mkdir(parents=True)
        (place / run_files.ROW).write_text(json.dumps({"round": round_index}))
    assert [row["round"] for row in run_files.finished_rows(tmp_path, 5)] == [1, 2]
    assert [row["round"] for row in run_files.finished_rows(tmp_path, 1)] == [1]
    assert run_files.last_round(tmp_path) == 4


def test_what_was_shown_with_the_models_answer_is_the_runs_matter(finding, tmp_path):
    place = run_files.round_folder(tmp_path, 3)
    place.mkdir(parents=True)
    (place / run_files.PREANNOTATED).write_text('["a", "b"]')
    assert run_files.shown_with_answer(finding) == run_files.shown_with_answer(tmp_path) == {("a", 3), ("b", 3)}


def test_every_filled_table_is_found(tmp_path):
    for place in ("rounds/01", "rounds/01/annotators/Lee"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "queue.csv").write_text("")
    assert len(run_files.filled_tables(tmp_path)) == 2
