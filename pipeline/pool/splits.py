"""Which scans may be learnt from and which are sealed: by group, stable as the pool grows.

A group (patient, exact and near duplicates joined) is assigned as a whole by a hash of one member's key: the patient
id, or the content's hash where no patient is known. So new patients move nobody, and two runs of one pool seal the
same patients (`splits.draw`), although each has a secret of its own for the ids that it shows.

The hash alone is right on average, and misses by chance where there are few: of 16 patients with a rare finding it
may seal none. So in a stratum (label and source) of few groups those of the smallest hashes are sealed, as many as
its share; in a run whose pool grows, `keep_sealed` still moves nobody.
"""

import hashlib
import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.contracts.errors import ContractError, InputError
from pipeline.contracts.options.scans import SplitsConfig
from pipeline.contracts.tables import DUPLICATES, MANIFEST, POOL_LABELS, SPLIT_TABLE, read_parquet
from pipeline.pool.growth import keeping
from pipeline.pool.vocabulary import HOLDOUT_NAMES, SPLIT_NAMES
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.growth import record

_log = logging.getLogger(__name__)

_OF_MANIFEST = ("image_id", "sha256", "patient_id", "source", "status", "reason")
_LARGE_STRATUM = 200  # groups
_SEAL_ONE_OF = 3
_LEAK = "its group has a scan in the holdout"


def run(ctx: StageContext) -> dict[str, int]:
    """Write `splits` from `manifest`, `pool_labels` and `duplicates`.

    Raises:
        InputError: the pool's split has unknown names, or one side would be empty.
    """
    manifest = run_files.read(ctx.folder, MANIFEST, _OF_MANIFEST)
    duplicates = run_files.read(ctx.folder, DUPLICATES, ["image_id", "group_id"])
    own = uses_own_split(ctx.config.splits, POOL_LABELS.read(ctx.folder, ["pool_split"])["pool_split"])
    has_split = run_files.path(ctx.folder, SPLIT_TABLE.file).exists()
    if record.parts(ctx.folder) and has_split:
        table = _of_grown_pool(ctx, manifest, duplicates)
    else:
        table = _drawn(ctx, manifest, duplicates, np.arange(len(manifest)))
        begun = run_files.has_rounds(ctx.folder)  # before that nobody has been trained on, and any split may be drawn
        if begun and not own and ctx.config.splits.holdout_source is None and has_split:
            table = keep_sealed(table, _before(ctx.folder))
    counts = _counted(table, own)
    assert_no_leak(table, manifest, duplicates)
    SPLIT_TABLE.write(ctx.folder, table)
    return counts


def _drawn(ctx: StageContext, manifest: pa.Table, duplicates: pa.Table, rows: NDArray[np.int64]) -> pa.Table:
    """The split of some scans, by the first rule that fits them: one source, the pool's own split, a hash."""
    config = ctx.config.splits
    labels = POOL_LABELS.read(ctx.folder, ["label", "pool_split"])
    keys = _split_keys(ctx.folder)
    if len(rows) < len(manifest):
        taken = pa.array(rows)
        labels, manifest, duplicates = labels.take(taken), manifest.take(taken), duplicates.take(taken)
        keys = None if keys is None else keys.take(taken)
    source = config.holdout_source
    if source is not None and (not record.parts(ctx.folder) or pc.any(pc.equal(manifest["source"], source)).as_py()):
        return by_source(manifest, duplicates, source)
    if uses_own_split(config, labels["pool_split"]):
        return by_pool(manifest, duplicates, labels["pool_split"])
    return by_hash(manifest, duplicates, config, labels["label"], keys)


def _of_grown_pool(ctx: StageContext, manifest: pa.Table, duplicates: pa.Table) -> pa.Table:
    """Old scans keep their side; a holdout of each part is drawn among patients who are new, by the same rule."""
    before, part_N = _before(ctx.folder), record.part_of(ctx.folder, manifest["image_id"])

    def draw(rows: NDArray[np.int64]) -> pa.Table:
        return _drawn(ctx, manifest, duplicates, rows)

    return keeping.sides(manifest, duplicates, before, part_N, draw, _LEAK)


def _before(folder: Path) -> pa.Table:
    """The split as it was, with what is unusable now on the side that it was on."""
    side_of: dict[str, str] = {}
    for image_id, _, kind in run_files.asks_of(folder):
        if kind != "holdout":
            side_of[image_id] = "train"
        else:
            side_of.setdefault(image_id, "holdout")
    return keeping.with_former_sides(run_files.read(folder, SPLIT_TABLE), side_of)


def by_pool(manifest: pa.Table, duplicates: pa.Table, pool_split: pa.ChunkedArray) -> pa.Table:
    """The pool's own split; a train scan whose group reaches into the holdout is never trained on."""
    refuse_unknown_names(pool_split)
    names = pc.utf8_lower(pool_split)
    if names.null_count:
        _log.warning("%d scans have no name in the pool's split column and count as train", names.null_count)
    sealed = pc.fill_null(pc.is_in(names, pa.array(sorted(HOLDOUT_NAMES))), False)
    return _without_leaks(manifest, duplicates["group_id"], sealed, "the pool's training split")


def by_source(manifest: pa.Table, duplicates: pa.Table, source: str) -> pa.Table:
    """One source is sealed: an external test; a scan of another source whose group reaches into it is excluded.

    Raises:
        InputError: no scan is of this source.
    """
    sealed = pc.fill_null(pc.equal(manifest["source"], source), False)
    if not pc.any(sealed).as_py():
        raise InputError(
            "no scan is of this source",
            value=source,
            where="splits.holdout_source",
            fix=f"name one of {sorted(pc.unique(manifest['source']).drop_null().to_pylist())}",
        )
    return _without_leaks(manifest, duplicates["group_id"], sealed, "other sources")


def uses_own_split(config: SplitsConfig, pool_split: pa.ChunkedArray) -> bool:
    """Whether the pool's own split column decides."""
    return bool(config.column == "auto" and config.holdout_source is None and pool_split.null_count < len(pool_split))


def refuse_unknown_names(pool_split: pa.ChunkedArray) -> None:
    """Refuse a split column with names we cannot read.

    Raises:
        InputError: naming them, and the names that are known.
    """
    unknown = sorted(set(pc.unique(pc.utf8_lower(pool_split)).drop_null().to_pylist()) - SPLIT_NAMES)
    if unknown:
        raise InputError(
            "unknown names in the pool's split column",
            value=unknown,
            where="official_split",
            fix=f"use {', '.join(sorted(SPLIT_NAMES))}, or set splits.column=none to ignore the column",
        )


def by_hash(
    manifest: pa.Table,
    duplicates: pa.Table,
    config: SplitsConfig,
    label: pa.ChunkedArray | None = None,
    key_of_patient: pa.ChunkedArray | None = None,
) -> pa.Table:
    """A share of the groups, chosen by a hash; of a small stratum the groups of the smallest hashes.

    Args:
        manifest: One row a scan.
        duplicates: Its groups.
        config: Which draw, and how large a share.
        label: Of each scan, where a rare class is to be sealed in its share.
        key_of_patient: What is hashed for a scan whose patient is known; None: the pseudonym.
    """
    group_id = duplicates["group_id"]
    groups = pc.unique(group_id)
    group_N = np.asarray(pc.index_in(group_id, groups), np.int64)
    patient = manifest["patient_id"] if key_of_patient is None else key_of_patient
    keys = pc.coalesce(patient, manifest["sha256"], manifest["image_id"])
    distinct = pc.unique(keys)
    order_K = _hashes(distinct.to_pylist(), f"{config.draw}/key")
    order_N = order_K[np.asarray(pc.index_in(keys, distinct), np.int64)]
    # A scan that cannot be read may come back repaired: it must not decide for its group.
    order_N = np.where(np.asarray(pc.equal(manifest["status"], "ok")), order_N, np.uint64(2**64 - 1))
    smallest_G = np.full(len(groups), 2**64 - 1, np.uint64)
    np.minimum.at(smallest_G, group_N, order_N)
    share_G = _hashes(smallest_G.tolist(), f"{config.draw}/share") / 2.0**64
    sealed_G = share_G < config.holdout_fraction
    if label is not None:
        sealed_G = _small_strata(sealed_G, share_G, _strata(manifest, label, group_N), config.holdout_fraction)
    sealed_N = sealed_G[group_N]
    return _table(manifest, group_id, pa.chunked_array([sealed_N]), None)


def _split_keys(folder: Path) -> pa.ChunkedArray | None:
    place = run_files.path(folder, run_files.SPLIT_KEYS)
    return read_parquet(place, ["split_key"])["split_key"] if place.exists() else None


def _strata(manifest: pa.Table, label: pa.ChunkedArray, group_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """One stratum for each group: the rarest of its scans' combinations of label and source."""
    key = pc.binary_join_element_wise(
        pc.fill_null(label, ""), pc.fill_null(manifest["source"], ""), "\0", null_handling="emit_null"
    )
    usable = np.asarray(pc.equal(manifest["status"], "ok"))
    names = pc.unique(key)
    code_N = np.asarray(pc.index_in(key, names), np.int64)
    size_S = np.bincount(code_N[usable], minlength=len(names))
    rarity_S = np.empty(len(names), np.int64)
    rarity_S[np.lexsort((names.to_pylist(), size_S))] = np.arange(len(names))
    rarest_G = np.full(int(group_N.max()) + 1, len(names), np.int64)
    np.minimum.at(rarest_G, group_N[usable], rarity_S[code_N[usable]])
    return rarest_G


def _small_strata(
    sealed_G: NDArray[np.bool_], share_G: NDArray[np.float64], stratum_G: NDArray[np.int64], fraction: float
) -> NDArray[np.bool_]:
    """Seal exactly the share of a stratum of few groups, at least one where it has three."""
    out_G = sealed_G.copy()
    for stratum in np.unique(stratum_G):
        groups = np.flatnonzero(stratum_G == stratum)
        if not _SEAL_ONE_OF <= len(groups) < _LARGE_STRATUM:
            continue  # of many the hash alone is within a few points, and new patients then move nobody
        quota = max(round(fraction * len(groups)), 1)
        order = groups[np.argsort(share_G[groups], kind="stable")]
        out_G[order[:quota]], out_G[order[quota:]] = True, False
    return out_G


def keep_sealed(table: pa.Table, before: pa.Table) -> pa.Table:
    """In a grown pool nobody changes sides: what was sealed stays sealed, what was trained on is never tested on.

    A new scan that joins two groups (a copy of one patient's picture under another's name) may change the key of
    the whole group. A group with a sealed scan stays in the holdout, less its old training scans, which are
    excluded and stay so in every later draw; a group with old training scans alone stays in the training pool.

    Args:
        table: As it is drawn now.
        before: As it was, see `keeping.with_former_sides`.
    """

    def was(side: str) -> pa.ChunkedArray:
        ids = before.filter(pc.equal(before["split"], side))["image_id"].combine_chunks()
        return pc.is_in(table["image_id"], value_set=ids)

    def touched_by(rows: pa.ChunkedArray) -> pa.ChunkedArray:
        return pc.is_in(table["group_id"], pc.unique(table["group_id"].filter(rows)))

    # A scan that an earlier draw left out as a leak was trained on too, though its side is "excluded" since.
    is_leak = pc.fill_null(pc.equal(before["reason"], _LEAK), False)
    left_out = pc.is_in(table["image_id"], value_set=before.filter(is_leak)["image_id"].combine_chunks())
    was_trained = pc.or_(was("train"), left_out)
    sealed, trained = touched_by(was("holdout")), touched_by(was_trained)
    leaks = pc.and_(sealed, was_trained)
    side = pc.if_else(sealed, pc.if_else(leaks, "excluded", "holdout"), pc.if_else(trained, "train", table["split"]))
    usable = pc.not_equal(table["split"], "excluded")
    columns = {
        "image_id": table["image_id"],
        "group_id": table["group_id"],
        "split": pc.if_else(usable, side, table["split"]),
        "reason": pc.if_else(pc.and_(usable, leaks), _LEAK, table["reason"]),
    }
    return keeping.with_sides_noted(pa.table(columns, schema=SPLIT_TABLE.schema), before)


def assert_no_leak(table: pa.Table, manifest: pa.Table, duplicates: pa.Table) -> None:
    """Assert that no patient and no group is in both the train pool and the holdout.

    Raises:
        ContractError: with the number of each that is.
    """
    if table["image_id"] != manifest["image_id"] or table["image_id"] != duplicates["image_id"]:
        raise ContractError("splits, manifest and duplicates do not list the same scans", where=SPLIT_TABLE.name)
    sides = [pc.equal(table["split"], side) for side in ("train", "holdout")]
    for what, column in (("patients", manifest["patient_id"]), ("groups", duplicates["group_id"])):
        train, holdout = (pc.unique(column.filter(side)).drop_null() for side in sides)
        both = sorted(train.filter(pc.is_in(train, value_set=holdout)).to_pylist())
        if both:
            raise ContractError(
                f"{len(both)} {what} are in both the train pool and the holdout, the first is {both[0]}",
                where=SPLIT_TABLE.name,
            )


def _without_leaks(manifest: pa.Table, group_id: pa.ChunkedArray, sealed: pa.ChunkedArray, of: str) -> pa.Table:
    """The split, without the training scans whose group has a sealed one."""
    usable = pc.equal(manifest["status"], "ok")
    sealed = pc.and_(usable, sealed)
    touched = pc.is_in(group_id, pc.unique(group_id.filter(sealed)))
    leaks = pc.and_(pc.and_not(touched, sealed), usable)
    num_leaks = pc.sum(leaks).as_py()
    if num_leaks:
        _log.warning("%d scans of %s are excluded: patient or picture is also in the holdout", num_leaks, of)
    return _table(manifest, group_id, sealed, leaks)


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


def _hashes(keys: list[str] | list[int], name: str) -> NDArray[np.uint64]:
    """Uniform 64-bit numbers, one per key."""
    digests = b"".join(hashlib.sha256(f"{name}\0{key}".encode()).digest()[:8] for key in keys)
    return np.frombuffer(digests, ">u8").astype(np.uint64)


def _counted(table: pa.Table, own: bool) -> dict[str, int]:
    count_of = {row["values"]: row["counts"] for row in pc.value_counts(table["split"]).to_pylist()}
    counts = {f"num_{side}": count_of.get(side, 0) for side in ("train", "holdout", "excluded")}
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
