"""Do the erased lungs hide the finding, and nothing but it? Coverage on phantoms, probes on phantoms and real scans."""

import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from embeddings import decode, extract
from embeddings.alterations import lungs
from embeddings.decoding.files import read_bytes
from pipeline.audit import off_lung_features, probes
from pipeline.contracts import config_file
from pipeline.contracts.tables import MANIFEST, POOL_LABELS
from pipeline.pool import manifest
from pipeline.pool.phantoms import PhantomSpec, lung_mask, plan, render
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from pipeline.vectors import embed
from tests.bench import pools, tables

# N scans, S side of the square
SIZE_PX = 224
NUM_REAL = 1000
FAULT = "lungs-masked-predicts-label"
CLASSES = ("pneumonia", "effusion", "nodule")
SEEN = (
    "By eye, 100 scans each, drawn by class with seed 0: a sliver of lung of a few pixels, at a costophrenic angle or "
    "at the side wall, is left on about 3 of kermany and about 6 of covid3; on none a lobe, on none both lungs."
)


def main(data: Path, given: Namespace) -> None:
    """Measure and write `results/lungs.md`."""
    rows: list[Sequence[Any]] = []
    for severity in (1.0, 1.5):
        for view in ("PA", "AP"):
            rows += _coverage(severity, view, given.seeds)
    rows += _fills(given.seeds)
    for faults in ("", f",faults={FAULT}"):
        found = [_probed(f"phantom:seed={seed}{faults}", seed) for seed in range(given.seeds)]
        where = f"phantoms, {given.seeds} seeds, " + ("clean" if not faults else FAULT)
        for kind, score in found[0].items():
            rows += [(where, f"{kind}: {c}", tables.mean_ci([f[kind][c] for f in found]), "") for c in score]
    for name in ("kermany", "covid3"):
        for kind, score in _probed(pools.uri(data, name), 0).items():
            rows += [(name, f"{kind}: {what}", f"{value:.3f}", "") for what, value in score.items()]
    notes = (
        "Named by class: AUROC. "
        "Probes are those of the audit: logistic regression on Lite0 embeddings, trees on file facts and on the five "
        "numbers of a region (left, right, top, bottom, area), patient-grouped, five folds. Phantom pools have 400 "
        "patients, severity 1 unless said. In the faulty pool the pneumonia scans alone carry a marker. A class of "
        f"few cases (nodule) is noise, and a class beside a leaking one profits from it. Real pools: {NUM_REAL} scans "
        f"of a pool at random. {SEEN}"
    )
    command = f"python -m tests.bench lungs --seeds {given.seeds}"
    tables.write("lungs", "Erased lungs", command, ("pool", "measure", "found", "wanted"), rows, notes)


def _phantoms(severity: float, seed: int, view: str | None = None) -> tuple[list[Any], list[Any], Any]:
    spec = PhantomSpec(num_patients=400 if view is None else 150, severity=severity, seed=seed)
    scans = [scan for scan in plan(spec) if view in (None, scan.true_view)]
    picture_NSS = [decode.resize((render(scan, spec) / 255).astype(np.float32), SIZE_PX) for scan in scans]
    return scans, picture_NSS, spec


def _coverage(severity: float, view: str, num_seeds: int) -> list[Sequence[Any]]:
    covered, kept, overlap, fixed, quality, score = [], [], [], [], [], []
    for seed in range(num_seeds):
        scans, picture_NSS, spec = _phantoms(severity, seed, view)
        regions = [lungs.lung_region(picture_SS) for picture_SS in picture_NSS]
        for scan, region in zip(scans, regions, strict=True):
            lung_SS = decode.resize(lung_mask(scan, spec).astype(np.float32), SIZE_PX) > 0.5
            covered.append(region.mask_SS[lung_SS].mean())
            kept.append(1 - region.mask_SS.mean())
            overlap.append((region.mask_SS & lung_SS).sum() / (region.mask_SS | lung_SS).sum())
            fixed.append((region.left, region.right, region.top, region.bottom) == lungs._LEAST)
            quality.append(region.quality)
        score.append(_ask(_geometry(regions), [s.true_label for s in scans], [s.patient_id for s in scans], "trees"))
    where = f"phantoms, severity {severity:g}, {view}, {len(covered)} scans"
    rows: list[Sequence[Any]] = [
        (where, "share of lung covered, mean", f"{np.mean(covered):.4f}", "≥ 0.98"),
        (where, "share of lung covered, 5th percentile", f"{np.quantile(covered, 0.05):.4f}", "≥ 0.95"),
        (where, "share of the picture kept, mean", f"{np.mean(kept):.3f}", "≥ 0.35"),
        (where, "intersection over union with the lungs", f"{np.mean(overlap):.3f}", ""),
        (where, "regions that are the fixed dome", f"{np.mean(fixed):.3f}", ""),
        (where, "quality, mean", f"{np.mean(quality):.3f}", ""),
    ]
    return rows + [
        (where, f"region alone: AUROC {c}", tables.mean_ci([s[c] for s in score]), "≈ 0.5")
        for c in CLASSES
        if all(c in s for s in score)
    ]


def _fills(num_seeds: int) -> list[Sequence[Any]]:
    """Mid-grey beside black and the mean of what is kept."""
    found: dict[str, list[dict[str, float]]] = {"mid-grey": [], "black": [], "mean of what is kept": []}
    with tempfile.TemporaryDirectory() as folder:
        context = _context("phantom:", 0, Path(folder))
        job = embed.prepare(context, [("none", "none")])
        shard = job.shards[0]
        forward, _ = extract.forward_of(shard.backbone, shard.features, shard.size_px, shard.model, 1)
    for seed in range(num_seeds):
        scans, picture_NSS, _ = _phantoms(1.0, seed)
        labels, patients = [s.true_label for s in scans], [s.patient_id for s in scans]
        regions = [lungs.lung_region(picture_SS) for picture_SS in picture_NSS]
        for name, scores in found.items():
            filled = [
                np.where(r.mask_SS, _fill(name, p, r), p).astype(np.float32)
                for p, r in zip(picture_NSS, regions, strict=True)
            ]
            scores.append(_ask(forward(np.stack(filled)[:, None]), labels, patients, "linear"))
    return [
        (f"phantoms, {num_seeds} seeds, clean", f"erased with {name}: AUROC {c}", tables.mean_ci([s[c] for s in f]), "")
        for name, f in found.items()
        for c in CLASSES
    ]


def _fill(name: str, picture_SS: Any, region: lungs.Region) -> float:
    return {"mid-grey": 0.5, "black": 0.0}.get(name, float(picture_SS[~region.mask_SS].mean()))


def _context(uri: str, seed: int, folder: Path) -> StageContext:
    given = {"pool.uri": uri, "seed": seed, "engine.backend": "serial"}
    return StageContext(config_file.load(None, given), folder, SerialEngine())


def _probed(uri: str, seed: int) -> dict[str, dict[str, float]]:
    """AUROCs of whole scans, erased scans, file facts and regions, as the audit finds them."""
    with tempfile.TemporaryDirectory() as folder:
        ctx = _context(uri, seed, Path(folder))
        manifest.run(ctx)
        whole = MANIFEST.read(ctx.folder)
        rows = np.sort(np.random.default_rng(0).permutation(len(whole))[:NUM_REAL])
        scans = whole.take(pa.array(rows))
        MANIFEST.write(ctx.folder, scans)
        labels = POOL_LABELS.read(ctx.folder).take(pa.array(rows))["label"].to_pylist()
        patients = scans["patient_id"].to_pylist()
        embed.run(ctx)
        emb_ND = np.load(ctx.folder / "embeddings.npy").astype(np.float32)
        facts = off_lung_features.measure(ctx, scans)
        assert facts.ok_N.all()
        regions = [
            lungs.lung_region(decode.load_square(read_bytes(u), SIZE_PX, 10**9)[0]) for u in scans["uri"].to_pylist()
        ]
    kept = [1 - float(region.mask_SS.mean()) for region in regions]
    found = {
        "whole scan": _ask(emb_ND, labels, patients, "linear"),
        "lungs erased": _ask(facts.masked_emb_ND, labels, patients, "linear"),
        "file and grey levels": _ask(facts.meta_NM, labels, patients, "trees"),
        "region alone": _ask(_geometry(regions), labels, patients, "trees"),
        "regions": {"share kept, mean": float(np.mean(kept)), "quality, mean": float(np.mean(facts.quality_N))},
    }
    sys.stderr.write(f"{uri}: {found}\n")
    return found


def _geometry(regions: list[lungs.Region]) -> Any:
    return np.array([[r.left, r.right, r.top, r.bottom, r.mask_SS.mean()] for r in regions])


def _ask(x_NM: Any, labels: list[str], patients: list[str], kind: probes.Kind) -> dict[str, float]:
    found = probes.probe(x_NM, labels, patients, None, kind=kind, num_bootstrap=20, rng=np.random.default_rng(0))
    return {finding: score.auroc for finding, score in found.items()}
