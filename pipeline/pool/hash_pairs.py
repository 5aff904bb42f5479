"""Pairs of near picture hashes: every pair in a small pool, by sorted samples of their bits in a large one.

Comparing all pairs of a million hashes takes 5e11 steps. Instead some bits, drawn at random, become a sort key;
two hashes that agree on the key meet as neighbours of the sorted order, and many keys give every near pair
many chances (Indyk and Motwani, STOC 1998). The key grows with log2 N, so the number of strangers
that meet stays the same for each hash, and the work grows as N log N. Three rows stand for a picture: the whole,
its inner part, and the complement of the whole, which finds inverted copies.

Legend: N, M pictures, B bytes, R rows (three a picture), W words of 64 bits, P pairs, T keys.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.pool.picture_hash import NUM_BITS, NUM_BYTES

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Words = NDArray[np.uint64]

EXACT_UP_TO = 10_000  # pictures; above, all pairs take longer than sorted samples
MAX_NEIGHBOURS = 32  # of one picture: a copy of a thousand copies is linked through the nearest
_HALF = NUM_BYTES // 2
_BLOCK = 256  # queries at a time: the worst case, where all are near, stays under 100 MB
_KEY_BITS = 32
_KEYS_A_SHUFFLE = NUM_BITS // _KEY_BITS
_NUM_SHUFFLES = 18
_WINDOW = 12  # neighbours in sorted order that one row meets at most
_SEED = 64  # of the bits drawn: the same pairs in every run
_ROWS_A_BLOCK = 1 << 16
_WHOLE, _INNER, _INVERSE = range(3)


@dataclass(frozen=True)
class Pairs:
    """Pairs of positions and the distance of their hashes in bits, sorted by left, then right.

    Within one pool left < right; between two pools left is in the first and right in the second.
    """

    left_P: Ints
    right_P: Ints
    bits_P: Ints

    def keep(self, mask_P: NDArray[np.bool_]) -> "Pairs":
        """The pairs where the mask holds."""
        return Pairs(self.left_P[mask_P], self.right_P[mask_P], self.bits_P[mask_P])

    def __len__(self) -> int:
        return len(self.left_P)


def within(hash_NB: Bytes, max_bits: int, *, num_threads: int = 1) -> Pairs:
    """Pairs of one pool within `max_bits`; of each picture at most its `MAX_NEIGHBOURS` nearest.

    Args:
        hash_NB: Picture hashes, shape (N, 64).
        max_bits: Largest distance; see `distances`.
        num_threads: Keys that are searched at the same time; the pairs do not depend on it.
    """
    if len(hash_NB) > EXACT_UP_TO:
        return sampled_within(hash_NB, max_bits, num_threads=num_threads)
    pairs = _exact(hash_NB, hash_NB, max_bits, same_pool=True)
    left_P, right_P = np.minimum(pairs.left_P, pairs.right_P), np.maximum(pairs.left_P, pairs.right_P)
    return _nearest(_distinct([Pairs(left_P, right_P, pairs.bits_P)]))


def between(hash_NB: Bytes, hash_MB: Bytes, max_bits: int) -> Pairs:
    """Pairs of two pools within `max_bits`; of each picture of the second at most its nearest. Takes N x M steps."""
    return _exact(hash_NB, hash_MB, max_bits, same_pool=False)


def distances(hash_PB: Bytes, other_PB: Bytes) -> Ints:
    """Bits that differ, the least over whole and whole, whole and inner, inner and whole, either one inverted."""
    whole_PB, inner_PB = hash_PB[:, :_HALF], hash_PB[:, _HALF:]
    other_whole_PB, other_inner_PB = other_PB[:, :_HALF], other_PB[:, _HALF:]
    views = [(whole_PB, other_whole_PB), (whole_PB, other_inner_PB), (inner_PB, other_whole_PB)]
    bits_VP = np.stack([np.bitwise_count(a_PB ^ b_PB).sum(axis=1, dtype=np.int64) for a_PB, b_PB in views])
    least_P: Ints = np.minimum(bits_VP, NUM_BITS - bits_VP).min(axis=0)
    return least_P


def sampled_within(hash_NB: Bytes, max_bits: int, *, num_threads: int = 1) -> Pairs:
    """`within` by sorted samples of bits, in about N log N steps; it may miss a pair, the rarer the nearer."""
    row_RW = _rows(hash_NB)
    rng = np.random.default_rng(_SEED)
    shift = np.uint64(max(0, _KEY_BITS - _key_length(len(row_RW))))
    pairs = _distinct([])
    with ThreadPoolExecutor(num_threads) as threads:
        for _ in range(_NUM_SHUFFLES):
            order = 1 + rng.permutation(NUM_BITS)[: _KEYS_A_SHUFFLE * _KEY_BITS]
            key_TR = _keys(hash_NB, order)
            parts = threads.map(lambda key_R: _neighbours(row_RW, key_R, shift, max_bits), key_TR)
            pairs = _nearest(_distinct([pairs, *parts]))
    return pairs


def _key_length(num_rows: int) -> int:
    return int(np.ceil(np.log2(max(2, num_rows)))) + 3


def _exact(hash_NB: Bytes, hash_MB: Bytes, max_bits: int, *, same_pool: bool) -> Pairs:
    import faiss

    whole, inner = faiss.IndexBinaryFlat(8 * _HALF), faiss.IndexBinaryFlat(8 * _HALF)
    whole.add(np.ascontiguousarray(hash_NB[:, :_HALF]))
    if not same_pool:  # in one pool, whole and inner meet when the picture on the other side asks
        inner.add(np.ascontiguousarray(hash_NB[:, _HALF:]))
    parts: list[Pairs] = []
    for start in range(0, len(hash_MB), _BLOCK):
        block_NB = hash_MB[start : start + _BLOCK]
        whole_NB, inner_NB = (np.ascontiguousarray(half) for half in (block_NB[:, :_HALF], block_NB[:, _HALF:]))
        asked = [(whole, whole_NB), (whole, inner_NB)] + ([] if same_pool else [(inner, whole_NB)])
        near = [_range(index, query, max_bits, start) for index, q_NB in asked for query in (q_NB, _inverse(q_NB))]
        block = _distinct(near)
        if same_pool:
            block = block.keep(block.left_P != block.right_P)
        parts.append(_ranked(block, block.right_P, block.left_P))
    return _distinct(parts)


def _range(index: object, query_NB: Bytes, max_bits: int, start: int) -> Pairs:
    ends, bits_P, left_P = index.range_search(query_NB, max_bits + 1)  # type: ignore[attr-defined]  # strictly less
    right_P = start + np.repeat(np.arange(len(query_NB)), np.diff(ends.astype(np.int64)))
    return Pairs(left_P.astype(np.int64), right_P, bits_P.astype(np.int64))


def _inverse(half_NB: Bytes) -> Bytes:
    """The hash of the inverted picture: every sign turned, the mean's bit still 0."""
    inverse_NB = ~half_NB
    inverse_NB[:, 0] &= 0x7F
    return inverse_NB


def _rows(hash_NB: Bytes) -> Words:
    whole_NB, inner_NB = hash_NB[:, :_HALF], hash_NB[:, _HALF:]
    return np.concatenate([whole_NB, inner_NB, _inverse(whole_NB)]).view(np.uint64)


def _keys(hash_NB: Bytes, order: Ints) -> NDArray[np.uint32]:
    """Drawn bits of each row as 32-bit numbers, the first bit the highest; shape (T, R)."""
    num = len(hash_NB)
    key_TR = np.empty((_KEYS_A_SHUFFLE, 3 * num), np.uint32)
    for kind in (_WHOLE, _INNER):
        half_NB = hash_NB[:, kind * _HALF : (kind + 1) * _HALF]
        for start in range(0, num, _ROWS_A_BLOCK):
            bit_NB = np.unpackbits(half_NB[start : start + _ROWS_A_BLOCK], axis=1).take(order, axis=1)
            block_NT = np.packbits(bit_NB, axis=1).view(">u4")
            place = kind * num + start
            key_TR[:, place : place + len(block_NT)] = block_NT.T
    key_TR[:, _INVERSE * num :] = ~key_TR[:, :num]
    return key_TR


def _neighbours(row_RW: Words, key_R: NDArray[np.uint32], shift: np.uint64, max_bits: int) -> Pairs:
    """Pairs within `max_bits` among rows close in the order of their keys and equal in the keys' first bits."""
    num = len(row_RW) // 3
    sorted_R = np.sort((key_R.astype(np.uint64) << np.uint64(32)) | np.arange(len(key_R), dtype=np.uint64))
    head_R, row_R = sorted_R >> (np.uint64(32) + shift), (sorted_R & np.uint64(0xFFFFFFFF)).astype(np.int64)
    parts: list[Pairs] = []
    for step in range(1, _WINDOW + 1):
        at_P = np.flatnonzero(head_R[step:] == head_R[:-step])
        if not len(at_P):
            break
        low_P, high_P = np.sort(np.stack([row_R[at_P], row_R[at_P + step]]), axis=0)
        useful_P = (low_P // num != high_P // num) | (high_P < num)  # two inner parts, or two inverses, say nothing new
        useful_P &= low_P % num != high_P % num
        low_P, high_P = low_P[useful_P], high_P[useful_P]
        bits_P = np.bitwise_count(row_RW[low_P] ^ row_RW[high_P]).sum(axis=1, dtype=np.int64)
        near_P = bits_P <= max_bits
        left_P, right_P = low_P[near_P] % num, high_P[near_P] % num
        parts.append(Pairs(np.minimum(left_P, right_P), np.maximum(left_P, right_P), bits_P[near_P]))
    return _distinct(parts)


def _distinct(parts: list[Pairs]) -> Pairs:
    """Every pair once, at its least distance."""
    none = np.zeros(0, np.int64)
    left_P, right_P, bits_P = (
        np.concatenate([getattr(part, name) for part in parts] or [none]) for name in ("left_P", "right_P", "bits_P")
    )
    order = np.lexsort((bits_P, right_P, left_P))
    pairs = Pairs(left_P[order], right_P[order], bits_P[order])
    first_P = np.ones(len(pairs), np.bool_)
    first_P[1:] = (np.diff(pairs.left_P) != 0) | (np.diff(pairs.right_P) != 0)
    return pairs.keep(first_P)


def _nearest(pairs: Pairs) -> Pairs:
    """The pairs that are among the nearest of their left or of their right picture."""
    by_left = rank_of_pairs(pairs.left_P, pairs.right_P, pairs.bits_P)
    by_right = rank_of_pairs(pairs.right_P, pairs.left_P, pairs.bits_P)
    return pairs.keep(np.minimum(by_left, by_right) < MAX_NEIGHBOURS)


def _ranked(pairs: Pairs, of_P: Ints, other_P: Ints) -> Pairs:
    return pairs.keep(rank_of_pairs(of_P, other_P, pairs.bits_P) < MAX_NEIGHBOURS)


def rank_of_pairs(of_P: Ints, other_P: Ints, cost_P: Ints) -> Ints:
    """Place of each pair among those of its picture, the one of least cost 0; of equal ones by the other picture."""
    order = np.lexsort((other_P, cost_P, of_P))
    change_P = np.ones(len(of_P), np.bool_)
    change_P[1:] = np.diff(of_P[order]) != 0
    begin_P = np.maximum.accumulate(np.where(change_P, np.arange(len(of_P)), 0))
    rank_P = np.empty(len(of_P), np.int64)
    rank_P[order] = np.arange(len(of_P)) - begin_P
    return rank_P
