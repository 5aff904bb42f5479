"""Is what a pool teaches grey level? The audit's equalised probe on real pools, on phantoms, and planted."""

import csv
import hashlib
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from embeddings.decoding.files import read_bytes
from embeddings.stage_features import of_the_middle
from pipeline.audit import altered_vectors, off_lung_features, paired_probe, probes
from pipeline.audit.checks import grey_levels
from pipeline.audit.checks.grey_levels import GreyLevels
from pipeline.contracts import config_file
from pipeline.contracts.options.evidence import AuditConfig
from pipeline.contracts.tables import MANIFEST, POOL_LABELS
from pipeline.pool import manifest
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from pipeline.vectors import embed
from pipeline.vectors.matrix import Vectors
from tests.bench import pools, tables

NIH = "nih-chestxray8"  # source of the part of covid3 in which no class has a source of its own
NUM_POOL = 1200  # scans of a pool at random
NUM_SAMPLED = AuditConfig().max_equalised_scans  # of them, by patient, in each draw
GAMMA = 1.25  # of the exposure planted in one class
HEADER = ("pool", "features", "AUROC as it is", "AUROC equalised", "loss", "grey levels alone", "draws that warn")


def main(data: Path, given: Namespace) -> None:
    """Measure and write `results/grey-levels.md`."""
    rows: list[Sequence[Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, uri in _pools(data, Path(folder)):
            rows += _measured(name, uri, given.seeds)
    limit = AuditConfig().warn_grey_loss
    notes = (
        f"Up to {NUM_POOL} scans of a pool at random, and of those {NUM_SAMPLED} by patient in each of {given.seeds} "
        "draws; ± is a 95 % t-interval over draws, which share scans. `middle of every stage`: what `embed.features: "
        "stages` keeps of the middle of a scan; `own embedding`: the network's of the whole scan (`pooled`). A draw "
        f"warns where the loss is above {limit:g} and its own interval, over redrawn patients, above 0, and the "
        "interval of the AUROC of grey levels alone (mean, spread, percentiles; trees) above .5. Planted: the "
        f"pneumonia scans of the NIH part were given a gamma of {GAMMA:g}. Lite0, logistic regression, patient-grouped."
    )
    command = f"python -m tests.bench grey_levels --seeds {given.seeds}"
    tables.write("grey-levels", "What equalised histograms cost", command, HEADER, rows, notes)


def _pools(data: Path, folder: Path) -> Iterator[tuple[str, str]]:
    source = Path(pools.uri(data, "covid3"))
    with source.open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["source"] == NIH]
    rows = [row | {"image_path": str(source.parent / row["image_path"])} for row in rows]
    yield "covid3, NIH part", _manifest(folder / "nih.csv", rows)
    yield "kermany", pools.uri(data, "kermany")
    yield "phantoms", "phantom:num_patients=400"
    planted = [row | {"image_path": _exposed(row, folder)} for row in rows]
    yield "covid3, NIH part, exposure planted", _manifest(folder / "planted.csv", planted)


def _manifest(path: Path, rows: list[dict[str, str]]) -> str:
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    return str(path)


def _exposed(row: dict[str, str], folder: Path) -> str:
    """The scan's own file, or, of the finding, a copy that was exposed otherwise."""
    if row["label"] != "pneumonia":
        return row["image_path"]
    pixels_HW = np.asarray(Image.open(row["image_path"]).convert("L"), np.float32) / 255
    path = folder / f"{Path(row['image_path']).stem}.png"
    Image.fromarray(np.rint(255 * pixels_HW**GAMMA).astype(np.uint8)).save(path)
    return str(path)


def _measured(name: str, uri: str, num_seeds: int) -> list[Sequence[Any]]:
    with tempfile.TemporaryDirectory() as folder:
        settings = {"pool.uri": uri, "engine.backend": "serial"}
        ctx = StageContext(config_file.load(None, settings), Path(folder), SerialEngine())
        manifest.run(ctx)
        every = MANIFEST.read(ctx.folder)
        kept = np.sort(np.random.default_rng(0).permutation(len(every))[:NUM_POOL])
        scans = every.take(pa.array(kept))
        MANIFEST.write(ctx.folder, scans)
        labels = np.array(POOL_LABELS.read(ctx.folder).take(pa.array(kept))["label"].to_pylist())
        patients = np.array(
            [p or i for p, i in zip(*(scans[c].to_pylist() for c in ("patient_id", "image_id")), strict=True)]
        )
        embed.run(ctx)
        vectors = Vectors.open(ctx.folder)
        plain_ND, own_dim = np.asarray(vectors.emb_ND, np.float32), vectors.own_dim
        equalised_ND, ok_N = altered_vectors.measure(ctx, scans, "equalised")
        assert ok_N.all() and len(plain_ND) == len(labels)
        grey_NG = _grey_levels(ctx, scans["uri"].to_pylist())
    both_ND = (plain_ND, equalised_ND)
    views = {
        "middle of every stage": tuple(of_the_middle(emb_ND, "stages") for emb_ND in both_ND),
        "own embedding": tuple(emb_ND[:, :own_dim] for emb_ND in both_ND),
    }
    rows: list[Sequence[Any]] = []
    for kind, (before_ND, after_ND) in views.items():
        drawn = [_drawn(before_ND, after_ND, grey_NG, labels, patients, seed) for seed in range(num_seeds)]
        findings = sorted(drawn[0].losses)
        for finding in findings[1 if len(findings) == 2 else 0 :]:  # two classes mirror each other
            of = [grey.losses[finding] for grey in drawn]
            warns = sum(grey_levels.is_over(grey, finding, AuditConfig().warn_grey_loss) for grey in drawn)
            numbers = (
                [one.plain.auroc for one in of],
                [one.altered.auroc for one in of],
                [one.difference for one in of],
                [grey.alone[finding].auroc for grey in drawn],
            )
            row = (f"{name}: {finding}", kind, *map(tables.mean_ci, numbers), f"{warns} of {num_seeds}")
            sys.stderr.write(f"{row}\n")
            rows.append(row)
    return rows


def _grey_levels(ctx: StageContext, uris: list[str]) -> Any:
    """Grey levels of each scan, as the audit has them."""
    hashes = tuple(hashlib.sha256(read_bytes(uri)).hexdigest() for uri in uris)
    shard = off_lung_features.Shard(hashes, tuple(uris), ctx.config.pool.max_pixels, ctx.config.preprocess.size_px)
    fact_NM = off_lung_features.look(shard)[0]
    return fact_NM[:, [off_lung_features.NAMES.index(name) for name in off_lung_features.GREY_FACTS]]


def _drawn(before_ND: Any, after_ND: Any, grey_NG: Any, labels: Any, patients: Any, seed: int) -> GreyLevels:
    rng = np.random.default_rng(seed)
    order = {patient: rank for rank, patient in enumerate(rng.permutation(np.unique(patients)))}
    rows = np.argsort([order[patient] for patient in patients], kind="stable")[:NUM_SAMPLED]
    before_RM, after_RM = (probes.components(emb_ND[rows]) for emb_ND in (before_ND, after_ND))
    who = (labels[rows], patients[rows], np.full(len(rows), "one"))
    num_bootstrap = AuditConfig().num_bootstrap
    losses = paired_probe.losses(before_RM, after_RM, *who, num_bootstrap=num_bootstrap, rng=rng)
    alone = probes.probe(grey_NG[rows], *who, kind="trees", num_bootstrap=num_bootstrap, rng=rng)
    return GreyLevels(losses, alone)
