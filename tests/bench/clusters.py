"""The clusters stage at scale: recall of its approximate neighbours on real scans, and a million embeddings."""

import json
import multiprocessing
import resource
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa

from pipeline.contracts import config_file
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.tables import DUPLICATES, MANIFEST, POOL_LABELS, SPLIT_TABLE, write_text
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from pipeline.runtime.threads import limited
from pipeline.selection import draw
from pipeline.vectors import clusters, neighbor_graph, principal_components
from pipeline.vectors.matrix import UnitRows, Vectors, save_ids, unit_rows
from tests.bench import tables

NUM_NEIGHBORS = 15  # pseudo.num_neighbors
PROBES = (4, 8, 16, 32)
SIZES = (0.25, 0.5, 1.0)  # of the pool: what recall does as it grows
SCALES = (10_000, 100_000, 1_000_000)
DIMS, NUM_CENTRES, BUDGET, BLOCK = 384, 200, 1000, 50_000
NUM_LABELS, NUM_SETS = 100, 6  # sets: five folds and all labels
HOLDOUT_EVERY = 5  # one scan in five is sealed


def recall(data: Path, given: Namespace) -> None:
    """Write `results/neighbors.md`: the share of the true nearest neighbours that a constant number of lists finds."""
    rows = []
    for name, emb_ND in _real_pools():
        for share in SIZES:
            by_seed = np.array([_recalls(emb_ND, share, seed) for seed in range(given.seeds)])
            num = round(share * len(emb_ND))
            lists = int(neighbor_graph.LISTS_PER_ROOT * np.sqrt(num))
            rows.append((name, num, lists, *(tables.mean_ci(by_seed[:, i]) for i in range(len(PROBES)))))
    notes = (
        f"Share of the {NUM_NEIGHBORS} true nearest neighbours by cosine that are found, mean and 95 % interval over "
        f"{given.seeds} random parts of the pool (of the whole pool: the same part, in another order). The vectors are "
        "the backbone's own embeddings, centred, as the clusters stage sees them. Each scan has "
        f"{neighbor_graph.LISTS_PER_ROOT} x the root of N lists to be in, and the columns say how many of them are "
        f"read. The tool reads {neighbor_graph.NUM_PROBES}, above {neighbor_graph.EXACT_UP_TO:,} scans alone: below, "
        "its search is exact. Recall at a million real scans was not measured: there are none here."
    )
    header = ("pool", "scans", "lists", *(f"{num} read" for num in PROBES))
    command = f"python -m tests.bench neighbors --seeds {given.seeds}"
    tables.write("neighbors", "Neighbours that an approximate search finds", command, header, rows, notes)


def _real_pools() -> Iterator[tuple[str, np.ndarray]]:
    """Name and embeddings (N, D) of the real pools that `python -m tests.bench strategies` has read."""
    folder = cache_folder() / "bench" / "strategies" / "pools"
    each = {name: np.asarray(Vectors.open(folder / name).own_ND, np.float32) for name in ("kermany", "covid3")}
    yield from each.items()
    yield "both", np.concatenate(list(each.values()))


def _recalls(emb_ND: np.ndarray, share: float, seed: int) -> list[float]:
    """Recall for each of `PROBES` on a random part of the pool."""
    rng = np.random.default_rng(seed)
    part = rng.permutation(len(emb_ND))[: round(share * len(emb_ND))]
    unit_ND = unit_rows(emb_ND[part], emb_ND[part].mean(0))
    true_NK, _ = neighbor_graph.neighbors(unit_ND, NUM_NEIGHBORS)
    found = []
    for num_probes in PROBES:
        with mock.patch.multiple(neighbor_graph, EXACT_UP_TO=0, NUM_PROBES=num_probes):
            near_NK, _ = neighbor_graph.neighbors(unit_ND, NUM_NEIGHBORS)
        found.append(float(np.mean([np.isin(a, b).mean() for a, b in zip(true_NK, near_NK, strict=True)])))
    return found


def scale(data: Path, given: Namespace) -> None:
    """Write `results/clusters-scale.md`: seconds and peak memory of clusters and a queue, up to a million scans."""
    rows = []
    for num in SCALES:
        with multiprocessing.get_context("spawn").Pool(1) as process:
            measured = process.apply(_measure, (num,))
        sys.stderr.write(f"{num}: {measured}\n")
        rows.append(measured)
    growth = np.log(np.divide(rows[-1], rows[0])) / np.log(SCALES[-1] / SCALES[0])
    notes = (
        f"Embeddings of {DIMS} dimensions around {NUM_CENTRES} centres, one scan in {HOLDOUT_EVERY} in the holdout; "
        f"the defaults: similarity of 256 components, clusters by their number, a queue of {BUDGET:,} by "
        "`rare_class_herding` with no label yet; one thread (`engine.driver_threads`). Each size in a process of its "
        "own on a machine that other work kept busy, so the seconds are CPU seconds. Memory is the highest resident "
        "size, pages of mapped files included. From "
        f"{SCALES[0]:,} to {SCALES[-1]:,} scans the time of the clusters grows by the power {growth[0]:.2f} of their "
        f"number, of the queue by {growth[1]:.2f}. With `pseudo.propagate`, and only then: {NUM_NEIGHBORS} neighbours "
        f"of each scan, sought exhaustively up to {neighbor_graph.EXACT_UP_TO:,} scans (power {growth[2]:.2f}), and "
        f"{NUM_LABELS} labels of two classes in {NUM_SETS} sets, spread over their graph at once ({growth[3]:.2f})."
    )
    shown = [
        (
            f"{num:,}",
            *(f"{value:.1f}" for value in row[:2]),
            f"{row[4]:.2f}",
            *(f"{value:.1f}" for value in row[2:4]),
            f"{row[5]:.2f}",
        )
        for num, row in zip(SCALES, rows, strict=True)
    ]
    header = ("scans", "clusters, CPU s", f"queue of {BUDGET:,}, CPU s", "peak GiB", "neighbours, CPU s")
    header = (*header, "labels spread, CPU s", "peak GiB with them")
    title = "Clusters and a queue of a million scans"
    tables.write("clusters-scale", title, "python -m tests.bench clusters_scale", header, shown, notes)


def _measure(num: int) -> tuple[float, ...]:
    """CPU seconds of clusters, queue, neighbours and labels spread; peak GiB before the last two, and after."""
    with tempfile.TemporaryDirectory() as name, limited(1):
        ctx = _write_run(Path(name), num)
        seconds = [time.process_time()]
        clusters.run(ctx)
        seconds.append(time.process_time())
        queue = draw.draw(ctx, 1, set(), draw.Proposals({}), strategy=ctx.config.strategy.name)
        seconds.append(time.process_time())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        train = Vectors.open(ctx.folder).positions(clusters.train_ids(SPLIT_TABLE.read(ctx.folder)))
        unit_ND = UnitRows(principal_components.load_similarity(ctx.folder))
        neighbor_graph.save(ctx.folder / run_files.NEIGHBORS, *neighbor_graph.neighbors(unit_ND, NUM_NEIGHBORS, train))
        seconds.append(time.process_time())
        del unit_ND
        graph_TT = neighbor_graph.load(ctx.folder / run_files.NEIGHBORS)
        rng = np.random.default_rng(0)
        labels = (rng.choice(graph_TT.shape[0], NUM_LABELS, replace=False), rng.integers(2, size=NUM_LABELS))
        neighbor_graph.spread(graph_TT, [labels] * NUM_SETS, 2, ctx.config.pseudo.spread_alpha)
        seconds.append(time.process_time())
    if len(queue) != BUDGET:
        raise RuntimeError(f"the queue has {len(queue)} scans")
    return *np.diff(seconds), peak, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _write_run(folder: Path, num: int) -> StageContext:
    """A run as the embed stage leaves it, without scans."""
    rng = np.random.default_rng(0)
    centre_KD = rng.normal(size=(NUM_CENTRES, DIMS)).astype(np.float32)
    emb_ND = np.lib.format.open_memmap(folder / run_files.EMBEDDINGS, "w+", np.float16, (num, DIMS))
    for start in range(0, num, BLOCK):
        size = min(BLOCK, num - start)
        noise_BD = rng.standard_normal((size, DIMS), dtype=np.float32)
        emb_ND[start : start + size] = centre_KD[rng.integers(NUM_CENTRES, size=size)] + noise_BD
    del emb_ND
    ids = pa.array([f"{i:016x}" for i in range(num)])
    save_ids(folder, ids)
    write_text(folder / run_files.BACKBONE, json.dumps({"own_dim": DIMS}))
    split = ["holdout" if i % HOLDOUT_EVERY == 0 else "train" for i in range(num)]
    nothing = pa.nulls(num)
    columns = {"image_id": ids, "group_id": ids, "split": pa.array(split), "reason": nothing}
    SPLIT_TABLE.write(folder, pa.table(columns, schema=SPLIT_TABLE.schema))
    kind = pa.array(["unique"] * num)
    columns = {"image_id": ids, "group_id": ids, "canonical_id": ids, "kind": kind}
    columns |= {"distance_bits": nothing, "change": nothing}
    DUPLICATES.write(folder, pa.table(columns, schema=DUPLICATES.schema))
    columns = {field.name: pa.nulls(num, field.type) for field in MANIFEST.schema}
    columns |= dict.fromkeys(("image_id", "uri", "path", "sha256", "patient_id"), ids)
    columns |= {"view": pa.array(["PA"] * num), "status": pa.array(["ok"] * num)}
    MANIFEST.write(folder, pa.table(columns, schema=MANIFEST.schema))
    columns = {"image_id": ids, "label": pa.nulls(num, pa.string()), "pool_split": pa.nulls(num, pa.string())}
    POOL_LABELS.write(folder, pa.table(columns, schema=POOL_LABELS.schema))
    options = {"queue.budget": BUDGET, "engine.backend": "serial", "pool.findings": ["normal", "pneumonia"]}
    config = config_file.load(None, options)
    return StageContext(config, folder, SerialEngine())
