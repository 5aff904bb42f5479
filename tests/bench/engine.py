"""From how many scans on Ray pays: the same embedding in this process and through Ray, from a cold start to the end."""

import itertools
import os
import random
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path

import numpy as np

from tests.bench import tables

NUM_SCANS = (100, 500, 1500)
BACKENDS = ("serial", "ray")
NUM_DRAWS = 2000


def main(data: Path, given: Namespace) -> None:
    """Write `results/engine.md`: seconds by backend and number of scans, and where the lines cross."""
    num_repeats = max(2, min(given.seeds, 5))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for num_scans in (10, *NUM_SCANS):  # the pools are drawn and the network is exported before any clock runs
            _embed(folder, num_scans, "serial", "first", draw_only=num_scans != 10)
        todo = list(itertools.product(NUM_SCANS, BACKENDS, range(num_repeats)))
        random.Random(0).shuffle(todo)  # what else the machine does falls on both alike
        seconds = {key: _embed(folder, key[0], key[1], f"{key[1]}-{key[2]}") for key in todo}
    rows = [
        [num_scans, *(tables.mean_ci([seconds[num_scans, b, r] for r in range(num_repeats)], 1) for b in BACKENDS)]
        for num_scans in NUM_SCANS
    ]
    crossing, low, high = _crossing(seconds, num_repeats)
    tables.write(
        "engine",
        "Seconds of `cxr-ssl embed` in this process and through Ray",
        "python -m tests.bench engine",
        ("scans", *BACKENDS),
        rows,
        f"Phantoms of 256 px, default network, {num_repeats} cold starts each in random order, mean and 95 % interval "
        f"(t). Straight lines through the seconds cross at {crossing} scans (bootstrap over repeats, 95 %: {low} to "
        f"{high}); `engine.ray_from_scans` is a round number in that range. Two tasks of one thread.",
    )


def _embed(folder: Path, num_scans: int, backend: str, name: str, *, draw_only: bool = False) -> float:
    """Seconds of one cold start that embeds a pool whose vectors nobody has yet."""
    pool = f"phantom:num_patients={num_scans}"
    if draw_only:
        words = ["run", "--pool", pool, "--dry-run", "--out", folder / "plan"]
    else:
        store = folder / f"store-{num_scans}-{name}"
        words = ["embed", pool, "--out", folder / f"{num_scans}-{name}", "--set", f"engine.backend={backend}"]
        words += ["--set", f"embed.store={store}", "--set", "engine.num_cpus=2", "--quiet"]
        (folder / "backbones").mkdir(exist_ok=True)
        store.mkdir()
        (store / "backbones").symlink_to(folder / "backbones")
    environment = os.environ | {"CXR_SSL_CACHE": str(folder / "cache")}
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "pipeline", *map(str, words)], env=environment, check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - start


def _crossing(seconds: dict[tuple[int, str, int], float], num_repeats: int) -> tuple[str, str, str]:
    """Scans from which Ray takes less time, with a 95 % interval; "none" where it never does."""
    rng = np.random.default_rng(0)
    drawn = []
    for draw in range(NUM_DRAWS + 1):
        lines = []
        for backend in BACKENDS:
            picked = rng.integers(num_repeats, size=(len(NUM_SCANS), num_repeats)) if draw else None
            mean = [
                np.mean([seconds[num, backend, int(r)] for r in (range(num_repeats) if picked is None else picked[i])])
                for i, num in enumerate(NUM_SCANS)
            ]
            lines.append(np.polyfit(NUM_SCANS, mean, 1))
        (slope_serial, start_serial), (slope_ray, start_ray) = lines
        gain = slope_serial - slope_ray
        drawn.append((start_ray - start_serial) / gain if gain > 0 else np.inf)
    low, high = np.quantile(drawn[1:], [0.025, 0.975], method="nearest")
    shown = ["none" if not np.isfinite(value) else f"{value:.0f}" for value in (drawn[0], low, high)]
    return shown[0], shown[1], shown[2]
