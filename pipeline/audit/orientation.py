"""How each scan lies against its pool: upright, or turned by 90, 180 or 270 degrees.

Chests lie alike, so the signs of the low cosine terms (`pipeline.pool.picture_hash`) agree over a pool; a turned scan
agrees with the turned pattern. A mirrored chest looks too much like another chest to be told from it by this. The
pattern is that of most scans: in a pool where half are turned nothing is said.

Legend: N scans, K cosines of an axis, V ways to lie.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.pool.picture_hash import NUM_BYTES

_NUM_COSINES = 16
_LOW = 8  # finer terms differ from chest to chest
_MIN_LEAD = 0.2  # of the largest agreement possible, over lying as the pool does
_MIN_SCANS = 20
_QUARTERS = {0: 0, 1: 0, 2: 180, 3: 180, 4: 90, 5: 270, 6: 90, 7: 270}  # by place in `_laid`; mirrored or not


def turned_degrees(hash_NB: NDArray[np.uint8]) -> NDArray[np.int64]:
    """0, 90, 180 or 270 for each scan, (N,), counter-clockwise; 0 as well where that is not clear.

    Args:
        hash_NB: Picture hashes, (N, 64).
    """
    if len(hash_NB) < _MIN_SCANS:
        return np.zeros(len(hash_NB), np.int64)
    sign_NKK = _signs(hash_NB)
    pattern_KK = sign_NKK.mean(axis=0)
    largest = max(float(np.abs(pattern_KK).sum()), 1e-6)
    agreement_VN = np.stack([(sign_NKK * laid_KK).sum(axis=(1, 2)) for laid_KK in _laid(pattern_KK)]) / largest
    best_N = agreement_VN.argmax(axis=0)
    lead_N = agreement_VN.max(axis=0) - agreement_VN[:2].max(axis=0)
    degrees_V = np.array([_QUARTERS[way] for way in range(len(agreement_VN))])
    return np.where(lead_N >= _MIN_LEAD, degrees_V[best_N], 0)


def _signs(hash_NB: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Plus and minus ones of the low terms, the mean's 0; (N, K, K)."""
    bit_NKK = np.unpackbits(hash_NB[:, : NUM_BYTES // 2], axis=1).reshape(-1, _NUM_COSINES, _NUM_COSINES)
    sign_NKK = 2 * bit_NKK[:, :_LOW, :_LOW].astype(np.float32) - 1
    sign_NKK[:, 0, 0] = 0
    return sign_NKK


def _laid(pattern_KK: NDArray[np.float32]) -> list[NDArray[np.float64]]:
    """The pattern of the pool, laid each way: rows are waves downwards, columns waves to the right."""
    odd_K = (-1.0) ** np.arange(_LOW)
    ways: list[NDArray[np.float64]] = []
    for swapped_KK in (pattern_KK, pattern_KK.T):
        for down_K in (np.ones(_LOW), odd_K):
            ways += [swapped_KK * down_K[:, None] * right_K[None] for right_K in (np.ones(_LOW), odd_K)]
    return ways
