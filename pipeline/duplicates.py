"""Scans that show the same picture, and groups that must stay on one side of the split.

The same picture: equal bytes, or near hashes confirmed by the pixels (`pipeline.near_pairs`). A group joins
the copies of a picture and all scans of a patient, link by link.
"""

import logging
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embeddings.decode import DecodeError, open_grey, read_bytes
from pipeline.context import StageContext
from pipeline.contracts import DUPLICATES, MANIFEST
from pipeline.near_pairs import SIDE_PX, Bytes, Ints, Pairs, candidates, confirm

_log = logging.getLogger(__name__)

_SHARD_SIZE = 256


def run(ctx: StageContext) -> dict[str, int]:
    """Write `duplicates` from `manifest`."""
    manifest = MANIFEST.read(ctx.folder)
    usable = np.flatnonzero(np.asarray(pc.equal(manifest["status"], "ok")))
    firsts, same_bytes = exact_links(manifest, usable)
    near, num_candidates = near_links(ctx, manifest, firsts)
    picture_N = _components(len(manifest), [same_bytes, near])
    group_N = _components(len(manifest), [same_bytes, near, patient_links(manifest)])
    table = _table(manifest, picture_N, group_N)
    DUPLICATES.write(ctx.folder, table)
    kinds = {row["values"]: row["counts"] for row in pc.value_counts(table["kind"]).to_pylist()}
    return {
        "num_exact": kinds.get("exact", 0),
        "num_near": kinds.get("near", 0),
        "num_candidate_pairs": num_candidates,
        "num_near_pairs": len(near[0]),
        "num_groups": len(pc.unique(table["group_id"])),
    }


def exact_links(manifest: pa.Table, usable: Ints) -> tuple[Ints, tuple[Ints, Ints]]:
    """The first row of every distinct content, and links from each row to the first of the same bytes."""
    codes = np.asarray(pc.index_in(manifest["sha256"], pc.unique(manifest["sha256"])), np.int64)[usable]
    _, place, code = np.unique(codes, return_index=True, return_inverse=True)
    first = usable[place][code]
    copies = first != usable
    return np.sort(usable[place]), (usable[copies], first[copies])


def near_links(ctx: StageContext, manifest: pa.Table, firsts: Ints) -> tuple[tuple[Ints, Ints], int]:
    """Links between rows of other bytes and the same picture, and how many pairs were looked at."""
    config = ctx.config.duplicates
    pairs = candidates(hash_bytes(manifest["phash"].take(pa.array(firsts))), config.max_bits)
    if not len(pairs):
        return (firsts[:0], firsts[:0]), 0
    involved = np.unique(np.concatenate([pairs.left_P, pairs.right_P]))
    uris = manifest["uri"].take(pa.array(firsts[involved])).to_pylist()
    local = Pairs(np.searchsorted(involved, pairs.left_P), np.searchsorted(involved, pairs.right_P), pairs.bits_P)
    confirmed = pairs.keep(confirm(local, _thumbnails(ctx, uris), config.min_correlation))
    return (firsts[confirmed.left_P], firsts[confirmed.right_P]), len(pairs)


def patient_links(manifest: pa.Table) -> tuple[Ints, Ints]:
    """Links from each row to the first row of the same patient."""
    patients = manifest["patient_id"]
    known = np.flatnonzero(np.asarray(pc.is_valid(patients)))
    codes = np.asarray(pc.index_in(patients.take(pa.array(known)), pc.unique(patients)), np.int64)
    _, place, code = np.unique(codes, return_index=True, return_inverse=True)
    return known, known[place][code]


def hash_bytes(phash: pa.ChunkedArray) -> Bytes:
    """Hex hashes as an array of shape (N, 8)."""
    text = "".join(phash.to_pylist())
    return np.frombuffer(bytes.fromhex(text), np.uint8).reshape(-1, 8)


def read_thumbnails(shard: tuple[Sequence[str], int]) -> Bytes:
    """Decode scans to (N, 64, 64) grey bytes; one that is gone by now is black and matches nothing."""
    uris, max_pixels = shard
    thumb_NSS = np.zeros((len(uris), SIDE_PX, SIDE_PX), np.uint8)
    for i, uri in enumerate(uris):
        try:
            square = open_grey(read_bytes(uri), max_pixels=max_pixels).square(SIDE_PX)
            thumb_NSS[i] = np.rint(square * np.float32(255))
        except DecodeError as error:
            _log.warning("%s could be read by the manifest stage and cannot now: %s", uri, error)
    return thumb_NSS


def _thumbnails(ctx: StageContext, uris: list[str]) -> Bytes:
    starts = range(0, len(uris), _SHARD_SIZE)
    shards = [(uris[start : start + _SHARD_SIZE], ctx.config.pool.max_pixels) for start in starts]
    thumb_NSS = np.zeros((len(uris), SIDE_PX, SIDE_PX), np.uint8)
    done = 0
    for index, part in ctx.engine.map_shards(read_thumbnails, shards):
        thumb_NSS[starts[index] : starts[index] + len(part)] = part
        done += len(part)
        ctx.progress("duplicates", done, len(uris))
    return thumb_NSS


def _components(num: int, links: list[tuple[Ints, Ints]]) -> Ints:
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


def _table(manifest: pa.Table, picture_N: Ints, group_N: Ints) -> pa.Table:
    image_ids = manifest["image_id"].combine_chunks()
    copy_N = picture_N != np.arange(len(manifest))
    sha256 = manifest["sha256"].combine_chunks()
    same_N = np.asarray(pc.fill_null(pc.equal(sha256, sha256.take(pa.array(picture_N))), False))
    kind_N = np.where(copy_N, np.where(same_N, "exact", "near"), "unique")
    copies = np.flatnonzero(copy_N)
    hashes = manifest["phash"]
    apart = hash_bytes(hashes.take(pa.array(copies))) ^ hash_bytes(hashes.take(pa.array(picture_N[copies])))
    bits_N: NDArray[np.int16] = np.zeros(len(manifest), np.int16)
    bits_N[copies] = np.bitwise_count(apart).sum(axis=1)
    columns = {
        "image_id": image_ids,
        "group_id": _smallest_ids(image_ids, group_N),
        "canonical_id": image_ids.take(pa.array(picture_N)),
        "kind": pa.array(kind_N.tolist(), pa.string()),
        "distance_bits": pa.array(bits_N, mask=~copy_N),
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
