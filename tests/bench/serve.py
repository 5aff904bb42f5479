"""`cxr-ssl serve` under 1,000 requests over loopback: how fast, and what a wrong token or a long body gets.

Eight askers in turn send scans of the run, each as soon as the last is answered, to a server in a process of its own.
Between the requests a few have a wrong token, an oversized body or a broken scan; then the server is killed and started
again, and asked once more.
"""

import itertools
import os
import secrets
import socket
import subprocess
import sys
import time
from argparse import Namespace
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import numpy as np
import psutil

from pipeline.evidence import other_pool
from pipeline.predict.deployed.service import TOKEN
from tests.bench import tables
from tests.bench.heat_maps import phantom_run

NUM_REQUESTS, NUM_ASKERS = 1000, 8
NUM_KILLED = 300  # requests while a replica is killed
MAX_BYTES = 2**20
START_SECONDS = 120


def main(data: Path, given: Namespace) -> None:
    """Measure and write `results/serve.md`."""
    folder, token = phantom_run(), secrets.token_hex(16)
    uris = other_pool.usable_scans(folder)["uri"].to_pylist()
    scans = [Path(uri.partition("#")[0].removeprefix("file://")).read_bytes() for uri in uris[:64]]
    rows: list[list[str]] = []
    with _server(folder, token) as (base, process):
        right = {"Authorization": f"Bearer {token}"}
        for num_askers in (1, NUM_ASKERS):
            num = NUM_REQUESTS if num_askers > 1 else NUM_REQUESTS // 10
            rows.append(_asked(base, right, scans, num, num_askers))
        with httpx.Client(base_url=base, timeout=60) as client:
            bad = {
                "a wrong token": [client.post("/predict", content=scans[0], headers={"Authorization": "Bearer x"})],
                "an oversized body": [client.post("/predict", content=b"x" * (MAX_BYTES + 1), headers=right)],
                "a broken scan": [client.post("/predict", content=scans[0][:500], headers=right)],
                "after them, a scan": [client.post("/predict", content=scans[0], headers=right)],
            }
        rows += [[name, str(len(answers)), "", "", "", _statuses(answers)] for name, answers in bad.items()]
        process.kill()
    rows.append(_with_a_killed_replica(folder, token, scans))
    with _server(folder, token) as (base, _), httpx.Client(base_url=base, timeout=60) as client:
        again = client.post("/predict", content=scans[0], headers=right)
    rows.append(["killed and started again, a scan", "1", "", "", "", _statuses([again])])
    notes = (
        "Phantoms of 224 px, frozen network, loopback; the server and its askers share the processors of one machine "
        f"that has other work (load {os.getloadavg()[1]:.0f}), so the times are long rather than short."
    )
    header = ("asked", "requests", "scans a second", "median, ms", "p95, ms", "HTTP status")
    tables.write("serve", "The server under 1,000 requests", "python -m tests.bench serve", header, rows, notes)


def _with_a_killed_replica(folder: Path, token: str, scans: list[bytes]) -> list[str]:
    """Requests to two replicas, one of which is killed on the way; a request that is cut off is asked again."""
    lost: list[str] = []

    def kill_one(process: subprocess.Popen[bytes]) -> None:
        replicas = [
            child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())
        ]
        replicas[0].kill()

    with _server(folder, token, "--replicas", "2") as (base, process):
        turns = itertools.cycle(scans)

        def ask(number: int) -> tuple[float, httpx.Response]:
            start = time.perf_counter()
            if number == NUM_KILLED // 3:
                kill_one(process)
            while True:
                try:
                    headers = {"Authorization": f"Bearer {token}"}
                    answer = httpx.post(f"{base}/predict", content=next(turns), headers=headers, timeout=120)
                    return time.perf_counter() - start, answer
                except httpx.TransportError as error:
                    lost.append(type(error).__name__)

        start = time.perf_counter()
        with ThreadPoolExecutor(NUM_ASKERS) as askers:
            answers = list(askers.map(ask, range(NUM_KILLED)))
        rate = NUM_KILLED / (time.perf_counter() - start)
    median, p95 = np.quantile([1000 * seconds for seconds, _ in answers], [0.5, 0.95])
    statuses = _statuses([answer for _, answer in answers])
    name = f"by {NUM_ASKERS} at once, two replicas, one killed on the way"
    cut = f"; {len(lost)} cut off and asked again"
    return [name, str(NUM_KILLED), f"{rate:.1f}", f"{median:.0f}", f"{p95:.0f}", statuses + cut]


def _asked(base: str, headers: dict[str, str], scans: list[bytes], num: int, num_askers: int) -> list[str]:
    turns = itertools.cycle(scans)
    with httpx.Client(base_url=base, timeout=120, headers=headers) as client, ThreadPoolExecutor(num_askers) as askers:

        def ask(scan: bytes) -> tuple[float, httpx.Response]:
            start = time.perf_counter()
            answer = client.post("/predict", content=scan)
            return time.perf_counter() - start, answer

        start = time.perf_counter()
        answers = list(askers.map(ask, [next(turns) for _ in range(num)]))
        rate = num / (time.perf_counter() - start)
    milliseconds = np.array([1000 * seconds for seconds, _ in answers])
    median, p95 = np.quantile(milliseconds, [0.5, 0.95])
    name = f"by {num_askers} at once" if num_askers > 1 else "one after the other"
    return [name, str(num), f"{rate:.1f}", f"{median:.0f}", f"{p95:.0f}", _statuses([answer for _, answer in answers])]


def _statuses(answers: list[httpx.Response]) -> str:
    return ", ".join(f"{status} x {num}" for status, num in sorted(Counter(a.status_code for a in answers).items()))


@contextmanager
def _server(folder: Path, token: str, *more: str):
    """A server in a process of its own, ready: its address and the process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jobs.serve", str(folder), "--port", str(port), "--max-bytes", str(MAX_BYTES)]
    command += more
    process = subprocess.Popen(command, env=os.environ | {TOKEN: token})
    base = f"http://127.0.0.1:{port}"
    try:
        for _ in range(10 * START_SECONDS):
            try:
                if httpx.get(f"{base}/health", timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        yield base, process
    finally:
        process.terminate()
        process.wait(60)
