"""Which scans may be learnt from and which are sealed: by group, stable as the pool grows.

A group (patient, exact and near duplicates joined) is assigned as a whole by a salted hash of one member's
key: the patient id, or the content's hash where no patient is known. So new patients move nobody.
"""

import hashlib
import logging

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.config import SplitsConfig
from pipeline.context import StageContext
from pipeline.contracts import DUPLICATES, MANIFEST, POOL_LABELS, SPLIT_TABLE
from pipeline.errors import ContractError, InputError
from pipeline.pool_values import HOLDOUT_NAMES, SPLIT_NAMES

_log = logging.getLogger(__name__)

_LEAK = "its group has a scan in the holdout"


def run(ctx: StageContext) -> dict[str, int]:
    """Write `splits` from `manifest`, `pool_labels` and `duplicates`.

    Raises:
        InputError: the pool's split has unknown names, or one side would be empty.
    """
    manifest, duplicates = MANIFEST.read(ctx.folder), DUPLICATES.read(ctx.folder)
    pool_split = POOL_LABELS.read(ctx.folder)["pool_split"]
    config = ctx.config.splits
    own = config.column == "auto" and pool_split.null_count < len(pool_split)
    table = by_pool(manifest, duplicates, pool_split) if own else by_hash(manifest, duplicates, config)
    if not own and (ctx.folder / f"{SPLIT_TABLE.name}.parquet").exists():
        table = keep_sealed(table, SPLIT_TABLE.read(ctx.folder))
    counts = _counted(table, own)
    assert_no_leak(table, manifest, duplicates)
    SPLIT_TABLE.write(ctx.folder, table)
    return counts


def by_pool(manifest: pa.Table, duplicates: pa.Table, pool_split: pa.ChunkedArray) -> pa.Table:
    """The pool's own split; a train scan whose group reaches into the holdout is never trained on."""
    names = pc.utf8_lower(pool_split)
    unknown = sorted(set(pc.unique(names).drop_null().to_pylist()) - SPLIT_NAMES)
    if unknown:
        raise InputError(
            "unknown names in the pool's split column",
            value=unknown,
            where="official_split",
            fix=f"use {', '.join(sorted(SPLIT_NAMES))}, or set splits.column=none to ignore the column",
        )
    if names.null_count:
        _log.warning("%d scans have no name in the pool's split column and count as train", names.null_count)
    usable = pc.equal(manifest["status"], "ok")
    sealed = pc.and_(usable, pc.fill_null(pc.is_in(names, pa.array(sorted(HOLDOUT_NAMES))), False))
    group_id = duplicates["group_id"]
    touched = pc.is_in(group_id, pc.unique(group_id.filter(sealed)))
    leaks = pc.and_(pc.and_not(touched, sealed), usable)
    num_leaks = pc.sum(leaks).as_py()
    if num_leaks:
        _log.warning(
            "%d scans of the pool's training split are excluded: patient or picture is also in the holdout",
            num_leaks,
        )
    return _table(manifest, group_id, sealed, leaks)


def by_hash(manifest: pa.Table, duplicates: pa.Table, config: SplitsConfig) -> pa.Table:
    """A share of the groups, chosen by a salted hash."""
    group_id = duplicates["group_id"]
    groups = pc.unique(group_id)
    group_N = np.asarray(pc.index_in(group_id, groups), np.int64)
    keys = pc.coalesce(manifest["patient_id"], manifest["sha256"], manifest["image_id"])
    distinct = pc.unique(keys)
    order_K = _hashes(distinct.to_pylist(), f"{config.salt}/key")
    order_N = order_K[np.asarray(pc.index_in(keys, distinct), np.int64)]
    # A scan that cannot be read may come back repaired: it must not decide for its group.
    order_N = np.where(np.asarray(pc.equal(manifest["status"], "ok")), order_N, np.uint64(2**64 - 1))
    smallest_G = np.full(len(groups), 2**64 - 1, np.uint64)
    np.minimum.at(smallest_G, group_N, order_N)
    share_G = _hashes(smallest_G.tolist(), f"{config.salt}/share") / 2.0**64
    sealed_N = (share_G < config.holdout_fraction)[group_N]
    return _table(manifest, group_id, pa.chunked_array([sealed_N]), None)


def keep_sealed(table: pa.Table, before: pa.Table) -> pa.Table:
    """In a grown pool nobody changes sides: what was sealed stays sealed, what was trained on is never tested on.

    A new scan that joins two groups (a copy of one patient's picture under another's name) may change the key of
    the whole group. A group with a sealed scan stays in the holdout, less its old training scans, which are
    excluded; a group with old training scans alone stays in the training pool.
    """

    def was(side: str) -> pa.ChunkedArray:
        ids = before.filter(pc.equal(before["split"], side))["image_id"].combine_chunks()
        return pc.is_in(table["image_id"], value_set=ids)

    def touched_by(rows: pa.ChunkedArray) -> pa.ChunkedArray:
        return pc.is_in(table["group_id"], pc.unique(table["group_id"].filter(rows)))

    sealed, trained = touched_by(was("holdout")), touched_by(was("train"))
    leaks = pc.and_(sealed, was("train"))
    side = pc.if_else(sealed, pc.if_else(leaks, "excluded", "holdout"), pc.if_else(trained, "train", table["split"]))
    usable = pc.not_equal(table["split"], "excluded")
    columns = {
        "image_id": table["image_id"],
        "group_id": table["group_id"],
        "split": pc.if_else(usable, side, table["split"]),
        "reason": pc.if_else(pc.and_(usable, leaks), _LEAK, table["reason"]),
    }
    return pa.table(columns, schema=SPLIT_TABLE.schema)


def assert_no_leak(table: pa.Table, manifest: pa.Table, duplicates: pa.Table) -> None:
    """Assert that no patient and no group is in both the train pool and the holdout.

    Raises:
        ContractError: with the number of each that is.
    """
    if table["image_id"] != manifest["image_id"] or table["image_id"] != duplicates["image_id"]:
        raise ContractError("splits, manifest and duplicates do not list the same scans", where=SPLIT_TABLE.name)
    sides = [pc.equal(table["split"], side) for side in ("train", "holdout")]
    for what, column in (("patients", manifest["patient_id"]), ("groups", duplicates["group_id"])):
        train, holdout = (set(pc.unique(column.filter(side)).drop_null().to_pylist()) for side in sides)
        both = sorted(train & holdout)
        if both:
            raise ContractError(
                f"{len(both)} {what} are in both the train pool and the holdout, the first is {both[0]}",
                where=SPLIT_TABLE.name,
            )


def _table(
    manifest: pa.Table, group_id: pa.ChunkedArray, sealed: pa.ChunkedArray, leaks: pa.ChunkedArray | None
) -> pa.Table:
    split = pc.if_else(sealed, "holdout", "train")
    reason = pa.nulls(len(manifest), pa.string())
    if leaks is not None:
        split, reason = pc.if_else(leaks, "excluded", split), pc.if_else(leaks, _LEAK, reason)
    broken = pc.equal(manifest["status"], "quarantined")
    why = pc.binary_join_element_wise("quarantined", manifest["reason"], ": ")
    columns = {
        "image_id": manifest["image_id"],
        "group_id": group_id,
        "split": pc.if_else(broken, "excluded", split),
        "reason": pc.if_else(broken, why, reason),
    }
    return pa.table(columns, schema=SPLIT_TABLE.schema)


def _hashes(keys: list[str] | list[int], salt: str) -> NDArray[np.uint64]:
    """Uniform 64-bit numbers, one per key."""
    digests = b"".join(hashlib.sha256(f"{salt}\0{key}".encode()).digest()[:8] for key in keys)
    return np.frombuffer(digests, ">u8").astype(np.uint64)


def _counted(table: pa.Table, own: bool) -> dict[str, int]:
    found = {row["values"]: row["counts"] for row in pc.value_counts(table["split"]).to_pylist()}
    counts = {f"num_{side}": found.get(side, 0) for side in ("train", "holdout", "excluded")}
    for side in ("train", "holdout"):
        if counts[f"num_{side}"]:
            continue
        num_groups = len(pc.unique(table["group_id"]))
        raise InputError(
            f"the {'train pool' if side == 'train' else 'holdout'} would be empty: {len(table)} scans in "
            f"{num_groups} groups, {counts['num_excluded']} excluded",
            where="splits",
            fix="set splits.column=none to draw a holdout from the pool, or correct the pool's split column"
            if own
            else "add scans of more patients, or change splits.holdout_fraction",
        )
    leaks = pc.sum(pc.fill_null(pc.equal(table["reason"], _LEAK), False)).as_py()
    return counts | {"num_leaks_excluded": int(leaks or 0)}
