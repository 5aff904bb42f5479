"""The search for copies that were turned, mirrored, moved or cropped, and how every copy differs from its original.

Two passes over the pixels, each in shards: points of every scan, then a close look at the pairs that share many.

Legend: N scans, P pairs, S side.
"""

import logging
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.contracts.options.scans import DuplicatesConfig
from pipeline.pool.copies import changes
from pipeline.pool.copies.block_likeness import Likeness, likeness
from pipeline.pool.copies.confirmation import confirmed
from pipeline.pool.copies.point_pairs import SURE_SCORE, PointPairs, num_points, sharing_points, worth_a_look
from pipeline.pool.copies.points import POINT, Points, picture_points
from pipeline.pool.copies.symmetry import MATRICES
from pipeline.pool.copies.thumbnails import ScanFile, read_pairs, read_thumbnails
from pipeline.runtime.engine import Engine

Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Progress = Callable[[str, int, int], None]

_SCANS_A_SHARD = 256
_PAIRS_A_SHARD = 256
_NUM_WEAK, _MIN_WEAK, _FITTING = 48, 10, 0.3

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScanShard:
    """Scans whose points one task finds."""

    scans: Sequence[ScanFile]
    num_points: int
    max_pixels: int


@dataclass(frozen=True)
class LookShard:
    """Pairs that one task looks at closely, see `block_likeness.likeness`; it reads a scan of several pairs once."""

    left: Sequence[ScanFile]
    right: Sequence[ScanFile]
    way_P: Bytes
    negative_P: Bools
    warp_P33: Floats
    max_pixels: int


@dataclass(frozen=True)
class Changes:
    """Pairs that are one picture, and how the right one differs from the left one.

    Attributes:
        left_P: Row of a scan.
        right_P: Row of the other one.
        map_P33: From places of the left one to places of the right one, in half sides.
        negative_P: One is the other's negative.
        num_unlike_P: Blocks of 49 that differ.
    """

    left_P: Ints
    right_P: Ints
    map_P33: NDArray[np.float64]
    negative_P: Bools
    num_unlike_P: Ints

    @classmethod
    def none(cls) -> "Changes":
        """No pair."""
        empty = np.zeros(0, np.int64)
        return cls(empty, empty, np.zeros((0, 3, 3)), np.zeros(0, np.bool_), empty)

    @classmethod
    def joined(cls, parts: Sequence["Changes"]) -> "Changes":
        """All pairs of the parts."""
        names = cls.__dataclass_fields__
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def __len__(self) -> int:
        return len(self.left_P)


def find(
    scans: Sequence[ScanFile],
    picture_N: Ints,
    engine: Engine,
    config: DuplicatesConfig,
    max_pixels: int,
    *,
    num_threads: int = 1,
    progress: Progress | None = None,
    may_pair: Callable[[Ints, Ints], Bools] | None = None,
) -> tuple[Changes, int]:
    """Pairs of scans that are one picture though turned, mirrored, moved or cropped, and how many were looked at.

    Args:
        scans: Their files, in an order that depends on their content alone.
        picture_N: Scans of equal number are known to show one picture; they are not paired again.
        engine: Where the pixels are read and compared.
        config: When two scans count as the same picture.
        max_pixels: A scan with more pixels is not read and matches nothing.
        num_threads: Of the search.
        progress: Told of every finished shard.
        may_pair: Which pairs are of interest; all where not given.
    """
    points_NK = points_of(scans, engine, max_pixels, progress)
    pairs = sharing_points(points_NK, num_threads=num_threads)
    wanted_P = picture_N[pairs.left_P] != picture_N[pairs.right_P]
    if may_pair is not None:
        wanted_P &= may_pair(pairs.left_P, pairs.right_P)
    pairs = worth_a_look(pairs.keep(wanted_P), len(scans), config.looks_a_scan)
    weak = np.argsort(pairs.score_P, kind="stable")[:_NUM_WEAK]
    weak = weak[pairs.score_P[weak] < SURE_SCORE]
    seen_weak = look(scans, pairs.keep(weak), engine, max_pixels)
    if fit_each_other(seen_weak, _same(scans, pairs.keep(weak), seen_weak, engine, config, max_pixels)):
        _log.warning("the pictures of this pool are so alike that turned copies cannot be told from other pictures")
        return Changes.none(), len(weak)
    others = np.setdiff1d(np.arange(len(pairs)), weak)
    seen_others = look(scans, pairs.keep(others), engine, max_pixels, progress)
    seen = Likeness.joined((seen_weak, seen_others), np.concatenate([weak, others]))
    same_P = _same(scans, pairs, seen, engine, config, max_pixels)
    return _changes(pairs, seen, same_P), len(pairs)


def is_same(seen: Likeness, config: DuplicatesConfig) -> Bools:
    """Which pairs are one picture."""
    near_P = seen.apart_px_P <= config.max_block_shift_px
    near_P &= seen.kept_P >= config.min_kept_detail
    return np.asarray((seen.best_P >= config.min_block_correlation) & near_P, np.bool_)


def _same(
    scans: Sequence[ScanFile],
    pairs: PointPairs,
    seen: Likeness,
    engine: Engine,
    config: DuplicatesConfig,
    max_pixels: int,
) -> Bools:
    """Which pairs are one picture, by their blocks or, of pairs that lie alike, by what neither of them clips.

    A picture made with another window may leave too little of a block: then the pixels are asked as those of pairs
    that the hash has found.
    """
    same_P = is_same(seen, config)
    asked = np.flatnonzero(~same_P & (pairs.way_P == 0) & (seen.correlation_P >= config.min_block_correlation))
    left, right = ([scans[i] for i in side_P[asked]] for side_P in (pairs.left_P, pairs.right_P))
    same_P[asked] = confirmed(left, right, engine, config, max_pixels)
    return same_P


def fit_each_other(weak: Likeness, same_P: Bools) -> bool:
    """Whether other pictures are as alike as copies: pictures drawn by one template, as phantoms are.

    Of 60 to 1,000 scans of Kermany and covid3 the pairs of the least support, in the middle, do not even pass the
    coarse look; of phantoms of 64 to 224 px they correlate by .46 to .62. Where most of them are copies, as in a pool
    in which every scan lies several times, nothing is known of other pictures.

    Args:
        weak: A close look at those pairs.
        same_P: Which of them are one picture.
    """
    other_P = weak.correlation_P[~same_P]
    return len(other_P) >= max(_MIN_WEAK, len(same_P) / 2) and bool(np.median(other_P) >= _FITTING)


def points_of(scans: Sequence[ScanFile], engine: Engine, max_pixels: int, progress: Progress | None = None) -> Points:
    """The points of every scan, as many as a pool of this size compares."""
    num = num_points(len(scans))
    shards = [ScanShard(scans[i : i + _SCANS_A_SHARD], num, max_pixels) for i in range(0, len(scans), _SCANS_A_SHARD)]
    points_NK: Points = np.zeros((len(scans), num), POINT)
    done = 0
    for index, part_NK in engine.map_shards(find_points, shards):
        points_NK[index * _SCANS_A_SHARD : index * _SCANS_A_SHARD + len(part_NK)] = part_NK
        done += len(part_NK)
        if progress is not None:
            progress("points of scans", done, len(scans))
    return points_NK


def find_points(shard: ScanShard) -> Points:
    """The points of a shard's scans."""
    return picture_points(read_thumbnails(shard.scans, shard.max_pixels), shard.num_points)


def look(
    scans: Sequence[ScanFile], pairs: PointPairs, engine: Engine, max_pixels: int, progress: Progress | None = None
) -> Likeness:
    """A close look at every pair."""
    blocks = [slice(start, start + _PAIRS_A_SHARD) for start in range(0, len(pairs), _PAIRS_A_SHARD)]
    shards = [
        LookShard(
            [scans[i] for i in pairs.left_P[block]],
            [scans[i] for i in pairs.right_P[block]],
            pairs.way_P[block],
            pairs.negative_P[block],
            pairs.warp_P33[block],
            max_pixels,
        )
        for block in blocks
    ]
    unlike_P, none_P, far_P, kept_P = (np.full(len(pairs), value, np.float32) for value in (-1, -1, np.inf, np.inf))
    out = Likeness(unlike_P, none_P, far_P, kept_P, pairs.warp_P33.copy(), np.zeros(len(pairs), np.int64))
    done = 0
    for index, part in engine.map_shards(look_at_shard, shards):
        out.correlation_P[blocks[index]] = part.correlation_P
        out.best_P[blocks[index]] = part.best_P
        out.apart_px_P[blocks[index]] = part.apart_px_P
        out.kept_P[blocks[index]] = part.kept_P
        out.warp_P33[blocks[index]] = part.warp_P33
        out.num_unlike_P[blocks[index]] = part.num_unlike_P
        done += len(part.correlation_P)
        if progress is not None:
            progress("copies turned, mirrored, moved", done, len(pairs))
    return out


def look_at_shard(shard: LookShard) -> Likeness:
    """A close look at the pairs of a shard."""
    left_PSS, right_PSS = read_pairs(shard.left, shard.right, shard.max_pixels)
    return likeness(left_PSS, right_PSS, shard.way_P, shard.negative_P, shard.warp_P33)


def compared(left: Sequence[ScanFile], right: Sequence[ScanFile], max_pixels: int) -> tuple[Likeness, Bools]:
    """How pairs that the hash has found differ, and which are negatives: laid alike, nearly in one place."""
    left_PSS, right_PSS = read_pairs(left, right, max_pixels)
    flat_PX, other_PX = (part_PSS.reshape(len(part_PSS), -1).astype(np.float32) for part_PSS in (left_PSS, right_PSS))
    flat_PX, other_PX = (part_PX - part_PX.mean(axis=1, keepdims=True) for part_PX in (flat_PX, other_PX))
    negative_P = (flat_PX * other_PX).sum(axis=1) < 0
    still_P33 = np.repeat(np.eye(3, dtype=np.float32)[None], len(left_PSS), axis=0)
    way_P = np.zeros(len(left_PSS), np.uint8)
    return likeness(left_PSS, right_PSS, way_P, negative_P, still_P33), negative_P


def _changes(pairs: PointPairs, seen: Likeness, same_P: Bools) -> Changes:
    lay_P33 = np.repeat(np.eye(3)[None], len(pairs), axis=0)
    lay_P33[:, :2, :2] = MATRICES[pairs.way_P]
    map_P33 = seen.warp_P33.astype(np.float64) @ lay_P33
    return Changes(
        pairs.left_P[same_P],
        pairs.right_P[same_P],
        map_P33[same_P],
        pairs.negative_P[same_P],
        seen.num_unlike_P[same_P],
    )


def change_words(pairs: Changes, canonical_N: Ints) -> list[str | None]:
    """How each scan differs from the first scan of its picture, in words, through the fewest pairs; None of itself.

    Args:
        pairs: Pairs that are one picture, exact copies among them.
        canonical_N: The first row of each row's picture.
    """
    beside: dict[int, list[tuple[int, int]]] = defaultdict(list)  # row to its neighbours, each with the pair
    for pair, (left, right) in enumerate(zip(pairs.left_P.tolist(), pairs.right_P.tolist(), strict=True)):
        beside[left].append((right, pair))
        beside[right].append((left, pair))
    texts: list[str | None] = [None] * len(canonical_N)
    known: dict[int, _Change] = {int(first): (np.eye(3), False, 0) for first in np.unique(canonical_N[pairs.left_P])}
    waiting = deque(known)
    while waiting:
        row = waiting.popleft()
        for other, pair in beside[row]:
            if other not in known:
                matrix, negative, num_unlike = known[other] = _onward(pairs, pair, row, known[row])
                texts[other] = changes.words(matrix, inverted=negative, num_unlike_blocks=num_unlike)
                waiting.append(other)
    return texts


_Change = tuple[NDArray[np.float64], bool, int]  # map from the first scan, whether negative, blocks that differ


def _onward(pairs: Changes, pair: int, start: int, known: _Change) -> _Change:
    """How the other scan of a pair differs from the first one, from how `start` does."""
    step_33 = pairs.map_P33[pair]
    if pairs.left_P[pair] != start:
        step_33 = np.linalg.inv(step_33)
    matrix, negative, num_unlike = known
    return step_33 @ matrix, negative != bool(pairs.negative_P[pair]), max(num_unlike, int(pairs.num_unlike_P[pair]))
