"""What experts and the model say of each scan, for one question: which of C classes it shows.

What belongs to the sealed holdout, or waits in the open queue to be read blind, is taken out later, in `scan_table`.

Legend: N embedded scans, C classes.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.tables import PREDICTIONS, PSEUDO
from pipeline.explore.columns import Column, aligned, category, flag, floats, is_among, looked_up, number
from pipeline.labels import label_table, verdicts
from pipeline.labels.reading_matrix import last_learnt_round, out_of_fold
from pipeline.pages.wording import queue_kind
from pipeline.runtime import run_files


def of_question(folder: Path, ids_N: pa.Array, classes: Sequence[str], of_what: str = "") -> dict[str, Column]:
    """Columns of one question.

    Args:
        folder: Of the run, or of one finding of it.
        ids_N: The scans.
        classes: The C classes; empty where the run does not know them yet.
        of_what: What names the question among others, such as `effusion`; empty where it is the only one.
    """
    table = label_table.read(folder)
    columns: dict[str, Column] = {}
    if len(table) and classes:
        columns |= _answers(table, folder, ids_N, classes)
    if (folder / PREDICTIONS.file).exists():
        columns |= _predicted(folder, ids_N, classes)
    return {_key(name, of_what): _titled(column, of_what) for name, column in columns.items()}


def open_queue(folder: Path) -> list[str]:
    """Scans that wait for their readers, or for the round to learn from them: nobody may be told what to answer."""
    latest = run_files.latest_round(folder)
    if latest is None or (run_files.round_folder(folder, latest) / run_files.ROW).exists():
        return []
    return [image_id for image_id, rounds in run_files.rounds_asking(folder).items() if latest in rounds]


def _answers(table: pa.Table, folder: Path, ids_N: pa.Array, classes: Sequence[str]) -> dict[str, Column]:
    """The experts' class, whether they disagree, and whether a model that had not seen the label says otherwise."""
    known = {i: named for i, named in verdicts.expert_classes(table, classes).items() if named is not None}
    meaning = "what most of its readers said, or the pool"
    columns = {"label": category("label", "answers", looked_up(ids_N, known), meaning)}
    readers = [image_id for image_id, votes in verdicts.votes(table).items() if len(votes) > 1]
    if readers:
        votes = verdicts.votes(table)
        differ = [image_id for image_id in readers if len(set(votes[image_id])) > 1]
        several_N = is_among(ids_N, readers)
        columns["disagreement"] = flag("readers disagree", "answers", is_among(ids_N, differ), known_N=several_N)
    prob_LC = out_of_fold(folder, last_learnt_round(folder), list(known), classes)
    judged = np.flatnonzero(np.isfinite(prob_LC).all(axis=1))
    if len(judged):
        ids = list(known)
        says = {ids[row]: classes[int(prob_LC[row].argmax())] for row in judged}
        wrong = [image_id for image_id, named in says.items() if named != known[image_id]]
        meaning = "by a model that had not seen the label of the scan or of its patient"
        columns["out_of_fold"] = category("said without the label", "model", looked_up(ids_N, says), meaning)
        judged_N = is_among(ids_N, list(says))
        columns["mistake"] = flag("mistake", "model", is_among(ids_N, wrong), meaning, known_N=judged_N)
    return columns


def _predicted(folder: Path, ids_N: pa.Array, classes: Sequence[str]) -> dict[str, Column]:
    """The last round's classifier: class, probability, how unsure it is; and which pseudo-labels were accepted."""
    table = PREDICTIONS.read(folder)
    names = [f"prob_{name}" for name in classes if f"prob_{name}" in table.column_names]
    rows = aligned(table, ids_N, ["predicted", *names])
    columns = {"predicted": category("predicted", "model", rows["predicted"], "by the last round's classifier")}
    if names:
        prob_NC = np.stack([floats(rows[name]) for name in names], axis=1)
        top_NC = np.sort(prob_NC, axis=1)
        unsure_N = 1.0 - (top_NC[:, -1] - top_NC[:, -2]) if len(names) > 1 else np.zeros(len(prob_NC))
        columns["probability"] = number("probability of the predicted class", "model", top_NC[:, -1])
        columns["uncertainty"] = number("uncertainty", "model", unsure_N, "1 less the lead of the likeliest class")
        if len(names) > 2:
            titles = [f"probability: {name.removeprefix('prob_')}" for name in names]
            columns |= {name: number(titles[c], "model", prob_NC[:, c]) for c, name in enumerate(names)}
    return columns | _estimated(folder, ids_N)


def _estimated(folder: Path, ids_N: pa.Array) -> dict[str, Column]:
    rounds = run_files.rounds_with(folder, PSEUDO.file)
    if not rounds:
        return {}
    table = PSEUDO.read(run_files.round_folder(folder, rounds[-1]))
    accepted = table.filter(pc.equal(table["decision"], "accept"))
    of = dict(zip(accepted["image_id"].to_pylist(), accepted["finding"].to_pylist(), strict=True))
    return {"estimated": category("estimated label", "model", looked_up(ids_N, of), "a pseudo-label that was accepted")}


def asked(folder: Path, ids_N: pa.Array) -> dict[str, Column]:
    """In which round a scan was asked for first, and why it was; the reasons of the open queue stay unknown."""
    asks = run_files.asks_of(folder)
    if not asks:
        return {}
    first: dict[str, str | None] = {}
    why: dict[str, str | None] = {}
    finished = run_files.rounds_with(folder, run_files.ROW)
    for image_id, round_index, kind in asks:
        first.setdefault(image_id, str(round_index))
        if round_index in finished:
            why.setdefault(image_id, queue_kind(kind))
    return {
        "asked": replace(category("asked in round", "answers", looked_up(ids_N, first)), unknown="not asked"),
        "asked_as": replace(
            category("asked as", "answers", looked_up(ids_N, why), "why the queue held it"),
            unknown="not asked, or not learned from yet",
        ),
    }


def _key(name: str, of_what: str) -> str:
    return f"{name}:{of_what}" if of_what else name


def _titled(column: Column, of_what: str) -> Column:
    return replace(column, title=f"{of_what}: {column.title}" if of_what else column.title, about_labels=True)
