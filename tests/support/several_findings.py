"""A small pool whose scans show an effusion, a mass, both or neither, and runs that ask for both."""

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.contracts.tables import MANIFEST
from tests.support.tiny import FAST, picture

FINDINGS = ("effusion", "mass")
SEVERAL = [*FAST, "--set", "pool.findings_are=independent", "--set", "pool.findings=[effusion, mass]"]
READ = [*SEVERAL, "--rounds", 2, "--budget", 16, "--set", "queue.holdout_budget=8"]  # by people
NUM = 72


def shows(i):
    """What scan `i` shows: every combination, a patient alike."""
    return {"effusion": i // 2 % 2, "mass": i // 4 % 2}


def scan(i):
    """Grey blocks; an effusion whitens the lower half, a mass the upper left quarter."""
    grey = np.asarray(picture(i), np.int64) // 3
    grey[32:] += 130 * shows(i)["effusion"]
    grey[:32, :32] += 130 * shows(i)["mass"]
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8))


def number_of(run):
    """Which scan an image_id of a run is; ids depend on the pool's path, what a scan shows does not."""
    rows = MANIFEST.read(run).select(["image_id", "path"]).to_pylist()
    return {row["image_id"]: int(Path(row["path"]).stem[1:]) for row in rows}


def reply_of(number):
    """What somebody answers who knows what the scan shows."""
    return "|".join(finding for finding, value in shows(number).items() if value) or "no finding"


def reading_of(number):
    """What somebody writes who cannot tell everything: of some scans not the mass, of others nothing."""
    if number % 8 == 0:
        return "?mass"
    if number % 9 == 0:
        return "cannot tell"
    return " ; ".join(finding for finding, value in shows(number).items() if value) or "No finding"


def rows_of(folder):
    """The rows of a run's metrics."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def answered(folder, run, truth):
    """The queue's CSV of the latest round, filled in by somebody who knows."""
    path = max((run / "rounds").glob("*/queue.csv"))
    with path.open(newline="", encoding="utf-8-sig") as stream:
        table = list(csv.DictReader(stream))
    for row in table:
        row["label"] = truth(row["image_id"])
    out = folder / f"filled-{path.parent.name}.csv"
    with out.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return out, {row["image_id"] for row in table}
