"""Where a file of a run lies, and what can be read from its queues."""

import hashlib
from collections import Counter
from pathlib import Path

from pipeline.contracts.tables import QUEUE


def run_code(folder: Path) -> str | None:
    """What names a run in the files it hands out: a hash of its first queue, which never changes.

    It begins with `r`, so that no spreadsheet takes it for a number (12 hex digits look like one in 1 run of 140).
    """
    first = folder / "rounds" / "01"
    if not (first / "queue.parquet").exists():
        return None
    ids = QUEUE.read(first).sort_by("rank")["image_id"].to_pylist()
    return "r" + hashlib.sha256("\n".join(ids).encode()).hexdigest()[:11]


def asked(folder: Path) -> dict[str, int]:
    """Every scan a queue of this run holds, with the first round that asked for it."""
    return {image_id: rounds[0] for image_id, rounds in rounds_asking(folder).items()}


def rounds_asking(folder: Path) -> dict[str, list[int]]:
    """Every scan a queue of this run holds, with the rounds that asked for it, in order."""
    known: dict[str, list[int]] = {}
    for image_id, round_index, _ in asks_of(folder):
        known.setdefault(image_id, []).append(round_index)
    return known


def asks_of(folder: Path, before_round: int | None = None) -> list[tuple[str, int, str]]:
    """Scan, round and kind of every row of the queues so far, or of those before a round."""
    rows = []
    for path in sorted((folder / "rounds").glob("*/queue.parquet")):
        round_index = int(path.parent.name)
        if before_round is None or round_index < before_round:
            queue = QUEUE.read(path.parent).sort_by("rank")
            found = zip(queue["image_id"].to_pylist(), queue["kind"].to_pylist(), strict=True)
            rows += [(image_id, round_index, kind) for image_id, kind in found]
    return rows


def kinds(folder: Path, before_round: int) -> dict[str, Counter[str]]:
    """Why each scan was asked for in the queues before a round, and how often."""
    found: dict[str, Counter[str]] = {}
    for image_id, _, kind in asks_of(folder, before_round):
        found.setdefault(image_id, Counter())[kind] += 1
    return found


def latest_round(folder: Path) -> int | None:
    """The round whose queue was drawn last; None before the first."""
    found = [int(path.parent.name) for path in (folder / "rounds").glob("*/queue.parquet")]
    return max(found, default=None)


def digest(*parts: object) -> str:
    """A hash that orders things by chance, the same on every machine."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()


PREANNOTATED = "preannotated.json"  # scans handed out with the model's answer

OOF = "oof.parquet"


def last_round(folder: Path) -> int | None:
    """Number of the last finished round; None before the first."""
    found = sorted(int(path.parent.name) for path in folder.glob("rounds/*/metrics.json"))
    return found[-1] if found else None


COMPARISON, EXTERNAL = "comparison.json", "external"
