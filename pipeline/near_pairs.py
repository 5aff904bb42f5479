"""Pairs of scans that show the same picture: candidates by perceptual hash, confirmed by their pixels.

Chest X-rays all look alike: among 5,856 children's scans 44,000 pairs lie within 10 bits, none of them one
picture, and their correlations reach 0.97. What copies share and other films do not is fine detail. So a
candidate is aligned (shift and zoom of each axis: a cropped copy is still the copy) and the correlation of
the detail finer than 5 of 64 pixels decides.

Legend: P pairs, N pictures, B bytes of a hash, S side, K parameters of the alignment, X pixels.
"""

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_log = logging.getLogger(__name__)

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

SIDE_PX = 64
_DETAIL_PX = 5
# Measured on real scans: 95 % of the copies cropped by 3 % a side are above, 99.9 % of other pairs below.
_MIN_COARSE = 0.85
_MARGIN_PX = 2
_NUM_STEPS = 4
_MAX_SHIFT_PX = 5.0
_PAIRS_A_BLOCK = 64  # so that a block's arrays fit the processor's cache
_QUERIES_A_BLOCK = 4096
_MAX_CANDIDATES = 3_000_000


@dataclass(frozen=True)
class Pairs:
    """Pairs of positions, `left_P` < `right_P`, and the distance of their hashes in bits."""

    left_P: Ints
    right_P: Ints
    bits_P: Ints

    def keep(self, mask_P: NDArray[np.bool_]) -> "Pairs":
        """The pairs where the mask holds."""
        return Pairs(self.left_P[mask_P], self.right_P[mask_P], self.bits_P[mask_P])

    def __len__(self) -> int:
        return len(self.left_P)


def candidates(hash_NB: Bytes, max_bits: int, max_pairs: int = _MAX_CANDIDATES) -> Pairs:
    """All pairs within `max_bits`, or within fewer bits, with a warning, where they would exceed `max_pairs`.

    The number of look-alikes grows with the square of the pool, so one distance cannot fit every size. Brute
    force is measured faster here than faiss' multi-index hashing up to a million scans (minutes there).
    """
    import faiss

    index = faiss.IndexBinaryFlat(8 * hash_NB.shape[1])
    parts: list[Pairs] = []
    radius = max_bits
    for start in range(0, len(hash_NB), _QUERIES_A_BLOCK):
        block_NB = hash_NB[start : start + _QUERIES_A_BLOCK]
        index.add(block_NB)  # each block meets itself and those before it: half of all comparisons
        ends, bits_P, left_P = index.range_search(block_NB, radius + 1)  # faiss: strictly less
        right_P = start + np.repeat(np.arange(len(block_NB)), np.diff(ends.astype(np.int64)))
        found = Pairs(left_P.astype(np.int64), right_P, bits_P.astype(np.int64))
        parts.append(found.keep(left_P < right_P))
        while sum(len(part) for part in parts) > max_pairs and radius > 0:
            radius -= 1
            parts = [part.keep(part.bits_P <= radius) for part in parts]
    if radius < max_bits:
        _log.warning(
            "duplicates.max_bits=%d gives over %d candidate pairs; %d bits are used",
            max_bits,
            max_pairs,
            radius,
        )
    return _sorted(parts)


def confirm(pairs: Pairs, thumb_NSS: Bytes, min_correlation: float) -> NDArray[np.bool_]:
    """Which pairs show the same picture: their detail, aligned, correlates by `min_correlation` or more."""
    rows = [
        part.start + np.flatnonzero(_coarse(pairs, thumb_NSS, part) >= min(_MIN_COARSE, min_correlation))
        for part in _blocks(len(pairs))
    ]
    close = np.concatenate(rows) if rows else np.zeros(0, np.int64)
    confirmed_P = np.zeros(len(pairs), np.bool_)
    for part in _blocks(len(close)):
        at = close[part]
        a_PSS, b_PSS = (thumb_NSS[side[at]].astype(np.float32) for side in (pairs.left_P, pairs.right_P))
        confirmed_P[at] = detail_correlation(a_PSS, b_PSS) >= min_correlation
    return confirmed_P


def detail_correlation(a_PSS: Floats, b_PSS: Floats) -> Floats:
    """Correlation of fine detail, `b` shifted and zoomed onto `a` by Gauss-Newton steps; shape (P,)."""
    limit_px = np.float32(_MAX_SHIFT_PX)
    warp_PK = np.zeros((len(a_PSS), 4), np.float32)
    a_PX = _unit(_inner(a_PSS))
    moved_PSS = b_PSS
    for _ in range(_NUM_STEPS):
        basis_PKX = _basis(moved_PSS)
        moved_PX = basis_PKX[:, 0]
        scale_P1 = np.maximum(moved_PX.std(axis=1), np.float32(1e-3))[:, None] * np.float32(moved_PX.shape[1] ** 0.5)
        error_PX = (a_PX - _unit(moved_PX)) * scale_P1  # of mean 0, so the basis needs no centring here
        dot_PK1 = basis_PKX[:, 1:] @ error_PX[:, :, None]
        warp_PK = warp_PK + np.linalg.solve(_gram(basis_PKX[:, 1:]), dot_PK1)[:, :, 0]
        warp_PK = np.clip(warp_PK, -limit_px, limit_px)
        moved_PSS = _warped(b_PSS, warp_PK)
    a_PX, b_PX = (_unit(_inner(_detail(image_PSS))) for image_PSS in (a_PSS, moved_PSS))
    correlation_P: Floats = (a_PX * b_PX).sum(axis=1)
    return correlation_P


def _coarse(pairs: Pairs, thumb_NSS: Bytes, part: slice) -> Floats:
    """Multiple correlation of detail at 32x32 with first-order shifts and zooms: no warping."""
    a_PSS, b_PSS = (_detail(_halved(thumb_NSS[side[part]])) for side in (pairs.left_P, pairs.right_P))
    a_PX = _unit(_inner(a_PSS))
    basis_PKX = _basis(b_PSS)
    dot_PK = (basis_PKX @ a_PX[:, :, None])[:, :, 0]
    explained_P = (dot_PK * np.linalg.solve(_gram(basis_PKX), dot_PK[:, :, None])[:, :, 0]).sum(axis=1)
    coarse_P: Floats = np.sqrt(np.clip(explained_P, 0, 1))
    return coarse_P


def _blocks(num: int) -> list[slice]:
    return [slice(start, start + _PAIRS_A_BLOCK) for start in range(0, num, _PAIRS_A_BLOCK)]


def _halved(thumb_PSS: Bytes) -> Floats:
    wide_PSS = thumb_PSS.astype(np.float32)
    rows_PSS = wide_PSS[:, ::2] + wide_PSS[:, 1::2]
    halved_PSS: Floats = (rows_PSS[:, :, ::2] + rows_PSS[:, :, 1::2]).astype(np.float32) / np.float32(4)
    return halved_PSS


def _detail(image_PSS: Floats) -> Floats:
    """The picture without what its neighbourhood already tells."""
    from scipy.ndimage import uniform_filter

    detail_PSS: Floats = image_PSS - uniform_filter(image_PSS, (1, _DETAIL_PX, _DETAIL_PX), mode="nearest")
    return detail_PSS


def _inner(image_PSS: Floats) -> Floats:
    inside = image_PSS[:, _MARGIN_PX:-_MARGIN_PX, _MARGIN_PX:-_MARGIN_PX]
    return inside.reshape(len(image_PSS), -1)


def _basis(image_PSS: Floats) -> Floats:
    """Inner pixels, and how they change with shift in x, y and zoom in x, y; shape (P, 5, X)."""
    m, side = _MARGIN_PX, image_PSS.shape[1]
    inner = side - 2 * m
    basis_PKSS = np.empty((len(image_PSS), 5, inner, inner), np.float32)
    basis_PKSS[:, 0] = image_PSS[:, m:-m, m:-m]
    basis_PKSS[:, 1] = image_PSS[:, m:-m, m + 1 : side - m + 1] - image_PSS[:, m:-m, m - 1 : side - m - 1]
    basis_PKSS[:, 2] = image_PSS[:, m + 1 : side - m + 1, m:-m] - image_PSS[:, m - 1 : side - m - 1, m:-m]
    basis_PKSS[:, 1:3] *= np.float32(0.5)
    ramp_S = _ramp(side)[m:-m]
    np.multiply(basis_PKSS[:, 1], ramp_S, out=basis_PKSS[:, 3])
    np.multiply(basis_PKSS[:, 2], ramp_S[:, None], out=basis_PKSS[:, 4])
    return basis_PKSS.reshape(len(image_PSS), 5, -1)


def _gram(basis_PKX: Floats) -> Floats:
    """Inner products of the centred rows, plus a ridge that a flat picture needs."""
    mean_PK1 = basis_PKX.mean(axis=2)[:, :, None]
    gram_PKK = basis_PKX @ basis_PKX.transpose(0, 2, 1)
    gram_PKK -= np.float32(basis_PKX.shape[2]) * (mean_PK1 @ mean_PK1.transpose(0, 2, 1))
    ridge_P = np.float32(1e-5) * np.trace(gram_PKK, axis1=1, axis2=2) + np.float32(1e-6)
    ridged: Floats = gram_PKK + ridge_P[:, None, None] * np.eye(gram_PKK.shape[1], dtype=np.float32)
    return ridged


def _ramp(side: int) -> Floats:
    return ((np.arange(side) - (side - 1) / 2) / (side / 2)).astype(np.float32)


def _warped(image_PSS: Floats, warp_PK: Floats) -> Floats:
    """Bilinear sampling at positions shifted by K[0:2] and zoomed by K[2:4] (pixels at the edge)."""
    side = image_PSS.shape[1]
    ramp_S, place_S = _ramp(side), np.arange(side, dtype=np.float32)
    pairs = np.arange(len(image_PSS))[:, None]
    for axis in (1, 0):  # y, then x on the transposed picture
        at_PS: Floats = place_S[None] + warp_PK[:, axis : axis + 1] + warp_PK[:, axis + 2 : axis + 3] * ramp_S[None]
        at_PS = np.clip(at_PS, 0, np.float32(side - 1.001))
        low_PS = at_PS.astype(np.int64)
        part_PS1 = (at_PS - low_PS)[:, :, None].astype(np.float32)
        mixed_PSS: Floats = (
            image_PSS[pairs, low_PS] * (np.float32(1) - part_PS1) + image_PSS[pairs, low_PS + 1] * part_PS1
        )
        image_PSS = mixed_PSS.transpose(0, 2, 1)
    return image_PSS


def _unit(values_PX: Floats) -> Floats:
    centred_PX = values_PX - values_PX.mean(axis=1, keepdims=True)
    unit: Floats = centred_PX / np.maximum(np.linalg.norm(centred_PX, axis=1, keepdims=True), 1e-6)
    return unit


def _sorted(parts: list[Pairs]) -> Pairs:
    left_P, right_P, bits_P = (
        np.concatenate([getattr(part, name) for part in parts] or [np.zeros(0, np.int64)])
        for name in ("left_P", "right_P", "bits_P")
    )
    order = np.lexsort((right_P, left_P))
    return Pairs(left_P[order], right_P[order], bits_P[order])
