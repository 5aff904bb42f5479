"""The label store: who said what of which scan, when. An expert's label beats a pseudo-label, always.

`labels.parquet` holds the answers that stand and the pseudo-labels of the latest round. Answers of people come from
the journal (`labels/journal.py`), which is never shortened; those of the pool and the oracle are written here. The
pseudo rows are replaced each round (their history is in `rounds/RR/pseudo.parquet`).

People's rows are in the order of scan, annotator, round: the same answers give the same bytes, whatever the route and
the order in which they came.
"""

import datetime as dt
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.contracts import finding_line
from pipeline.contracts.answers import CANNOT_TELL, POOL, REMARKS, Answer
from pipeline.contracts.errors import ContractError, RunDirError
from pipeline.contracts.tables import LABELS
from pipeline.labels.journal import Journal
from pipeline.labels.verdicts import answers, by_machine, latest, of_a_person, people_rows, refuse_strange


def read(folder: Path) -> pa.Table:
    """The label table; empty before the first label."""
    path = folder / LABELS.file
    if not path.exists():
        return LABELS.empty()
    _upgrade(folder, path)
    return LABELS.read(folder)


def add_answers(folder: Path, answers: Sequence[Answer], findings: Sequence[str]) -> int:
    """Append answers of the pool or an oracle; one that repeats their latest answer for a scan changes nothing.

    A pseudo-label of a scan answered now goes.

    Returns:
        How many answers were new.
    """
    table = read(folder)
    latest_replies = latest(table)
    first = int(pc.max(table["answer"]).as_py() or 0) + 1 if len(table) else 1
    fresh = []
    for answer in answers:
        key = (answer.image_id, answer.annotator)
        if latest_replies.get(key) != answer.reply:
            latest_replies[key] = answer.reply
            fresh.append(answer)
    if fresh:
        rows = _rows(((answer, first + i) for i, answer in enumerate(fresh)), findings)
        _write(folder, table, pa.concat_tables([_machine_rows(table), rows, people_rows(table), _pseudo_rows(table)]))
    return len(fresh)


def settle(folder: Path, findings: Sequence[str]) -> bool:
    """Bring the answers of the journal into the label table; True when that changed it.

    Whoever calls it holds the run's lock. Answers of people in a table without a journal are adopted by it first.

    Raises:
        InputError: when an answer names a class that is not among `findings`.
        RunDirError: when the table holds answers that the journal has lost.
    """
    table = read(folder)
    journal = _adopted(folder, table)
    _refuse_loss(journal, table)
    people = _people_of(journal, findings)
    if _same(people, people_rows(table)):
        return False
    _write(folder, table, pa.concat_tables([_machine_rows(table), people, _pseudo_rows(table)]), shrinks=True)
    return True


def replace_pseudo(
    folder: Path,
    image_ids: np.ndarray | pa.ChunkedArray,
    finding_index: np.ndarray,
    probability: np.ndarray,
    findings: Sequence[str],
    round_index: int,
) -> None:
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
    num, width = len(image_ids), len(findings)
    value = (np.arange(width)[None, :] == finding_index[:, None]).astype(np.float32)
    rows = _table(
        num,
        findings,
        {
            "image_id": image_ids,
            "value": value,
            "origin": pa.repeat("pseudo", num),
            "annotator": pa.repeat("model", num),
            "answer": np.full(num, -1, np.int64),
            "round": np.full(num, round_index, np.int32),
            "probability": probability.astype(np.float32),
        },
    )
    _write(folder, table, pa.concat_tables([_machine_rows(table), people_rows(table), rows]))


def replace_pseudo_values(folder: Path, rows: pa.Table) -> None:
    """Replace all pseudo-labels of independent findings, less any finding an expert has spoken of.

    Args:
        folder: Run directory.
        rows: Of the `LABELS` contract: one for each scan and finding that has a pseudo-label, value 1 or 0.
    """
    table = read(folder)
    after = _without_beaten(pa.concat_tables([_machine_rows(table), people_rows(table), rows]))
    if not _same(after, table) or not _pseudo_rows(after).equals(_pseudo_rows(table)):  # their values say something
        LABELS.write(folder, after)


def answers_of_pool(folder: Path, image_ids: Collection[str], up_to_round: int) -> list[Answer]:
    """Labels that came with the pool for these scans, maybe after they were asked for: answers too."""
    return [answer for answer in answers(read(folder), image_ids, up_to_round) if answer.annotator == POOL]


def check_people(folder: Path, findings: Sequence[str]) -> None:
    """Refuse classes that are not those people have named.

    Raises:
        InputError: naming the answers that would be lost.
    """
    replies = {entry.answer.reply for entry in Journal.open(folder).active()} - {*REMARKS}
    refuse_strange(_named(replies, findings), findings)


def check_table(table: pa.Table, findings: Sequence[str]) -> None:
    """The same for all that stands in a label table; see `check_people`."""
    refuse_strange(_named(set(latest(table).values()) - {*REMARKS}, findings), findings)


def _people_of(journal: Journal, findings: Sequence[str]) -> pa.Table:
    """Rows of the answers that stand, in an order that does not depend on how they came."""
    answers = [entry.answer for entry in journal.active()]
    refuse_strange(_named({answer.reply for answer in answers} - {*REMARKS}, findings), findings)
    answers.sort(key=lambda answer: (answer.image_id, answer.annotator, answer.round_index))  # stable: later is later
    number: Counter[tuple[str, str]] = Counter()
    numbered = []
    for answer in answers:
        number[answer.image_id, answer.annotator] += 1
        numbered.append((answer, number[answer.image_id, answer.annotator]))
    return _rows(numbered, findings)


def _rows(numbered: Iterable[tuple[Answer, int]], findings: Sequence[str]) -> pa.Table:
    pairs = list(numbered)
    answers = [answer for answer, _ in pairs]
    row_of = {answer.finding: answer for answer in answers}  # few, whatever the number of answers
    values_of = {named: [_values(answer, findings)[f] for f in findings] for named, answer in row_of.items()}
    value = np.array([values_of[answer.finding] for answer in answers], np.float32).reshape(-1, len(findings))
    return _table(
        len(answers),
        findings,
        {
            "image_id": [answer.image_id for answer in answers],
            "value": value,
            "origin": pa.repeat("expert", len(answers)),
            "annotator": [answer.annotator for answer in answers],
            "answer": [number for _, number in pairs],
            "reply": [answer.reply for answer in answers],
            "certainty": [answer.certainty for answer in answers],
            "round": [answer.round_index for answer in answers],
            "time": [answer.time for answer in answers],
        },
    )


def _table(num: int, findings: Sequence[str], columns: Mapping[str, Any]) -> pa.Table:
    """Rows of the `LABELS` contract: one for each of `num` scans or answers and each finding.

    Args:
        num: How many there are.
        findings: C names.
        columns: What each is; `value` is (num, C); a column that is left out is null.
    """
    width = len(findings)
    each = pa.array(np.repeat(np.arange(num), width))
    made = {"finding": pa.array(findings, pa.string()).take(pa.array(np.tile(np.arange(width), num)))}
    made["value"] = pa.array(columns["value"].ravel())
    for field in LABELS.schema:
        if field.name not in columns:
            made.setdefault(field.name, pa.nulls(num * width, field.type))
        elif field.name != "value":
            own = columns[field.name]
            own = own if isinstance(own, pa.Array | pa.ChunkedArray) else pa.array(own, field.type)
            made[field.name] = own.take(each)
    return pa.table([made[name] for name in LABELS.schema.names], schema=LABELS.schema).combine_chunks()


def _values(answer: Answer, findings: Sequence[str]) -> dict[str, float]:
    """What an answer says of each finding: 1 present, 0 absent, NaN nothing."""
    if answer.finding is None:
        return dict.fromkeys(findings, float("nan"))
    if finding_line.are_independent(findings):
        return dict.fromkeys(findings, float("nan")) | finding_line.read(answer.finding)
    return {finding: float(finding == answer.finding) for finding in findings}


def _named(replies: set[str], findings: Sequence[str]) -> set[str]:
    """The findings that replies speak of."""
    if finding_line.are_independent(findings):
        return {finding for reply in replies for finding in finding_line.named(reply) or (reply,)}
    return replies


def _adopted(folder: Path, table: pa.Table) -> Journal:
    """The journal, after it has taken in answers of people that only the table knows (of an older version)."""
    journal = Journal.open(folder)
    if journal.entries or not len(people := people_rows(table)):
        return journal
    columns = ["image_id", "annotator", "answer", "reply", "certainty", "round", "time"]
    frame = people.select(columns).to_pandas().drop_duplicates(["image_id", "annotator", "answer"])
    answers = [
        Answer(row.image_id, row.reply, row.annotator, row.round, _python(row.time), _word(row.certainty))
        for row in frame.sort_values("answer", kind="stable").itertuples()
    ]
    with journal.writing():
        if not journal.entries:
            journal.add(journal.begin("adopted"), answers)
    return journal


def _refuse_loss(journal: Journal, table: pa.Table) -> None:
    """Refuse a journal that lacks answers the table was made of: it was shortened, or is another run's."""
    frame = people_rows(table).select(["image_id", "annotator", "round", "reply"]).to_pandas()
    had = set(frame.itertuples(index=False, name=None))
    recorded = {
        (a.image_id, a.annotator, a.round_index, a.reply) for a in (entry.answer for entry in journal.entries.values())
    }
    if had - recorded:
        raise RunDirError(
            f"lacks {len(had - recorded)} answers that labels.parquet was made of, so nothing was changed",
            where=journal.path,
            fix="bring it back from a backup; without one, move it away, and the answers of the table are taken over",
        )


def _python(moment: object) -> dt.datetime | None:
    import pandas as pd

    return None if pd.isna(moment) else pd.Timestamp(moment).to_pydatetime()  # type: ignore[call-overload, arg-type]


def _word(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _upgrade(folder: Path, path: Path) -> None:
    """Add the columns that tables of version 0.1 lack; their answers name a class or nothing."""
    try:
        names = pq.read_schema(path).names
    except (OSError, pa.ArrowException):
        return  # reading the table says what is wrong with it
    if "reply" in names or "answer" not in names:
        return
    table = pq.read_table(path, partitioning=None)
    frame = table.to_pandas()
    keys = ["image_id", "annotator", "answer"]
    chosen = frame[frame["value"] == 1.0].set_index(keys)["finding"]
    chosen = chosen[~chosen.index.duplicated()]
    replies = [chosen.get(key, CANNOT_TELL) for key in frame[keys].itertuples(index=False, name=None)]
    replies = [reply if origin == "expert" else None for reply, origin in zip(replies, frame["origin"], strict=True)]
    table = table.append_column("reply", pa.array(replies, pa.string()))
    table = table.append_column("certainty", pa.nulls(len(table), pa.string()))
    LABELS.write(folder, table.select(LABELS.schema.names))


def _scan_and_finding(table: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(table["image_id"], table["finding"], "\0")


def _machine_rows(table: pa.Table) -> pa.Table:
    return table.filter(pc.and_(pc.equal(table["origin"], "expert"), by_machine(table)))


def _pseudo_rows(table: pa.Table) -> pa.Table:
    return table.filter(pc.equal(table["origin"], "pseudo"))


def _write(folder: Path, before: pa.Table, after: pa.Table, *, shrinks: bool = False) -> None:
    """Write, unless an expert row would be lost; pseudo-labels of scans that experts answered go.

    Args:
        folder: Run directory.
        before: The table as it is.
        after: As it is to be.
        shrinks: Whether answers may have been taken back; they are in the journal.
    """
    expert = after.filter(pc.equal(after["origin"], "expert"))
    had = pc.sum(pc.equal(before["origin"], "expert")).as_py() or 0
    if len(expert) < had and not shrinks:
        raise ContractError(f"{had - len(expert)} expert rows would be lost", where="labels")
    after = _without_beaten(after)
    if not _same(after, before):
        LABELS.write(folder, after)


def _without_beaten(table: pa.Table) -> pa.Table:
    """The table without pseudo-labels that give way, see `_beaten`; it is copied only where there are some."""
    beaten = _beaten(table)
    return table.filter(pc.invert(beaten)) if pc.any(beaten).as_py() else table


def _beaten(table: pa.Table) -> pa.ChunkedArray:
    """Pseudo-labels that give way: of a scan an expert has answered; of independent findings, where one spoke of it.

    A person who was asked for a finding and left it open has spoken; a pool that says nothing of it has not.
    """
    expert = table.filter(pc.equal(table["origin"], "expert"))
    named = {reply: finding_line.named(reply) for reply in pc.unique(expert["reply"]).to_pylist()}
    lines = pa.array([reply for reply, findings in named.items() if findings], pa.string())
    is_line = pc.is_in(expert["reply"], value_set=lines)
    whole = pc.unique(expert.filter(pc.invert(is_line))["image_id"])
    of_findings = expert.filter(is_line)
    pairs = [f"{reply}\0{finding}" for reply, findings in named.items() for finding in findings]
    asked = pc.is_in(
        pc.binary_join_element_wise(of_findings["reply"], of_findings["finding"], "\0"),
        value_set=pa.array(pairs, pa.string()),
    )
    spoken = pc.or_(pc.invert(pc.is_nan(of_findings["value"])), pc.and_(asked, of_a_person(of_findings)))
    answered = pc.unique(_scan_and_finding(of_findings.filter(spoken)))
    given_way = pc.or_(
        pc.is_in(table["image_id"], value_set=whole), pc.is_in(_scan_and_finding(table), value_set=answered)
    )
    return pc.and_(given_way, pc.equal(table["origin"], "pseudo"))


def _same(table: pa.Table, other: pa.Table) -> bool:
    """Whether two tables say the same; `value` follows from the other columns, and NaN is not equal to itself."""
    return len(table) == len(other) and bool(table.drop_columns(["value"]).equals(other.drop_columns(["value"])))
