"""kill -9 at random moments, then --resume: the same queues, labels and metrics, and no shard computed twice."""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.bench import pools, tables


def main(data: Path, given: Namespace) -> None:
    """Kill a run `given.seeds` times (10 by default for this bench) and compare it with an undisturbed one."""
    pool = given.pool or "kermany"
    num_kills = max(given.seeds, 10)
    uri = pools.uri(data, pool)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = time.perf_counter()
        run(uri, folder / "whole", folder / "cache-whole")
        seconds = time.perf_counter() - start
        kills = killed_run(uri, folder / "killed", folder / "cache-killed", num_kills, seconds)
        rows = [[i + 1, f"{k['after']:.1f}", k["stage"], k["parts"]] for i, k in enumerate(kills)]
        differences = compare(folder / "whole", folder / "killed")
        twice = repeated_shards(folder / "cache-killed")
    tables.write(
        f"resume-{pool}",
        f"kill -9 and --resume on {pool}",
        f"python -m tests.bench resume --pool {pool}",
        ("kill", "after s", "stage", "embedding parts published"),
        rows,
        f"Differences from an undisturbed run in queues, labels and metrics: {', '.join(differences) or 'none'}. "
        f"Scans embedded more than once in the store: {twice}.",
    )


def run(uri: str, out: Path, cache: Path, *extra: str) -> int:
    """A run to its end."""
    return subprocess.run(
        command(uri, out, *extra), env=environment(cache), check=True, stdout=subprocess.DEVNULL
    ).returncode


def command(uri: str, out: Path, *extra: str) -> list[str]:
    """The command line of the run, resumable."""
    options = ["--pool", uri, "--rounds", "5", "--budget", "20", "--oracle", "--out", str(out), "--resume", "--quiet"]
    return [sys.executable, "-m", "pipeline", "run", *options, *extra]


def environment(cache: Path) -> dict[str, str]:
    """The environment with a cache of its own."""
    return os.environ | {"CXR_SSL_CACHE": str(cache)}


def killed_run(uri: str, out: Path, cache: Path, num_kills: int, seconds: float, *extra: str) -> list[dict[str, Any]]:
    """Kill the driver `num_kills` times at random moments, then let it end; returns what each kill hit."""
    rng = random.Random(0)
    kills: list[dict[str, Any]] = []
    while len(kills) < num_kills:
        process = subprocess.Popen(
            command(uri, out, *extra), env=environment(cache), stdout=subprocess.DEVNULL, start_new_session=True
        )
        after = rng.uniform(0.1, 1.0) * seconds * 0.6
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            status = out / "status.json"
            stage = json.loads(status.read_text()) if status.exists() else {}
            parts = len(list((cache / "embeddings").glob("*/part-*.parquet")))
            kills.append(
                {"after": after, "stage": f"{stage.get('stage')} {stage.get('round') or ''}".strip(), "parts": parts}
            )
            continue
        if process.returncode != 0:
            raise RuntimeError(f"the resumed run ended with {process.returncode}")
        seconds *= 0.5  # it came to its end: strike earlier, on a fresh copy of the later stages
        for path in sorted((out / "rounds").glob("*/metrics.json"))[1:]:
            path.unlink()
    run(uri, out, cache, *extra)
    return kills


def compare(one: Path, other: Path) -> list[str]:
    """Names of what differs: queues, labels (without times), metrics (without seconds), predictions."""
    queues = [path.relative_to(one) for path in sorted((one / "rounds").glob("*/queue.parquet"))]
    differences = [str(path) for path in queues if not pq.read_table(one / path).equals(pq.read_table(other / path))]
    pair = [pq.read_table(folder / "labels.parquet").drop_columns(["time"]) for folder in (one, other)]
    if not pair[0].equals(pair[1]):
        differences.append("labels.parquet")
    if not pq.read_table(one / "predictions.parquet").equals(pq.read_table(other / "predictions.parquet")):
        differences.append("predictions.parquet")
    metrics = [_metrics(folder) for folder in (one, other)]
    if metrics[0] != metrics[1]:
        differences.append("metrics.jsonl")
    return differences


def repeated_shards(cache: Path) -> int:
    """How many scans the store holds more than once."""
    seen = [
        (part.parent.name, sha)  # a scan may be there whole and without its lungs
        for part in (cache / "embeddings").glob("*/part-*.parquet")
        for sha in pq.read_table(part)["sha256"].to_pylist()
    ]
    return len(seen) - len(set(seen))


def _metrics(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in ("seconds", "fingerprint")} for row in rows]
