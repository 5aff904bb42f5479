"""All that the page may know of each embedded scan: its place on the map and its columns; what is sealed is taken out.

Legend: N embedded scans.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import LABELS, POOL_LABELS, PREDICTIONS, SPLIT_TABLE
from pipeline.explore import map_file, pool_columns, question_columns
from pipeline.explore.columns import Column, flag, is_among, number
from pipeline.labels.classes import findings_of
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from pipeline.runtime.finding_folders import parts_in
from pipeline.selection.marks import Marks
from pipeline.vectors.matrix import Vectors

SIDE = 65_535  # the map's coordinates are whole numbers from 0 to this
EDGE_SHARE = 0.001  # of the scans on each side may be squeezed to the edge, so that no outlier flattens the rest
WISHED, TAG = "next_queue", "tag."


@dataclass(frozen=True)
class ScanTable:
    """The pool as the page knows it.

    Attributes:
        ids_N: image_id of each scan.
        xy_N2: Place on the map, uint16, y upwards.
        columns: By key, in the order in which the page lists them.
        picture_N: Scans of one number are copies of each other.
        sealed_N: Whether a scan is of the holdout.
        missing: What the run has not come to yet, in words.
    """

    ids_N: pa.Array
    xy_N2: np.ndarray
    columns: dict[str, Column]
    picture_N: np.ndarray
    sealed_N: np.ndarray
    missing: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids_N)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Place of each scan."""
        return {image_id: row for row, image_id in enumerate(self.ids_N.to_pylist())}

    @cached_property
    def turn_N(self) -> np.ndarray:
        """A number for each scan that orders them by chance, the same each time: the first ones stand for all."""
        turn_N = np.empty(len(self), np.int64)
        turn_N[np.random.default_rng(0).permutation(len(self))] = np.arange(len(self))
        return turn_N

    def ids(self, rows: np.ndarray) -> list[str]:
        """image_id of some rows."""
        ids: list[str] = self.ids_N.take(pa.array(rows)).to_pylist()
        return ids

    def with_marks(self, marks: Marks) -> "ScanTable":
        """The table with a column for each tag, and for the wishes."""
        columns = {key: column for key, column in self.columns.items() if column.group != "marks"}
        for tag, scans in sorted(marks.tags.items(), key=lambda item: item[0].casefold()):
            columns[f"{TAG}{tag}"] = flag(f"tag: {tag}", "marks", is_among(self.ids_N, list(scans)))
        if marks.wishes:
            meaning = "somebody wished to see it in the next queue, or in one before"
            columns[WISHED] = flag("wished for", "marks", is_among(self.ids_N, list(marks.wishes)), meaning)
        marked = replace(self, columns=columns)
        for name in ("row_of", "turn_N"):  # the same scans in the same order: of a million they take half a second
            marked.__dict__[name] = getattr(self, name)
        return marked


def of_run(folder: Path, config: Config) -> ScanTable:
    """All that a run knows by now, but its marks.

    Raises:
        RunDirError: when nothing is embedded yet.
    """
    pool_map = map_file.of_run(folder)
    ids_N = Vectors.open(folder).ids.combine_chunks()
    columns = pool_columns.of_pool(folder, ids_N)
    columns["outlier"] = number("outlier score", "scan", pool_map.outlier_N, map_file.MEANING[pool_map.outlier_by])
    columns |= _answers_to_questions(folder, config, ids_N)
    columns |= pool_columns.of_audit(folder, ids_N)
    sealed_N = _sealed(columns, len(ids_N))
    hidden_N = sealed_N | is_among(ids_N, question_columns.open_queue(folder))
    shown = {key: c.without(hidden_N) if c.about_labels else c for key, c in columns.items()}
    return ScanTable(
        ids_N=ids_N,
        xy_N2=_scaled(pool_map.xy_N2),
        columns={key: column for key, column in shown.items() if column.known_N.any()},
        picture_N=pool_columns.pictures(folder, ids_N),
        sealed_N=sealed_N,
        missing=_missing(folder),
    )


def stamp(folder: Path) -> tuple[object, ...]:
    """Changes whenever a file changes that the table is made of; cheap to ask."""
    names = (run_files.EMBEDDED, SPLIT_TABLE.file, LABELS.file, PREDICTIONS.file, run_files.AUDIT, run_files.METRICS)
    paths = [run_files.path(folder, name) for name in names]
    facts = [path.stat() if path.exists() else None for path in paths]
    drawn = run_files.drawn_rounds(folder)
    return (*((fact.st_mtime_ns, fact.st_size) if fact else None for fact in facts), tuple(drawn))


def _answers_to_questions(folder: Path, config: Config, ids_N: pa.Array) -> dict[str, Column]:
    """What experts and the model say, of one question or of each finding."""
    parts = parts_in(folder) if config.pool.asks_several else {}
    columns: dict[str, Column] = {}
    if parts:
        for finding, part in parts.items():
            columns |= question_columns.of_question(part, ids_N, _classes(part), finding)
    elif not config.pool.asks_several:
        columns |= question_columns.of_question(folder, ids_N, _classes(folder))
    return columns | question_columns.asked(folder, ids_N)


def _classes(folder: Path) -> tuple[str, ...]:
    """The classes of a question; empty where neither the options nor the pool name them."""
    if not (folder / POOL_LABELS.file).exists():
        return ()
    try:
        return findings_of(StageContext(run_dir.config_of(folder), folder, SerialEngine()))
    except InputError:
        return ()


def _sealed(columns: dict[str, Column], num: int) -> np.ndarray:
    split = columns.get("split")
    if split is None or split.names is None or "holdout" not in split.names:
        return np.zeros(num, bool)
    return np.asarray(split.value_N == split.names.index("holdout"))


def _scaled(xy_N2: np.ndarray) -> np.ndarray:
    """Coordinates as whole numbers, both axes on one scale."""
    if not len(xy_N2):
        return np.zeros((0, 2), np.uint16)
    low_2, high_2 = np.quantile(xy_N2, [EDGE_SHARE, 1.0 - EDGE_SHARE], axis=0)
    span = float(max((high_2 - low_2).max(), 1e-12))
    middle_2 = (low_2 + high_2) / 2
    share_N2 = 0.5 + 0.94 * (xy_N2 - middle_2) / span
    return np.asarray(np.clip(np.rint(share_N2 * SIDE), 0, SIDE), np.uint16)


def _missing(folder: Path) -> tuple[str, ...]:
    """What the run has not come to yet."""
    steps = (
        (SPLIT_TABLE.file, "it has no split yet: training pool and holdout are not told apart"),
        (run_files.AUDIT, "it has not been audited yet"),
        (LABELS.file, "it has no labels yet"),
        (PREDICTIONS.file, "it has no predictions yet"),
    )
    return tuple(text for name, text in steps if not run_files.path(folder, name).exists())
