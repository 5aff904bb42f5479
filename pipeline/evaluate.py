"""The sealed holdout: the only reader of its labels, and every read is logged."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import labels, metrics
from pipeline.context import StageContext
from pipeline.contracts import POOL_LABELS, SPLIT_TABLE
from pipeline.vectors import Vectors

# N scans of the holdout, C findings

ACCESS_LOG = "holdout_access.jsonl"


def holdout_truth(folder: Path, findings: tuple[str, ...]) -> tuple[list[str], np.ndarray, list[str]]:
    """Ids, class and patient group of every holdout scan of known class: by the pool's label, else by experts.

    A scan that experts hold to be no good tests nothing, whatever the pool says of it.
    """
    splits = SPLIT_TABLE.read(folder)
    holdout = splits.filter(pc.equal(splits["split"], "holdout"))
    truth = POOL_LABELS.read(folder)
    known = dict(zip(truth["image_id"].to_pylist(), truth["label"].to_pylist(), strict=True))
    table = labels.read(folder)
    expert, rejected = labels.expert_classes(table, findings), labels.rejections(table)
    classes = {
        image_id: known.get(image_id) if known.get(image_id) in findings else expert.get(image_id)
        for image_id in holdout["image_id"].to_pylist()
        if image_id not in rejected
    }
    group = dict(zip(holdout["image_id"].to_pylist(), holdout["group_id"].to_pylist(), strict=True))
    ids, class_N = labels.class_array(classes, findings)
    return ids, class_N, [group[image_id] for image_id in ids]


def evaluate(
    ctx: StageContext,
    round_index: int,
    prob_NC: np.ndarray,
    predicted_N: np.ndarray,
    findings: tuple[str, ...],
    reader: str = "evaluate",
) -> dict[str, Any] | None:
    """Metrics of the holdout with patient-cluster bootstrap intervals; None where no holdout label is known.

    Args:
        ctx: The stage's context.
        round_index: Which round reads.
        prob_NC: Calibrated probabilities of every scan with a vector.
        predicted_N: Their classes at the operating point.
        findings: C classes.
        reader: Who asks, for the log.
    """
    ids, class_N, group_N = holdout_truth(ctx.folder, findings)
    vectors = Vectors.open(ctx.folder)
    has = vectors.has(pa.array(ids, pa.string())).to_numpy(zero_copy_only=False)
    ids = [image_id for image_id, found in zip(ids, has, strict=True) if found]
    if not ids:
        return None
    rows = vectors.positions(ids)
    found = metrics.evaluate(
        prob_NC[rows],
        predicted_N[rows],
        class_N[has],
        findings,
        [group for group, kept in zip(group_N, has, strict=True) if kept],
        num_bootstrap=ctx.config.evaluate.num_bootstrap,
        rng=ctx.rng("evaluate", round_index),
    )
    log_read(ctx.folder, reader, round_index, len(ids))
    return found


def operating_weights(prevalence_C: np.ndarray, kind: str) -> np.ndarray:
    """balanced: divide by the pool's prevalence, which maximises balanced accuracy of calibrated scores; else ones."""
    return prevalence_C if kind == "balanced" else np.full(len(prevalence_C), 1.0 / len(prevalence_C))


def log_read(folder: Path, reader: str, round_index: int | None, num_scans: int | None) -> None:
    """Note in `holdout_access.jsonl` that the holdout's labels were read, by whom and when."""
    entry = {
        "time": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "reader": reader,
        "round": round_index,
        "num_scans": num_scans,
    }
    with (folder / ACCESS_LOG).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(entry) + "\n")
