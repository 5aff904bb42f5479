"""What people note beside an answer: a comment, a flag, boxes and arrows. Evidence, never a label.

`notes.jsonl` only grows; the latest note of a person on a scan counts. `notes.csv` is made from it, a row a person and
scan, for a spreadsheet or another program. No table of labels holds a note, and nothing learns from one.
"""

import csv
import datetime as dt
import io
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.contracts.errors import RunDirError
from pipeline.contracts.spreadsheet import defused
from pipeline.contracts.tables import write_text
from pipeline.runtime import run_files
from pipeline.runtime.object_storage import shared_logs

COLUMNS = ("image_id", "annotator", "round", "time", "flag", "comment", "shapes")


@dataclass(frozen=True)
class Shape:
    """Something drawn on a scan.

    Attributes:
        kind: `box`, `arrow` or `length`.
        x0: Where it begins, in pixels of the scan from its left edge; of an arrow the tail.
        y0: From its upper edge.
        x1: Where it ends.
        y1: Where it ends.
        length_mm: Of a length, where the spacing of the pixels is known.
    """

    kind: str
    x0: float
    y0: float
    x1: float
    y1: float
    length_mm: float | None = None


@dataclass(frozen=True)
class Note:
    """What one person noted on one scan."""

    comment: str = ""
    flag: bool = False
    shapes: tuple[Shape, ...] = ()


class ScanNotes:
    """The notes of a run; safe to be used by many threads of one process."""

    def __init__(self, folder: Path) -> None:
        self.path, self.table = folder / run_files.NOTES, folder / run_files.NOTES_TABLE
        self._lock = threading.Lock()
        self._rows: dict[tuple[str, str], dict[str, object]] = {}
        self._notes: dict[tuple[str, str], Note] = {}
        for number, line in enumerate(self.path.read_bytes().splitlines() if self.path.exists() else [], start=1):
            self._take(line, number)

    def of(self, image_id: str, annotator: str) -> Note | None:
        """The latest note of somebody on a scan."""
        return self._notes.get((image_id, annotator))

    def keep(self, image_id: str, annotator: str, round_index: int, note: Note) -> None:
        """Write a note, durably.

        Raises:
            OSError: when it could not be saved.
        """
        time = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        row = {"image_id": image_id, "annotator": annotator, "round": round_index, "time": time, **asdict(note)}
        with self._lock:
            shared_logs.append(self.path, json.dumps(row, ensure_ascii=False).encode() + b"\n")
            self._rows[image_id, annotator], self._notes[image_id, annotator] = row, note
            write_text(self.table, _as_csv([self._rows[key] for key in sorted(self._rows)]))

    def _take(self, line: bytes, number: int) -> None:
        try:
            row = json.loads(line)
            key = (row["image_id"], row["annotator"])
            shapes = tuple(Shape(**shape) for shape in row["shapes"])
            self._notes[key] = Note(row["comment"], row["flag"], shapes)
            self._rows[key] = row
        except (ValueError, KeyError, TypeError) as error:
            raise RunDirError(
                f"line {number} is no note ({error})", where=self.path, fix="bring the file back from a backup"
            ) from error


def _as_csv(rows: Sequence[Mapping[str, object]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        cells = {**row, "shapes": json.dumps(row["shapes"]) if row["shapes"] else ""}
        writer.writerow([defused(str(cells[name])) for name in COLUMNS])
    return stream.getvalue()
