"""Pairs of pictures that share points: candidates for copies that were turned, mirrored, moved or cropped.

Two points match when few bits of their codes differ and they lie at about the same place once both pictures are
laid alike. Codes are compared where they agree on bits drawn at random, table after table (locality-sensitive
hashing; Indyk and Motwani, STOC 1998): each table is sorted, and a code meets its neighbours of the same drawn
bits alone, so the work grows as N log N. Two matches of one pair support each other when they ask for the same turn
and mirror and about the same zoom and shift; a pair with enough support is looked at closely.

Legend: N pictures, K points of a picture, R = N x K rows, M matches, P pairs, G groups of matches.
"""

import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from pipeline.pool.copies.points import NEGATIVE, NONE, NUM_BITS, NUM_POINTS, Points
from pipeline.pool.copies.symmetry import BETWEEN, MATRICES, NUM_WAYS
from pipeline.pool.hash_pairs import rank_of_pairs

Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Words = NDArray[np.uint64]

SURE_SCORE = 70  # strangers hardly ever reach it
MIN_SCORE = 17  # two matches at least
MAX_NEIGHBOURS = 8  # of one picture: a copy of a thousand copies is linked through the best
_PICTURES_A_PART = 50_000
_BYTES_IN_MEMORY = 1 << 26  # of matches of all parts together, while tables are searched
_MATCHES_A_STEP = 1 << 20  # that are asked at once whether they support each other
_WINDOW = 8  # neighbours of the same drawn bits that one code meets
_MAX_BITS, _WEIGHT = 14, 16  # of a match, in a pool of up to a thousand pictures; what its bits are taken from
_MORE_THAN_ROWS_BITS = 1  # drawn bits: as many as number the rows, and this
_PLACE_APART = 38  # in 1/127 of half a side: a crop of a tenth a side moves the rim by a quarter
_SCALES_APART = 2
_SPREAD = 15  # two matches nearer than this may be one mark, such as the letter of the side
_ZOOM_APART, _SHIFT_APART = 0.28, 4
_RIDGE = 0.05 * 127**2  # holds a warp of few matches near the identity
# Up to so many pictures: points of each that are compared, and tables.
_EFFORT = (
    (2_000, NUM_POINTS, 240),
    (10_000, NUM_POINTS, 120),
    (30_000, NUM_POINTS, 60),
    (200_000, 40, 48),
    (2**62, 24, 32),
)
_ROWS_A_BLOCK = 1 << 20
_ALWAYS = 500  # pairs that are looked at, however small the pool
_SEED = 14


@dataclass(frozen=True)
class PointPairs:
    """Pairs that share points, sorted by left, then right; left < right.

    Attributes:
        left_P: Position of a picture.
        right_P: Position of the other one.
        score_P: Support, 2 to 16 for each match.
        way_P: How the left one has to be laid to look like the right one.
        negative_P: Whether it has to be inverted too.
        warp_P33: From places of the laid left picture to places of the right one, in half sides.
    """

    left_P: Ints
    right_P: Ints
    score_P: Ints
    way_P: Bytes
    negative_P: Bools
    warp_P33: Floats

    def keep(self, which_P: NDArray[np.bool_] | Ints) -> "PointPairs":
        """Some of the pairs."""
        return PointPairs(*(getattr(self, name)[which_P] for name in self.__dataclass_fields__))

    @classmethod
    def joined(cls, parts: Sequence["PointPairs"]) -> "PointPairs":
        """All pairs of the parts, one after the other."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))

    def __len__(self) -> int:
        return len(self.left_P)


def num_points(num_pictures: int) -> int:
    """How many points of each picture are compared: fewer in a large pool, where memory and time are short."""
    return next(points for most, points, _ in _EFFORT if num_pictures <= most)


def sharing_points(points_NK: Points, *, num_threads: int = 1) -> PointPairs:
    """Pairs of pictures with enough matches that support each other.

    Args:
        points_NK: Points of each picture, see `pipeline.pool.copies.points`.
        num_threads: Tables that are searched at the same time; the pairs do not depend on it.
    """
    rows = _Rows.of(points_NK)
    return PointPairs.joined([_supported(rows, *matches) for matches in rows.matches(num_threads)])


@dataclass(frozen=True)
class _Rows:
    """Points of all pictures in one row; places also as the laid patch sees them."""

    code_R: Words
    x_R: NDArray[np.int8]
    y_R: NDArray[np.int8]
    laid_x_R: NDArray[np.int8]
    laid_y_R: NDArray[np.int8]
    scale_R: NDArray[np.int8]
    laid_R: Bytes
    num_each: int

    @classmethod
    def of(cls, points_NK: Points) -> "_Rows":
        x_R, y_R, laid_R = (np.ascontiguousarray(points_NK[name]).ravel() for name in ("x", "y", "laid"))
        flipped_x_R = np.where(laid_R & 1, -x_R, x_R)
        flipped_y_R = np.where(laid_R & 2, -y_R, y_R)
        swap_R = (laid_R & 4) > 0
        return cls(
            np.ascontiguousarray(points_NK["code"]).ravel(),
            x_R,
            y_R,
            np.where(swap_R, flipped_y_R, flipped_x_R),
            np.where(swap_R, flipped_x_R, flipped_y_R),
            np.ascontiguousarray(points_NK["scale"]).ravel().astype(np.int8),
            laid_R,
            points_NK.shape[1],
        )

    def matches(self, num_threads: int) -> Iterator[tuple[Ints, Ints]]:
        """Rows of matching points of two pictures, left < right; each match once, step after step by the left picture.

        A million pictures have more matches than memory should hold: until all tables are done each part waits in a
        file. All matches of a left picture are in one step.
        """
        row_bits = max(1, int(len(self.code_R) - 1).bit_length())
        drawn_bits = min(NUM_BITS, row_bits + _MORE_THAN_ROWS_BITS)
        max_bits = max(2, min(_MAX_BITS, 32 - drawn_bits))
        num_pictures = len(self.code_R) // self.num_each
        num_tables = next(tables for most, _, tables in _EFFORT if num_pictures <= most)
        rng = np.random.default_rng(_SEED)
        masks = [_mask(rng.choice(NUM_BITS, drawn_bits, replace=False)) for _ in range(num_tables)]
        shuffles = [np.uint64(value) for value in rng.integers(0, 2**row_bits, num_tables, np.uint64)]
        low = np.uint64((1 << row_bits) - 1)
        with ExitStack() as stack:
            threads = stack.enter_context(ThreadPoolExecutor(num_threads))
            starts = range(0, max(1, num_pictures), _PICTURES_A_PART)
            in_memory = max(1, _BYTES_IN_MEMORY // len(starts))
            files = [stack.enter_context(tempfile.SpooledTemporaryFile(in_memory)) for _ in starts]
            for start in range(0, num_tables, num_threads):  # so that few tables' matches are in memory
                some = range(start, min(start + num_threads, num_tables))
                for found_M in threads.map(lambda t: self._table(masks[t], shuffles[t], row_bits, max_bits), some):
                    part_M = (found_M >> np.uint64(row_bits)) // np.uint64(_PICTURES_A_PART * self.num_each)
                    for part, file in enumerate(files):
                        file.write(found_M[part_M == part].tobytes())
            for file in files:
                found_M = _each_once(_words_of(file))
                file.close()
                for step_M in self._steps(found_M, row_bits):
                    yield (step_M >> np.uint64(row_bits)).astype(np.int64), (step_M & low).astype(np.int64)

    def _steps(self, match_M: Words, row_bits: int) -> Iterator[Words]:
        """Sorted matches, some at a time; those of one left picture stay together."""
        if not len(match_M):
            yield match_M
        start = 0
        while start < len(match_M):
            last = match_M[min(start + _MATCHES_A_STEP, len(match_M)) - 1] >> np.uint64(row_bits)
            next_picture = (int(last) // self.num_each + 1) * self.num_each
            stop = int(np.searchsorted(match_M, np.uint64(next_picture << row_bits)))
            yield match_M[start:stop]
            start = stop

    def _table(self, mask: np.uint64, shuffle: np.uint64, row_bits: int, max_bits: int) -> Words:
        """Matches among neighbours that agree on the bits of a mask, as left row and right row in one number."""
        low = np.uint64((1 << row_bits) - 1)
        key_R = self._keys(mask, shuffle, low)
        key_R.sort()
        parts = [np.zeros(0, np.uint64)]
        for start in range(0, len(key_R), _ROWS_A_BLOCK):
            block_R = key_R[start : start + _ROWS_A_BLOCK + _WINDOW]
            for step in range(1, _WINDOW + 1):
                at_M = np.flatnonzero((block_R[step:] ^ block_R[:-step])[:_ROWS_A_BLOCK] <= low)
                if not len(at_M):
                    break
                own_M, next_M = (((block_R[at] & low) ^ shuffle).astype(np.int64) for at in (at_M, at_M + step))
                left_M, right_M = self._matching(own_M, next_M, max_bits)
                low_M, high_M = np.minimum(left_M, right_M), np.maximum(left_M, right_M)
                parts.append((low_M.astype(np.uint64) << np.uint64(row_bits)) | high_M.astype(np.uint64))
        return np.concatenate(parts)

    def _keys(self, mask: np.uint64, shuffle: np.uint64, low: np.uint64) -> Words:
        """Mixed masked bits, then the shuffled row: among more equals than a window holds, others meet each time."""
        key_R, num = np.empty(len(self.code_R), np.uint64), 0
        for start in range(0, len(self.code_R), _ROWS_A_BLOCK):
            known = start + np.flatnonzero(self.laid_R[start : start + _ROWS_A_BLOCK] != NONE)
            head_R = _mixed(self.code_R[known] & mask) & ~low
            key_R[num : num + len(known)] = head_R | (known.astype(np.uint64) ^ shuffle)
            num += len(known)
        return key_R[:num]

    def _matching(self, left_M: Ints, right_M: Ints, max_bits: int) -> tuple[Ints, Ints]:
        """Of rows that meet, those of two pictures that match."""
        other_M = left_M // self.num_each != right_M // self.num_each
        left_M, right_M = left_M[other_M], right_M[other_M]
        near_M = np.bitwise_count(self.code_R[left_M] ^ self.code_R[right_M]) <= max_bits
        left_M, right_M = left_M[near_M], right_M[near_M]
        near_M = np.ones(len(left_M), np.bool_)
        for value_R, apart in (
            (self.laid_x_R, _PLACE_APART),
            (self.laid_y_R, _PLACE_APART),
            (self.scale_R, _SCALES_APART),
        ):
            near_M &= np.abs(value_R[left_M].astype(np.int16) - value_R[right_M]) <= apart
        return left_M[near_M], right_M[near_M]


def _words_of(file: IO[bytes]) -> Words:
    """All that was written to a file, read into its array without a second copy."""
    words_M = np.empty(file.tell() // np.dtype(np.uint64).itemsize, np.uint64)
    file.seek(0)
    file.readinto(words_M.view(np.uint8))  # type: ignore[attr-defined]
    return words_M


def _each_once(value_M: Words) -> Words:
    """The values in order, each once; sorted in place, for `np.unique` hashes, which takes several times as long."""
    value_M.sort()
    first_M = np.ones(len(value_M), np.bool_)
    first_M[1:] = value_M[1:] != value_M[:-1]
    return value_M[first_M]


def _mask(bits: Ints) -> np.uint64:
    return np.uint64(sum(1 << int(bit) for bit in bits))


def _mixed(value_R: Words) -> Words:
    """Equal for equal values and else spread over all bits (the finaliser of splitmix64)."""
    value_R = (value_R ^ (value_R >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value_R = (value_R ^ (value_R >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value_R ^ (value_R >> np.uint64(31))


def _supported(rows: _Rows, left_M: Ints, right_M: Ints) -> PointPairs:
    """Pairs whose best match is supported by others."""
    num_each = rows.num_each
    num = max(1, len(rows.code_R) // num_each)
    way_M = BETWEEN[rows.laid_R[left_M] % NUM_WAYS, rows.laid_R[right_M] % NUM_WAYS]
    negative_M = (rows.laid_R[left_M] ^ rows.laid_R[right_M]) & NEGATIVE
    group_M = ((left_M // num_each) * num + right_M // num_each) * (2 * NUM_WAYS) + way_M + negative_M
    order = np.argsort(group_M, kind="stable")
    order = order[_several(group_M[order])]  # most strangers share one point
    bits_M = np.bitwise_count(rows.code_R[left_M[order]] ^ rows.code_R[right_M[order]]).astype(np.int64)
    best_first = np.lexsort((right_M[order], left_M[order], bits_M, group_M[order]))
    order, bits_M = order[best_first], bits_M[best_first]
    left_M, right_M, group_M = (part[order] for part in (left_M, right_M, group_M))
    way_M = way_M[order]
    first_M = np.ones(len(group_M), np.bool_)
    first_M[1:] = group_M[1:] != group_M[:-1]
    start, of_group_M = np.flatnonzero(first_M), np.cumsum(first_M) - 1
    from_M2, to_M2 = _places(rows, left_M, way_M), _places(rows, right_M, None)
    best_M = start[of_group_M] if len(start) else of_group_M
    apart_M2, moved_M2 = from_M2 - from_M2[best_M], to_M2 - to_M2[best_M]
    length_M = np.linalg.norm(apart_M2, axis=1)
    agrees_M = np.linalg.norm(moved_M2 - apart_M2, axis=1) <= _ZOOM_APART * length_M + _SHIFT_APART
    agrees_M &= (length_M >= _SPREAD) | first_M
    weight_M = np.where(agrees_M, _WEIGHT - bits_M, 0)
    score_G = np.bincount(of_group_M, weight_M, len(start)).astype(np.int64)
    groups = _best_of_pair(group_M[start] // (2 * NUM_WAYS), score_G)
    pair_P, flag_P = np.divmod(group_M[start][groups], 2 * NUM_WAYS)
    warp_G33 = _warps(from_M2, to_M2, agrees_M, of_group_M, len(start))
    pairs = PointPairs(
        pair_P // num,
        pair_P % num,
        score_G[groups],
        (flag_P % NUM_WAYS).astype(np.uint8),
        flag_P >= NUM_WAYS,
        warp_G33[groups],
    )
    return pairs.keep(pairs.score_P >= MIN_SCORE)


def _several(sorted_M: Ints) -> Bools:
    """Where a value of a sorted array stands more than once."""
    same_M = sorted_M[1:] == sorted_M[:-1]
    several_M = np.zeros(len(sorted_M), np.bool_)
    several_M[1:] |= same_M
    several_M[:-1] |= same_M
    return several_M


def _places(rows: _Rows, row_M: Ints, way_M: Bytes | None) -> Floats:
    place_M2 = np.stack([rows.x_R[row_M], rows.y_R[row_M]], axis=1).astype(np.float32)
    return place_M2 if way_M is None else np.einsum("mij,mj->mi", MATRICES[way_M], place_M2)


def _best_of_pair(pair_G: Ints, score_G: Ints) -> Ints:
    """Of the ways to lay one picture on another, the one with the most support."""
    order = np.lexsort((-score_G, pair_G))
    first = np.ones(len(order), np.bool_)
    first[1:] = np.diff(pair_G[order]) != 0
    return order[first]


def _warps(from_M2: Floats, to_M2: Floats, agrees_M: Bools, of_group_M: Ints, num: int) -> Floats:
    """Least squares over the matches that agree, held near the identity; in half sides, (G, 3, 3)."""
    weight_M = agrees_M.astype(np.float64)
    basis_M3 = np.concatenate([from_M2, np.ones((len(from_M2), 1))], axis=1)
    gram_G33, right_G32 = np.zeros((num, 3, 3)), np.zeros((num, 3, 2))
    for i in range(3):
        for j in range(3):
            gram_G33[:, i, j] = np.bincount(of_group_M, weight_M * basis_M3[:, i] * basis_M3[:, j], num)
        for j in range(2):
            moved_M = to_M2[:, j] - from_M2[:, j]
            right_G32[:, i, j] = np.bincount(of_group_M, weight_M * basis_M3[:, i] * moved_M, num)
    gram_G33 += np.diag([_RIDGE, _RIDGE, 1e-6])
    warp_G33 = np.repeat(np.eye(3)[None], num, axis=0)
    warp_G33[:, :2] += np.linalg.solve(gram_G33, right_G32).transpose(0, 2, 1)
    warp_G33[:, :2, 2] /= 127
    return np.asarray(warp_G33, np.float32)


def worth_a_look(pairs: PointPairs, num_pictures: int, pairs_a_picture: float) -> PointPairs:
    """The pairs that are nearly sure, and a share of the rest; few of one picture.

    Some pictures share points with many strangers. So of the rest those come first in which each shares more with the
    other than with any third, then those in which one does: a copy that was changed much keeps little, but more than
    it has with a stranger, also where its original has better copies. Of 150 such copies among 600 scans 500 looks
    meet 146; chosen by the support alone, they meet 131.

    Args:
        pairs: All pairs that share points.
        num_pictures: In the pool.
        pairs_a_picture: How many pairs, beside the nearly sure ones, are worth reading their pixels.
    """
    by_left = rank_of_pairs(pairs.left_P, pairs.right_P, -pairs.score_P)
    by_right = rank_of_pairs(pairs.right_P, pairs.left_P, -pairs.score_P)
    few_P = np.minimum(by_left, by_right) < MAX_NEIGHBOURS
    best_N = np.zeros(num_pictures, pairs.score_P.dtype)
    for side_P in (pairs.left_P, pairs.right_P):
        np.maximum.at(best_N, side_P, pairs.score_P)
    pairs = pairs.keep(few_P)
    num_best_P = np.zeros(len(pairs), np.int64)
    for side_P in (pairs.left_P, pairs.right_P):
        num_best_P += pairs.score_P >= best_N[side_P]
    is_sure_P = pairs.score_P >= SURE_SCORE
    num_more = max(_ALWAYS, round(pairs_a_picture * num_pictures))
    order = np.lexsort((pairs.right_P, pairs.left_P, -pairs.score_P, -num_best_P, ~is_sure_P))
    return pairs.keep(np.sort(order[: num_more + int(is_sure_P.sum())]))
