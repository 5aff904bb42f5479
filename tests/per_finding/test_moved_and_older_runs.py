"""A run goes on wherever it was moved to, and where version 0.1 left it."""

import json
import os
import shutil
from unittest import mock

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline import stages
from pipeline.labels import label_table
from pipeline.runtime import run_files
from tests.support.several_findings import FINDINGS, SEVERAL, answered, number_of, reading_of, rows_of
from tests.support.tiny import FAST, call, make_pool

OF_ROUND_2 = ("rounds/02/queue.parquet", "findings/mass/rounds/02/queue.parquet")


def experts(folder):
    """What experts have said, as the label table has it."""
    table = label_table.read(folder)
    rows = table.filter(pc.equal(table["origin"], "expert")).to_pylist()
    return [(row["image_id"], row["finding"], row["annotator"], row["round"], row["reply"]) for row in rows]


def moved(run, folder):
    """The run at another path; nothing lies where it was made."""
    shutil.copytree(run, folder, symlinks=True)
    aside = run.rename(run.with_name("aside"))
    yield folder
    aside.rename(run)


@pytest.fixture
def elsewhere(run, tmp_path):
    yield from moved(run, tmp_path / "elsewhere" / "run")


@pytest.fixture
def half_read(begun, tmp_path):
    yield from moved(begun, tmp_path / "elsewhere" / "run")


def as_0_1_left_it(run):
    """Link what the findings share into their folders, there or not; leave out of metrics what 0.1 did not say."""
    for finding in FINDINGS:
        for name in run_files.SHARED:
            (run / "findings" / finding / name).symlink_to(os.path.relpath(run / name, run / "findings" / finding))
    for path in run.rglob("metrics.json*"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            (row["holdout"] or {}).pop("positive", None)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for path in run.rglob("env.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"cxr_ssl": "0.1.0"}))
    return run


def without_times(rows):
    """Rows of metrics without what differs from one run of the same thing to the next."""
    left_out = ("seconds", "fingerprint")
    return [
        {k: v for k, v in row.items() if k not in (*left_out, "findings")}
        | {"findings": without_times(row.get("findings", {}).values())}
        for row in rows
    ]


def test_a_moved_run_of_findings_goes_on(elsewhere, pool, tmp_path):
    here, other = elsewhere, shutil.copytree(elsewhere, tmp_path / "other")
    labels, queues = experts(here), [(here / name).read_bytes() for name in OF_ROUND_2]
    part = here / "findings" / "mass"
    for command in (
        ["report", here],
        ["report", part],
        ["evaluate", here],
        ["evaluate", part],
        ["evaluate", part, "--against", other / "findings" / "mass"],
        ["run", "--out", here, "--resume", "--rounds", 3, *SEVERAL, "--pool", pool, "--oracle", "--budget", 16],
    ):
        done = call(*command)
        assert done.code == 0, done.err
    assert "round 2, mass: finished before, kept" in done.err
    assert rows_of(here)[:2] == rows_of(other) and len(rows_of(here)) == 3
    assert experts(here)[: len(labels)] == labels
    assert [(here / name).read_bytes() for name in OF_ROUND_2] == queues


@pytest.mark.slow
def test_a_moved_run_of_classes_goes_on(tmp_path):
    make_pool(tmp_path / "pool", 60)
    go = ["run", "--pool", tmp_path / "pool", *FAST, "--oracle", "--budget", 12]
    assert call(*go, "--rounds", 1, "--out", tmp_path / "run").code == 0
    rows = rows_of(tmp_path / "run")
    here = shutil.copytree(tmp_path / "run", tmp_path / "elsewhere" / "run")
    shutil.rmtree(tmp_path / "run")
    for command in (["report", here], ["evaluate", here], [*go, "--rounds", 2, "--out", here, "--resume"]):
        done = call(*command)
        assert done.code == 0, done.err
    assert "round 1: finished before, kept" in done.err
    assert rows_of(here)[:1] == rows and len(rows_of(here)) == 2


def test_a_run_of_0_1_goes_on_with_its_queues_and_labels(elsewhere):
    """Every stage repeats, because the version is another one; what people have seen and said stays."""
    rows, predictions = rows_of(elsewhere), pq.read_table(elsewhere / "predictions.parquet")
    here = as_0_1_left_it(elsewhere)
    labels, queues = experts(here), [(here / name).read_bytes() for name in OF_ROUND_2]
    for command in (["report", here], ["report", here / "findings" / "mass"], ["evaluate", here], ["audit", here]):
        refused = call(*command)  # with the way out
        assert refused.code == 2, refused.err
        assert "version 0.1.0" in refused.message and f"cxr-ssl run --out {here} --resume" in refused.message
    assert call("status", here, "--json").json["rounds_finished"] == 2
    (here / "rounds" / "02" / "metrics.json").unlink()  # half-way through its rounds
    with mock.patch.object(stages, "__version__", "99.0"):
        done = call("run", "--out", here, "--resume")
    assert done.code == 0, done.err
    assert "finished before, kept" not in done.err
    assert call("report", here / "findings" / "mass").code == 0
    assert not [path for path in here.rglob("*") if path.is_symlink()]
    assert experts(here) == labels
    assert [(here / name).read_bytes() for name in OF_ROUND_2] == queues
    assert without_times(rows_of(here)) == without_times(rows)
    assert pq.read_table(here / "predictions.parquet").equals(predictions)


@pytest.mark.slow
def test_what_people_said_in_0_1_stays(half_read, tmp_path):
    """A first queue was read, a second one in part, when the version changed."""
    number = number_of(half_read)
    second, asked = answered(tmp_path, half_read, lambda i: reading_of(number[i]) if number[i] < 30 else "")
    assert call("labels", "import", half_read, second, "--annotator", "Lee").code == 0
    here = as_0_1_left_it(half_read)
    labels, journal = experts(here), (here / "answers.jsonl").read_bytes()
    queue = json.loads((here / "rounds" / "02" / "queue.json").read_text())
    with mock.patch.object(stages, "__version__", "99.0"):
        waits = call("run", "--out", here, "--resume")
        assert waits.code == 3, waits.err
        assert "finished before, kept" not in waits.err
        assert experts(here) == labels and (here / "answers.jsonl").read_bytes() == journal
        assert json.loads((here / "rounds" / "02" / "queue.json").read_text()) == queue
        rest, again = answered(tmp_path, here, lambda i: reading_of(number[i]))
        assert again == asked
        assert call("labels", "import", here, rest, "--annotator", "Lee").code == 0
        done = call("run", "--out", here, "--resume")
    assert done.code == 0, done.err
    assert set(labels) <= set(experts(here)) and (here / "answers.jsonl").read_bytes().startswith(journal)
