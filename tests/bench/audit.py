"""Does the audit see what is wrong, and only that? Phantom pools with one fault planted at a time."""

import json
import os
import shutil
import tempfile
from argparse import Namespace
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tests.bench import tables

CLEAN = "none"
# What a fault brings along by its nature: a copy on the other side joins its patient's other scans there, a frame
# around the scans of one class is seen without their lungs, the half per cent that a class falls to are two patients.
COMPANIONS = {
    "duplicates-across-splits": {"patient-across-splits"},
    "metadata-predicts-label": {"lungs-masked-predicts-label"},
    "class-imbalance": {"too-few-cases"},
}


def main(_data: Path, given: Namespace) -> None:
    """Write `results/audit.md`, anew after every seed; a seed takes some minutes of one core."""
    found: dict[tuple[str, int], dict[str, str]] = {}
    with ProcessPoolExecutor(max(1, (os.cpu_count() or 2))) as workers:
        for seed, results in enumerate(workers.map(fired, range(given.seeds))):
            found |= {(fault, seed): result for fault, result in results.items()}
            _write(found, range(seed + 1))


def _write(found: dict[tuple[str, int], dict[str, str]], seeds: range) -> None:
    from pipeline.pool.phantoms import FAULTS

    jobs = [(fault, seed) for seed in seeds for fault in (CLEAN, *FAULTS)]
    rows = [_row(fault, [found[fault, seed] for seed in seeds]) for fault in (CLEAN, *FAULTS)]
    cells = [_alarms(fault, found[fault, seed]) for fault, seed in jobs]
    alone = sum(len(alarms) for alarms in cells)
    total = len(jobs) * 17
    tables.write(
        "audit",
        "Faults planted in phantom pools, one at a time",
        f"python -m tests.bench audit --seeds {len(seeds)}",
        ("fault planted", "caught", "verdicts", "companions that fired", "others that fired"),
        rows,
        f"400 patients, {len(seeds)} seeds a fault. A companion is what the fault brings along by its nature "
        "(`COMPANIONS` in `tests/bench/audit.py`); every other check that is not ok is a false alarm: "
        f"{alone} of {total} checks of pools ({alone / total:.2%}).",
    )


def fired(seed: int) -> dict[str, dict[str, str]]:
    """For every fault: checks that are not ok in its pool, by severity; the verdict under `verdict`."""
    from pipeline.pool.phantoms import FAULTS

    os.environ["OMP_NUM_THREADS"] = "1"
    _render_once()
    out = {}
    with tempfile.TemporaryDirectory() as folder:
        # One cache a seed: scans that a fault leaves alone are embedded once.
        os.environ["CXR_SSL_CACHE"] = str(Path(folder) / "cache")
        for fault in (CLEAN, *FAULTS):
            uri = f"phantom:seed={seed}" + ("" if fault == CLEAN else f",faults={fault}")
            found = audited(uri, Path(folder) / fault)
            out[fault] = {c["id"]: c["severity"] for c in found["checks"] if c["severity"] != "ok"}
            out[fault]["verdict"] = found["verdict"]
            shutil.rmtree(Path(folder) / fault)
            for pool in (Path(folder) / "cache").glob("phantom-*"):
                shutil.rmtree(pool)
    return out


def _render_once() -> None:
    """Most faults leave most pictures alone: draw each of them once in this process."""
    from pipeline.pool.phantoms import film, pool

    drawn: dict[str, Any] = {}

    def render(scan: Any, spec: Any) -> Any:
        shows = (scan.person, scan.pose, scan.true_view, scan.opacities, scan.noise_seed, scan.tamper, scan.edit)
        key = repr((shows, scan.source, spec.looks, spec.size_px))
        if key not in drawn:
            drawn[key] = film.render(scan, spec)
        return drawn[key]

    pool.render = render  # type: ignore[attr-defined]


def audited(uri: str, out: Path, **options: Any) -> dict[str, Any]:
    """`audit.json` of a pool, in this process."""
    from pipeline.commands.audit import audit_pool
    from pipeline.commands.request import Request

    audit_pool(Request(overrides={"pool.uri": uri, "engine.backend": "serial"} | options, out=out, quiet=True))
    found: dict[str, Any] = json.loads((out / "audit.json").read_text("utf-8"))
    return found


def _alarms(fault: str, found: dict[str, str]) -> set[str]:
    return set(found) - {"verdict", fault} - COMPANIONS.get(fault, set())


def _row(fault: str, runs: list[dict[str, str]]) -> tuple[str, ...]:
    caught = sum(fault in run for run in runs)
    verdicts = Counter(run["verdict"] for run in runs)
    companions = Counter(check for run in runs for check in set(run) & COMPANIONS.get(fault, set()))
    others = Counter(check for run in runs for check in _alarms(fault, run))
    return (
        fault,
        "–" if fault == CLEAN else f"{caught} of {len(runs)}",
        _counted(verdicts),
        _counted(companions),
        _counted(others),
    )


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {num}" for name, num in counts.most_common()) or "none"
