"""Strategies against random selection, with the teacher's head: `cxr-ssl bench selection` on this project's pools."""

import csv
import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from pipeline.baselines import selection_report
from pipeline.commands.benches import selection as bench_selection
from pipeline.contracts.tables import write_text
from pipeline.runtime.context import cache_folder
from tests.bench import pools, tables

NIH = "nih-chestxray8"  # source of the part of covid3 in which no class has a source of its own
RARE = 0.02
MANY_SEEDS = ("uncertainty_herding", "max_herding", "typiclust")
FEW_SEEDS = 3


def main(data: Path, given: Namespace) -> None:
    """Write two tables: the herdings and TypiClust over `--seeds`, and every strategy over few seeds."""
    folder = cache_folder() / "bench"
    wanted = [
        f"kermany={pools.uri(data, 'kermany')}",
        f"covid3={pools.uri(data, 'covid3')}",
        f"nih={_nih_part(data, folder)}",
        "phantom=phantom:num_patients=600",
    ]
    overrides: dict[str, Any] = {"engine.num_cpus": 2}
    common = {"pools": tuple(wanted), "out": folder / "strategies", "overrides": overrides, "quiet": True}
    many = bench_selection.selection(
        bench_selection.Request(**common, strategies=MANY_SEEDS, rare=RARE, num_seeds=given.seeds)
    )
    _write("strategies", "Strategies against random selection", many, f"--seeds {given.seeds}")
    every = bench_selection.selection(bench_selection.Request(**common, num_seeds=min(given.seeds, FEW_SEEDS)))
    _write("strategies-all", "Every strategy against random selection", every, f"--seeds {given.seeds}")


def _nih_part(data: Path, folder: Path) -> Path:
    """A manifest of covid3's scans of one source."""
    manifest = Path(pools.uri(data, "covid3"))
    with manifest.open(encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["source"] == NIH]
    path = folder / "nih.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(row | {"image_path": str(manifest.parent / row["image_path"])} for row in rows)
    return path


def _write(name: str, title: str, result: dict[str, Any], options: str) -> None:
    notes = (
        f"{selection_report.HOW} `nih` is the part of covid3 from one source; `{100 * RARE:g} %`: the rarest finding "
        "of the training pool cut down to that share, another draw for each seed; `phantom` has four classes, the "
        "rarest of them 4 %."
    )
    header, rows = selection_report.header(result), selection_report.table(result)
    tables.write(name, title, f"python -m tests.bench strategies {options}", header, rows, notes)
    kept = {key: result[key] for key in ("rows", "budgets", "num_seeds", "options")}
    write_text(tables.RESULTS / f"{name}.json", json.dumps(kept, indent=1) + "\n")
