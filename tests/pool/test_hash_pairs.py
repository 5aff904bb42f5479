"""Near pairs of picture hashes: all of them in a small pool, nearly all by sorted samples."""

import numpy as np
import pytest

from pipeline.pool import hash_pairs, picture_hash
from pipeline.pool.hash_pairs import Pairs

MAX_BITS = 44


def hashes(num, seed=0):
    """Random hashes whose bits that stand for a mean are 0, as they always are."""
    hash_NB = np.random.default_rng(seed).integers(0, 256, (num, picture_hash.NUM_BYTES), np.uint8)
    hash_NB[:, [0, 32]] &= 0x7F
    return hash_NB


def turned(hash_NB, num_bits, seed=1):
    """The same hashes with `num_bits` of each half turned."""
    rng = np.random.default_rng(seed)
    bit_NB = np.unpackbits(hash_NB, axis=1)
    for row_B in bit_NB:
        for half in (0, 256):
            row_B[half + 1 + rng.choice(255, num_bits, replace=False)] ^= 1
    return np.packbits(bit_NB, axis=1)


def inverted(hash_NB):
    inverse_NB = ~hash_NB
    inverse_NB[:, [0, 32]] &= 0x7F
    return inverse_NB


def swapped(hash_NB):
    """A picture whose whole is the inner part of the given one."""
    return np.concatenate([hash_NB[:, 32:], hashes(len(hash_NB), 9)[:, 32:]], axis=1)


def codes(pairs):
    return set(zip(pairs.left_P.tolist(), pairs.right_P.tolist(), pairs.bits_P.tolist(), strict=True))


def every_pair(hash_NB, max_bits):
    left, right = np.triu_indices(len(hash_NB), 1)
    bits = hash_pairs.distances(hash_NB[left], hash_NB[right])
    near = bits <= max_bits
    return codes(Pairs(left[near], right[near], bits[near]))


COPIES = {
    "turned": lambda hash_NB: turned(hash_NB, 20),
    "inverted": lambda hash_NB: inverted(turned(hash_NB, 20)),
    "inner": lambda hash_NB: turned(swapped(hash_NB), 20),
    "inverted inner": lambda hash_NB: inverted(turned(swapped(hash_NB), 20)),
}


def with_copies(num_strangers, num_copies):
    """Strangers, then a block of copies of the first ones for each way to copy."""
    strangers = hashes(num_strangers)
    return np.concatenate([strangers, *(copy(strangers[:num_copies]) for copy in COPIES.values())])


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_distance_of_every_way_to_copy(copy):
    hash_NB = hashes(50)
    assert hash_pairs.distances(hash_NB, copy(hash_NB)).tolist() == [20] * 50
    assert hash_pairs.distances(copy(hash_NB), hash_NB).tolist() == [20] * 50
    assert hash_pairs.distances(hash_NB, hash_NB[::-1]).min() > 60


def test_a_small_pool_gives_every_pair():
    hash_NB = with_copies(300, 40)
    found = hash_pairs.within(hash_NB, MAX_BITS)
    assert codes(found) == every_pair(hash_NB, MAX_BITS)
    assert len(found) >= 4 * 40


def test_the_distance_is_inclusive():
    hash_NB = np.concatenate([hashes(5), turned(hashes(5), 20)])
    assert len(hash_pairs.within(hash_NB, 20)) == 5
    assert len(hash_pairs.within(hash_NB, 19)) == 0


@pytest.mark.parametrize("num", [0, 1])
def test_too_few_to_pair(num):
    assert len(hash_pairs.within(hashes(num), MAX_BITS)) == 0
    assert len(hash_pairs.between(hashes(num), hashes(num, 5), MAX_BITS)) == 0


def test_between_two_pools_finds_every_way_to_copy():
    ours, theirs = hashes(300), with_copies(300, 40)[300:]
    found = hash_pairs.between(ours, theirs, MAX_BITS)
    left, right = np.divmod(np.arange(300 * 160), 160)
    bits = hash_pairs.distances(ours[left], theirs[right])
    near = bits <= MAX_BITS
    assert codes(found) == codes(Pairs(left[near], right[near], bits[near]))
    assert {(i, way * 40 + i) for i in range(40) for way in range(4)} <= {pair[:2] for pair in codes(found)}


def test_sorted_samples_find_the_copies_in_a_large_pool():
    hash_NB = with_copies(16_000, 300)
    found = hash_pairs.within(hash_NB, MAX_BITS)
    assert len(hash_NB) > hash_pairs.EXACT_UP_TO
    wanted = {(i, 16_000 + way * 300 + i, 20) for i in range(300) for way in range(4)}
    assert len(codes(found) & wanted) >= 0.995 * len(wanted)
    np.testing.assert_array_equal(found.bits_P, hash_pairs.distances(hash_NB[found.left_P], hash_NB[found.right_P]))


def test_samples_do_not_depend_on_threads():
    hash_NB = with_copies(3_000, 100)
    one, two = (hash_pairs.sampled_within(hash_NB, MAX_BITS, num_threads=n) for n in (1, 2))
    assert codes(one) == codes(two)
    assert len(one) >= 4 * 99


def test_a_pool_of_equal_hashes_stays_bounded_and_connected():
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    hash_NB = np.repeat(hashes(1), 1000, axis=0)
    for found in (hash_pairs.within(hash_NB, MAX_BITS), hash_pairs.sampled_within(hash_NB, MAX_BITS)):
        assert len(found) <= 1000 * hash_pairs.MAX_NEIGHBOURS
        graph = coo_matrix((np.ones(len(found)), (found.left_P, found.right_P)), shape=(1000, 1000))
        assert connected_components(graph, directed=False)[0] == 1
