"""kill -9 of the driver, then --resume: nothing differs, nothing is embedded twice; `make bench` kills at random."""

import json
import os
from pathlib import Path

import pytest

from tests.bench import resume
from tests.support.dying_run import SHARDS, run_until_killed
from tests.support.tiny import FAST, call

POOL = "phantom:num_patients=24,size_px=64,severity=1.5"
NUM_ROUNDS = 2
RAY = ("--set", "engine.backend=ray", "--set", "engine.num_cpus=1", "--set", "engine.object_store_mb=80")
# Moment, options of the run that ends there, the stage it was in.
KILLS = (
    (f"2:{SHARDS}", RAY, ("embed", None)),  # the worker of a killed driver is at a shard of its own
    ("1:rounds/02/queue.parquet", (), ("rounds", 2)),
)


def argv(out: Path) -> list[object]:
    options = ("--pool", POOL, "--rounds", NUM_ROUNDS, "--budget", 8, "--oracle", "--out", out, "--resume", "--quiet")
    return ["run", *options, *FAST, "--set", "embed.shard_size=8"]


@pytest.mark.cluster
def test_killed_run_resumes_to_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    monkeypatch.setenv("CXR_SSL_CACHE", str(tmp_path / "cache-whole"))
    done = call(*argv(whole))
    assert done.code == 0, done.err
    monkeypatch.setenv("CXR_SSL_CACHE", str(tmp_path / "cache-killed"))
    for moment, options, stage in KILLS:
        run_until_killed(moment, [*argv(killed), *options], os.environ, tmp_path / "log")
        status = json.loads((killed / "status.json").read_text())
        assert (status["state"], status["stage"], status.get("round")) == ("running", *stage), moment
    done = call(*argv(killed))
    assert done.code == 0, done.err
    assert resume.compare(whole, killed) == []
    assert resume.repeated_shards(tmp_path / "cache-killed") == 0
    assert len(list((killed / "rounds").glob("*/metrics.json"))) == NUM_ROUNDS
