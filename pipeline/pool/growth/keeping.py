"""How what was said of a run's scans stays as it was when others join: copies, groups, sides of the split.

Shapes: N scans of the manifest.
"""

import logging
from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.tables import DUPLICATES, SPLIT_TABLE

log = logging.getLogger(__name__)
JOINS_SEALED = "its patient or picture is in the holdout of before it joined"
_NONE = "excluded"
_QUARANTINED = "quarantined"  # how the reason of a scan begins that the split leaves out because it is unusable
_WAS = {"train": "; it was in the training pool", "holdout": "; it was in the holdout"}  # and how it then ends


def rows_in(image_id: pa.ChunkedArray, before: pa.Table) -> np.ndarray:
    """Row of each scan in a table of before (N,), int64; -1 where it is new."""
    place = pc.index_in(image_id, value_set=before["image_id"].combine_chunks())
    return np.asarray(pc.fill_null(place, -1)).astype(np.int64)


def old_links(image_id: pa.ChunkedArray, before: pa.Table) -> list[tuple[np.ndarray, np.ndarray]]:
    """Links (left, right) between rows that were one picture, and between rows that were one group."""
    ids = image_id.combine_chunks()
    left = np.flatnonzero(rows_in(image_id, before) >= 0)
    known = before.take(pa.array(rows_in(image_id, before)[left]))
    links = []
    for column in ("canonical_id", "group_id"):
        right = pc.index_in(known[column], value_set=ids)
        there = np.flatnonzero(np.asarray(pc.is_valid(right)))
        links.append((left[there], np.asarray(right.drop_null()).astype(np.int64)))
    return links


def named_as(table: pa.Table, before: pa.Table) -> pa.Table:
    """The rows of the `DUPLICATES` contract, with the names that their groups had before.

    Where old groups have become one, the smaller name is that of both. Where an old group has fallen apart, as other
    options may make it, the part with the scan of that name keeps it, and the others are named as new ones are.

    Args:
        table: With groups named by their smallest scans.
        before: As it was.
    """
    group_of = dict(zip(table["image_id"].to_pylist(), _texts(table["group_id"]), strict=True))
    owner_of: dict[str, str] = {}  # of each old name, the group that holds its scan; else the first with an old member
    for image_id, name in zip(_texts(before["image_id"]), _texts(before["group_id"]), strict=True):
        if image_id in group_of:
            owner_of.setdefault(name, group_of[name if name in group_of else image_id])
    name_of: dict[str, str] = {}
    for name, group in owner_of.items():
        name_of[group] = min(name, name_of.get(group, name))
    names = pa.array([name_of.get(group, group) for group in _texts(table["group_id"])], pa.string())
    return table.set_column(table.column_names.index("group_id"), DUPLICATES.schema.field("group_id"), names)


def copies(table: pa.Table, before: pa.Table) -> pa.Table:
    """The rows of the `DUPLICATES` contract, those of old scans as they were; groups as the table names them.

    Args:
        table: As it comes out of all links, old and new, see `named_as`.
        before: As it was before scans joined.
    """
    old_N = rows_in(table["image_id"], before)
    is_old_N = old_N >= 0
    known = before.take(pa.array(old_N[is_old_N]))
    columns = {"image_id": table["image_id"], "group_id": table["group_id"]}
    for name in DUPLICATES.schema.names[2:]:
        values = table[name].to_pylist()
        for row, value in zip(np.flatnonzero(is_old_N), known[name].to_pylist(), strict=True):
            values[row] = value
        columns[name] = values
    return pa.table(columns, schema=DUPLICATES.schema)


def sides(
    manifest: pa.Table,
    duplicates: pa.Table,
    before: pa.Table,
    part_N: np.ndarray,
    draw: Callable[[np.ndarray], pa.Table],
    leak: str,
) -> pa.Table:
    """The split of a grown pool: old scans keep their side, and new patients are drawn part by part.

    A new scan of a patient, or of a picture, of the training pool joins it; one of the holdout's is left out, so that
    the old holdout stays as it was and no patient is in two of them. Where a new scan shows that an old training scan
    and a sealed one are of one patient, the training scan is left out from now on. An old scan that cannot be used any
    more is left out, and its patient still counts for the side it was on. Once it can be used again it is back on that
    side, so that nothing that was trained on is ever sealed; one that never had a side is taken as a new one of its
    part.

    Args:
        manifest: One row a scan.
        duplicates: Its groups.
        before: Rows of the `SPLIT_TABLE` contract as they were, see `with_former_sides`.
        part_N: The part of each scan.
        draw: From rows of the manifest, all of new groups, to rows of the `SPLIT_TABLE` contract.
        leak: Reason of a training scan that is left out.
    """
    usable_N = np.asarray(pc.equal(manifest["status"], "ok"))
    known_N, side_N, reason_N = _of_before(manifest["image_id"], before, usable_N)
    broken_N = known_N & ~usable_N
    group_N = np.unique(_texts(duplicates["group_id"]).astype(str), return_inverse=True)[1]
    sealed_N = np.isin(group_N, group_N[side_N == "holdout"])
    leaks_N = sealed_N & (side_N == "train")
    side_N[leaks_N], reason_N[leaks_N] = _NONE, leak
    if leaks_N.any():
        log.warning("%d scans are not trained on any more: %s, as scans that joined show", leaks_N.sum(), leak)
    for part in np.unique(part_N[~known_N]):
        new_N = ~known_N & (part_N == part)
        trained_N = np.isin(group_N, group_N[side_N == "train"])
        sealed_N = np.isin(group_N, group_N[side_N == "holdout"])
        joins_N = new_N & usable_N & (trained_N | sealed_N)
        side_N[joins_N] = np.where(sealed_N[joins_N], _NONE, "train")
        reason_N[joins_N & sealed_N] = JOINS_SEALED
        rows = np.flatnonzero(new_N & ~joins_N)
        if len(rows):
            drawn = draw(rows)
            side_N[rows], reason_N[rows] = _texts(drawn["split"]), _texts(drawn["reason"])
        known_N = known_N | new_N
        if not ((part_N == part) & (side_N == "holdout")).any():
            log.warning("part %d has no patient for a holdout of its own", part)
    side_N[broken_N] = _NONE
    reason_N[broken_N] = [f"{_QUARANTINED}: {why}" for why in _texts(manifest["reason"])[broken_N]]
    columns = {"image_id": manifest["image_id"], "group_id": duplicates["group_id"]}
    table = pa.table(columns | {"split": side_N.tolist(), "reason": reason_N.tolist()}, schema=SPLIT_TABLE.schema)
    return with_sides_noted(table, before)


def with_former_sides(before: pa.Table, asked_as: Mapping[str, str]) -> pa.Table:
    """The rows of a split, with each unusable scan on the side that it was on while it could be used.

    Args:
        before: Rows of the `SPLIT_TABLE` contract.
        asked_as: For scans that somebody was asked about, "train" or "holdout"; counts where a reason does not tell the
            side.
    """
    side_N, rows = _texts(before["split"]), zip(_texts(before["image_id"]), _texts(before["reason"]), strict=True)
    for row, (image_id, reason) in enumerate(rows):
        if str(reason).startswith(_QUARANTINED):
            was = next((side for side, end in _WAS.items() if reason.endswith(end)), None)
            side_N[row] = was or asked_as.get(image_id, _NONE)
    sides = pa.array(side_N.tolist(), pa.string())
    return before.set_column(before.column_names.index("split"), SPLIT_TABLE.schema.field("split"), sides)


def with_sides_noted(table: pa.Table, before: pa.Table) -> pa.Table:
    """The rows of a split; the reason of an unusable scan says which side it was on.

    Args:
        table: Rows of the `SPLIT_TABLE` contract.
        before: As they were, see `with_former_sides`.
    """
    reason_N = _texts(table["reason"])
    side_of = dict(zip(_texts(before["image_id"]), _texts(before["split"]), strict=True))
    for row, image_id in enumerate(_texts(table["image_id"])):
        if str(reason_N[row]).startswith(_QUARANTINED):
            reason_N[row] += _WAS.get(side_of.get(image_id, _NONE), "")
    reasons = pa.array(reason_N.tolist(), pa.string())
    return table.set_column(table.column_names.index("reason"), SPLIT_TABLE.schema.field("reason"), reasons)


def _of_before(
    image_id: pa.ChunkedArray, before: pa.Table, usable_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which scans have a side already (N,), that side and its reason; of the others "excluded" and None."""
    old_N = rows_in(image_id, before)
    known_N = old_N >= 0
    side_N, reason_N = np.full(len(old_N), _NONE, object), np.full(len(old_N), None, object)
    rows = before.take(pa.array(old_N[known_N]))
    side_N[known_N], reason_N[known_N] = _texts(rows["split"]), _texts(rows["reason"])
    was_broken_N = np.array([str(reason).startswith(_QUARANTINED) for reason in reason_N], bool)
    repaired_N = known_N & usable_N & was_broken_N
    reason_N[repaired_N] = None
    return known_N & ~(repaired_N & (side_N == _NONE)), side_N, reason_N


def _texts(column: pa.ChunkedArray) -> np.ndarray:
    return np.array(column.to_pylist() or [], dtype=object)
