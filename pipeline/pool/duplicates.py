"""Scans that show the same picture, and groups that must stay on one side of the split.

The same picture: equal bytes, near picture hashes (`pipeline.pool.hash_pairs`) confirmed by the pixels
(`pipeline.pool.pixel_pairs`), or many points in common (`pipeline.pool.copies`), which survive turning, mirroring and
cropping. A group joins the copies of a picture and all scans of a patient, link by link.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.contracts.options.scans import DuplicatesConfig, PoolConfig
from pipeline.contracts.tables import DUPLICATES, MANIFEST
from pipeline.pool import hash_pairs
from pipeline.pool.copies import search
from pipeline.pool.copies.confirmation import confirmed
from pipeline.pool.copies.search import Changes
from pipeline.pool.copies.thumbnails import ScanFile, scan_files
from pipeline.pool.growth import keeping
from pipeline.pool.hash_pairs import Pairs
from pipeline.pool.picture_hash import NUM_BYTES
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import Engine
from pipeline.runtime.growth import record

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_SHARD_SIZE = 1024
_MAX_THREADS = 4  # of the search; each holds some 100 MB at a million scans


def run(ctx: StageContext) -> dict[str, int]:
    """Write `duplicates` from `manifest`."""
    wanted = ["image_id", "uri", "sha256", "picture_hash", "patient_id", "status"]
    manifest = run_files.read(ctx.folder, MANIFEST, wanted)
    table_before = _before_it_grew(ctx)
    before = table_before if _lacks_scans(table_before, manifest) else None
    is_new_N = np.ones(len(manifest), np.bool_)
    old: list[tuple[Ints, Ints]] = []
    if before is not None:
        is_new_N, old = (
            keeping.rows_in(manifest["image_id"], before) < 0,
            keeping.old_links(manifest["image_id"], before),
        )
    usable = np.flatnonzero(np.asarray(pc.equal(manifest["status"], "ok")))
    firsts, same_bytes = exact_links(manifest, usable)
    firsts = _by_content(manifest, firsts)
    near, num_candidates = near_links(ctx, manifest, firsts, is_new_N)
    known = components(len(manifest), [same_bytes, near, *old[:1]])
    changed, num_looks = changed_links(ctx, manifest, firsts, known, is_new_N)
    links = [same_bytes, near, (changed.left_P, changed.right_P), *old[:1]]
    picture_N = components(len(manifest), links)
    group_N = components(len(manifest), [*links, *old[1:], patient_links(manifest)])
    changes = Changes.joined([_unchanged(*same_bytes), _described(ctx, manifest, near), changed])
    table = _table(manifest, picture_N, group_N, search.change_words(changes, picture_N))
    if table_before is not None:
        table = keeping.named_as(table, table_before)
    if before is not None:
        table = keeping.copies(table, before)
    DUPLICATES.write(ctx.folder, table)
    kinds = {row["values"]: row["counts"] for row in pc.value_counts(table["kind"]).to_pylist()}
    return {
        "num_exact": kinds.get("exact", 0),
        "num_near": kinds.get("near", 0),
        "num_candidate_pairs": num_candidates,
        "num_near_pairs": len(near[0]),
        "num_point_pairs": num_looks,
        "num_changed_pairs": len(changed),
        "num_groups": len(pc.unique(table["group_id"])),
    }


def _before_it_grew(ctx: StageContext) -> pa.Table | None:
    """What the stage found when it ran last, of a run that has grown: the names of its groups stay. None: no such."""
    if not record.parts(ctx.folder) or not run_files.path(ctx.folder, DUPLICATES.file).exists():
        return None
    return run_files.read(ctx.folder, DUPLICATES)


def _lacks_scans(before: pa.Table | None, manifest: pa.Table) -> bool:
    """Whether scans have joined since; where none have, options have changed, and all pairs are looked at again.

    So they are where the stage was killed between its table and the record that it has run.
    """
    return before is not None and bool((keeping.rows_in(manifest["image_id"], before) < 0).any())


def _by_content(manifest: pa.Table, rows: Ints) -> Ints:
    """Rows with a hash, by their content: the same scans give the same pairs whatever their order in the pool."""
    rows = rows[np.asarray(pc.is_valid(manifest["picture_hash"].take(pa.array(rows))))]
    ordered: Ints = rows[np.asarray(pc.sort_indices(manifest["sha256"].take(pa.array(rows))))]
    return ordered


def changed_links(
    ctx: StageContext, manifest: pa.Table, firsts: Ints, picture_N: Ints, is_new_N: Bools
) -> tuple[Changes, int]:
    """Links between rows of one picture that was turned, mirrored, moved or cropped, and how many pairs were looked at.

    Args:
        ctx: The run.
        manifest: Its scans.
        firsts: Rows of different content, in an order that depends on it alone.
        picture_N: Rows of equal number are known to show one picture.
        is_new_N: Rows one of which is in every pair that is looked for.
    """
    config, is_new_F = ctx.config, is_new_N[firsts]
    if not config.duplicates.changed or not len(firsts):
        return Changes.none(), 0
    changes, num_looks = search.find(
        scan_files(manifest.take(pa.array(firsts))),
        picture_N[firsts],
        ctx.engine,
        config.duplicates,
        config.pool.max_pixels,
        num_threads=_num_threads(ctx),
        progress=ctx.progress,
        may_pair=None if is_new_F.all() else lambda left_P, right_P: is_new_F[left_P] | is_new_F[right_P],
    )
    return replace(changes, left_P=firsts[changes.left_P], right_P=firsts[changes.right_P]), num_looks


def _num_threads(ctx: StageContext) -> int:
    engine = ctx.config.engine
    return 1 if engine.backend == "serial" else min(engine.num_cpus or os.cpu_count() or 1, _MAX_THREADS)


def _unchanged(right: Ints, left: Ints) -> Changes:
    num = len(left)
    still_P33 = np.repeat(np.eye(3)[None], num, axis=0)
    return Changes(left, right, still_P33, np.zeros(num, np.bool_), np.zeros(num, np.int64))


def _described(ctx: StageContext, manifest: pa.Table, near: tuple[Ints, Ints]) -> Changes:
    """How the pairs that the hash has found differ."""
    parts = [Changes.none()]
    for start in range(0, len(near[0]), _SHARD_SIZE):
        left, right = (side[start : start + _SHARD_SIZE] for side in near)
        left_files, right_files = (scan_files(manifest.take(pa.array(side))) for side in (left, right))
        seen, negative_P = search.compared(left_files, right_files, ctx.config.pool.max_pixels)
        parts.append(Changes(left, right, seen.warp_P33.astype(np.float64), negative_P, seen.num_unlike_P))
    return Changes.joined(parts)


def exact_links(manifest: pa.Table, usable: Ints) -> tuple[Ints, tuple[Ints, Ints]]:
    """The first row of every distinct content, and links from each row to the first of the same bytes."""
    codes = np.asarray(pc.index_in(manifest["sha256"], pc.unique(manifest["sha256"])), np.int64)[usable]
    _, place, code = np.unique(codes, return_index=True, return_inverse=True)
    first = usable[place][code]
    copies = first != usable
    return np.sort(usable[place]), (usable[copies], first[copies])


def near_links(ctx: StageContext, manifest: pa.Table, firsts: Ints, is_new_N: Bools) -> tuple[tuple[Ints, Ints], int]:
    """Links between rows of other bytes and the same picture, one of them new, and how many pairs were looked at."""
    config, firsts_table = ctx.config, manifest.take(pa.array(firsts))
    pairs = hash_pairs.within(
        hash_bytes(firsts_table["picture_hash"]), config.duplicates.max_bits, num_threads=_num_threads(ctx)
    )
    is_new_F = is_new_N[firsts]
    pairs = pairs.keep(is_new_F[pairs.left_P] | is_new_F[pairs.right_P])
    same_P = _confirmed(
        pairs,
        (scan_files(firsts_table),) * 2,
        ctx.engine,
        config.duplicates,
        config.pool.max_pixels,
        ctx.progress,
    )
    same = pairs.keep(same_P)
    return (firsts[same.left_P], firsts[same.right_P]), len(pairs)


def near_links_between(
    own: pa.Table,
    other: pa.Table,
    engine: Engine,
    config: DuplicatesConfig | None = None,
    max_pixels: int = PoolConfig().max_pixels,
) -> Ints:
    """Rows of one manifest that show a picture of another one, equal bytes included, sorted.

    Takes N x M steps: pools up to about 100,000 scans each.
    """
    config = config or DuplicatesConfig()
    pairs, _ = near_pairs_between(
        (hash_bytes(own["picture_hash"]), scan_files(own)),
        (hash_bytes(other["picture_hash"]), scan_files(other)),
        engine,
        config,
        max_pixels,
    )
    return np.union1d(pairs.right_P, _changed_between(own, other, pairs.right_P, engine, config, max_pixels))


def _changed_between(
    own: pa.Table, other: pa.Table, known: Ints, engine: Engine, config: DuplicatesConfig, max_pixels: int
) -> Ints:
    """Rows of another manifest, beside those known, that show a picture of the own one turned, mirrored or moved."""
    left = np.setdiff1d(np.arange(len(other)), known)
    if not config.changed or not len(own) or not len(left):
        return np.zeros(0, np.int64)
    num, scans = len(own), scan_files(own) + scan_files(other.take(pa.array(left)))
    changes, _ = search.find(
        scans,
        np.arange(len(scans)),
        engine,
        config,
        max_pixels,
        may_pair=lambda left_P, right_P: (left_P < num) & (right_P >= num),
    )
    return left[changes.right_P - num]


def near_pairs_between(
    own: tuple[Bytes, Sequence[ScanFile]],
    other: tuple[Bytes, Sequence[ScanFile]],
    engine: Engine,
    config: DuplicatesConfig,
    max_pixels: int,
) -> tuple[Pairs, int]:
    """Confirmed pairs between two pools, and how many were looked at.

    Args:
        own: Picture hashes (N, 64) and the scans' files.
        other: The same of the other pool, (M, 64).
        engine: Where the pixels are compared.
        config: When two scans count as the same picture.
        max_pixels: A scan with more pixels is not read and matches nothing.
    """
    pairs = hash_pairs.between(own[0], other[0], config.max_bits)
    return pairs.keep(_confirmed(pairs, (own[1], other[1]), engine, config, max_pixels)), len(pairs)


def patient_links(manifest: pa.Table) -> tuple[Ints, Ints]:
    """Links from each row to the first row of the same patient."""
    patients = manifest["patient_id"]
    known = np.flatnonzero(np.asarray(pc.is_valid(patients)))
    codes = np.asarray(pc.index_in(patients.take(pa.array(known)), pc.unique(patients)), np.int64)
    _, place, code = np.unique(codes, return_index=True, return_inverse=True)
    return known, known[place][code]


def hash_bytes(column: pa.ChunkedArray) -> Bytes:
    """Picture hashes in hex as an array of shape (N, 64); a scan without one is an error of ours."""
    text = "".join(column.to_pylist())
    return np.frombuffer(bytes.fromhex(text), np.uint8).reshape(-1, NUM_BYTES)


def _confirmed(
    pairs: Pairs,
    scans: tuple[Sequence[ScanFile], Sequence[ScanFile]],
    engine: Engine,
    config: DuplicatesConfig,
    max_pixels: int,
    progress: Callable[[str, int, int], None] | None = None,
) -> Bools:
    """Which pairs show the same picture; the pixels are read and compared by the shards."""
    left, right = (
        [files[row] for row in side_P] for files, side_P in zip(scans, (pairs.left_P, pairs.right_P), strict=True)
    )

    def tell(done: int, total: int) -> None:
        if progress is not None:
            progress("duplicates", done, total)

    return confirmed(left, right, engine, config, max_pixels, tell)


def components(num: int, links: list[tuple[Ints, Ints]]) -> Ints:
    """The smallest row that each row is linked to, directly or by a chain."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    left = np.concatenate([link[0] for link in links])
    right = np.concatenate([link[1] for link in links])
    graph = coo_matrix((np.ones(len(left), np.bool_), (left, right)), shape=(num, num))
    _, component_N = connected_components(graph, directed=False)
    _, first = np.unique(component_N, return_index=True)
    smallest: Ints = first[component_N].astype(np.int64)
    return smallest


def _table(manifest: pa.Table, picture_N: Ints, group_N: Ints, change_N: list[str | None]) -> pa.Table:
    image_ids = manifest["image_id"].combine_chunks()
    copy_N = picture_N != np.arange(len(manifest))
    sha256 = manifest["sha256"].combine_chunks()
    same_N = np.asarray(pc.fill_null(pc.equal(sha256, sha256.take(pa.array(picture_N))), False))
    kind_N = np.where(copy_N, np.where(same_N, "exact", "near"), "unique")
    # A scan that cannot be used any more keeps its picture and has no hash to compare.
    has_hash_N = np.asarray(pc.is_valid(manifest["picture_hash"]))
    is_compared_N = copy_N & ~same_N & has_hash_N & has_hash_N[picture_N]
    near = np.flatnonzero(is_compared_N)
    hash_NB, other_NB = (hash_bytes(manifest["picture_hash"].take(pa.array(at))) for at in (near, picture_N[near]))
    bits_N: NDArray[np.int16] = np.zeros(len(manifest), np.int16)
    bits_N[near] = hash_pairs.distances(hash_NB, other_NB)
    columns = {
        "image_id": image_ids,
        "group_id": _smallest_ids(image_ids, group_N),
        "canonical_id": image_ids.take(pa.array(picture_N)),
        "kind": pa.array(kind_N.tolist(), pa.string()),
        "distance_bits": pa.array(bits_N, mask=~(same_N & copy_N) & ~is_compared_N),
        "change": pa.array([text if kind == "near" else None for text, kind in zip(change_N, kind_N, strict=True)]),
    }
    return pa.table(columns, schema=DUPLICATES.schema)


def _smallest_ids(image_ids: pa.Array, group_N: Ints) -> pa.Array:
    """The lexicographically smallest image id of each row's group: the same whatever the pool's order."""
    rank_N = np.empty(len(image_ids), np.int64)
    order = np.asarray(pc.sort_indices(image_ids), np.int64)
    rank_N[order] = np.arange(len(image_ids))
    best_N = np.full(len(image_ids), len(image_ids), np.int64)
    np.minimum.at(best_N, group_N, rank_N)
    return image_ids.take(pa.array(order[best_N[group_N]]))
