"""The path of every dispute: who said what of the scan, in what order, and how it ended."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.contracts.answers import ADJUDICATOR, THIRD_READER, Answer, in_words
from pipeline.contracts.finding_line import are_independent
from pipeline.labels import verdicts
from pipeline.labels.journal import Journal

BY_ADJUDICATOR, BY_THIRD, BY_MAJORITY, BY_READERS, OPEN = (
    "an adjudicator",
    "two of three",
    "the majority",
    "the readers themselves",
    "still open",
)


def disputes_of(folder: Path, table: pa.Table, findings: Sequence[str]) -> dict[str, Any]:
    """Scans whose readers first gave different answers, from the journal's answers that stand.

    Args:
        folder: Run directory.
        table: The label table.
        findings: C names; of independent ones a scan is in dispute where its readers differ on any.

    Returns:
        {"num","ended_by": {how: number}, "paths": [{"image_id","steps": [{"annotator","reply","certainty","round",
        "time"}],"ended_by","label"}]}, in the order of scans; `label` is None where there is none, and of independent
        findings, whose labels the findings have.
    """
    of_scan: dict[str, list[Answer]] = {}
    for entry in Journal.open(folder).active():
        of_scan.setdefault(entry.answer.image_id, []).append(entry.answer)
    disputed = {image_id: answers for image_id, answers in sorted(of_scan.items()) if _differ(answers)}
    classes: dict[str, str | None] = {}
    if not are_independent(findings):
        classes = {**verdicts.expert_classes(table, findings), **verdicts.rejections(table)}
    paths = []
    for image_id, answers in disputed.items():
        label = classes.get(image_id)
        ended_by = _ended_by(answers, label, several=are_independent(findings))
        steps = [_step(answer, findings) for answer in answers]
        paths.append({"image_id": image_id, "steps": steps, "ended_by": ended_by, "label": label})
    return {"num": len(paths), "ended_by": dict(Counter(path["ended_by"] for path in paths)), "paths": paths}


def _differ(answers: Sequence[Answer]) -> bool:
    first: dict[str, str] = {}
    for answer in answers:
        if answer.role is None:
            first.setdefault(answer.annotator, answer.reply)
    return len(set(first.values())) > 1


def _ended_by(answers: Sequence[Answer], label: str | None, *, several: bool) -> str:
    latest_replies = {answer.annotator: answer.reply for answer in answers if answer.role is None}
    roles = {answer.role for answer in answers}
    if len(set(latest_replies.values())) == 1:
        return BY_READERS
    if ADJUDICATOR in roles:
        return BY_ADJUDICATOR
    if label is None and not several:
        return OPEN
    if THIRD_READER in roles:
        return BY_THIRD
    return OPEN if several and len(latest_replies) == 2 else BY_MAJORITY


def _step(answer: Answer, findings: Sequence[str]) -> dict[str, Any]:
    return {
        "annotator": answer.annotator,
        "reply": in_words(answer.reply, findings),
        "certainty": answer.certainty,
        "round": answer.round_index,
        "time": None if answer.time is None else answer.time.isoformat(timespec="seconds"),
    }
