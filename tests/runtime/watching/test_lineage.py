"""Every event has what OpenLineage 2-0-2 requires of a RunEvent, and says truly how its stage ended."""

import json
import uuid
from datetime import datetime
from pathlib import Path

import pytest

from pipeline.contracts.errors import InputError, WaitingForLabels
from pipeline.runtime import run_files
from pipeline.runtime.watching import lineage
from pipeline.stages import STAGES


def events_of(folder):
    return [json.loads(line) for line in (folder / run_files.LINEAGE).read_text("utf-8").splitlines()]


def run(folder, error=None):
    job = lineage.Job(folder, "embed", ["s3://scans/chest", folder / "manifest.parquet"], [folder / "embeddings.npy"])
    with lineage.events(job):
        if error is not None:
            raise error
        (folder / "embeddings.npy").write_bytes(b"12345")


def test_a_stage_that_ends_well(tmp_path):
    run(tmp_path)
    first, last = events_of(tmp_path)
    assert (first["eventType"], last["eventType"]) == ("START", "COMPLETE")
    assert first["run"]["runId"] == last["run"]["runId"] == str(uuid.UUID(first["run"]["runId"]))
    for event in (first, last):
        assert datetime.fromisoformat(event["eventTime"]).tzinfo is not None
        assert event["producer"] and event["schemaURL"].startswith("https://openlineage.io/spec/2-0-2/")
        assert event["job"] == {"namespace": "cxr-ssl", "name": f"{tmp_path.name}.embed"}
        assert [(one["namespace"], one["name"]) for one in event["inputs"]] == [
            ("s3://scans", "chest"),
            ("file", str(tmp_path / "manifest.parquet")),
        ]
    [output] = last["outputs"]
    assert output["outputFacets"]["outputStatistics"]["size"] == 5
    assert set(output["outputFacets"]["outputStatistics"]) == {"_producer", "_schemaURL", "size"}
    assert "outputFacets" not in first["outputs"][0]


@pytest.mark.parametrize(
    ("error", "kind"),
    [(InputError("no such pool"), "FAIL"), (WaitingForLabels("12 scans"), "ABORT"), (KeyboardInterrupt(), "ABORT")],
)
def test_a_stage_that_does_not(tmp_path, error, kind):
    with pytest.raises(type(error)):
        run(tmp_path, error)
    last = events_of(tmp_path)[-1]
    message = last["run"]["facets"]["errorMessage"]
    assert last["eventType"] == kind and message["programmingLanguage"] == "python"
    assert message["message"] == (str(error) or "KeyboardInterrupt")


def test_half_a_line_of_a_process_that_died_spoils_no_other(tmp_path):
    run(tmp_path)
    path = tmp_path / run_files.LINEAGE
    path.write_bytes(path.read_bytes()[:-20])
    run(tmp_path)
    lines = path.read_text("utf-8").splitlines()
    assert [json.loads(line)["eventType"] for line in (lines[0], *lines[2:])] == ["START", "START", "COMPLETE"]


def test_a_password_in_an_address_is_not_written_down():
    assert lineage._dataset("https://ann:secret@host/pool")["namespace"] == "https://host"
    assert lineage._dataset("phantom:num_patients=9") == {"namespace": "phantom", "name": "num_patients=9"}
    assert lineage._dataset("scans")["name"] == str(Path("scans").absolute())


def test_stages_read_what_stages_before_them_have_written():
    before = {"pool"}
    for stage in STAGES:
        assert stage.after and set(stage.after) <= before
        before.add(stage.name)
