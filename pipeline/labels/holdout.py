"""The sealed holdout: the only reader of its labels, and every read is logged."""

import datetime as dt
import json
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from pipeline.contracts.tables import POOL_LABELS, SPLIT_TABLE
from pipeline.labels import label_table, verdicts
from pipeline.runtime import run_files

# N scans of the holdout, C findings


def holdout_truth(folder: Path, findings: tuple[str, ...]) -> tuple[list[str], np.ndarray, list[str]]:
    """Ids, class and patient group of every holdout scan of known class: by the pool's label, else by experts.

    A scan that experts hold to be no good tests nothing, whatever the pool says of it.
    """
    splits = run_files.read(folder, SPLIT_TABLE)
    holdout = splits.filter(pc.equal(splits["split"], "holdout"))
    truth = POOL_LABELS.read(folder)
    known = dict(zip(truth["image_id"].to_pylist(), truth["label"].to_pylist(), strict=True))
    table = label_table.read(folder)
    expert, rejected = verdicts.expert_classes(table, findings), verdicts.rejections(table)
    classes = {
        image_id: known.get(image_id) if known.get(image_id) in findings else expert.get(image_id)
        for image_id in holdout["image_id"].to_pylist()
        if image_id not in rejected
    }
    group = dict(zip(holdout["image_id"].to_pylist(), holdout["group_id"].to_pylist(), strict=True))
    ids, class_N = verdicts.class_array(classes, findings)
    return ids, class_N, [group[image_id] for image_id in ids]


def log_read(folder: Path, reader: str, round_index: int | None, num_scans: int | None) -> None:
    """Note in `holdout_access.jsonl` that the holdout's labels were read, by whom and when."""
    entry = {
        "time": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "reader": reader,
        "round": round_index,
        "num_scans": num_scans,
    }
    with (folder / run_files.HOLDOUT_READS).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(entry) + "\n")
