"""`growth.json`: which pools have joined a run, after which round, and what the old rounds have to do with them.

The run's own pool is part 0; the pools that joined are the parts 1, 2, …. The scans of each are read once, into
`grown/NN`, and are not looked at again: what its folder gains later joins by growing once more.
"""

import datetime as dt
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.contracts.tables import write_parquet, write_text
from pipeline.runtime import run_files

OPTION = "--grow"
OWN = 0  # the part that the run began with


@dataclass(frozen=True)
class Part:
    """A pool that joined a run.

    Attributes:
        part: Its number, from 1.
        pool: Its address.
        after_round: The last round that was finished when it joined; 0: none. Rounds up to it are never learned again.
        first_queue: The first round whose queue is drawn from the grown pool.
        added: When it was asked for, UTC.
        joined: Whether its scans were read, so that they are the run's.
        num_scans: Its scans.
        num_new: Of them those whose content the run did not have.
        num_already_there: Those that the run had, by path and content, or by content alone.
        num_unusable: Those that are quarantined.
        num_patients: Patients that the pool names.
        num_patients_shared: Of them those that the run has, by their id.
    """

    part: int
    pool: str
    after_round: int
    first_queue: int
    added: str
    joined: bool = False
    num_scans: int = 0
    num_new: int = 0
    num_already_there: int = 0
    num_unusable: int = 0
    num_patients: int = 0
    num_patients_shared: int = 0


def asked(folder: Path) -> list[Part]:
    """All parts in order, also one that is still being read; none of a run that never grew."""
    place = run_files.path(folder, run_files.GROWTH)
    if not place.exists():
        return []
    return [Part(**row) for row in json.loads(place.read_text("utf-8"))["parts"]]


def parts(folder: Path) -> list[Part]:
    """The parts that have joined, in order."""
    return [part for part in asked(folder) if part.joined]


def last(folder: Path) -> Part | None:
    """The part that joined last."""
    return next(iter(reversed(parts(folder))), None)


def newest(folder: Path) -> list[Part]:
    """The parts that joined after the same round as the last one: no model tells them apart."""
    joined = parts(folder)
    return [part for part in joined if part.after_round == joined[-1].after_round]


def begin(folder: Path, pool: str) -> Part:
    """Note that a pool is to join."""
    before = asked(folder)
    after = run_files.last_round(folder) or 0
    first_queue = max(run_files.latest_round(folder) or 0, after) + 1
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    part = Part(len(before) + 1, pool, after, first_queue, now)
    _write(folder, [*before, part])
    return part


def join(folder: Path, part: Part) -> None:
    """Make a part that was read one of the run's."""
    _write(folder, [*(other for other in asked(folder) if other.part != part.part), replace(part, joined=True)])


def forget(folder: Path, part: Part) -> None:
    """Take back what `begin` noted."""
    _write(folder, [other for other in asked(folder) if other.part != part.part])


def _write(folder: Path, rows: list[Part]) -> None:
    place = folder / run_files.GROWTH
    if rows:
        write_text(place, json.dumps({"parts": [asdict(row) for row in rows]}, indent=1, ensure_ascii=False) + "\n")
    else:
        place.unlink(missing_ok=True)


# --- its rounds -------------------------------------------------------------------------------------------------------


def frozen_rounds(folder: Path) -> int:
    """Rounds up to this one were finished when the run last grew: they stay as they are."""
    part = last(folder)
    return 0 if part is None else part.after_round


def folder_before(folder: Path, round_index: int) -> Path:
    """Where the round before has left what it says of the pool as it is now.

    Where the pool has grown since, that is the folder of the part: it holds what that round's model says of the grown
    pool, and neither its pseudo-labels nor its out-of-fold probabilities, which are of another pool.
    """
    after = [part for part in parts(folder) if part.after_round == round_index - 1 and part.after_round]
    return before_folder(folder, after[-1].part) if after else run_files.round_folder(folder, round_index - 1)


def part_folder(folder: Path, number: int) -> Path:
    """`grown/NN` of the run: what was read of a part."""
    return run_files.grown_folder(run_files.home(folder), number)


def before_folder(folder: Path, number: int) -> Path:
    """`grown/NN` of a run, or of one finding of it: what its model before the part joined says of the grown pool."""
    return run_files.grown_folder(folder, number)


def first_certifying_round(folder: Path) -> int:
    """The first queue whose proposals come from a round that learned from the pool as it is now.

    Checks before it are of proposals about another pool, and are not added to those after it.
    """
    part = last(folder)
    return 1 if part is None else part.after_round + 2


# --- its scans --------------------------------------------------------------------------------------------------------


def write_scans(folder: Path, image_id: pa.ChunkedArray, part_N: np.ndarray) -> None:
    """Write `grown.parquet`: the part of each scan that joined."""
    table = pa.table({"image_id": image_id, "part": pa.array(part_N, pa.int16())})
    write_parquet(folder / run_files.GROWN_SCANS, table)


def part_of(folder: Path, image_ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Part of each scan, int64; 0 of the run's own."""
    place = run_files.path(folder, run_files.GROWN_SCANS)
    if not place.exists():
        return np.zeros(len(image_ids), np.int64)
    table = pq.read_table(place, partitioning=None)
    row = pc.index_in(image_ids, value_set=table["image_id"].combine_chunks())
    return np.asarray(pc.fill_null(table["part"].take(row), OWN)).astype(np.int64)
