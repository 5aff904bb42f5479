"""A run on S3, as a server on the loopback speaks it: the same run as on a disk, whoever dies and whatever fails."""

import json
import os

import pytest

from pipeline.contracts import storage
from tests.bench import resume
from tests.support.dying_run import run_until_killed
from tests.support.tiny import FAST, call, make_pool

pytestmark = pytest.mark.objectstore


@pytest.fixture(scope="module")
def s3():
    from tests.support import s3_server

    with s3_server.running() as server:
        yield server


@pytest.fixture(scope="module")
def pool(s3, tmp_path_factory):
    return s3.upload(make_pool(tmp_path_factory.mktemp("pool") / "pool", num=40), "pool")


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(storage, "WAITS_SECONDS", (0.01, 0.01, 0.01))


def argv(pool, out):
    options = ("--pool", pool, "--rounds", 2, "--budget", 6, "--oracle", "--out", out, "--resume", "--quiet")
    return ["run", *options, *FAST, "--set", "embed.shard_size=8", "--set", "splits.salt=known"]


def test_a_run_that_died_goes_on_on_another_node_and_ends_like_one_on_a_disk(s3, pool, tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_SSL_CACHE", str(tmp_path / "cache-disk"))
    whole = call(*argv(pool, tmp_path / "disk"))
    assert whole.code == 0, whole.err

    run = s3.url("runs/one")
    environment = os.environ | {"CXR_SSL_CACHE": str(tmp_path / "cache-dead")}
    run_until_killed("1:rounds/02/queue.parquet", argv(pool, run), environment, tmp_path / "log")

    monkeypatch.setenv("CXR_SSL_CACHE", str(tmp_path / "cache-next"))
    s3.faults += [("503 Slow Down", "SlowDown"), "cut", ("503 Service Unavailable", "ServiceUnavailable")]
    status = call("status", run, "--json")
    assert (status.json["state"], status.json["rounds_finished"]) == ("died", 1), status.err
    assert s3.faults == []
    fetched = sum(method == "GET" and "/files/" in path for method, path in s3.requests)
    done = call(*argv(pool, run))
    assert done.code == 0, done.err
    assert fetched < 40
    assert "embed: finished before, kept" in done.err and "clusters: finished before, kept" in done.err
    assert json.loads(call("status", run, "--json").out)["state"] == "done"
    there = next((tmp_path / "cache-next" / "runs").glob("*/one"))
    assert resume.compare(tmp_path / "disk", there) == []
