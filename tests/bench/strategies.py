"""Strategies against random selection, with the teacher's head: `cxr-ssl bench selection` on this project's pools."""

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.baselines.curves import selection_report
from pipeline.commands.benches import selection as bench_selection
from pipeline.commands.benches.curves import CurvesRequest
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.tables import write_text
from tests.bench import pools, tables

RARE = 0.02
MANY_SEEDS = ("rare_class_herding", "uncertainty_herding")
FEW_SEEDS = 3


def main(data: Path, given: Namespace) -> None:
    """Write two tables: the herdings and TypiClust over `--seeds`, and every strategy over few seeds."""
    folder = cache_folder() / "bench"
    request = CurvesRequest(
        pools=pools.four(data, folder), out=folder / "strategies", overrides={"engine.num_cpus": 2}, quiet=True
    )
    many = bench_selection.selection(replace(request, rare=RARE, num_seeds=given.seeds), MANY_SEEDS)
    _write("strategies", "Strategies against random selection", many, f"--seeds {given.seeds}")
    every = bench_selection.selection(replace(request, num_seeds=min(given.seeds, FEW_SEEDS)))
    _write("strategies-all", "Every strategy against random selection", every, f"--seeds {given.seeds}")


def _write(name: str, title: str, result: dict[str, Any], options: str) -> None:
    notes = (
        f"{selection_report.HOW} `nih` is the part of covid3 from one source; `{100 * RARE:g} %`: the rarest finding "
        "of the training pool cut down to that share, another draw for each seed; `phantom` has four classes, the "
        "rarest of them 4 %."
    )
    gains = selection_report.gains(result)
    tables.write(name, title, f"python -m tests.bench strategies {options}", gains.header, gains.rows, notes)
    kept = {key: result[key] for key in ("rows", "budgets", "num_seeds", "options")}
    write_text(tables.RESULTS / f"{name}.json", json.dumps(kept, indent=1) + "\n")
