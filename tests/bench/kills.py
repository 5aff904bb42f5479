"""kill -9 in every stage and in the rounds of a small run, then --resume: nothing differs from an undisturbed run."""

import json
import os
import random
import shutil
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
# Stages in the order in which a run comes to them; a run is killed once in each, in the rounds twice.
STAGES = ("manifest", "duplicates", "splits", "embed", "clusters", "audit", "rounds", "rounds", "evidence", "report")
RUNS_ON_RAY = 0.2  # for each run in one process: Ray's starts take most of the time
PATIENCE_SECONDS = 300.0


def main(_: Path, given: Namespace) -> None:
    """Kill runs in every stage, at a moment drawn by chance, and compare their ends with that of an undisturbed one."""
    tiny_backbone.weights(tiny.WEIGHTS.parent)
    num_runs = {"serial": given.seeds, "ray": max(1, round(RUNS_ON_RAY * given.seeds))}
    hits: dict[str, Counter[str]] = {backend: Counter() for backend in num_runs}
    differences: list[str] = []
    codes, num_twice = Counter[int](), 0
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / "whole"
        _start(whole, Path(name) / "cache-whole", "serial").wait()
        seconds = {stage: record["seconds"] for stage, record in stage_records(whole).items()}
        for backend, number in ((backend, number) for backend, num in num_runs.items() for number in range(num)):
            killed, cache = Path(name) / f"{backend}-{number}", Path(name) / f"cache-{backend}-{number}"
            rng = random.Random(number)
            for stage in STAGES:
                status = _kill(killed, cache, backend, stage, rng.uniform(0, seconds[stage]))
                hits[backend][status["stage"] if status else "ended first"] += 1
            codes[_start(killed, cache, backend).wait()] += 1
            differences += [f"{backend} {number}: {difference}" for difference in resume.compare(whole, killed)]
            num_twice += resume.repeated_shards(cache)
            shutil.rmtree(killed)
            _write(num_runs, hits, codes, differences, num_twice)


def _write(
    num_runs: dict[str, int],
    hits: dict[str, Counter[str]],
    codes: Counter[int],
    differences: list[str],
    num_twice: int,
) -> None:
    meant = Counter(STAGES)
    tables.write(
        "kills",
        "kill -9 in every stage, then --resume",
        f"python -m tests.bench kills --seeds {num_runs['serial']}",
        ("stage", "kills meant, in one process", "kills that hit it", "kills meant, on Ray", "kills that hit it"),
        [
            [stage, *(cell for way, num in num_runs.items() for cell in (num * meant[stage], hits[way][stage]))]
            for stage in [*dict.fromkeys(STAGES), "ended first"]
        ],
        f"{num_runs['serial']} runs in one process and {num_runs['ray']} on Ray, each killed {len(STAGES)} times at a "
        f"moment drawn by chance and gone on with each time; two rounds, {POOL}, one thread a task. Exit codes of the "
        f"last resumes: {', '.join(f'{num} x {code}' for code, num in sorted(codes.items()))}. Differences from one "
        "undisturbed run in one process, in queues, labels, metrics and probabilities: "
        f"{'; '.join(differences) or 'none'}. Scans embedded more than once in the stores: {num_twice}. A kill may hit "
        "a later stage than the one it was meant for.",
    )


def _start(out: Path, cache: Path, backend: str) -> "subprocess.Popen[bytes]":
    options = ["--pool", POOL, "--rounds", "2", "--budget", "8", "--oracle", "--out", str(out), "--resume", "--quiet"]
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "pipeline", "run", *options, *tiny.FAST),
            *("--set", "embed.shard_size=8", "--set", f"engine.backend={backend}"),
        ],
        env=os.environ | {"CXR_SSL_CACHE": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _kill(out: Path, cache: Path, backend: str, stage: str, after_seconds: float) -> dict[str, Any] | None:
    """Kill a run some time after it has come to a stage; what `status.json` says then, None where it ended first."""
    process = _start(out, cache, backend)
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
