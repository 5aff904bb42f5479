"""What adapting the network gives on Kermany's official test, against the frozen head on the very same labels.

Every run's numbers are kept in `results/adapt.json`; a run that is in there is not repeated.
"""

import json
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.commands import request, run
from tests.bench import pools, tables

LABELS: dict[str, dict[str, Any]] = {
    "100 in 5 rounds": {"queue.budget": 20, "rounds.num": 5},
    "234 in 6 rounds": {"queue.budget": 39, "rounds.num": 6},
    "all, at once": {"queue.budget": 5232, "rounds.num": 1, "network.epochs": 4, "calibrate.num_folds": 2},
}
WAYS = {"frozen head": "head", "last stages (partial)": "partial"}
SHOWN = ("auroc", "accuracy", "balanced_accuracy", "sensitivity", "specificity")
FILE = tables.RESULTS / "adapt.json"


def main(data: Path, given: Namespace) -> None:
    """Run what is missing, seed after seed, and write the table after each."""
    wanted = [given.pool] if given.pool else list(LABELS)
    for seed in range(given.seeds):
        for labels in wanted:
            for way in WAYS:
                if f"{labels}/{way}/{seed}" not in _known():
                    _keep(f"{labels}/{way}/{seed}", _run(data, labels, way, seed))
    _write()


def _run(data: Path, labels: str, way: str, seed: int) -> dict[str, Any]:
    overrides = {
        "pool.uri": pools.uri(data, "kermany"),
        "oracle": True,
        "seed": seed,
        "rounds.reference": False,
        "train.adapt": WAYS[way],
        **pools.OVERRIDES["kermany"],
        **LABELS[labels],
    }
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = run.execute(request.Request(overrides=overrides, out=Path(folder) / "run", quiet=True))
    last = result["metrics"][-1]
    row = {name: last["holdout"][name] for name in SHOWN}
    row |= {
        "num_expert": last["num_expert"],
        "learner": last["learner"],
        "version": __version__,
        "out_of_fold_auroc": last["calibration_auroc"],
    }
    row["minutes"] = (time.perf_counter() - start) / 60.0
    sys.stderr.write(f"{labels} {way} seed {seed}: {json.dumps(row)}\n")
    return row


def _known() -> dict[str, Any]:
    return json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}


def _keep(key: str, row: dict[str, Any]) -> None:
    FILE.write_text(json.dumps(_known() | {key: row}, indent=1) + "\n", "utf-8")
    _write()


def _write() -> None:
    found = _known()
    table, notes = [], []
    for labels in LABELS:
        of_way = {
            way: {k.rsplit("/", 1)[1]: v for k, v in found.items() if k.startswith(f"{labels}/{way}/")} for way in WAYS
        }
        for way, rows in of_way.items():
            if rows:
                cells = [tables.mean_ci([row[name] for row in rows.values()]) for name in SHOWN]
                minutes = sorted(row["minutes"] for row in rows.values())[len(rows) // 2]
                versions = ", ".join(sorted({row["version"] for row in rows.values()}))
                num_networks = sum("network" in row["learner"] for row in rows.values())
                used = f"{num_networks} of {len(rows)}" if WAYS[way] != "head" else "–"
                table.append((labels, versions, way, len(rows), used, *cells, f"{minutes:.1f}"))
        frozen, adapted = (of_way[way] for way in WAYS)
        both = sorted(set(frozen) & set(adapted))
        if both:
            gains = [tables.mean_ci([adapted[s][n] - frozen[s][n] for s in both]) for n in ("auroc", "accuracy")]
            notes.append(f"{labels}: AUROC {gains[0]}, accuracy {gains[1]}")
    tables.write(
        "adapt",
        "Adapting the network: Kermany's official test (624 scans)",
        "python -m tests.bench adapt --seeds 5",
        (
            "expert labels",
            "defaults of",
            "what learns",
            "seeds",
            "network in force",
            *(name.replace("_", " ") for name in SHOWN),
            "minutes (median)",
        ),
        table,
        "Mean ± 95 % t-interval over seeds. Gain of the last stages over the frozen head on the same labels, paired by "
        f"seed: {'; '.join(notes)}. Default options of the version named but for the budget and `train.adapt`; the "
        "test is read once a round. *Network in force*: of those runs, how many ended with the network; its gate, or a "
        "roll-back, kept the head in the others. Rows of 0.1.0 are of when one of the two answered; today the mean "
        "does. Minutes: the whole run on two cores that other work shared, "
        "embeddings and activations in the cache except for the first run. Published, all labels, end to end: "
        "ResNet-18 at 224 px .980 / .911 (MedMNIST+).",
    )
