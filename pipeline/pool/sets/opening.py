"""From what a set's tables say to the scans that are there, each with its label, its readings and who said so.

Rows whose file is not there are counted: few people have room for a whole set. The set's own split is used where it
leaves something to learn from and something to test on.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.contracts import finding_line
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.scans import PoolConfig
from pipeline.pool import vocabulary
from pipeline.pool.sets import files
from pipeline.pool.sets.public_set import Reader, SetFolder, SetScans
from pipeline.tables.notes import Notes

# N rows of the set, S scans that are there, R readings, C findings asked for

_NO_FILE, _SAME_FILE = "no file in the folder", "a row above has the same file"
_SIGNS = np.array([ord("0"), ord("1"), ord("?")], np.uint8)  # of 0, 1 and -1


@dataclass(frozen=True)
class OpenedSet:
    """The scans of a set that are there.

    Attributes:
        title: The set's name.
        scans: `image_path`, `label` and whichever other known columns the set has, a row a scan, all text.
        statements: What is said of them, a row a reading, or a label: `image_path`, `reader` (null: one label a scan,
            whose author has no name), `label`, `provenance`.
        left_out: Rows that are no scans here, by reason.
    """

    title: str
    scans: pa.Table
    statements: pa.Table
    left_out: dict[str, int]


def opened(reader: Reader, folder: SetFolder, config: PoolConfig, notes: Notes) -> OpenedSet:
    """Read a set.

    Raises:
        InputError: a table is missing or is another set's, no row has its file, or the configuration asks for what
            the set does not have.
    """
    whole = reader(folder)
    path_N = files.paths_of(folder, whole.file_N, whole.num_parts)
    if path_N.null_count and whole.other_file_N is not None:
        path_N = pc.coalesce(path_N, files.paths_of(folder, whole.other_file_N, whole.num_parts))
    rows = _first_rows(path_N)
    left_out = _left_out(whole, folder, path_N, len(rows))
    path_S = path_N.take(pa.array(rows)).combine_chunks()
    picked = _picked(whole, config)
    names = _asked(config) or tuple(whole.findings[place] for place in picked)
    label_S = _labels(whole, config, picked, names, rows)
    about = {name: column.take(pa.array(rows)) for name, column in whole.about.items()}
    about["official_split"] = _split(about.get("official_split"), len(rows), notes)
    scans = pa.table({"image_path": path_S, "label": label_S, **about})
    statements = _statements(whole, config, picked, names, rows, path_S, label_S)
    _report(whole, scans, statements, left_out, notes)
    return OpenedSet(whole.title, scans, statements, left_out)


def _first_rows(path_N: pa.ChunkedArray) -> NDArray[np.int64]:
    """The first row of each file that is there, in order."""
    there = pc.unique(path_N).drop_null()
    return np.sort(np.asarray(pc.index_in(there, value_set=path_N.combine_chunks()), np.int64))


def _left_out(whole: SetScans, folder: SetFolder, path_N: pa.ChunkedArray, num: int) -> dict[str, int]:
    """Rows that are no scans here, by reason.

    Raises:
        InputError: no row has its file, or the set has no rows.
    """
    if not len(path_N):
        raise InputError(f"the tables of {whole.title} list no scan", where=folder.root, fix="download them again")
    if not num:
        images = files.images_of(folder)
        there = f"; there is for instance {images[0]!r}" if images else "; there is no image at all"
        raise InputError(
            f"none of the {len(path_N):,} scans that {whole.title} lists is in the folder: looked for "
            f"{whole.file_N[0].as_py()!r}, with any ending of an image, in all folders below{there}",
            where=folder.root,
            fix="put the set's scans, or some of them, into the folder of its table",
        )
    counts = {_NO_FILE: path_N.null_count, _SAME_FILE: len(path_N) - path_N.null_count - num}
    return {**whole.left_out, **{reason: number for reason, number in counts.items() if number}}


def _asked(config: PoolConfig) -> tuple[str, ...] | None:
    """The independent findings that the configuration names, as it spells them; None: it names none."""
    if config.findings_are == "exclusive":
        return None
    return config.findings or ((config.finding,) if config.finding is not None else None)


def _picked(whole: SetScans, config: PoolConfig) -> list[int]:
    """Places of the findings asked for.

    Raises:
        InputError: the set does not have one of them.
    """
    asked = _asked(config) or whole.usual or whole.findings
    plain = {finding_line.plain(name): place for place, name in enumerate(whole.findings)}
    for name in asked:
        if finding_line.plain(name) not in plain:
            near = difflib.get_close_matches(finding_line.plain(name), plain, n=1, cutoff=0.5)
            hint = f"did you mean {whole.findings[plain[near[0]]]!r}? " if near else ""
            raise InputError(
                f"{whole.title} has no such finding",
                value=name,
                where="pool.findings",
                fix=f"{hint}it has {', '.join(whole.findings[:30])}{' ...' if len(whole.findings) > 30 else ''}",
            )
    return [plain[finding_line.plain(name)] for name in asked]


def _labels(
    whole: SetScans, config: PoolConfig, picked: Sequence[int], names: Sequence[str], rows: NDArray[np.int64]
) -> pa.Array:
    """A line, or a class, for each scan that is there; null where nothing is known.

    Raises:
        InputError: classes are asked for, and its scans may show several findings.
    """
    if config.findings_are == "independent":
        return _lines(whole.present_NC[rows][:, picked], names, config.finding)
    if whole.class_N is not None:
        return whole.class_N.take(pa.array(rows)).combine_chunks()
    if len(whole.findings) == 1:
        return _lines(whole.present_NC[rows], whole.findings, whole.findings[0])
    raise InputError(
        f"scans of {whole.title} may show several findings at once",
        value=config.uri,
        where="pool.findings_are",
        fix="add --set pool.findings_are=independent (its findings are "
        f"{', '.join(whole.findings[place] for place in picked)}; pool.findings chooses among them)",
    )


def _lines(present_SC: NDArray[np.int8], names: Sequence[str], finding: str | None) -> pa.Array:
    """What is known of each scan as a line of all findings, or as a class of one of them; null where it is nothing."""
    if not len(present_SC):
        return pa.array([], pa.string())
    data = pa.py_buffer(np.ascontiguousarray(_SIGNS[present_SC]).tobytes())
    rows = pa.FixedSizeBinaryArray.from_buffers(pa.binary(present_SC.shape[1]), len(present_SC), [None, data])
    encoded = rows.dictionary_encode()  # few distinct ones, however many the scans
    meant: list[str | None] = []
    for row in encoded.dictionary.to_pylist():
        signs = dict(zip(names, row.decode(), strict=True))
        line = "|".join(f"{name}={sign}" for name, sign in signs.items())
        known = any(sign != "?" for sign in signs.values())
        meant.append(finding_line.class_of(line, finding) if finding is not None else line if known else None)
    return pa.array(meant, pa.string()).take(encoded.indices)


def _statements(
    whole: SetScans,
    config: PoolConfig,
    picked: Sequence[int],
    names: Sequence[str],
    rows: NDArray[np.int64],
    path_S: pa.Array,
    label_S: pa.Array,
) -> pa.Table:
    """Every reading of the scans that are there; of a set without readers its labels, with who made them."""
    provenance_S = whole.provenance_N.take(pa.array(rows)).combine_chunks()
    if whole.readings is None:
        table = {"image_path": path_S, "reader": pa.nulls(len(path_S), pa.string()), "label": label_S}
        return pa.table({**table, "provenance": provenance_S}).filter(pc.is_valid(label_S))
    place_N = np.full(len(whole.file_N), -1, np.int64)
    place_N[rows] = np.arange(len(rows))
    there = np.flatnonzero(place_N[whole.readings.scan_R] >= 0)
    scan = pa.array(place_N[whole.readings.scan_R[there]])
    finding = config.finding if config.findings_are == "independent" else whole.findings[0]
    several = config.findings_are == "independent" and config.finding is None
    label = _lines(whole.readings.present_RC[there][:, picked], names, None if several else finding)
    reader = whole.readings.reader_R.take(pa.array(there))
    columns = {"image_path": path_S.take(scan), "reader": reader, "label": label, "provenance": provenance_S.take(scan)}
    return pa.table(columns)


def _split(split_S: pa.ChunkedArray | None, num: int, notes: Notes) -> pa.ChunkedArray:
    """The set's own split; null where what is there of it has no training or no test part."""
    none = pa.chunked_array([pa.nulls(num, pa.string())])
    if split_S is None:
        return none
    parts = {name for name in pc.unique(split_S).to_pylist() if name is not None}
    if parts & vocabulary.HOLDOUT_NAMES and (parts & vocabulary.TRAIN_NAMES or split_S.null_count):
        return split_S
    if parts:
        notes.warn(
            f"of its own split only {', '.join(sorted(parts))} is there, so it is not used and a holdout is drawn by "
            "patient"
        )
    return none


def _report(whole: SetScans, scans: pa.Table, statements: pa.Table, left_out: dict[str, int], notes: Notes) -> None:
    """Say what was read and what was not."""
    num_known = len(scans) - scans["label"].null_count
    patients = scans["patient_id"] if "patient_id" in scans.column_names else None
    num_patients = len(pc.unique(patients.drop_null())) if patients is not None else 0
    whose = f"{num_patients:,} patients" if num_patients else "unknown patients"
    if not num_known:
        notes.warn("not one of its scans has a label; look whether the ids in its tables are written alike")
    notes.mention(f"{whole.title}: {len(scans):,} scans of {whose}, {num_known:,} of them labelled")
    if whole.readings is not None:
        num_readers = len(pc.unique(statements["reader"]))
        notes.mention(f"{len(statements):,} readings by {num_readers} readers; the label of a scan is what most say")
    if whole.num_uncertain:
        notes.mention(f"{whole.num_uncertain:,} values are uncertain (-1) and count as unknown")
    if left_out:
        shown = "; ".join(f"{number:,} x {reason}" for reason, number in left_out.items())
        notes.warn(f"{sum(left_out.values()):,} rows are left out: {shown}")
