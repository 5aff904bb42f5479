"""From how many scans on Ray pays: the same embedding in this process and through Ray, from a cold start to the end."""

import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.bench import tables

NUM_PATIENTS = (40, 120, 360)
BACKENDS = ("serial", "ray")
NUM_DRAWS = 2000


def main(data: Path, given: Namespace) -> None:
    """Write `results/engine.md`: seconds by backend and number of scans, and where the lines cross."""
    num_repeats = max(2, min(given.seeds, 5))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _embed(folder, 10, "serial", "first")  # the network is exported, and the pools are drawn, before any clock runs
        num_scans = [_draw(folder, num) for num in NUM_PATIENTS]
        todo = list(itertools.product(range(len(num_scans)), BACKENDS, range(num_repeats)))
        random.Random(0).shuffle(todo)  # what else the machine does falls on both alike
        seconds = np.zeros((len(BACKENDS), len(num_scans), num_repeats))
        for i, backend, repeat in todo:
            taken = _embed(folder, NUM_PATIENTS[i], backend, f"{backend}-{repeat}")
            seconds[BACKENDS.index(backend), i, repeat] = taken
    rows = [[num, *(tables.mean_ci(list(of[i]), 1) for of in seconds)] for i, num in enumerate(num_scans)]
    crossing, low, high = _crossing(np.array(num_scans), seconds)
    tables.write(
        "engine",
        "Seconds of `cxr-ssl embed` in this process and through Ray",
        "python -m tests.bench engine",
        ("scans", *BACKENDS),
        rows,
        f"Phantoms of 256 px, default network, two tasks of one thread, {num_repeats} cold starts each in random "
        "order, mean and 95 % interval (t). Scans from which straight lines through the seconds have Ray ahead: "
        f"{crossing} (bootstrap over repeats, 95 %: {low} to {high}). `none`: at no number, which is so where other "
        "work leaves Ray no second core.",
    )


def _draw(folder: Path, num_patients: int) -> int:
    """Draw a pool of phantoms; returns its number of scans."""
    out = _command(folder, "run", "--pool", f"phantom:num_patients={num_patients}", "--dry-run", "--json")
    return int(json.loads(out)["num_scans"])


def _embed(folder: Path, num_patients: int, backend: str, name: str) -> float:
    """Seconds of one cold start that embeds a pool whose vectors nobody has yet."""
    store = folder / f"store-{num_patients}-{name}"
    store.mkdir()
    (folder / "backbones").mkdir(exist_ok=True)
    (store / "backbones").symlink_to(folder / "backbones")
    options = {"engine.backend": backend, "embed.store": store, "engine.num_cpus": 2}
    words = [word for key, value in options.items() for word in ("--set", f"{key}={value}")]
    start = time.perf_counter()
    _command(folder, "embed", f"phantom:num_patients={num_patients}", "--out", store / "out", "--quiet", *words)
    return time.perf_counter() - start


def _command(folder: Path, *words: object) -> str:
    """Run the command line in a process of its own; returns what it prints."""
    environment = os.environ | {"CXR_SSL_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "pipeline", *map(str, words)]
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


def _crossing(num_S: NDArray[Any], seconds_BSR: NDArray[Any]) -> tuple[str, str, str]:
    """Scans from which Ray takes less time, with a 95 % interval; "none" where it never does.

    Args:
        num_S: Scans of each pool.
        seconds_BSR: By backend (serial, Ray), pool and repeat.
    """
    rng, num_repeats = np.random.default_rng(0), seconds_BSR.shape[2]

    def crossing(mean_BS: NDArray[Any]) -> float:
        (slope_here, start_here), (slope_ray, start_ray) = (np.polyfit(num_S, mean_S, 1) for mean_S in mean_BS)
        gain = slope_here - slope_ray
        return float((start_ray - start_here) / gain) if gain > 0 else np.inf

    drawn = []
    for _ in range(NUM_DRAWS):
        picked_BSR = rng.integers(num_repeats, size=seconds_BSR.shape)
        drawn.append(crossing(np.take_along_axis(seconds_BSR, picked_BSR, axis=2).mean(2)))
    low, high = np.quantile(drawn, [0.025, 0.975], method="nearest")
    low_high = [float(low), float(high)]
    shown = [f"{x:.0f}" if np.isfinite(x) else "none" for x in (crossing(seconds_BSR.mean(2)), *low_high)]
    return shown[0], shown[1], shown[2]
