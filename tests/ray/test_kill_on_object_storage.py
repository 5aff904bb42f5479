"""kill -9 of a run on S3, then --resume on another node: the same run as one on a disk; storage fails meanwhile."""

import os

import pytest

from pipeline.api import Run
from pipeline.contracts import storage
from pipeline.runtime import run_dir, run_files
from tests.bench import resume
from tests.support import s3_server
from tests.support.dying_run import run_until_killed
from tests.support.tiny import FAST, call, make_pool


@pytest.fixture
def s3(monkeypatch):
    monkeypatch.setattr(storage, "WAITS_SECONDS", (0.01, 0.01, 0.01))
    with s3_server.running() as server:
        yield server


@pytest.fixture
def node(tmp_path, monkeypatch):
    return s3_server.nodes(tmp_path, monkeypatch)


def argv(pool, out, store):
    options = ("--pool", pool, "--rounds", 2, "--budget", 4, "--oracle", "--out", out, "--resume", "--quiet")
    return ["run", *options, *FAST, "--set", f"embed.store={store}", "--set", "splits.salt=known"]


@pytest.mark.cluster
@pytest.mark.objectstore
def test_a_run_that_died_goes_on_on_another_node_and_ends_like_one_on_a_disk(s3, node, tmp_path):
    pool = s3.upload(make_pool(tmp_path / "pool", num=28), "pool")
    whole = call(*argv(pool, tmp_path / "disk", tmp_path / "store"))
    assert whole.code == 0, whole.err

    run, store = s3.url("runs/one"), s3.url("embeddings")
    environment = os.environ | {"CXR_SSL_CACHE": str(node("second"))}
    run_until_killed("1:rounds/02/queue.parquet", argv(pool, run, store), environment, tmp_path / "log")

    cache = node("third")
    s3.faults += [("503 Slow Down", "SlowDown"), "cut", ("503 Service Unavailable", "ServiceUnavailable")]
    before = len(s3.requests)
    status = call("status", run, "--json")
    assert (status.json["state"], status.json["rounds_finished"]) == ("died", 1), status.err
    assert s3.faults == [] and len(s3.requests) - before < 60
    assert not any(run_files.EMBEDDINGS in path or "/model/" in path for _, path in s3.requests[before:])
    there = next((cache / "runs").glob("*/one"))
    records = run_dir.stage_records(there)
    done = call(*argv(pool, run, store))
    assert done.code == 0, done.err
    assert {name: run_dir.stage_records(there)[name] for name in ("embed", "clusters")} == {
        name: records[name] for name in ("embed", "clusters")
    }
    assert not list((cache / "stores").rglob("part-*")), "nothing was embedded again, nor fetched"
    assert resume.compare(tmp_path / "disk", there) == []

    node("fourth")
    status = call("status", run, "--json")
    assert (status.json["state"], status.json["rounds_finished"]) == ("done", 2)
    assert Run(run).status["state"] == "done"
    assert list((tmp_path / "cwd").iterdir()) == []
