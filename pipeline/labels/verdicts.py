"""What the label table says of a scan: its expert class, rejections, disagreements, votes."""

import functools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts import finding_line
from pipeline.contracts.answers import ADJUDICATOR, CANNOT_TELL, ORACLE, POOL, REJECTIONS, ROLES, Answer, role_of
from pipeline.contracts.errors import InputError

MACHINES = (POOL, ORACLE)


def expert_classes(table: pa.Table, findings: Sequence[str], up_to_round: int | None = None) -> dict[str, str | None]:
    """One class for each scan experts answered: what most of the annotators' latest answers say.

    Where readers differ and an adjudicator decided, that is the class. A person beats a label that came with the pool.
    None where they could not tell, disagree evenly, or hold the scan to be no good. Scans of the pool and the oracle
    come first, in the order of their answers, then those of people.

    Raises:
        InputError: when an answer names a class that is not among `findings`.
    """
    verdicts = _verdicts(table, up_to_round)
    classes = {image_id: None if reply in REJECTIONS else reply for image_id, reply in verdicts.items()}
    refuse_strange({finding for finding in classes.values() if finding is not None}, findings)
    return classes


def rejections(table: pa.Table, up_to_round: int | None = None) -> dict[str, str]:
    """Scans that most of their readers hold to be no good, and why: bad quality, or not a chest X-ray."""
    return {i: reply for i, reply in _verdicts(table, up_to_round).items() if reply in REJECTIONS}


def disagreements(table: pa.Table, up_to_round: int | None = None) -> list[str]:
    """Scans on which the annotators' latest answers are split evenly; they count as not answered in training."""
    return [
        image_id for image_id, classes in votes(table, up_to_round).items() if classes and _majority(classes) is None
    ]


def votes(table: pa.Table, up_to_round: int | None = None) -> dict[str, list[str]]:
    """Latest replies for each answered scan, one an annotator; those of the pool only where no person answered.

    Who cannot tell has no vote; a scan that nobody can tell has none. An adjudicator's vote is the only one where the
    readers differ, and none where they agree: of independent findings a decision is asked for some, and covers no
    other.
    """
    latest_replies = _latest_up_to(table, up_to_round)
    decided = _decisions(latest_replies)
    by_people = {image_id for image_id, annotator in latest_replies if annotator != POOL}
    votes_of: dict[str, list[str]] = {}
    for (image_id, annotator), reply in latest_replies.items():
        scan_votes = votes_of.setdefault(image_id, [])
        if image_id in decided or role_of(annotator) == ADJUDICATOR:
            continue
        if reply != CANNOT_TELL and (annotator != POOL or image_id not in by_people):
            scan_votes.append(reply)
    return votes_of | {i: [reply for reply in replies if reply != CANNOT_TELL] for i, replies in decided.items()}


def settled_by_design(table: pa.Table, up_to_round: int | None = None) -> set[str]:
    """Scans whose readers differed and that an adjudicator, or the majority with a third reader, has given a class."""
    asked_for = {i for i, annotator in _latest_up_to(table, up_to_round) if role_of(annotator) is not None}
    return {i for i, reply in _verdicts(table, up_to_round).items() if i in asked_for and reply is not None}


def _latest_up_to(table: pa.Table, up_to_round: int | None) -> dict[tuple[str, str], str]:
    return latest(table if up_to_round is None else table.filter(pc.less_equal(table["round"], up_to_round)))


def _decisions(latest_replies: Mapping[tuple[str, str], str]) -> dict[str, list[str]]:
    """Scan to what adjudicators decided, where its readers differ."""
    decided: dict[str, list[str]] = {}
    readings: dict[str, set[str]] = {}
    for (image_id, annotator), reply in latest_replies.items():
        if role_of(annotator) == ADJUDICATOR:
            decided.setdefault(image_id, []).append(reply)
        elif annotator not in MACHINES:
            readings.setdefault(image_id, set()).add(reply)
    return {image_id: replies for image_id, replies in decided.items() if len(readings.get(image_id, ())) > 1}


def answers(table: pa.Table, image_ids: Collection[str], up_to_round: int) -> list[Answer]:
    """Who answered these scans up to a round, in the table's order.

    A label of the pool that leaves a finding open is no answer: the scan may still be asked for.
    """
    is_asked = pc.is_in(table["image_id"], value_set=pa.array(list(image_ids), pa.string()))
    expert = pc.and_(pc.equal(table["origin"], "expert"), pc.less_equal(table["round"], up_to_round))
    columns = ["image_id", "reply", "annotator", "round", "answer"]
    frame = table.filter(pc.and_(is_asked, expert)).select(columns).to_pandas()
    rows = frame.drop_duplicates(["image_id", "annotator", "answer"])
    all_answers = [Answer(*row[:4]) for row in rows.itertuples(index=False, name=None)]
    latest_replies = latest(table)
    return [
        answer
        for answer in all_answers
        if answer.annotator != POOL or not finding_line.leaves_open(latest_replies[answer.image_id, POOL])
    ]


def read_whole(table: pa.Table) -> set[str]:
    """Scans of which nothing is left to ask: answered by somebody, or the pool's own label leaves no finding open."""
    return {i for (i, who), reply in latest(table).items() if who != POOL or not finding_line.leaves_open(reply)}


def human_answers(table: pa.Table) -> int:
    """How many scans people (not the pool, not an oracle) have answered."""
    return int(pc.count_distinct(people_rows(table)["image_id"]).as_py())


def latest(table: pa.Table) -> dict[tuple[str, str], str]:
    """Each annotator's latest reply for each scan, in the order of first answers."""
    expert = table.filter(pc.equal(table["origin"], "expert"))
    columns = (expert[name].to_pylist() for name in ("image_id", "annotator", "reply"))
    # A key keeps its first place and takes its last value.
    return {(image_id, annotator): reply for image_id, annotator, reply in zip(*columns, strict=True)}


def class_array(classes: Mapping[str, str | None], findings: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Ids and class index of the scans whose class is known."""
    index = {finding: i for i, finding in enumerate(findings)}
    known = [(image_id, index[finding]) for image_id, finding in classes.items() if finding is not None]
    return [image_id for image_id, _ in known], np.array([i for _, i in known], dtype=np.int64)


def _verdicts(table: pa.Table, up_to_round: int | None) -> dict[str, str | None]:
    return {image_id: _majority(classes) for image_id, classes in votes(table, up_to_round).items()}


def _majority(classes: Sequence[str]) -> str | None:
    """What most say: first whether the scan is any good, then which class, or why not; None on an even split."""
    rejected = [reply for reply in classes if reply in REJECTIONS]
    named = [reply for reply in classes if reply not in REJECTIONS]
    if len(rejected) > len(named):
        return max(REJECTIONS, key=rejected.count)
    ranked = Counter(named).most_common(2)
    if not ranked or len(rejected) == len(named) or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]


def refuse_strange(named: set[str], findings: Sequence[str]) -> None:
    """Refuse classes that the run does not have.

    Raises:
        InputError: naming them.
    """
    strange = sorted(named - {*findings})
    if strange:
        raise InputError(
            "experts have given labels outside the classes",
            value=strange,
            where="pool.findings",
            fix="keep the classes a run began with; new ones may be added",
        )


def people_rows(table: pa.Table) -> pa.Table:
    """Rows of answers of people, by scan, annotator and round."""
    return table.filter(of_a_person(table))


def in_a_role(table: pa.Table) -> pa.ChunkedArray:
    """Which rows of a label table were asked for because two readers differ: they are no independent readings."""
    ends = [pc.ends_with(table["annotator"], f" ({role})") for role in ROLES]
    return functools.reduce(pc.or_, ends)


def of_a_person(table: pa.Table) -> pa.ChunkedArray:
    """Which rows of a label table are answers of people."""
    return pc.and_(pc.equal(table["origin"], "expert"), pc.invert(by_machine(table)))


def by_machine(table: pa.Table) -> pa.ChunkedArray:
    """Which rows of a label table came with the pool or from the oracle."""
    return pc.is_in(table["annotator"], value_set=pa.array(MACHINES))
