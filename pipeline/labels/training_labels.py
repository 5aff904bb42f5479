"""What several readers said of the same scans: agreement, one class for training, and what deserves a second look.

The measures are in `agreement.py` and `consensus.py`; here they meet the label table and a run's files. N scans, M
annotators, C classes.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.contracts.tables import DISPUTE, DOUBT, NEVER_DOUBTED
from pipeline.labels import verdicts
from pipeline.labels.reading_matrix import is_train, last_learnt_round, latest_probabilities, of_people, out_of_fold
from pipeline.measures import consensus
from pipeline.runtime import run_files

MAX_DISPUTES = 2  # times a dispute is asked again: whom nobody can settle, nobody can
MAX_DOUBTS = 20  # labels worth a second look that are listed; the first ones are the likely ones


@dataclass(frozen=True)
class ExpertLabels:
    """What the experts have said so far, as a round takes it.

    Attributes:
        answers: Class by majority of every answered scan, else None. Holdout and certificates rest on it.
        training: The same, where readers differ on a training scan by CROWDLAB: what the classifier learns from.
        rejected: Scans held to be no good, with the reason.
    """

    answers: dict[str, str | None]
    training: dict[str, str | None]
    rejected: dict[str, str]


def expert_labels(folder: Path, table: pa.Table, findings: Sequence[str], round_index: int) -> ExpertLabels:
    """What the label table says up to a round."""
    answers = verdicts.expert_classes(table, findings, round_index)
    training = training_classes(folder, table, answers, findings, round_index)
    return ExpertLabels(answers, training, verdicts.rejections(table, round_index))


def training_classes(
    folder: Path, table: pa.Table, answers: Mapping[str, str | None], findings: Sequence[str], round_index: int
) -> dict[str, str | None]:
    """The classes a round learns from: `answers`, but where readers differ on a training scan, by CROWDLAB.

    Holdout, prevalence and certificates go on with `answers`: what judges the model is not settled with its help, and
    so are the blind checks here, and what an adjudicator or a third reader has settled.

    Args:
        folder: Run directory.
        table: The label table.
        answers: By majority, None where there is none.
        findings: C classes.
        round_index: The round that learns; the model of the round before is asked.
    """
    readings = of_people(folder, table, findings, round_index)
    differ_N = np.array([len(set(row[row >= 0].tolist())) > 1 for row in readings.latest_NM], dtype=bool)
    if not differ_N.any():
        return dict(answers)
    prob_NC = latest_probabilities(folder, round_index - 1, readings.ids_N, findings)
    train_N = is_train(folder, readings.ids_N)
    settled = consensus.consensus(readings.latest_NM[train_N], prob_NC[train_N])
    ids = [image_id for image_id, train in zip(readings.ids_N, train_N, strict=True) if train]
    blind = {image_id for image_id, _, kind in run_files.asks_of(folder) if kind in NEVER_DOUBTED}
    out, left_out = dict(answers), blind | set(verdicts.rejections(table, round_index))
    left_out |= verdicts.settled_by_design(table, round_index)
    for image_id, c, how in zip(ids, settled.class_N, settled.how_N, strict=True):
        if how == consensus.CROWDLAB and image_id not in left_out:
            out[image_id] = findings[c]
    return out


def second_looks(
    folder: Path, table: pa.Table, findings: Sequence[str], num: int, asked: Mapping[str, Collection[str]]
) -> list[tuple[str, str]]:
    """Answered scans that deserve another look in the next queue, each with its kind, at most `num`.

    Disputes come first, those asked least often and those of the holdout before others, each twice at most; then labels
    of the training pool that confident learning finds doubtful by the latest out-of-fold probabilities, each once.
    A blind check is never doubted: to ask again only where the model disagrees would flatter the certificate. Nor is
    what an adjudicator or a third reader has settled.

    Args:
        folder: Run directory.
        table: The label table.
        findings: C classes.
        num: Most scans.
        asked: Kinds a scan was asked under in the queues before, with counts.
    """
    people = set(of_people(folder, table, findings).ids_N)
    times = {image_id: Counter(asked.get(image_id, ())) for image_id in people}
    disputes = [i for i in verdicts.disagreements(table) if i in people and times[i][DISPUTE] < MAX_DISPUTES]
    train = dict(zip(disputes, is_train(folder, disputes), strict=True))
    disputes.sort(key=lambda image_id: (times[image_id][DISPUTE], train[image_id], image_id))
    looks = [(image_id, DISPUTE) for image_id in disputes]
    left_out = {image_id for image_id in people if {DOUBT, *NEVER_DOUBTED} & set(times[image_id])}
    left_out |= verdicts.settled_by_design(table)
    doubtful = doubts(folder, table, findings, num - len(looks), left_out)
    return (looks + [(doubt["image_id"], DOUBT) for doubt in doubtful])[:num]


def doubts(
    folder: Path, table: pa.Table, findings: Sequence[str], num: int, leave_out: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Labels of people that confident learning finds doubtful by the latest out-of-fold probabilities, worst first."""
    if num <= 0:
        return []
    people = set(of_people(folder, table, findings).ids_N) - set(leave_out)
    known = verdicts.expert_classes(table, findings)
    ids = [image_id for image_id in known if known[image_id] is not None]
    index = {finding: c for c, finding in enumerate(findings)}
    class_N = np.array([index[str(known[i])] if i in people else -1 for i in ids], dtype=np.int64)
    issues = consensus.label_issues(class_N, out_of_fold(folder, last_learnt_round(folder), ids, findings), num)
    return [
        {"image_id": ids[row], "label": findings[label], "model": findings[model], "probability": float(prob)}
        for row, label, model, prob in zip(
            issues.row_I, issues.class_I, issues.model_class_I, issues.model_prob_I, strict=True
        )
    ]
