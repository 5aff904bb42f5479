"""How long choosing takes: 1,000 of 1,000,000 scans, and TypiClust beside scikit-activeml's."""

import multiprocessing
import resource
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline.contracts.options.labelling import StrategyConfig
from pipeline.selection import strategies
from pipeline.selection.pool import SelectionPool
from tests.bench import tables

MANY, DIMS, NUM = 1_000_000, 384, 1000
FEW, NUM_OF_FEW = 20_000, 100
NUM_CENTRES = 200
DEFAULT_PATH = ("rare_class_herding", "random")
RARE_SOUGHT = "rare_class_herding, a rare class sought"


def main(data: Path, given: Namespace) -> None:
    """Write `results/selection-speed.md`."""
    rows = []
    for name in (*DEFAULT_PATH, RARE_SOUGHT):
        seconds, gib = _alone(_choose, name, MANY, NUM)
        rows.append((name, f"{NUM:,} of {MANY:,} × {DIMS}", f"{seconds:.1f}", f"{gib:.2f}", "≤ 180 s, ≤ 4 GiB"))
    ours, gib = _alone(_choose, "typiclust", FEW, NUM_OF_FEW)
    theirs, their_gib = _alone(_choose_theirs, "typiclust", FEW, NUM_OF_FEW)
    asked = f"{NUM_OF_FEW} of {FEW:,} × {DIMS}"
    rows.append(("typiclust", asked, f"{ours:.1f}", f"{gib:.2f}", f"{theirs / ours:.1f} times as quick (≥ 5 wanted)"))
    rows.append(("typiclust of scikit-activeml", asked, f"{theirs:.1f}", f"{their_gib:.2f}", ""))
    notes = (
        f"Rows of unit norm around {NUM_CENTRES} centres, 100 of them labelled, with probabilities. "
        "Each in a process of its own; memory is its highest resident size, the vectors (1.43 GiB of a million) "
        "included."
    )
    header = ("strategy", "choice", "seconds", "GiB", "wanted")
    command = "python -m tests.bench selection_speed"
    tables.write("selection-speed", "How long choosing takes", command, header, rows, notes)


def _alone(
    function: Callable[[str, int, int], tuple[float, float]], name: str, num_scans: int, num: int
) -> tuple[float, float]:
    """Seconds of a choice and the highest resident GiB of its process."""
    with multiprocessing.get_context("spawn").Pool(1) as process:
        return process.apply(function, (name, num_scans, num))


def _vectors(num_scans: int) -> np.ndarray:
    """Unit rows (N, D) around centres, made block by block."""
    rng = np.random.default_rng(0)
    centre_KD = rng.normal(size=(NUM_CENTRES, DIMS)).astype(np.float32)
    unit_ND = np.empty((num_scans, DIMS), np.float32)
    for start in range(0, num_scans, 50_000):
        block = unit_ND[start : start + 50_000]
        block[:] = centre_KD[rng.integers(NUM_CENTRES, size=len(block))]
        block += rng.standard_normal(block.shape, dtype=np.float32)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return unit_ND


def _choose(name: str, num_scans: int, num: int) -> tuple[float, float]:
    rng = np.random.default_rng(1)
    labelled_N = np.isin(np.arange(num_scans), rng.choice(num_scans, 100, replace=False))
    unsure_N = rng.random(num_scans)
    pool = SelectionPool(
        ids_N=np.arange(num_scans).astype(str),
        unit_ND=_vectors(num_scans),
        labelled_N=labelled_N,
        candidate_N=~labelled_N,
        group_N=np.arange(num_scans) // 2,
        config=StrategyConfig(),
        prob_NC=np.column_stack([unsure_N, 1 - unsure_N]),
        class_N=np.where(labelled_N, np.arange(num_scans) % 2 if name != RARE_SOUGHT else 0, -1),
        length_N=rng.uniform(0.5, 1.5, num_scans).astype(np.float32),
    )
    start = time.perf_counter()
    picks = strategies.get(name.split(",")[0])(pool, num, rng)
    seconds = time.perf_counter() - start
    if len(picks) != num:
        raise RuntimeError(f"{name} chose {len(picks)} of {num}")
    return seconds, _peak_gib()


def _choose_theirs(name: str, num_scans: int, num: int) -> tuple[float, float]:
    from skactiveml.pool import TypiClust

    unit_ND, label_N = _vectors(num_scans), np.full(num_scans, np.nan)
    label_N[:100] = 0.0
    start = time.perf_counter()
    TypiClust(k=20, random_state=0).query(unit_ND, label_N, batch_size=num)
    return time.perf_counter() - start, _peak_gib()


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
