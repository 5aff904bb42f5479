"""What is won back on a new source, and lost on the old, by `run --grow` and one queue of labels.

A run learns from children (kermany) with two queues; then adults (the NIH part of covid3, `no_finding` as `normal`)
join it and one more queue is answered. The model before and the model after are scored on the sealed holdouts of both.
What a source could give at most is told by the same growing with every label of both training pools.
"""

import csv
import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.audit import overrides as overrides_of_audit
from pipeline.commands import request, run
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.config import Config
from pipeline.evidence import growth_effect
from pipeline.evidence import stage as evidence_stage
from pipeline.runtime import run_dir
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from tests.bench import pools, tables

NUM_SCANS = 300  # of each source
BUDGET, NUM_ROUNDS = 50, 2
ALL_LABELS = 10_000
STAGES = ("manifest", "duplicates", "splits", "pretrain", "embed", "clusters", "audit", "rounds")
NAMES = {"no_finding": "normal", "normal": "normal", "pneumonia": "pneumonia"}


def main(data: Path, given: Namespace) -> None:
    """Measure and write `results/grow.md`, anew after each seed."""
    home = cache_folder() / "bench" / "grow"
    shutil.rmtree(home, ignore_errors=True)  # every run starts anew; the vectors are kept in their store
    results: list[dict[str, Any]] = []
    for seed in range(given.seeds):
        results.append(_of_seed(data, home / str(seed), seed))
        _write(results)


def _of_seed(data: Path, home: Path, seed: int) -> dict[str, Any]:
    """AUROC before and after on each holdout, with few labels and with all."""
    home.mkdir(parents=True)
    children = _drawn(pools.without_official_test(data, home), home / "children.csv", seed)
    adults = _drawn(pools.nih_part(data, home), home / "adults.csv", seed)
    wanted = {
        "pool.uri": str(children),
        "pool.findings": ["normal", "pneumonia"],
        "rounds.num": NUM_ROUNDS,
        "queue.budget": BUDGET,
        "oracle": True,
        "rounds.reference": False,
        "splits.holdout_fraction": 0.5,
        "engine.backend": "serial",
        "duplicates.changed": False,  # these and the next two take time and change no score
        "stop.advise": False,
        "audit.num_bootstrap": 20,
        "seed": seed,
    }
    few, everything = home / "few", home / "all"
    _execute(request.Request(overrides=wanted, out=few, resume=True))
    shutil.copytree(few, everything)
    _execute(request.Request(out=few, resume=True, grow=(str(adults),)))
    of_all = {"queue.budget": ALL_LABELS}
    _execute(request.Request(overrides=of_all, out=everything, resume=True, grow=(str(adults),)))
    return {"few": _compared(few), "all": _compared(everything), "labels": _labels(few)}


def _execute(asked: request.Request) -> None:
    accept = tuple(overrides_of_audit.parse(["all"], pools.BECAUSE))
    kept = {"quiet": True, "stages": STAGES, "accept": accept}
    run.execute(request.Request(**{**vars(asked), **kept}))


def _drawn(manifest: Path, path: Path, seed: int) -> Path:
    """Some scans of a manifest, whole patients drawn by chance, as many of each class."""
    with manifest.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    rng = np.random.default_rng(seed)
    by_patient: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_patient.setdefault(row["patient_id"], []).append(row)
    left = dict.fromkeys(("normal", "pneumonia"), NUM_SCANS // 2)
    taken = []
    for patient in rng.permutation(sorted(by_patient)).tolist():
        for row in by_patient[patient]:
            name = NAMES[row["label"]]
            if left[name]:
                left[name] -= 1
                kept = {key: row[key] for key in ("image_path", "patient_id", "source")}
                taken.append(kept | {"label": name, "patient_id": f"{row['source']}-{patient}"})
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, taken[0], lineterminator="\n")
        table.writeheader()
        table.writerows(taken)
    return path


def _compared(folder: Path) -> dict[str, Any]:
    """Metrics of the holdouts by name of the set, before and after."""
    config: Config = run_dir.config_of(folder)
    ctx = StageContext(config, folder, SerialEngine())
    scored = evidence_stage.holdout(ctx)
    assert scored is not None
    told = growth_effect.compared(ctx, scored)
    assert told is not None and told["why_not"] is None
    return {
        one["which"]: {row["metric"]: row for row in one["comparison"]["metrics"]} | {"num_scans": one["num_scans"]}
        for one in told["sets"]
    }


def _labels(folder: Path) -> tuple[int, int]:
    """Expert labels before and after growing."""
    rows = run_dir.read_metrics(folder)
    return rows[NUM_ROUNDS - 1]["num_expert"], rows[-1]["num_expert"]


def _write(results: list[dict[str, Any]]) -> None:
    rows = [_row(f"seed {seed}", result) for seed, result in enumerate(results)]
    rows.append(_row_of_all(results))
    header = (
        "",
        "labels before, after",
        "children: before",
        "children: after",
        "difference",
        "adults: before",
        "adults: after",
        "difference",
        "adults: all labels",
        "share of the loss won back, to all labels",
        "to the children before",
    )
    notes = (
        f"AUROC of pneumonia on sealed holdouts, half of the patients of {NUM_SCANS} scans of each source, half of "
        f"them with pneumonia; oracle labels, default options but for what takes time and changes no score, "
        f"{NUM_ROUNDS} queues of {BUDGET} about children, then "
        "the adults join and one queue more. Of each seed the difference has the 95 % interval over redrawn patients, "
        "paired; the last row has means over seeds with a t-interval. The loss on the adults is counted in two ways: "
        "to what the same growing gives with every label of both training pools, which is what this backbone can give "
        "there; and to what the children had before, which another, harder set of films need not reach with any number "
        "of labels."
    )
    title = "Growing: adults (NIH) join a run on children (kermany)"
    tables.write("grow", title, f"python -m tests.bench grow --seeds {len(results)}", header, rows, notes)


def _row(name: str, result: dict[str, Any]) -> tuple[str, ...]:
    old, new = result["few"]["old"]["auroc"], result["few"]["new"]["auroc"]
    best = result["all"]["new"]["auroc"]["second"]
    back = _won_back(result)
    return (
        name,
        "{}, {}".format(*result["labels"]),
        f"{old['first']:.3f}",
        f"{old['second']:.3f}",
        _with_interval(old),
        f"{new['first']:.3f}",
        f"{new['second']:.3f}",
        _with_interval(new),
        f"{best:.3f}",
        *(f"{share:.0%}" for share in back),
    )


def _won_back(result: dict[str, Any]) -> tuple[float, float]:
    """Share of the loss on the new source that is won back: to all labels, and to the old source before."""
    old, new = result["few"]["old"]["auroc"], result["few"]["new"]["auroc"]
    gain = new["second"] - new["first"]
    ends = (result["all"]["new"]["auroc"]["second"], old["first"])
    to_all, to_old = (gain / (end - new["first"]) if end > new["first"] else float("nan") for end in ends)
    return to_all, to_old


def _row_of_all(results: list[dict[str, Any]]) -> tuple[str, ...]:
    def mean(which: str, key: str, of: str = "few") -> str:
        return tables.mean_ci([result[of][which]["auroc"][key] for result in results])

    shares = np.array([_won_back(result) for result in results])
    return (
        "mean",
        "",
        mean("old", "first"),
        mean("old", "second"),
        mean("old", "difference"),
        mean("new", "first"),
        mean("new", "second"),
        mean("new", "difference"),
        mean("new", "second", "all"),
        *(f"{share:.0%}" for share in shares.mean(0)),
    )


def _with_interval(row: dict[str, Any]) -> str:
    ends = row["difference_ci95"]
    between = "" if ends is None else f" ({ends[0]:+.3f} to {ends[1]:+.3f})"
    return f"{row['difference']:+.3f}{between}"
