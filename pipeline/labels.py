"""The label store: who said what of which scan, when. An expert's label beats a pseudo-label, always.

`labels.parquet` holds every expert answer ever given and the pseudo-labels of the latest round. Expert rows are only
ever added; the pseudo rows are replaced each round (their history is in `rounds/RR/pseudo.parquet`).
"""

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts import LABELS
from pipeline.errors import ContractError

POOL, ORACLE = "pool", "oracle"  # annotators that are not people


@dataclass(frozen=True)
class Answer:
    """One expert answer.

    Attributes:
        image_id: The scan.
        finding: The class chosen; None: cannot tell (NaN for every finding).
        annotator: Who.
        round_index: The round that asked; 0 = given with the pool.
        time: When; None where it was not recorded.
    """

    image_id: str
    finding: str | None
    annotator: str
    round_index: int
    time: dt.datetime | None = None


def read(folder: Path) -> pa.Table:
    """The label table; empty before the first label."""
    return LABELS.read(folder) if (folder / "labels.parquet").exists() else LABELS.empty()


def add_answers(folder: Path, answers: Sequence[Answer], findings: Sequence[str]) -> int:
    """Append expert answers; one that repeats an annotator's latest answer for a scan changes nothing.

    A pseudo-label of a scan answered now goes.

    Returns:
        How many answers were new.
    """
    table = read(folder)
    latest = _latest(table, findings)
    fresh = []
    for answer in answers:
        if (answer.image_id, answer.annotator) in latest and latest[
            answer.image_id, answer.annotator
        ] == answer.finding:
            continue
        latest[answer.image_id, answer.annotator] = answer.finding
        fresh.append(answer)
    if fresh:
        rows = [
            {
                "image_id": answer.image_id,
                "finding": finding,
                "value": float("nan") if answer.finding is None else float(finding == answer.finding),
                "origin": "expert",
                "annotator": answer.annotator,
                "round": answer.round_index,
                "probability": None,
                "time": answer.time,
            }
            for answer in fresh
            for finding in findings
        ]
        answered = pc.is_in(table["image_id"], value_set=pa.array([answer.image_id for answer in fresh], pa.string()))
        beaten = pc.and_(answered, pc.equal(table["origin"], "pseudo"))
        kept = table.filter(pc.invert(beaten))
        _write(folder, table, pa.concat_tables([kept, pa.Table.from_pylist(rows, LABELS.schema)]))
    return len(fresh)


def replace_pseudo(
    folder: Path, image_ids: np.ndarray, finding_index: np.ndarray, probability: np.ndarray,
    findings: Sequence[str], round_index: int,
) -> None:  # fmt: skip
    """Replace all pseudo-labels by these, less any scan an expert has answered.

    Args:
        folder: Run directory.
        image_ids: (M,) scans.
        finding_index: (M,) class of each.
        probability: (M,) calibrated probability of that class.
        findings: C classes.
        round_index: The round that made them.
    """
    table = read(folder)
    expert = table.filter(pc.equal(table["origin"], "expert"))
    answered = pc.is_in(pa.array(image_ids, pa.string()), value_set=pc.unique(expert["image_id"]))
    keep = ~answered.to_numpy(zero_copy_only=False)
    image_ids, finding_index, probability = image_ids[keep], finding_index[keep], probability[keep]
    num, width = len(image_ids), len(findings)
    value = (np.arange(width)[None, :] == finding_index[:, None]).astype(np.float32)
    rows = pa.table(
        {
            "image_id": np.repeat(image_ids, width),
            "finding": np.tile(np.array(findings, dtype=object), num),
            "value": value.ravel(),
            "origin": ["pseudo"] * (num * width),
            "annotator": ["model"] * (num * width),
            "round": np.full(num * width, round_index, np.int32),
            "probability": np.repeat(probability.astype(np.float32), width),
            "time": pa.nulls(num * width, LABELS.schema.field("time").type),
        },
        schema=LABELS.schema,
    )
    _write(folder, table, pa.concat_tables([expert, rows]))


def expert_classes(table: pa.Table, findings: Sequence[str], up_to_round: int | None = None) -> dict[str, str | None]:
    """One class for each scan experts answered: the majority of the annotators' latest answers.

    None where they could not tell, or disagree evenly. Scans in order of their first answer.
    """
    expert = table.filter(pc.equal(table["origin"], "expert"))
    if up_to_round is not None:
        expert = expert.filter(pc.less_equal(expert["round"], up_to_round))
    votes: dict[str, list[str]] = {}
    for (image_id, _), finding in _latest(expert, findings).items():
        votes.setdefault(image_id, [])
        if finding is not None:
            votes[image_id].append(finding)
    return {image_id: _majority(found) for image_id, found in votes.items()}


def human_answers(table: pa.Table) -> int:
    """How many scans people (not the pool, not an oracle) have answered."""
    mask = pc.and_(
        pc.equal(table["origin"], "expert"),
        pc.invert(pc.is_in(table["annotator"], value_set=pa.array([POOL, ORACLE]))),
    )
    return int(pc.count_distinct(table.filter(mask)["image_id"]).as_py())


def _latest(table: pa.Table, findings: Sequence[str]) -> dict[tuple[str, str], str | None]:
    expert = table.filter(pc.equal(table["origin"], "expert")).select(["image_id", "annotator", "finding", "value"])
    known: dict[tuple[str, str], str | None] = {}
    for row in expert.to_pylist():  # one block of rows an answer, in the order they were given
        key = (row["image_id"], row["annotator"])
        if row["finding"] == findings[0]:
            known[key] = None  # a new answer begins: it replaces this annotator's earlier one
        if row["value"] == 1.0:
            known[key] = row["finding"]
    return known


def _majority(found: Sequence[str]) -> str | None:
    ranked = Counter(found).most_common(2)
    if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]


def _write(folder: Path, before: pa.Table, after: pa.Table) -> None:
    """Write, unless an expert row would be lost."""
    kept = pc.sum(pc.equal(after["origin"], "expert")).as_py() or 0
    had = pc.sum(pc.equal(before["origin"], "expert")).as_py() or 0
    if kept < had:
        raise ContractError(f"{had - kept} expert rows would be lost", where="labels")
    LABELS.write(folder, after)


def class_array(classes: Mapping[str, str | None], findings: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Ids and class index of the scans whose class is known."""
    index = {finding: i for i, finding in enumerate(findings)}
    known = [(image_id, index[finding]) for image_id, finding in classes.items() if finding is not None]
    return [image_id for image_id, _ in known], np.array([i for _, i in known], dtype=np.int64)
