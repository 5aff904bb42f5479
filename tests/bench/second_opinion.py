"""Does a second opinion know where pseudo-labels are wrong? Precision where the nearest expert labels agree or not.

Every history is the product's own: rounds of an oracle run, whose accepted pseudo-labels the pool's truth judges.
"""

import json
import shutil
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import stages
from pipeline.contracts import config_file
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.tables import write_text
from pipeline.labels.classes import findings_of
from pipeline.rounds import loop, pseudo_checks
from pipeline.rounds.question import expert_labels
from pipeline.rounds.run_scans import Dataset
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from pipeline.stages import READ
from tests.bench import pools, tables

NEIGHBORS = (1, 5, 10, 20)
PROMISES = (0.8, 0.97)  # of `pseudo.precision`: at the default, the second, hard pools accept nothing at 100 labels
ROUNDS = (3, 5)  # of 20 labels
OPTIONS = {
    "oracle": True,
    "queue.budget": 20,
    "rounds.num": max(ROUNDS),
    "rounds.reference": False,
    "release.freeze_round": 0,  # all labels are chosen to learn from, none to check
    "evaluate.num_bootstrap": 0,
}
POOLS = ("phantom", "covid3", "kermany")


def main(data: Path, given: Namespace) -> None:
    """Write `results/second-opinion.md`; it goes on with the histories that are in the cache folder."""
    folder = cache_folder() / "bench" / "second-opinion"
    wanted = (given.pool,) if given.pool else POOLS
    histories = {
        (name, promise): [_history(data, folder, name, promise, seed) for seed in range(given.seeds)]
        for name in wanted
        for promise in PROMISES
    }
    rows = [
        [name, promise, 20 * round_index, k, *_cells([of_seed[f"{round_index}/{k}"] for of_seed in of_pool])]
        for (name, promise), of_pool in histories.items()
        for round_index in ROUNDS
        for k in NEIGHBORS
    ]
    header = ("pool", "promise", "labels", "neighbours", "accepted", "agree", "right, all", "right where it agrees")
    header += ("right where it does not", "difference", "wrong ones it finds")
    command = f"python -m tests.bench second_opinion --seeds {given.seeds}"
    tables.write("second-opinion", "Accepted pseudo-labels and a second opinion", command, header, rows, NOTES)


def _history(data: Path, folder: Path, name: str, promise: float, seed: int) -> dict[str, Any]:
    """`pseudo_checks.opinions` of one run, by round and number of neighbours."""
    kept = folder / f"{name}-{promise}-{seed}.json"
    if kept.exists():
        return dict(json.loads(kept.read_text("utf-8")))
    read = _read_pool(data, folder, name)
    place = folder / f"{name}-{promise}-{seed}"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(read, place)
    own = {"pseudo.precision": promise, "seed": seed}
    config = config_file.load(None, _options(data, name) | own)
    ctx = StageContext(config, place, SerialEngine())
    loop.run(ctx)
    dataset, findings = Dataset.open(ctx), findings_of(ctx)
    found: dict[str, Any] = {}
    for round_index in ROUNDS:
        material = dataset.material(expert_labels(ctx, findings, round_index), set())
        for k in NEIGHBORS:
            place_of_round = run_files.round_folder(place, round_index)
            found[f"{round_index}/{k}"] = pseudo_checks.opinions(
                place_of_round, material, findings, k, dataset.pool_labels
            )
    write_text(kept, json.dumps(found))
    shutil.rmtree(place)
    return found


def _options(data: Path, name: str) -> dict[str, Any]:
    return {**OPTIONS, **pools.OVERRIDES[name], "pool.uri": pools.uri(data, name)}


def _read_pool(data: Path, folder: Path, name: str) -> Path:
    """The folder of a pool whose scans were read, embedded and clustered, once for all seeds."""
    place = folder / name
    if not (place / run_files.FEATURES).exists():
        place.mkdir(parents=True, exist_ok=True)
        config = config_file.load(None, _options(data, name))
        run_dir.write_config(place, config)
        stages.run_stages(StageContext(config, place, SerialEngine()), READ)
    return place


def _cells(of_seeds: list[dict[str, Any]]) -> list[str]:
    """Means over seeds with 95 % intervals; differences are paired by seed, where both sides have a scan."""
    accepted = [row["num_compared"] for row in of_seeds]
    some = [row for row in of_seeds if row["num_compared"]]
    if not some:
        return ["0", *["–"] * 6]
    agreeing = np.array([row["num_agreeing"] for row in some], float)
    opposed = np.array([row["num_compared"] for row in some]) - agreeing
    right_if, right_not = (
        np.array([np.nan if row[key] is None else row[key] for row in some], float)
        for key in ("precision_agreeing", "precision_disagreeing")
    )
    wrong_if, wrong_not = np.nan_to_num(agreeing * (1 - right_if)), np.nan_to_num(opposed * (1 - right_not))
    every = 1.0 - (wrong_if + wrong_not) / (agreeing + opposed)
    is_wrong = wrong_if + wrong_not > 0
    caught = (wrong_not[is_wrong] / (wrong_if + wrong_not)[is_wrong]).tolist()
    return [
        f"{np.mean(accepted):.0f}",
        tables.mean_ci((agreeing / (agreeing + opposed)).tolist()),
        tables.mean_ci(every.tolist()),
        _mean(right_if),
        _mean(right_not),
        _mean(right_if - right_not),
        tables.mean_ci(caught) if caught else "–",
    ]


def _mean(values: np.ndarray) -> str:
    known = values[np.isfinite(values)].tolist()
    return f"{tables.mean_ci(known)} ({len(known)})" if known else "–"


NOTES = (
    "Means over seeds with 95 % t-intervals, in brackets the seeds that have such scans; `difference` is paired by "
    "seed. The second opinion is the majority of the nearest expert-labelled scans of other patients, by cosine of the "
    "features the heads see. `wrong ones it finds`: of the accepted pseudo-labels that are wrong, the share it does "
    "not agree with; `agree` is what `pseudo.second_opinion: require` would keep."
)
