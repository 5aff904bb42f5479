"""What it costs to send rows of a large pool to other processes, and what the arithmetic on them costs here."""

import functools
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from pipeline.contracts.options.running import EngineConfig
from pipeline.learn.heads.head import Head
from pipeline.runtime.engine import Engine
from pipeline.runtime.ray_engine import RayEngine
from pipeline.runtime.threads import limited
from pipeline.vectors import clusters, row_blocks
from pipeline.vectors.matrix import unit_rows
from pipeline.vectors.principal_components import project
from tests.bench import tables

NUM_ROWS, NUM_WORKERS = 100_000, 2
OWN_DIM, ALL_DIMS = 384, 5_696  # a small network's own embedding, and all stages of the default network
NUM_COMPONENTS = 256  # train.num_components
NUM_CLUSTERS = 223  # of so many rows
NUM_FINDINGS = (2, 14)
FILL_AT_ONCE = 10_000

Function = Callable[[np.ndarray], Any]


class Work(NamedTuple):
    """A piece of work on rows."""

    name: str
    function: Function
    width: int
    dtype: type


class Cost(NamedTuple):
    """Seconds: CPU of the process that has the rows, CPU of the tasks, and by the clock."""

    here: float
    tasks: float
    clock: float


def main(data: Path, given: Namespace) -> None:
    """Write `results/sent-blocks.md`: each piece of work in this process, and through a Ray that runs."""
    num_repeats = max(2, given.seeds)
    engine = RayEngine(EngineConfig(num_cpus=NUM_WORKERS))
    try:
        start = time.perf_counter()
        engine.start()
        to_start = time.perf_counter() - start
        list(engine.map_shards(_import, range(2 * NUM_WORKERS)))
        to_first = time.perf_counter() - start - to_start
        with tempfile.TemporaryDirectory() as name, limited(1):
            rows = [_row(Path(name) / "rows.npy", work, engine, num_repeats) for work in _works()]
    finally:
        engine.close()
    notes = (
        f"{NUM_ROWS:,} random rows, {NUM_WORKERS} workers of one thread, {num_repeats} repeats in turn, on cores that "
        "other work kept busy: CPU seconds are means, seconds by the clock the least. `here` works on the rows in the "
        "process that has them; `to send` is what that process needs to hand them out and take the results, and "
        f"`in tasks` what the workers need. Both ways gave the same bytes. Ray took {to_start:.1f} s to start and its "
        f"workers {to_first:.1f} s more until their first result, which no column contains."
    )
    header = ("work", "numbers a row", "MiB", "here, CPU s", "to send, CPU s", "in tasks, CPU s")
    header = (*header, "here, clock s", "through Ray, clock s")
    title = "Blocks of rows: worked on here, and sent to workers"
    tables.write("sent-blocks", title, f"python -m tests.bench sent_blocks --seeds {num_repeats}", header, rows, notes)


def _works() -> Iterator[Work]:
    rng = np.random.default_rng(1)
    for width in (ALL_DIMS, OWN_DIM):
        mean_D, basis_DP = (rng.standard_normal(size, np.float32) for size in (width, (width, NUM_COMPONENTS)))
        function = functools.partial(project, mean_D=mean_D, basis_DP=basis_DP)
        yield Work(f"projection to {NUM_COMPONENTS} components", function, width, np.float16)
    centroid_KD = unit_rows(rng.standard_normal((NUM_CLUSTERS, NUM_COMPONENTS), np.float32))
    function = functools.partial(_assigned, centroid_KD=centroid_KD)
    yield Work(f"the nearest of {NUM_CLUSTERS} centroids", function, NUM_COMPONENTS, np.float32)
    for num in NUM_FINDINGS:
        weight_CP = rng.standard_normal((num, NUM_COMPONENTS), np.float32)
        head = Head({"weight0": weight_CP, "bias0": np.zeros(num, np.float32)})
        yield Work(f"a head's prediction of {num} findings", head.logits, NUM_COMPONENTS, np.float32)


def _assigned(block_BD: np.ndarray, centroid_KD: np.ndarray) -> np.ndarray:
    return np.stack(clusters.assign(unit_rows(block_BD), centroid_KD))


def _row(path: Path, work: Work, engine: Engine, num_repeats: int) -> list[Any]:
    rows_ND = _mapped(path, work)
    costs: dict[bool, list[Cost]] = {False: [], True: []}
    for _ in range(num_repeats):
        outputs = []
        for is_sent in costs:
            cost, output = _cost(rows_ND, work.function, engine if is_sent else None)
            costs[is_sent].append(cost)
            outputs.append(output)
        if outputs[0] != outputs[1]:
            raise RuntimeError(f"{work.name}: workers give other bytes")
    here, sent = costs[False], costs[True]
    sys.stderr.write(f"{work.name}: {costs}\n")
    return [
        work.name,
        work.width,
        round(rows_ND.nbytes / 2**20),
        *(
            tables.mean_ci(each, 2)
            for each in ([c.here for c in here], [c.here for c in sent], [c.tasks for c in sent])
        ),
        *(f"{min(cost.clock for cost in each):.2f}" for each in (here, sent)),
    ]


def _cost(rows_ND: np.ndarray, function: Function, engine: Engine | None) -> tuple[Cost, list[bytes]]:
    """What it takes, and what came of each block."""
    start, cpu = time.perf_counter(), time.process_time()
    with mock.patch.object(row_blocks, "MIN_PRODUCTS", 0):
        results = list(row_blocks.map_blocks(engine, functools.partial(_timed, function=function), rows_ND, 1))
    clock, here = time.perf_counter() - start, time.process_time() - cpu
    results.sort(key=lambda result: result[0].start)
    outputs = [np.asarray(output).tobytes() for _, (output, _) in results]
    return Cost(here, sum(seconds for _, (_, seconds) in results), clock), outputs


def _timed(block_BD: np.ndarray, function: Function) -> tuple[Any, float]:
    start = time.process_time()
    return function(block_BD), time.process_time() - start


def _import(_: int) -> None:
    """What the first task of a worker waits for."""
    import faiss  # noqa: F401


def _mapped(path: Path, work: Work) -> np.ndarray:
    rng = np.random.default_rng(0)
    rows_ND = np.lib.format.open_memmap(path, "w+", work.dtype, (NUM_ROWS, work.width))
    for start in range(0, NUM_ROWS, FILL_AT_ONCE):
        rows_ND[start : start + FILL_AT_ONCE] = rng.standard_normal((FILL_AT_ONCE, work.width), np.float32)
    rows_ND.flush()
    mapped_ND: np.ndarray = np.load(path, mmap_mode="r")
    return mapped_ND
