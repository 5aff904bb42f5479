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
from pipeline.errors import ContractError, InputError

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
    given = latest(table)
    first = int(pc.max(table["answer"]).as_py() or 0) + 1 if len(table) else 1
    fresh = []
    for answer in answers:
        key = (answer.image_id, answer.annotator)
        if key not in given or given[key] != answer.finding:
            given[key] = answer.finding
            fresh.append(answer)
    if fresh:
        rows = [
            {
                "image_id": answer.image_id,
                "finding": finding,
                "value": float("nan") if answer.finding is None else float(finding == answer.finding),
                "origin": "expert",
                "annotator": answer.annotator,
                "answer": first + i,
                "round": answer.round_index,
                "probability": None,
                "time": answer.time,
            }
            for i, answer in enumerate(fresh)
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
            "answer": np.full(num * width, -1, np.int64),
            "round": np.full(num * width, round_index, np.int32),
            "probability": np.repeat(probability.astype(np.float32), width),
            "time": pa.nulls(num * width, LABELS.schema.field("time").type),
        },
        schema=LABELS.schema,
    )
    if not rows.equals(table.filter(pc.equal(table["origin"], "pseudo")).combine_chunks()):
        _write(folder, table, pa.concat_tables([expert, rows]))


def expert_classes(table: pa.Table, findings: Sequence[str], up_to_round: int | None = None) -> dict[str, str | None]:
    """One class for each scan experts answered: the majority of the annotators' latest answers.

    A person beats a label that came with the pool. None where they could not tell, or disagree evenly. Scans in
    order of their first answer.

    Raises:
        InputError: when an answer names a class that is not among `findings`.
    """
    classes = {image_id: _majority(found) for image_id, found in _votes(table, up_to_round).items()}
    strange = sorted(set(classes.values()) - {None, *findings}, key=str)
    if strange:
        raise InputError(
            "experts have given labels outside the classes", value=strange, where="pool.findings",
            fix="keep the classes a run began with; new ones may be added",
        )  # fmt: skip
    return classes


def disagreements(table: pa.Table) -> list[str]:
    """Scans on which the annotators' latest answers are split evenly; they count as not answered in training."""
    return [image_id for image_id, found in _votes(table, None).items() if found and _majority(found) is None]


def _votes(table: pa.Table, up_to_round: int | None) -> dict[str, list[str]]:
    """Classes named for each answered scan, one an annotator; those of the pool only where no person answered."""
    expert = table.filter(pc.equal(table["origin"], "expert"))
    if up_to_round is not None:
        expert = expert.filter(pc.less_equal(expert["round"], up_to_round))
    given = latest(expert)
    by_people = {image_id for image_id, annotator in given if annotator != POOL}
    votes: dict[str, list[str]] = {}
    for (image_id, annotator), finding in given.items():
        found = votes.setdefault(image_id, [])
        if finding is not None and (annotator != POOL or image_id not in by_people):
            found.append(finding)
    return votes


def human_answers(table: pa.Table) -> int:
    """How many scans people (not the pool, not an oracle) have answered."""
    mask = pc.and_(
        pc.equal(table["origin"], "expert"),
        pc.invert(pc.is_in(table["annotator"], value_set=pa.array([POOL, ORACLE]))),
    )
    return int(pc.count_distinct(table.filter(mask)["image_id"]).as_py())


def latest(table: pa.Table) -> dict[tuple[str, str], str | None]:
    """Each annotator's latest answer for each scan, in the order of first answers."""
    expert = table.filter(pc.equal(table["origin"], "expert"))
    known: dict[tuple[str, str], str | None] = {}
    begun: dict[tuple[str, str], int] = {}
    for row in expert.select(["image_id", "annotator", "answer", "finding", "value"]).to_pylist():
        key = (row["image_id"], row["annotator"])
        if begun.get(key) != row["answer"]:
            begun[key] = row["answer"]
            known[key] = None  # a new answer replaces this annotator's earlier one
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
