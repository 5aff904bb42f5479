"""Readings of several people as one matrix, beside what the model would say out of fold."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.contracts.tables import PREDICTIONS, SECOND_LOOKS, SPLIT_TABLE
from pipeline.labels import verdicts
from pipeline.runtime import run_files


@dataclass(frozen=True)
class Readings:
    """Answers of people as numbers.

    Attributes:
        ids_N: Scans any of them answered, sorted.
        annotators: M names, sorted.
        first_NM: Class index of each annotator's first answer, given blind and not because others disagreed, or the
            model did; -1 = none. Independent readings.
        latest_NM: Of her latest answer.
    """

    ids_N: tuple[str, ...]
    annotators: tuple[str, ...]
    first_NM: np.ndarray
    latest_NM: np.ndarray


def of_people(folder: Path, table: pa.Table, findings: Sequence[str], up_to_round: int | None = None) -> Readings:
    """The readings of a label table.

    An answer that names no class is no reading, and neither is one that was asked for because two readers differ.
    """
    people = verdicts.people_rows(table)
    people = people.filter(pc.invert(verdicts.in_a_role(people)))
    if up_to_round is not None:
        people = people.filter(pc.less_equal(people["round"], up_to_round))
    frame = people.select(["image_id", "annotator", "round", "reply"]).to_pandas()
    ids = tuple(sorted(set(frame["image_id"])))
    names = tuple(sorted(set(frame["annotator"])))
    row = {image_id: n for n, image_id in enumerate(ids)}
    column = {name: m for m, name in enumerate(names)}
    index = {finding: c for c, finding in enumerate(findings)}
    first_NM = np.full((len(ids), len(names)), -1, dtype=np.int64)
    latest_NM = first_NM.copy()
    begun: dict[tuple[str, str], int] = {}
    steered = steered_readings(folder)
    for image_id, annotator, round_index, reply in frame.itertuples(index=False, name=None):
        place = row[image_id], column[annotator]
        latest_NM[place] = index.get(reply, -1)
        first = begun.setdefault((image_id, annotator), round_index) == round_index
        if first and (image_id, round_index) not in steered:
            first_NM[place] = latest_NM[place]
    return Readings(ids, names, first_NM, latest_NM)


def steered_readings(folder: Path) -> set[tuple[str, int]]:
    """Scan and round of every reading that was not independent: a second look, or shown with the model's answer."""
    again = {(i, r) for i, r, kind in run_files.asks_of(folder) if kind in SECOND_LOOKS}
    return again | run_files.shown_with_answer(folder)


def last_learnt_round(folder: Path) -> int:
    """The latest round with out-of-fold probabilities; 0 before the first."""
    return max(run_files.rounds_with(folder, run_files.OOF), default=0)


def group_of_scans(folder: Path, ids: Sequence[str]) -> np.ndarray:
    """Patient group of each scan; a scan the splits do not know is its own."""
    table = run_files.read(folder, SPLIT_TABLE, ["image_id", "group_id"])
    group = dict(zip(table["image_id"].to_pylist(), table["group_id"].to_pylist(), strict=True))
    return np.array([group.get(image_id, image_id) for image_id in ids], dtype=object).astype(str)


def is_train(folder: Path, ids: Sequence[str]) -> np.ndarray:
    """Whether each scan (N,) is of the training pool."""
    table = run_files.read(folder, SPLIT_TABLE, ["image_id", "split"])
    train = table.filter(pc.equal(table["split"], "train"))["image_id"]
    return np.asarray(pc.is_in(pa.array(ids, pa.string()), value_set=train.combine_chunks()), dtype=bool)


def latest_probabilities(folder: Path, round_index: int, ids: Sequence[str], findings: Sequence[str]) -> np.ndarray:
    """(N, C) of a model that saw no expert label of the scan: out of fold, or of before there was one; else NaN."""
    prob_NC = out_of_fold(folder, round_index, ids, findings)
    path = run_files.round_folder(folder, round_index)
    if (path / PREDICTIONS.file).exists():
        new_NC = _columns(PREDICTIONS.read(path), ids, findings)
        unknown_N = np.isnan(prob_NC).any(axis=1)
        prob_NC[unknown_N] = new_NC[unknown_N]
    return prob_NC


def out_of_fold(folder: Path, round_index: int, ids: Sequence[str], findings: Sequence[str]) -> np.ndarray:
    """Out-of-fold probabilities (N, C) that a round left for these scans; NaN where it left none."""
    path = run_files.round_folder(folder, round_index) / run_files.OOF
    return _columns(pq.read_table(path) if path.exists() else None, ids, findings)


def _columns(table: pa.Table | None, ids: Sequence[str], findings: Sequence[str]) -> np.ndarray:
    """Probabilities of `ids` in the order of `findings`, NaN where the table has none."""
    prob_NC = np.full((len(ids), len(findings)), np.nan)
    names = [f"prob_{finding}" for finding in findings]
    if table is None or not set(names) <= set(table.column_names):
        return prob_NC
    place = pc.index_in(pa.array(ids, pa.string()), value_set=table["image_id"].combine_chunks())
    known_N = np.asarray(pc.is_valid(place), dtype=bool)
    rows = place.drop_null().to_numpy()
    for c, name in enumerate(names):
        prob_NC[known_N, c] = table[name].to_numpy()[rows]
    return prob_NC
