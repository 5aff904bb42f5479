"""How annotators agree, as files of a run: `agreement.json` and the counts that the status shows."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.answers import REJECTIONS
from pipeline.contracts.options.labelling import QueueConfig
from pipeline.contracts.tables import write_text
from pipeline.labels import verdicts
from pipeline.labels.dispute_paths import disputes_of
from pipeline.labels.journal import Journal, JournalEntry
from pipeline.labels.reading_matrix import (
    Readings,
    group_of_scans,
    is_train,
    last_learnt_round,
    latest_probabilities,
    of_people,
    steered_readings,
)
from pipeline.labels.training_labels import MAX_DOUBTS, doubts
from pipeline.measures import agreement, consensus
from pipeline.measures.agreement import TwoReaders
from pipeline.runtime import run_dir, run_files

NUM_BOOTSTRAP = 1000
MIN_TIMED = 10  # answers whose time is known, before it is said of anybody that the pace is no person's


def agreement_of(folder: Path, table: pa.Table, findings: Sequence[str], num_bootstrap: int) -> dict[str, Any] | None:
    """How far people agree, with each other and with themselves; None where nobody has answered.

    Returns:
        {"num_annotators","share","fleiss","krippendorff": measures as `agreement.Agreement`; "pairs": [{"annotators",
        "share","cohen"}]; "intra": [{"annotator","share","cohen"}]; "suspects": [{"annotator","agreement","others",
        "gap_ci95","num_scans"}], both shares over the scans she and two others read; "overruled": [the same keys, with
        "share" of her scans on which a dispute was decided against her, and "stands_out"]; "quality": {annotator:
        CROWDLAB's, 0..1}, empty where it had too little to go by}.
    """
    readings = of_people(folder, table, findings)
    if not readings.ids_N:
        return None
    group_N = group_of_scans(folder, readings.ids_N)
    rng = np.random.default_rng(0)  # the draws of an interval; the same answers give the same one
    every = agreement.overall(readings.first_NM, group_N, len(findings), num_bootstrap, rng)
    pairs = [
        {"annotators": [readings.annotators[a], readings.annotators[b]]} | _two(t) for (a, b), t in every.pairs.items()
    ]
    suspects = consensus.suspect_annotators(readings.first_NM, group_N)
    return {
        "num_annotators": len(readings.annotators),
        "share": asdict(every.share),
        "fleiss": asdict(every.fleiss),
        "krippendorff": asdict(every.krippendorff),
        "pairs": [pair for pair in pairs if pair["share"]["num_scans"]],
        "intra": _intra(folder, table, findings, num_bootstrap),
        "suspects": [asdict(s) | {"annotator": readings.annotators[s.annotator]} for s in suspects],
        "overruled": _overruled(table, readings, findings, group_N),
        "quality": _quality(folder, readings, findings),
    }


def annotators(folder: Path, min_seconds: float | None = None) -> list[dict[str, Any]]:
    """What each person has answered so far, by name.

    Args:
        folder: The run.
        min_seconds: A median below it is faster than a person can be; None: `queue.min_seconds` of the run.

    Returns:
        [{"annotator","num_answers","num_round" of the latest queue,"num_rejected","num_unsure","seconds_per_scan",
        "too_fast"}].
    """
    standing, round_index = Journal.open(folder).active(), run_files.latest_round(folder)
    names = sorted({entry.answer.annotator for entry in standing})
    limit = _min_seconds(folder) if min_seconds is None else min_seconds
    return [_annotator(name, standing, round_index, limit) for name in names]


def _min_seconds(folder: Path) -> float:
    home = run_files.home(folder)
    return (run_dir.config_of(home).queue if run_dir.is_run(home) else QueueConfig()).min_seconds


def save_summary(folder: Path, table: pa.Table, findings: Sequence[str]) -> None:
    """Write `agreement.json`: who labelled, how far they agree, what they held to be no good."""
    agreed = agreement_of(folder, table, findings, NUM_BOOTSTRAP)
    doubtful = doubts(folder, table, findings, MAX_DOUBTS)
    num_disputed = len(verdicts.disagreements(table))
    save_counts(folder, table, findings, num_disputed, agreement=agreed, doubts=doubtful)


def save_counts(
    folder: Path,
    table: pa.Table,
    findings: Sequence[str],
    num_disagreements: int,
    agreement: dict[str, Any] | None = None,
    doubts: Sequence[dict[str, Any]] = (),
) -> None:
    """Write `agreement.json` from what is known already; of independent findings the parts tell how far they agree."""
    counts = {
        "annotators": annotators(folder),
        "num_disagreements": num_disagreements,
        "rejections": dict(sorted(Counter(verdicts.rejections(table).values()).items())),
        "agreement": agreement,
        "doubts": list(doubts),
        "disputes": disputes_of(folder, table, findings),
        **_seeing(folder),
    }
    write_text(folder / run_files.AGREEMENT, json.dumps(counts, indent=1, ensure_ascii=False))


def _seeing(folder: Path) -> dict[str, int]:
    """Answers given by somebody who could see why the scan was chosen, and scans handed out with the model's answer."""
    journal = Journal.open(folder)
    return {
        "num_not_blind": sum(not journal.batches[entry.batch].blind for entry in journal.active()),
        "num_preannotated": len(run_files.shown_with_answer(folder)),
    }


def _overruled(
    table: pa.Table, readings: Readings, findings: Sequence[str], group_N: np.ndarray
) -> list[dict[str, Any]]:
    """Disputes decided against each reader; empty where the design left none to decide."""
    settled = verdicts.settled_by_design(table)
    if not settled:
        return []
    classes = verdicts.expert_classes(table, findings)
    index = {finding: c for c, finding in enumerate(findings)}
    decided = (classes.get(image_id) if image_id in settled else None for image_id in readings.ids_N)
    decision_N = np.array([-1 if name is None else index[name] for name in decided], dtype=np.int64)
    rows = consensus.overruled_readers(readings.first_NM, decision_N, group_N)
    return [asdict(row) | {"annotator": readings.annotators[row.annotator]} for row in rows]


def _quality(folder: Path, readings: Readings, findings: Sequence[str]) -> dict[str, float]:
    train_N = is_train(folder, readings.ids_N)
    prob_NC = latest_probabilities(folder, last_learnt_round(folder), readings.ids_N, findings)
    quality_M = consensus.consensus(readings.first_NM[train_N], prob_NC[train_N]).annotator_quality_M
    return {name: float(q) for name, q in zip(readings.annotators, quality_M, strict=True) if np.isfinite(q)}


def _annotator(name: str, standing: list[JournalEntry], round_index: int | None, min_seconds: float) -> dict[str, Any]:
    own_answers = [entry.answer for entry in standing if entry.answer.annotator == name]
    seconds = [answer.seconds for answer in own_answers if answer.seconds is not None]
    return {
        "annotator": name,
        "num_answers": len(own_answers),
        "num_round": sum(answer.round_index == round_index for answer in own_answers),
        "num_rejected": sum(answer.reply in REJECTIONS for answer in own_answers),
        "num_unsure": sum(answer.certainty == "unsure" for answer in own_answers),
        "seconds_per_scan": round(median(seconds), 1) if seconds else None,
        "too_fast": len(seconds) >= MIN_TIMED and median(seconds) < min_seconds,
    }


def _intra(folder: Path, table: pa.Table, findings: Sequence[str], num_bootstrap: int) -> list[dict[str, Any]]:
    rows = verdicts.people_rows(table)
    rows = rows.filter(pc.invert(verdicts.in_a_role(rows)))
    people = rows.select(["image_id", "annotator", "round", "reply"]).to_pandas()
    steered = steered_readings(folder)
    people = people[[key not in steered for key in zip(people["image_id"], people["round"], strict=True)]]
    last = people.drop_duplicates(["image_id", "annotator", "round"], keep="last")
    both = last.groupby(["image_id", "annotator"], sort=True)["reply"].agg(["first", "last", "size"])
    both = both[both["size"] > 1].reset_index()
    names = sorted(set(both["annotator"]))
    index = {finding: c for c, finding in enumerate(findings)}
    if not names:
        return []
    agreed = agreement.intra(
        [index.get(reply, -1) for reply in both["first"]],
        [index.get(reply, -1) for reply in both["last"]],
        [names.index(name) for name in both["annotator"]],
        group_of_scans(folder, both["image_id"].tolist()),
        len(findings),
        num_bootstrap,
        np.random.default_rng(0),
    )
    return [{"annotator": names[who]} | _two(two) for who, two in agreed.items()]


def _two(two: TwoReaders) -> dict[str, Any]:
    return {"share": asdict(two.share), "cohen": asdict(two.kappa)}
