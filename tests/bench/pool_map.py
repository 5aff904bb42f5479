"""How well the map of `cxr-ssl explore` keeps neighbours together: 15 nearest on the map vote on a scan's true class.

Five folds of whole patient groups; mean and 95 % interval over the seeds, which draw the landmarks and the folds.
"""

import time
from argparse import Namespace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neighbors import KNeighborsClassifier

from pipeline.contracts.tables import CLUSTERS, POOL_LABELS, SPLIT_TABLE
from pipeline.explore import neighbor_map
from pipeline.explore.columns import aligned
from pipeline.runtime import run_files
from pipeline.vectors import principal_components
from pipeline.vectors.matrix import Vectors, unit_rows
from tests.bench import outside, tables

NUM_NEIGHBORS = 15
LANDMARKS = (neighbor_map.MAX_LANDMARKS,)


def main(data: Path, given: Namespace) -> None:
    """Measure and write `results/pool-map.md`."""
    measure(outside.kermany_run(data), given.seeds)


def measure(folder: Path, num_seeds: int) -> None:
    """Of the run in a folder, whose pool has labels."""
    ids_N = Vectors.open(folder).ids.combine_chunks()
    label_N = aligned(POOL_LABELS.read(folder), ids_N, ["label"])["label"].to_numpy()
    group_N = aligned(run_files.read(folder, SPLIT_TABLE), ids_N, ["group_id"])["group_id"].to_numpy()
    plane = aligned(run_files.read(folder, CLUSTERS), ids_N, ["x", "y"])
    unit_NP = unit_rows(principal_components.load_similarity(folder)[:, : neighbor_map.NUM_COMPONENTS])
    known_N = np.asarray(pc.is_valid(aligned(POOL_LABELS.read(folder), ids_N, ["label"])["label"]), dtype=bool)
    places = {"two principal components": lambda seed: np.column_stack([plane["x"].to_numpy(), plane["y"].to_numpy()])}
    places |= {
        f"neighbour map, {num:,} landmarks": lambda seed, num=num: neighbor_map.place(
            unit_NP, np.random.default_rng(seed), num
        )
        for num in LANDMARKS
    }
    places["the vectors themselves"] = lambda seed: unit_NP
    rows = []
    for name, place in places.items():
        scores, seconds = [], []
        for seed in range(num_seeds):
            start = time.process_time()
            xy_N2 = place(seed)
            seconds.append(time.process_time() - start)
            scores.append(accuracy(xy_N2[known_N], label_N[known_N], group_N[known_N], seed))
        rows.append([name, tables.mean_ci(scores), f"{np.median(seconds):.0f}" if "landmarks" in name else "–"])
    header = ["what the neighbours are sought in", f"{NUM_NEIGHBORS}-NN accuracy of the true class", "CPU seconds"]
    notes = f"kermany, {int(known_N.sum()):,} scans; folds by patient group; {num_seeds} seeds; mean and 95 % interval."
    command = f"python -m tests.bench pool_map --seeds {num_seeds}"
    tables.write("pool-map", "The map of the pool", command, header, rows, notes)


def accuracy(x_NQ: np.ndarray, label_N: np.ndarray, group_N: np.ndarray, seed: int) -> float:
    """Share of scans whose class the nearest of other patients name."""
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    right = np.zeros(len(x_NQ), bool)
    for learn, test in folds.split(x_NQ, label_N, group_N):
        model = KNeighborsClassifier(NUM_NEIGHBORS).fit(x_NQ[learn], label_N[learn])
        right[test] = model.predict(x_NQ[test]) == label_N[test]
    return float(right.mean())
