"""The head of a cluster is killed with all that runs on it, the job submitted again: the end is that of a run here."""

import json
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from argparse import Namespace
from contextlib import suppress
from pathlib import Path

from pipeline.runtime.processes import ray_remains
from pipeline.runtime.run_dir import stage_records
from tests.bench import resume, tables
from tests.support import tiny, tiny_backbone

ROOT = Path(__file__).parents[2]
POOL = "phantom:num_patients=60,size_px=64,severity=1.5"
STAGES = ("embed", "rounds")  # the head is killed once in each
PATIENCE_SECONDS = 300.0
TOKEN = secrets.token_hex(32)  # the head wants it, as any cluster should


def main(_: Path, given: Namespace) -> None:
    """Kill the head in several stages of one job, submit the job again each time, and compare its end."""
    tiny_backbone.weights(tiny.WEIGHTS.parent)
    with tempfile.TemporaryDirectory(prefix="head-") as name:
        folder = Path(name)
        code = _code(folder)
        subprocess.run(_run(folder / "here"), env=_environment(folder / "cache-here"), check=True, cwd=code)
        seconds = {stage: record["seconds"] for stage, record in stage_records(folder / "here").items()}
        rng = random.Random(given.seeds)
        rows = []
        for number, stage in enumerate(STAGES):
            head = Head(folder, number)
            try:
                rows.append([stage, *_killed(head, folder, code, stage, rng.uniform(0, seconds[stage]))])
            finally:
                head.kill()
        head = Head(folder, len(STAGES))
        try:
            last = _submitted(head, folder, code).wait(PATIENCE_SECONDS)
        finally:
            head.kill()
        differences = resume.compare(folder / "here", folder / "job")
        twice = resume.repeated_shards(folder / "cache-job")
        apart = _embeddings_apart(folder)
    tables.write(
        "head",
        "The head is killed, and the job submitted again",
        f"python -m tests.bench head --seeds {given.seeds}",
        ("stage", "stage when it was killed", "parts in the store then", "exit code of `submit`", "known after s"),
        rows,
        f"One job, two rounds, {POOL}, on a head of two CPUs on the loopback. The head, its worker, the job's own "
        "process and all else of it are ended by SIGKILL, a new head is started and the same line submitted again. "
        f"The last submission ended with code {last}. Differences from the same run in this process, without Ray, in "
        f"queues, labels, metrics and probabilities: {', '.join(differences) or 'none'}; largest difference of an "
        f"embedding: {apart:g}. Scans embedded more than once in the store: {twice}.",
    )


class Head:
    """A head on the loopback, started by `ray start`."""

    def __init__(self, folder: Path, number: int) -> None:
        self._marks = ray_remains.RayMarks(f"{folder.name}-{number}", session=(folder / "ray").resolve())
        port, dashboard, client = _free_ports(3)
        self.dashboard = f"http://127.0.0.1:{dashboard}"
        words = ["--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1"]
        words += [f"--port={port}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
        words += ["--disable-usage-stats", f"--object-store-memory={80 * 2**20}", f"--temp-dir={folder / 'ray'}"]
        self._process = subprocess.Popen(
            [str(Path(sys.executable).parent / "ray"), "start", *words],
            env=_environment(folder / "cache-job") | {ray_remains.MARK: self._marks.environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            question = urllib.request.Request(
                f"{self.dashboard}/api/jobs/", headers={"Authorization": f"Bearer {TOKEN}"}
            )
            with suppress(OSError), urllib.request.urlopen(question):
                return
            time.sleep(0.5)
        raise RuntimeError("the head did not start")

    def kill(self) -> None:
        """End it at once, with all processes that it has started and theirs."""
        ray_remains.end(self._marks)
        self._process.wait()


def _killed(head: Head, folder: Path, code: Path, stage: str, after_seconds: float) -> list[object]:
    """Submit the job, kill the head some time after the job has come to a stage, wait for `submit` to end."""
    before = _status(folder).get("updated")
    submitted = _submitted(head, folder, code)
    end = time.monotonic() + PATIENCE_SECONDS
    while submitted.poll() is None and time.monotonic() < end:
        status = _status(folder)
        if status.get("stage") == stage and status.get("updated") != before:
            break
        time.sleep(0.002)
    with suppress(subprocess.TimeoutExpired):
        submitted.wait(after_seconds)
    where, parts = _status(folder).get("stage"), len(list((folder / "cache-job" / "embeddings").glob("*/part-*")))
    start = time.monotonic()
    head.kill()
    exit_code = submitted.wait(PATIENCE_SECONDS)
    return [where, parts, exit_code, f"{time.monotonic() - start:.0f}"]


def _submitted(head: Head, folder: Path, code: Path) -> "subprocess.Popen[bytes]":
    path = f"PATH={Path(sys.executable).parent}:{os.environ['PATH']}"
    cache = f"CXR_SSL_CACHE={folder / 'cache-job'}"
    sent = ["submit", "--go", "--address", head.dashboard, "--working-dir", str(code), "--env", path, "--env", cache]
    words = [*_run(folder / "job")[:3], *sent, *_run(folder / "job", "ray")[3:]]
    return subprocess.Popen(
        words, env=_environment(folder / "cache-job"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _run(out: Path, backend: str = "serial") -> list[str]:
    options = ["--pool", POOL, "--rounds", "2", "--budget", "8", "--oracle", "--out", str(out), "--quiet"]
    more = ["--set", f"engine.backend={backend}", "--set", "embed.shard_size=8"]
    return [sys.executable, "-m", "pipeline", "run", *options, *tiny.FAST, *more]


def _environment(cache: Path) -> dict[str, str]:
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    return os.environ | token | {"CXR_SSL_CACHE": str(cache), "RAY_USAGE_STATS_ENABLED": "0"}


def _code(folder: Path) -> Path:
    """A folder with this code alone, as it is sent."""
    for name in ("pipeline", "embeddings", "jobs", "configs"):
        shutil.copytree(ROOT / name, folder / "code" / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder / "code"


def _free_ports(num: int) -> list[int]:
    sockets = [socket.socket() for _ in range(num)]
    for free in sockets:
        free.bind(("127.0.0.1", 0))
    ports = [int(free.getsockname()[1]) for free in sockets]
    for free in sockets:
        free.close()
    return ports


def _status(folder: Path) -> dict[str, str]:
    try:
        status: dict[str, str] = json.loads((folder / "job" / "status.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return status


def _embeddings_apart(folder: Path) -> float:
    import numpy as np

    here_ND, job_ND = (np.load(folder / name / "embeddings.npy").astype(np.float32) for name in ("here", "job"))
    return float(np.abs(here_ND - job_ND).max())
