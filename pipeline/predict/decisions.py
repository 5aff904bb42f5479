"""Yes, no or ask a person: from probabilities and the thresholds that blind labels have certified.

A person is asked about what lies outside what the model knows, whatever its probability: the labels that certify are of
scans like the run's own.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.labels import decision_thresholds
from pipeline.labels.decision_thresholds import Rules
from pipeline.measures.act_or_defer import ASK, decisions
from pipeline.predict import columns
from pipeline.predict.recipe import Question

log = logging.getLogger(__name__)


def rules_of(questions: Sequence[Question]) -> Rules:
    """The thresholds of every finding that has some; those of an earlier model are left out, and said."""
    rules: Rules = {}
    for question in questions:
        certified = decision_thresholds.read(question.folder)
        if certified is None:
            continue
        if not certified["is_current"]:
            log.warning(
                "nothing is decided%s: act_or_defer.json is of another model than the one of the last round; write it "
                "again with `cxr-ssl evaluate RUN --act-or-defer %g`",
                f" of {question.finding}" if question.finding else "",
                certified["promised_error"],
            )
            continue
        of_folder = decision_thresholds.thresholds(certified)
        if question.finding is None:
            rules |= of_folder
        else:
            rules[question.finding] = next(iter(of_folder.values()))
    return rules


def decided(table: pa.Table, rules: Rules, findings: Sequence[str]) -> pa.Table:
    """The rows with a decision for each finding that has thresholds; null where a scan is unusable."""
    is_usable = pc.equal(table["status"], columns.OK)
    is_outside_N = np.asarray(pc.fill_null(table["outside"], False))
    for finding, (no_at, yes_at) in rules.items():
        prob_N = np.asarray(pc.fill_null(table[f"prob_{finding}"], float("nan")), dtype=np.float64)
        said_N = np.where(is_outside_N, ASK, decisions(prob_N, no_at, yes_at))
        decision_N = pc.if_else(is_usable, pa.array(said_N.tolist(), pa.string()), pa.scalar(None, pa.string()))
        table = table.append_column(columns.decision_of(finding), decision_N)
    return table.select(columns.schema(findings, list(rules)).names)


def of_row(row: Mapping[str, Any], rules: Rules) -> dict[str, str]:
    """The decisions of one usable scan, by column."""
    of_scan: dict[str, str] = {}
    for finding, (no_at, yes_at) in rules.items():
        prob = row.get(f"prob_{finding}")
        answer_N = decisions(np.array([np.nan if prob is None else prob]), no_at, yes_at)
        of_scan[columns.decision_of(finding)] = ASK if row.get("outside") else str(answer_N[0])
    return of_scan
