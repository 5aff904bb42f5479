"""A run as the page looks at it: what is known of each scan by now, and what people mark. Safe for many threads."""

import logging
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.answers import annotator_name
from pipeline.contracts.config import Config
from pipeline.contracts.errors import CxrSslError, InputError
from pipeline.contracts.tables import MANIFEST, SPLIT_TABLE
from pipeline.explore import exports, map_points, pictures, scan_filter, scan_table
from pipeline.explore.columns import Column
from pipeline.explore.scan_filter import Choice, Order
from pipeline.explore.scan_table import ScanTable
from pipeline.labels import label_table, verdicts
from pipeline.learn.releases import frozen_release
from pipeline.runtime import run_files
from pipeline.selection.marks import MAX_SCANS, Marks
from pipeline.vectors import principal_components
from pipeline.vectors.matrix import unit_rows

log = logging.getLogger(__name__)
Box = tuple[int, int, int, int]  # left, bottom, right, top on the map
MAX_COPIES = 24  # of one scan that are shown side by side
NUM_ALIKE = 8  # scans most like one that are shown below it
MAX_COMPARED = 200_000  # scans; in a larger pool the likest take too long for a click
MAX_FOUND = 60  # scans that begin with the same letters
_WRONG_SIDE = {"holdout": "are of the sealed holdout"}


@dataclass(frozen=True)
class Wished:
    """What came of a wish for the next queue.

    Attributes:
        num: Scans that are wished for now.
        left_out: Why others are not, with counts.
    """

    num: int
    left_out: dict[str, int]


class Viewer:
    """One run.

    Args:
        folder: Run directory.
        config: Its configuration.

    Raises:
        RunDirError: when nothing is embedded yet.
    """

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder, self.config = folder, config
        self._lock = threading.RLock()
        self._marks = Marks.open(folder)
        self._stamp = scan_table.stamp(folder)
        self._table: ScanTable = self._read()

    def table(self) -> ScanTable:
        """What is known of each scan now: read again when the run has gone on, or somebody has marked."""
        with self._lock:
            if scan_table.stamp(self.folder) != self._stamp:
                self._read_again()
            elif self._marks.refresh():
                self._table = self._table.with_marks(self._marks)
            return self._table

    def about(self) -> dict[str, Any]:
        """Columns, tags and views: all that the page needs to offer its filters."""
        table = self.table()
        return {
            "title": self.folder.name,
            "num": len(table),
            "columns": [_described(key, column) for key, column in table.columns.items()],
            "missing": list(table.missing),
            "max_marked": MAX_SCANS,
            "has_report": (self.folder / run_files.REPORT).exists(),
            "views": [
                {"name": view.name, "view": view.view, "who": view.who, "time": view.time}
                for view in sorted(self._marks.views.values(), key=lambda view: view.name.casefold())
            ],
        }

    def points(self, choice: Choice, color: str | None, box: Box | None = None) -> bytes:
        """The chosen scans on the map, see `map_points`; `box` is the part of it that is looked at."""
        table = self.table()
        column = scan_filter.column_of(table, color) if color else None
        rows = scan_filter.rows_of(table, choice)
        return map_points.encoded(table, scan_filter.within(table, rows, box) if box else rows, column)

    def gallery(self, choice: Choice, order: Order, offset: int, num: int, show: Sequence[str] = ()) -> dict[str, Any]:
        """A page of the chosen scans in an order, each with what the columns `show` say of it."""
        table = self.table()
        rows = scan_filter.rows_of(table, choice)
        first = scan_filter.sort(table, rows, order, offset + num)
        cards = _cards(table, first[offset : offset + num], show)
        return {"num": len(rows), "num_sealed": int(table.sealed_N[rows].sum()), "scans": cards}

    def scan(self, image_id: str) -> dict[str, Any] | None:
        """All that may be said of one scan, its copies, the scans most like it; None of one the run does not have."""
        table = self.table()
        row = table.row_of.get(image_id)
        if row is None:
            return None
        alike = np.flatnonzero(table.picture_N == table.picture_N[row])
        copies = alike[alike != row][:MAX_COPIES]
        wish = self._marks.wishes.get(image_id)
        return {
            **_cards(table, np.array([row]))[0],
            "said": [
                {"title": column.title, "value": text, "meaning": column.meaning}
                for column in table.columns.values()
                if (text := column.text(row)) is not None and not (column.names == ("no", "yes") and text == "no")
            ],
            "copies": _cards(table, copies),
            "alike": _cards(table, self._most_alike(table, row)),
            "tags": sorted(tag for tag, scans in self._marks.tags.items() if image_id in scans),
            "wished_by": wish.who if wish else None,
            "sealed": bool(table.sealed_N[row]),
        }

    def beginning(self, letters: str) -> list[str]:
        """Scans whose image_id begins so, `MAX_FOUND` at most."""
        table = self.table()
        return table.ids(np.flatnonzero(pc.starts_with(table.ids_N, letters.lower()))[:MAX_FOUND])

    def one_of(self, row: int) -> str | None:
        """image_id of a point's row; None of a row that is not there."""
        table = self.table()
        return table.ids(np.array([row]))[0] if 0 <= row < len(table) else None

    def tag(self, who: str, tag: str, choice: Choice, *, give: bool) -> dict[str, Any]:
        """Give the chosen scans a tag, or take it from them."""
        name = annotator_name(who, where="name")
        with self._lock:
            ids = self._chosen(choice)
            kept = self._marks.tag(name, tag, ids, give=give)
            self._table = self._table.with_marks(self._marks)
        return {"tag": kept, "num": len(ids)}

    def wish(self, who: str, choice: Choice, *, give: bool) -> Wished:
        """Wish that the next queue holds the chosen scans, as far as they may be asked; or take the wish back.

        Raises:
            InputError: when none of them may be asked.
        """
        name = annotator_name(who, where="name")
        with self._lock:
            ids = self._chosen(choice)
            askable, left_out = self._askable(ids) if give else (ids, {})
            if not askable:
                why = "; ".join(f"{num} {reason}" for reason, num in left_out.items())
                raise InputError(
                    f"none of these scans can be asked for: {why}",
                    fix="choose scans without a label, such as those beside them on the map",
                )
            self._marks.wish(name, askable, give=give)
            self._table = self._table.with_marks(self._marks)
        return Wished(len(askable), left_out)

    def save_view(self, who: str, name: str, view: dict[str, Any]) -> dict[str, Any]:
        """Keep a view under a name."""
        with self._lock:
            self._marks.save_view(annotator_name(who, where="name"), name, view)
        return self.about()

    def export(self, choice: Choice, order: Order, *, manifest: bool) -> str:
        """The chosen scans as a table, see `exports`."""
        table = self.table()
        rows = scan_filter.sort(table, scan_filter.rows_of(table, choice), order)
        if manifest:
            return exports.as_manifest(self.folder, table, rows, self.config.pool)
        return exports.as_csv(table, rows)

    def picture(self, image_id: str, *, large: bool) -> bytes | None:
        """A scan as a JPEG; None of one that the run does not have.

        Raises:
            DecodeError: when there is no picture in the scan's file.
            OSError: when it cannot be read just now.
        """
        row = self.table().row_of.get(image_id)
        if row is None:
            return None
        uri, max_pixels = self._uri_N[row].as_py(), self.config.pool.max_pixels
        return pictures.jpeg(uri, pictures.LARGE_PX, max_pixels) if large else pictures.thumbnail(uri, max_pixels)

    def _most_alike(self, table: ScanTable, row: int) -> np.ndarray:
        """Rows of the scans most like one to the network, the likest first, no copies of it; none of a huge pool."""
        if len(table) > MAX_COMPARED or not run_files.path(self.folder, run_files.SIMILARITY).exists():
            return np.zeros(0, np.int64)
        similar_NP = principal_components.load_similarity(self.folder)
        if len(similar_NP) != len(table):
            return np.zeros(0, np.int64)  # the run is embedding further scans
        return most_alike(similar_NP, row, table.picture_N != table.picture_N[row], NUM_ALIKE)

    def _read_again(self) -> None:
        """Take in what the run has come to; between two of its files it may fit together at the next look only."""
        try:
            self._table = self._read()
        except (CxrSslError, OSError, ValueError) as error:
            log.warning("the run is changing; the page shows what it knew before (%s)", error)

    def _read(self) -> ScanTable:
        self._stamp = scan_table.stamp(self.folder)
        table = scan_table.of_run(self.folder, self.config)
        self._marks.refresh()
        manifest = run_files.read(self.folder, MANIFEST, ["image_id", "uri"])
        place = pc.index_in(table.ids_N, value_set=manifest["image_id"].combine_chunks())
        self._uri_N: pa.Array = manifest["uri"].take(place).combine_chunks()
        return table.with_marks(self._marks)

    def _chosen(self, choice: Choice) -> list[str]:
        """Ids of the scans that are meant.

        Raises:
            InputError: when there are none, or more than may be marked at once.
        """
        table = self.table()
        rows = scan_filter.rows_of(table, choice)
        if not 0 < len(rows) <= MAX_SCANS:
            fix = f"choose between 1 and {MAX_SCANS:,} scans: narrow the filters, or draw a lasso"
            raise InputError("cannot be marked at once", value=f"{len(rows):,} scans", fix=fix)
        return table.ids(rows)

    def _askable(self, ids: Sequence[str]) -> tuple[list[str], dict[str, int]]:
        """Those of some scans that a queue may ask for, and why not the others, with counts."""
        split = self._table.columns.get("split")
        if split is None or split.names is None or not run_files.path(self.folder, SPLIT_TABLE.file).exists():
            raise InputError("the run has no split yet, so no queue can be asked for", fix="let the run go on first")
        labels = label_table.read(self.folder)
        obstacles = (
            ("have a label", verdicts.read_whole(labels)),
            ("are in a queue", set(run_files.rounds_asking(self.folder))),
            ("belong to a frozen release, which chance alone may check", frozen_release.frozen_anywhere(self.folder)),
        )
        askable: list[str] = []
        left_out: Counter[str] = Counter()
        for image_id in ids:
            side = split.text(self._table.row_of[image_id])
            reasons = [_WRONG_SIDE.get(side or "", "are on neither side")] if side != "train" else []
            reasons += [reason for reason, scans in obstacles if image_id in scans]
            if reasons:
                left_out[reasons[0]] += 1
            else:
                askable.append(image_id)
        return askable, dict(left_out)


def most_alike(similar_NP: np.ndarray, row: int, may_N: np.ndarray, num: int) -> np.ndarray:
    """Up to `num` rows of the highest cosine to one of them, the highest first.

    Args:
        similar_NP: Components of N scans.
        row: Of the scan.
        may_N: Whether each row may be one.
        num: How many.
    """
    unit_NP = unit_rows(np.asarray(similar_NP, np.float32))
    cosine_N = np.where(may_N, unit_NP @ unit_NP[row], -np.inf)
    best = np.argsort(-cosine_N, kind="stable")[: min(num, int(may_N.sum()))]
    return np.asarray(best, np.int64)


def _cards(table: ScanTable, rows: np.ndarray, show: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Scans as the gallery shows them."""
    shown = [column for key in show if (column := table.columns.get(key)) is not None]
    return [
        {
            "image_id": image_id,
            "x": int(x),
            "y": int(y),
            "sealed": bool(table.sealed_N[row]),
            "picture": int(table.picture_N[row]),
            "facts": [f"{column.title} {text}" for column in shown if (text := column.text(row)) is not None],
        }
        for image_id, row, (x, y) in zip(table.ids(rows), rows.tolist(), table.xy_N2[rows], strict=True)
    ]


def _described(key: str, column: Column) -> dict[str, Any]:
    """A column as the page offers it, with how many scans have each value."""
    described: dict[str, Any] = {
        "key": key,
        "title": column.title,
        "group": column.group,
        "meaning": column.meaning,
        "num_unknown": int((~column.known_N).sum()),
        "unknown": column.unknown,
    }
    if column.names is None:
        low, high = map_points.limits(column)
        known = column.value_N[column.known_N]
        return described | {"low": float(known.min()), "high": float(known.max()), "from": low, "to": high}
    counts = np.bincount(column.value_N[column.known_N], minlength=len(column.names))
    return described | {"values": [{"name": n, "num": int(c)} for n, c in zip(column.names, counts, strict=True)]}
