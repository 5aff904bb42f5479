"""The tables of a million scans: seconds and memory of each stage that reads or writes them.

A pool is a table of paths that lead to tiny files; what a task reads of a file is made up, no picture is decoded. All
else is the real stages, each in a process of its own, whose highest memory is read when it ends.
"""

import hashlib
import io
import json
import multiprocessing
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from PIL import Image

from pipeline.annotate import oracle
from pipeline.commands import status
from pipeline.contracts import config_file
from pipeline.contracts.tables import DUPLICATES, MANIFEST, POOL_LABELS, PSEUDO, QUEUE, SPLIT_TABLE
from pipeline.labels import label_table
from pipeline.pool import manifest, splits
from pipeline.report import stage as report_stage
from pipeline.rounds import question
from pipeline.rounds.run_scans import Dataset
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from pipeline.runtime.threads import limited
from pipeline.selection import draw
from pipeline.vectors import clusters
from pipeline.vectors.matrix import save_ids
from tests.bench import tables

# N scans, D dimensions, K centres, B scans of a block

SCALES = (10_000, 100_000, 1_000_000)
DIMS, NUM_CENTRES, BLOCK, BUDGET = 384, 200, 50_000, 1_000
NUM_FOLDERS = 1_000  # of the pool, and files in each
SCANS_A_PATIENT = 3.6  # as in NIH ChestX-ray14: 112,120 scans of 30,805 patients
CLASSES = ("normal", "pneumonia")
POSITIVE, BROKEN, NOTED, STRAY = 0.2, 0.005, 0.05, 0.005  # shares of the scans; the last lie among another class
LEAN = 3.0  # of a class from the middle, where a scan lies about its centre by 1
MANUFACTURERS = ("Siemens Healthineers", "GE Healthcare", "Philips Medical Systems", "FUJIFILM Corporation")


def main(_data: Path, _given: Namespace) -> None:
    """Measure and write `results/tables-scale.md`."""
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in STEPS}
    told = ""
    for num in SCALES:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_pool(folder / "pool", num)
            for step in STEPS:
                with multiprocessing.get_context("spawn").Pool(1) as process:
                    measured[step].append(process.apply(_measured, (step, folder, num)))
                sys.stderr.write(f"{num} {step}: %.1f CPU s, %.0f MB\n" % measured[step][-1])
            told = _sizes(folder / "run")
    rows = [_shown(step, values) for step, values in measured.items()]
    header = ("step", *(f"{num:,} scans: {what}" for num in SCALES for what in ("CPU s", "peak MB")))
    header = (*header, f"power from {SCALES[0]:,}", f"from {SCALES[-2]:,}")
    notes = (
        f"{len(CLASSES)} classes, {SCANS_A_PATIENT} scans a patient, every column of the manifest; all scans of the "
        f"pool have a label, and an oracle answers a queue of {BUDGET:,}. Embeddings of {DIMS} dimensions around "
        f"{NUM_CENTRES} centres. The files of the pool are there and are asked for their times; what a task reads of "
        "one is made up. Each step in a process of its own, one thread, on a machine that other work kept busy, so the "
        "seconds are CPU seconds, without those of Python's imports. Memory is the highest resident size of a process, "
        "with Python, its libraries and the pages of mapped files. The power is that of the number of scans by which "
        f"the time grows from a smaller pool to {SCALES[-1]:,} scans. At that number: {told}"
    )
    title, command = "The tables of a million scans", "python -m tests.bench tables_scale"
    tables.write("tables-scale", title, command, header, rows, notes)


def _shown(step: str, values: list[tuple[float, float]]) -> tuple[str, ...]:
    powers = [np.log(values[-1][0] / values[i][0]) / np.log(SCALES[-1] / SCALES[i]) for i in (0, -2)]
    cells = (cell for seconds, megabytes in values for cell in (f"{seconds:.1f}", f"{megabytes:,.0f}"))
    return (step, *cells, *(f"{power:.2f}" for power in powers))


def _sizes(folder: Path) -> str:
    """What the tables of a run take on disk, and columns of them in memory."""
    files = ", ".join(f"`{path.name}` {path.stat().st_size / 1e6:.0f}" for path in sorted(folder.glob("*.parquet")))
    whole, ids = MANIFEST.read(folder), MANIFEST.read(folder, ["image_id", "patient_id"])
    sides = SPLIT_TABLE.read(folder, ["split"])
    groups = pq.ParquetFile(folder / MANIFEST.file).num_row_groups
    return (
        f"files, MB: {files}; {groups} row groups of the manifest. In memory, MB: the whole manifest "
        f"{whole.nbytes / 1e6:.0f}, its columns image_id and patient_id with the side of the split "
        f"{(ids.nbytes + sides.nbytes) / 1e6:.0f}."
    )


def _measured(step: str, folder: Path, num: int) -> tuple[float, float]:
    """CPU seconds of a step, and the highest memory of this process, MB."""
    if step == "clusters":
        write_vectors(folder / "run", num)
    start = time.process_time()
    with limited(1):
        STEPS[step](context(folder))
    seconds = time.process_time() - start
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return seconds, int(peak.split()[1]) * 1024 / 1e6


def context(folder: Path) -> StageContext:
    """The run, with its options written down."""
    options = {
        "pool.uri": str(folder / "pool" / "manifest.csv"),
        "pool.findings": list(CLASSES),
        "oracle": True,
        "queue.budget": BUDGET,
        "rounds.num": 1,
        "engine.backend": "serial",
    }
    config = config_file.load(None, options)
    (folder / "run").mkdir(exist_ok=True)
    (folder / "run" / run_files.RESOLVED).write_text(config_file.dump(config), "utf-8")
    return StageContext(config, folder / "run", SerialEngine())


def write_pool(folder: Path, num: int) -> None:
    """A table of scans, whose paths lead through links of folders to the same few files."""
    files = folder / "files"
    files.mkdir(parents=True)
    with io.BytesIO() as stream:
        Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(stream, "PNG")
        content = stream.getvalue()
    for i in range(-(-num // NUM_FOLDERS)):
        (files / f"study-2017-{i:06d}.png").write_bytes(content)
    for i in range(NUM_FOLDERS):
        (folder / f"hospital-{i:04d}").symlink_to(files)
    rng = np.random.default_rng(0)
    place_N = np.arange(num)
    patient_N = rng.integers(int(num / SCANS_A_PATIENT), size=num)
    age_G, sex_G = rng.integers(18, 95, patient_N.max() + 1), rng.integers(2, size=patient_N.max() + 1)
    table = pa.table(
        {
            "image_path": [f"hospital-{i % NUM_FOLDERS:04d}/study-2017-{i // NUM_FOLDERS:06d}.png" for i in place_N],
            "label": np.array(CLASSES)[(rng.random(num) < POSITIVE).astype(int)],
            "patient_id": [f"MRN{patient:010d}" for patient in patient_N],
            "source": [f"hospital {i % 12}" for i in place_N],
            "population": ["adult"] * num,
            "age": age_G[patient_N],
            "sex": np.array(["F", "M"])[sex_G[patient_N]],
            "view": np.array(["PA", "AP"])[rng.integers(2, size=num)],
        }
    )
    pa_csv.write_csv(table, folder / "manifest.csv")


def read_made_up(shard: manifest.Shard) -> pa.Table:
    """What a task tells of the files of a shard, without opening them."""
    rows = []
    for path in shard.paths:
        sha256 = hashlib.sha256(path.encode()).hexdigest()
        chance = int(sha256[:8], 16) / 2**32
        row = {"path": path, "image_id": manifest.image_id(path, sha256), "sha256": sha256}
        row |= {"study_id": sha256[8:24], "series_id": sha256[24:40], "laterality": None}
        row |= {"manufacturer": MANUFACTURERS[int(sha256[8], 16) % len(MANUFACTURERS)], "pixel_spacing_mm": 0.143}
        if chance < BROKEN:
            rows.append(row | {"reason": "the picture is cut off: it ends after 312 of 2,048 rows"})
            continue
        row |= {"width_px": 2500, "height_px": 2048, "bit_depth": 12, "format": "PNG", "open_bits": 12, "white": 4095}
        row |= {"phash": sha256[:16], "picture_hash": sha256 + sha256[::-1]}
        row |= {"note": "of 3 channels that are alike the first is read" if chance > 1 - NOTED else None}
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=manifest._READ)


def write_vectors(folder: Path, num: int) -> None:
    """Embeddings as their stage leaves them: around centres, which lean to one class or the other."""
    rng = np.random.default_rng(0)
    table = MANIFEST.read(folder)
    label_N = POOL_LABELS.read(folder)["label"].to_numpy()
    usable = np.flatnonzero(table["status"].to_numpy() == "ok")
    is_positive_N = (label_N == CLASSES[1])[usable]
    centre_KD = rng.normal(size=(NUM_CENTRES, DIMS)).astype(np.float32)
    axis_D = rng.normal(size=DIMS).astype(np.float32) / np.sqrt(DIMS)
    emb_ND = np.lib.format.open_memmap(folder / run_files.EMBEDDINGS, "w+", np.float16, (len(usable), DIMS))
    for start in range(0, len(usable), BLOCK):
        rows = slice(start, min(start + BLOCK, len(usable)))
        size = rows.stop - rows.start
        leans_B1 = 2.0 * (is_positive_N[rows] ^ (rng.random(size) < STRAY))[:, None] - 1.0
        noise_BD = rng.standard_normal((size, DIMS), dtype=np.float32)
        emb_ND[rows] = centre_KD[rng.integers(NUM_CENTRES, size=size)] + noise_BD + LEAN * leans_B1 * axis_D
    del emb_ND
    save_ids(folder, table["image_id"].take(pa.array(usable)))
    (folder / run_files.BACKBONE).write_text(json.dumps({"name": "gaussians", "dim": DIMS, "own_dim": DIMS}))


def _manifest(ctx: StageContext) -> None:
    with mock.patch.object(manifest, "read_shard", read_made_up):
        manifest.run(ctx)


def _splits(ctx: StageContext) -> None:
    splits.run(ctx)


def _queue(ctx: StageContext) -> None:
    queue = draw.draw(ctx, 1, set(), draw.Proposals({}), strategy=ctx.config.strategy.name)
    if len(queue) != BUDGET:
        raise RuntimeError(f"the queue has {len(queue)} scans")
    QUEUE.write(ctx.round_folder(1), queue)


def _round(ctx: StageContext) -> None:
    data = Dataset.open(ctx)
    ids = QUEUE.read(ctx.round_folder(1))["image_id"].to_pylist()
    label_table.add_answers(ctx.folder, oracle.answer(ids, data.pool_labels, 1), data.findings)
    asked = question.Question(ctx, data)
    asked.learn(1, {})
    asked.publish()
    if not pc.any(PSEUDO.read(ctx.round_folder(1), ["admitted"])["admitted"]).as_py():
        raise RuntimeError("no scan got a pseudo-label")


def _all_labels(ctx: StageContext) -> None:
    data = Dataset.open(ctx)
    label_table.add_answers(ctx.folder, data.pool_answers(), data.findings)


def _status(ctx: StageContext) -> None:
    status.status(ctx.folder)


def _report(ctx: StageContext) -> None:
    report_stage.build(ctx.folder)


def _duplicates(ctx: StageContext) -> None:
    """As their stage leaves them where no scan is a copy: `copies-scale` measures the search."""
    table = MANIFEST.read(ctx.folder)
    num, ids = len(table), table["image_id"]
    columns = {"image_id": ids, "group_id": table["patient_id"], "canonical_id": ids, "kind": ["unique"] * num}
    columns |= {"distance_bits": pa.nulls(num, pa.int16()), "change": pa.nulls(num, pa.string())}
    DUPLICATES.write(ctx.folder, pa.table(columns, schema=DUPLICATES.schema))


STEPS: dict[str, Callable[[StageContext], object]] = {
    "manifest": _manifest,
    "manifest, resumed": _manifest,
    "groups, written alone": _duplicates,
    "splits": _splits,
    "clusters": clusters.run,
    f"queue of {BUDGET:,}": _queue,
    "round: labels, pseudo-labels, predictions": _round,
    "status": _status,
    "report": _report,
    "labels of the whole pool": _all_labels,
    "status with them": _status,
}
