"""Tables of people with several rows a scan (a row a box, a row a reader) made one row a scan, and its readings.

Rows of one reader are one reading: of independent findings what one row calls present is; of classes they must agree.
What most readers say is the label of the scan; an even split is no label. Without a column of readers all rows of a
scan are taken as one reading.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.contracts import finding_line
from pipeline.contracts.options.scans import PoolConfig
from pipeline.pool.sets.public_set import ABSENT, PRESENT, UNKNOWN
from pipeline.pool.sets.readings import majority_of, readings_of
from pipeline.pool.sets.set_tables import coded
from pipeline.tables.notes import Notes, counted

# T rows of the table, R readings, N scans, C findings

Refuse = Callable[[Sequence[int], str, str], NoReturn]  # rows, what is wrong with them, the way out
_SAME = ("patient_id", "official_split")  # on these all rows of a scan must agree
_SIGN = {1.0: PRESENT, 0.0: ABSENT}


@dataclass(frozen=True)
class OneRowAScan:
    """A table with one row a scan.

    Attributes:
        table: Its columns as before, without `reader`.
        statements: `image_path`, `reader`, `label`, `provenance` (null), a row a reading; None without readers.
    """

    table: pa.Table
    statements: pa.Table | None


def one_row_a_scan(table: pa.Table, config: PoolConfig, refuse: Refuse, notes: Notes) -> OneRowAScan:
    """Join the rows of each scan.

    Args:
        table: Known columns, as text (T rows); `label` is a class, or a line of independent findings.
        config: The pool's.
        refuse: Called with rows that contradict each other.
        notes: Takes the counts.
    """
    paths, scan_T = coded(table["image_path"])
    has_readers = "reader" in table.column_names
    if len(paths) == len(table) and not has_readers:
        return OneRowAScan(table, None)
    reader_T = table["reader"] if has_readers else pa.chunked_array([pa.nulls(len(table), pa.string())])
    plain = table.drop_columns(["reader"]) if has_readers else table
    columns = {name: _first_known(plain[name], scan_T, len(paths)) for name in plain.column_names}
    for name in set(_SAME) & columns.keys():
        _refuse_contradictions(plain[name], columns[name], scan_T, name, refuse)
    readings: Readings | None = None
    if "label" in columns:
        joined = _independent if config.findings_are == "independent" else _exclusive
        columns["label"], readings = joined(plain["label"], scan_T, reader_T, len(paths), config, refuse)
    _say(len(table), len(paths), has_readers, config, notes)
    _say_differences(plain, columns, scan_T, notes)
    out = pa.table({name: columns[name] for name in plain.column_names})
    if readings is None or not has_readers:
        return OneRowAScan(out, None)
    scan_R, reader_R, label_R = readings
    image_path = pa.array(paths, pa.string()).take(pa.array(scan_R))
    provenance_R = pa.nulls(len(scan_R), pa.string())
    statements = {"image_path": image_path, "reader": reader_R, "label": label_R, "provenance": provenance_R}
    return OneRowAScan(out, pa.table(statements).filter(pc.is_valid(reader_R)))


Readings = tuple[NDArray[np.int64], pa.Array, pa.Array]


def _independent(
    label: pa.ChunkedArray,
    scan_T: NDArray[np.int64],
    reader_T: pa.ChunkedArray,
    num_scans: int,
    config: PoolConfig,
    refuse: Refuse,
) -> tuple[pa.Array, Readings]:
    """The label of each scan, and every reading, of findings of which a scan may show several."""
    texts, code_T = coded(label)
    known = [text for text in texts if text is not None]
    names = (config.finding,) if config.finding is not None else tuple(finding_line.read(known[0])) if known else ()
    said_KC = np.full((len(texts), len(names)), UNKNOWN, np.int8)
    for row, text in zip(said_KC, texts, strict=True):
        if text is not None and config.finding is not None:
            row[0] = PRESENT if text == config.finding else ABSENT
        elif text is not None:
            row[:] = [_SIGN.get(value, UNKNOWN) for value in finding_line.read(text).values()]
    readings = readings_of(scan_T, reader_T, said_KC[code_T])
    majority_NC = majority_of(readings.scan_R, readings.present_RC, num_scans)
    return _texts(majority_NC, names, config), (
        readings.scan_R,
        readings.reader_R,
        _texts(readings.present_RC, names, config),
    )


def _texts(present_RC: NDArray[np.int8], names: Sequence[str], config: PoolConfig) -> pa.Array:
    rows, code_R = np.unique(present_RC, axis=0, return_inverse=True)
    texts: list[str | None] = []
    for row in rows:
        values = {name: float(v) for name, v in zip(names, row, strict=True) if v != UNKNOWN}
        line = finding_line.write(values, names)
        texts.append(
            None if not values else line if config.finding is None else finding_line.class_of(line, config.finding)
        )
    return pa.array(texts, pa.string()).take(pa.array(code_R.ravel()))


def _exclusive(
    label: pa.ChunkedArray,
    scan_T: NDArray[np.int64],
    reader_T: pa.ChunkedArray,
    num_scans: int,
    config: PoolConfig,
    refuse: Refuse,
) -> tuple[pa.Array, Readings]:
    """The class of each scan, and every reading."""
    classes, class_T = coded(label)
    readers, reader_code_T = coded(reader_T)
    key_R, reading_T = np.unique(scan_T * len(readers) + reader_code_T, return_inverse=True)
    class_R = np.full(len(key_R), -1, np.int64)
    known_T = np.asarray(pc.is_valid(label))
    class_R[reading_T[known_T]] = class_T[known_T]
    contradicted = np.flatnonzero(known_T & (class_R[reading_T] != class_T))
    if len(contradicted):
        rows = np.flatnonzero(scan_T == scan_T[contradicted[0]])
        refuse(
            rows.tolist(),
            f"rows of one scan name several classes: {', '.join(sorted({str(label[int(r)].as_py()) for r in rows}))}",
            "set pool.findings_are: independent to join them as findings of the scan; if several people read it, name "
            "the column that says who in pool.columns.reader; or keep one row per scan",
        )
    scan_R = key_R // len(readers)
    votes_NK = np.zeros((num_scans, len(classes)), np.int64)
    np.add.at(votes_NK, (scan_R[class_R >= 0], class_R[class_R >= 0]), 1)
    most_N = votes_NK.max(axis=1)
    is_clear_N = (most_N > 0) & ((votes_NK == most_N[:, None]).sum(axis=1) == 1)
    names = pa.array(classes, pa.string())
    label_N = names.take(pa.array(np.where(is_clear_N, votes_NK.argmax(axis=1), 0), mask=~is_clear_N))
    reader_R = pa.array(readers, pa.string()).take(pa.array(key_R % len(readers)))
    return label_N, (scan_R, reader_R, names.take(pa.array(class_R, mask=class_R < 0)))


def _first_known(column: pa.ChunkedArray, scan_T: NDArray[np.int64], num_scans: int) -> pa.Array:
    """The first value of each scan that is not blank; null where all are."""
    known_T = np.flatnonzero(np.asarray(pc.is_valid(column)))
    scans, first = np.unique(scan_T[known_T], return_index=True)
    row_N = np.full(num_scans, -1, np.int64)
    row_N[scans] = known_T[first]
    return column.combine_chunks().take(pa.array(row_N, mask=row_N < 0))


def _refuse_contradictions(
    column: pa.ChunkedArray, joined: pa.Array, scan_T: NDArray[np.int64], name: str, refuse: Refuse
) -> None:
    differs = pc.fill_null(pc.not_equal(column, joined.take(pa.array(scan_T))), False)
    rows = np.flatnonzero(np.asarray(differs))
    if len(rows):
        of_scan = np.flatnonzero(scan_T == scan_T[rows[0]])
        refuse(of_scan.tolist(), f"rows of one scan differ in {name}", "give all rows of a scan the same, or one row")


def _say_differences(plain: pa.Table, columns: dict[str, pa.Array], scan_T: NDArray[np.int64], notes: Notes) -> None:
    """Count the scans whose rows differ in what is known of them; the first row counts."""
    for name in sorted(set(plain.column_names) - {*_SAME, "label", "image_path"}):
        first_T = columns[name].take(pa.array(scan_T))
        differs = np.asarray(pc.fill_null(pc.not_equal(plain[name], first_T), False))
        if differs.any():
            notes.warn(f"rows of {counted(len(np.unique(scan_T[differs])), 'scan')} differ in {name}: the first counts")


def _say(num_rows: int, num_scans: int, has_readers: bool, config: PoolConfig, notes: Notes) -> None:
    count = f"{num_rows:,} rows are of {num_scans:,} scans"
    if has_readers:
        notes.mention(f"{num_rows:,} rows are readings of {num_scans:,} scans; the label of a scan is what most say")
    elif config.findings_are == "independent":
        notes.warn(
            f"{count}: what one row of a scan calls present is present; if they are several people's, name the column "
            "that says whose in pool.columns.reader"
        )
    else:
        notes.warn(f"{count}, and agree in their labels: each scan counts once")
