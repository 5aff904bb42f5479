"""The index behind the neighbour graph of a million scans: its steps, its size, and what to send it would take."""

import multiprocessing
import pickle
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.runtime import run_files
from pipeline.runtime.threads import limited
from pipeline.vectors import neighbor_graph
from pipeline.vectors.matrix import unit_rows
from pipeline.vectors.row_blocks import row_blocks
from tests.bench import tables

# M rows, P components, K neighbours

NUM_ROWS, NUM_COMPONENTS, NUM_NEIGHBORS = 800_000, 256, 15  # the training pool of a million scans
NUM_CENTRES, NUM_BLOCKS = 200, 3


def main(_data: Path, _given: Namespace) -> None:
    """Write `results/neighbor-index.md`."""
    rows: list[tuple[str, ...]] = []
    for step in (_index, _lists, _graph):
        with tempfile.TemporaryDirectory() as name, multiprocessing.get_context("spawn").Pool(1) as process:
            for what, seconds, megabytes, peak in process.apply(_measured, (step, Path(name))):
                sys.stderr.write(f"{what}: {seconds:.1f} CPU s, {megabytes:.0f} MB, peak {peak:.0f} MB\n")
                rows.append((what, f"{seconds:.1f}", f"{megabytes:,.0f}", f"{peak:,.0f}"))
    blocks = len(row_blocks(NUM_ROWS))
    notes = (
        f"{NUM_ROWS:,} rows, the training pool of a million scans, of {NUM_COMPONENTS} components around {NUM_CENTRES} "
        f"centres, {NUM_NEIGHBORS} neighbours; one thread, on a machine that other work kept busy, so the seconds are "
        f"CPU seconds. The search was timed on {NUM_BLOCKS} of {blocks} blocks. `to send` is Python's pickle of the "
        "index, written and read once: less than it takes to bring it to a worker. The lists of the last two rows are "
        "drawn by chance, which makes the largest graph there can be. The peak is of the process until then, with "
        "Python, its libraries and the rows."
    )
    title, command = "The index behind the neighbours of a million scans", "python -m tests.bench neighbor_index"
    tables.write("neighbor-index", title, command, ("step", "CPU s", "MB made", "peak MB"), rows, notes)


def _measured(step: Callable[[Path], list[tuple[str, float, float, float]]], folder: Path) -> Any:
    with limited(1):
        return step(folder)


def _peak() -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


def _index(_: Path) -> list[tuple[str, float, float, float]]:
    """The index as the stage makes it, and a part of the search."""
    import faiss

    unit_MP, every_M = _rows(), np.arange(NUM_ROWS)
    told = [("the rows", 0.0, unit_MP.nbytes / 1e6, _peak())]
    start = time.process_time()
    index = neighbor_graph._index_of(unit_MP, every_M)
    made = time.process_time() - start
    told.append(("the index, learned and filled", made, 0.0, _peak()))
    blocks = row_blocks(NUM_ROWS)
    start = time.process_time()
    for rows in blocks[:: len(blocks) // NUM_BLOCKS][:NUM_BLOCKS]:
        index.search(unit_MP[rows], NUM_NEIGHBORS + 1)
    seconds = (time.process_time() - start) / NUM_BLOCKS
    told.append(("the search of a block of 16,384 rows", seconds, 0.0, _peak()))
    told.append(("the search of all blocks, on paper", seconds * len(blocks), 0.0, _peak()))
    start = time.process_time()
    packed = pickle.dumps(faiss.serialize_index(index), pickle.HIGHEST_PROTOCOL)
    faiss.deserialize_index(pickle.loads(packed))
    told.append(("the index, to send once", time.process_time() - start, len(packed) / 1e6, _peak()))
    told[1] = (*told[1][:2], len(packed) / 1e6, told[1][3])
    return told


def _rows() -> np.ndarray:
    rng = np.random.default_rng(0)
    centre_KP = rng.normal(size=(NUM_CENTRES, NUM_COMPONENTS)).astype(np.float32)
    unit_MP = np.empty((NUM_ROWS, NUM_COMPONENTS), np.float32)
    for rows in row_blocks(NUM_ROWS):
        noise = rng.standard_normal((rows.stop - rows.start, NUM_COMPONENTS), np.float32)
        unit_MP[rows] = unit_rows(centre_KP[rng.integers(NUM_CENTRES, size=len(noise))] + noise)
    return unit_MP


def _drawn(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    index_MK = rng.integers(NUM_ROWS, size=(NUM_ROWS, NUM_NEIGHBORS), dtype=np.int32)
    cosine_MK = rng.uniform(0.5, 1.0, index_MK.shape).astype(np.float32)
    neighbor_graph.save(folder / run_files.NEIGHBORS, index_MK, cosine_MK)
    return folder / run_files.NEIGHBORS


def _lists(folder: Path) -> list[tuple[str, float, float, float]]:
    start = time.process_time()
    path = _drawn(folder)
    return [("the lists of neighbours, written", time.process_time() - start, path.stat().st_size / 1e6, _peak())]


def _graph(folder: Path) -> list[tuple[str, float, float, float]]:
    path = _drawn(folder)
    start = time.process_time()
    graph_MM = neighbor_graph.load(path)
    size = graph_MM.data.nbytes + graph_MM.indices.nbytes + graph_MM.indptr.nbytes
    return [("the graph, read from them in a round", time.process_time() - start, size / 1e6, _peak())]
