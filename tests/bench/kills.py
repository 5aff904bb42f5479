"""kill -9 in every stage and in the rounds of a small run, then --resume: nothing differs from an undisturbed run."""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import Any

from pipeline.runtime.run_dir import stage_records
from tests.bench import resume, tables
from tests.support import tiny, tiny_backbone

POOL = "phantom:num_patients=60,size_px=64,severity=1.5"
# Stages in the order in which a run comes to them, and how often it is killed in each: 20 kills.
KILLS = {
    "manifest": 2,
    "duplicates": 1,
    "splits": 1,
    "embed": 2,
    "clusters": 2,
    "audit": 2,
    "rounds": 7,
    "evidence": 1,
    "report": 2,
}
PATIENCE_SECONDS = 300.0


def main(_: Path, given: Namespace) -> None:
    """Kill a run in every stage, at a moment drawn by chance, and compare its end with that of an undisturbed one."""
    tiny_backbone.weights(tiny.WEIGHTS.parent)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole, killed = folder / "whole", folder / "killed"
        _start(whole, folder / "cache-whole").wait()
        seconds = {stage: record["seconds"] for stage, record in stage_records(whole).items()}
        rng = random.Random(given.seeds)
        hits = [_kill(killed, folder / "cache-killed", stage, rng.uniform(0, seconds[stage])) for stage in _plan()]
        code = _start(killed, folder / "cache-killed").wait()
        differences = resume.compare(whole, killed)
        twice = resume.repeated_shards(folder / "cache-killed")
    counts = Counter(hit["stage"] for hit in hits if hit is not None)
    tables.write(
        "kills",
        "kill -9 in every stage, then --resume",
        f"python -m tests.bench kills --seeds {given.seeds}",
        ("stage", "kills meant", "kills that hit it"),
        [[stage, num, counts[stage]] for stage, num in KILLS.items()],
        f"{counts.total()} kills of one serial run, two rounds, {POOL}; the last resume ended with code {code}. "
        "Differences from an undisturbed run in queues, labels, metrics and probabilities: "
        f"{', '.join(differences) or 'none'}. Scans embedded more than once in the store: {twice}.",
    )


def _plan() -> list[str]:
    return [stage for stage, num in KILLS.items() for _ in range(num)]


def _start(out: Path, cache: Path) -> "subprocess.Popen[bytes]":
    options = ["--pool", POOL, "--rounds", "2", "--budget", "8", "--oracle", "--out", str(out), "--resume", "--quiet"]
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "run", *options, *tiny.FAST, "--set", "embed.shard_size=8"],
        env=os.environ | {"CXR_SSL_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _kill(out: Path, cache: Path, stage: str, after_seconds: float) -> dict[str, Any] | None:
    """Kill a run some time after it has come to a stage; what `status.json` says then, None where it ended first."""
    process = _start(out, cache)
    end = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < end:
        status = _status(out)
        if status.get("process", {}).get("pid") == process.pid and status.get("stage") == stage:
            break
        time.sleep(0.002)
    try:
        process.wait(after_seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return _status(out)
    return None


def _status(out: Path) -> dict[str, Any]:
    try:
        status: dict[str, Any] = json.loads((out / "status.json").read_text("utf-8"))
    except OSError:
        return {}
    return status
