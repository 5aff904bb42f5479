"""The sealed holdout: the only reader of its labels, and every read is logged."""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.errors import RunDirError
from pipeline.contracts.tables import POOL_LABELS, SPLIT_TABLE
from pipeline.labels import label_table, verdicts
from pipeline.measures.holdout_record import HoldoutMetrics
from pipeline.runtime import run_files
from pipeline.runtime.object_storage import shared_logs

# N scans of the holdout, C findings


class Truth(NamedTuple):
    """Scans of the holdout of known class.

    Attributes:
        ids: image_id of each.
        class_N: Class index.
        group_N: Patient group.
    """

    ids: list[str]
    class_N: np.ndarray
    group_N: list[str]

    def keep(self, mask_N: np.ndarray) -> "Truth":
        """The scans where the mask is True."""
        rows = np.flatnonzero(mask_N)
        return Truth([self.ids[i] for i in rows], self.class_N[rows], [self.group_N[i] for i in rows])


def holdout_truth(folder: Path, findings: tuple[str, ...]) -> Truth:
    """Every holdout scan of known class, of all parts of a run that has grown; see `sealed_classes`."""
    splits = run_files.read(folder, SPLIT_TABLE, ["image_id", "group_id", "split"])
    holdout = splits.filter(pc.equal(splits["split"], "holdout"))
    sealed = holdout["image_id"].to_pylist()
    pool = POOL_LABELS.read(folder, ["image_id", "label"])
    pool = pool.filter(pc.is_in(pool["image_id"], value_set=holdout["image_id"].combine_chunks()))
    of_pool = dict(zip(pool["image_id"].to_pylist(), pool["label"].to_pylist(), strict=True))
    classes = sealed_classes({i: of_pool.get(i) for i in sealed}, label_table.read(folder), findings)
    group = dict(zip(sealed, holdout["group_id"].to_pylist(), strict=True))
    ids, class_N = verdicts.class_array(classes, findings)
    return Truth(ids, class_N, [group[image_id] for image_id in ids])


def sealed_classes(
    of_pool: Mapping[str, str | None], table: pa.Table, findings: Sequence[str]
) -> dict[str, str | None]:
    """What each sealed scan shows, None unknown: the pool's own label, else what experts say.

    In training a person beats the pool. Here it is the other way round: what the pool knew before anybody in this run
    looked at a scan is the reference that the model is tested against, and must not move with the run. A scan that
    experts hold to be no good tests nothing, whatever the pool says of it.

    Args:
        of_pool: The sealed scans, each with the pool's label.
        table: The label table.
        findings: C classes.

    Raises:
        InputError: experts have named other classes.
    """
    expert, rejected = verdicts.expert_classes(table, findings), verdicts.rejections(table)
    return {
        image_id: None if image_id in rejected else label if label in findings else expert.get(image_id)
        for image_id, label in of_pool.items()
    }


def scores_of(folder: Path, row: Mapping[str, Any] | None) -> HoldoutMetrics | None:
    """A round's `holdout` in `metrics.jsonl` of a run, or of one finding of it; None where nothing was scored.

    Raises:
        RunDirError: an older version wrote it, and did not say all that this one reads.
    """
    if row is None:
        return None
    try:
        return HoldoutMetrics.from_json(row)
    except ValueError as error:
        run = run_files.home(folder)
        env = run / run_files.ENV
        version = json.loads(env.read_text("utf-8")).get("cxr_ssl") if env.exists() else None
        raise RunDirError(
            f"was written by version {version or 'unknown'} of cxr-ssl ({error})",
            where=folder / run_files.METRICS,
            fix=f"learn its rounds again with this one, labels and queues stay: cxr-ssl run --out {run} --resume",
        ) from error


def log_read(folder: Path, reader: str, round_index: int | None, num_scans: int | None) -> None:
    """Note in `holdout_access.jsonl` that the holdout's labels were read, by whom and when."""
    entry = {
        "time": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "reader": reader,
        "round": round_index,
        "num_scans": num_scans,
    }
    shared_logs.append(folder / run_files.HOLDOUT_READS, (json.dumps(entry) + "\n").encode())
