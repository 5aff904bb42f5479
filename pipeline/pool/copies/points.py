"""Points of a picture that are found again in a copy, and a code of 62 bits of what is around each.

A hash of the whole picture changes when the picture is turned or cropped; what surrounds a point does not. A point
is an extremum, in place and in scale, of the difference of two blurs (Lowe, IJCV 2004, section 3). Its code is the
signs of cosine terms of the patch around it, as wide as the point's scale says. The patch is first laid so that
its grey rises to the right and downwards, more to the right: a mirror image, or one turned by quarters, then gives
the same code, and the way it was laid is kept. Points darker than their surroundings are looked at in the
negative, so that inverted copies give the same code too.

Legend: N pictures, S side, L scales, K points of a picture, U cosines of an axis, G places of an axis of a patch.
"""

import functools

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Points = NDArray[np.void]

SIDE_PX = 128
NUM_POINTS = 128  # the strongest of a picture, strongest first
NUM_BITS = 62
NEGATIVE = 8  # flag beside the way (`pipeline.pool.copies.symmetry`) that the patch was laid
NONE = 255  # `laid` of a point that is none, where a picture has fewer
# Bits of the patch; place in 1/127 of half a side, -127 to 127, to the right and downwards; which of the scales; the
# way the patch was laid, plus `NEGATIVE`.
POINT = np.dtype([("code", "<u8"), ("x", "i1"), ("y", "i1"), ("scale", "u1"), ("laid", "u1")])
_NUM_SCALES, _FINEST_PX, _SCALE_STEP = 10, 1.6, 1.15
_NUM_PLACES, _SPACING = 15, 0.8  # of a patch's axis; in scales
_NUM_COSINES = 11
_MIN_STRENGTH = 1e-4  # of white: less is rounding
_RIM = 2.0  # scales: nearer to the edge there is no point
_PICTURES_A_BLOCK = 4  # so that its blurs fit the cache of a processor: 1.7 times as quick as 32


def picture_points(images_NSS: Bytes, num_points: int = NUM_POINTS) -> Points:
    """The strongest points of 128 x 128 grey pictures, strongest first, (N, K) of `POINT`."""
    points_NK: Points = np.zeros((len(images_NSS), num_points), POINT)
    for start in range(0, len(images_NSS), _PICTURES_A_BLOCK):
        block = slice(start, start + _PICTURES_A_BLOCK)
        points_NK[block] = _strongest_of(images_NSS[block], num_points)
    return points_NK


def _strongest_of(images_NSS: Bytes, num_points: int) -> Points:
    blurred_NLSS = np.stack([blur_SS @ _unit(images_NSS) @ blur_SS.T for blur_SS in _blurs()], axis=1)
    scale_NK, y_NK, x_NK, difference_NK = _extrema(np.diff(blurred_NLSS, axis=1), num_points)
    term_NKUU = _patch_terms(np.asarray(blurred_NLSS, np.float32), scale_NK, y_NK, x_NK)
    term_NKUU *= np.sign(difference_NK)[:, :, None, None]
    code_NK, way_NK = _codes(term_NKUU)
    points_NK: Points = np.zeros(scale_NK.shape, POINT)
    known_NK = difference_NK != 0
    points_NK["code"] = np.where(known_NK, code_NK, 0)
    points_NK["x"], points_NK["y"] = 2 * x_NK - (SIDE_PX - 1), 2 * y_NK - (SIDE_PX - 1)
    points_NK["scale"] = scale_NK
    points_NK["laid"] = np.where(known_NK, way_NK + NEGATIVE * (difference_NK < 0), NONE)
    return points_NK


def _unit(images_NSS: Bytes) -> Floats:
    return images_NSS.astype(np.float32) * np.float32(1 / 255)


@functools.cache
def _scales_px() -> NDArray[np.float64]:
    return np.asarray(_FINEST_PX * _SCALE_STEP ** np.arange(_NUM_SCALES), np.float64)


@functools.cache
def _blurs() -> tuple[Floats, ...]:
    return tuple(blur(scale_px, SIDE_PX) for scale_px in _scales_px())


@functools.cache
def blur(sigma_px: float, side: int) -> Floats:
    """Matrix that blurs one axis; at the edges it weighs what there is."""
    place_S = np.arange(side)
    weight_SS = np.exp(-0.5 * ((place_S[:, None] - place_S[None]) / sigma_px) ** 2)
    blur_SS: Floats = (weight_SS / weight_SS.sum(axis=1, keepdims=True)).astype(np.float32)
    return blur_SS


def _extrema(difference_NLSS: Floats, num_points: int) -> tuple[Ints, Ints, Ints, Floats]:
    """Scale, y, x and signed strength of the strongest extrema, each (N, K); strength 0 where there are no more."""
    strength_NLSS = np.abs(difference_NLSS)
    strength_NLSS[strength_NLSS < _MIN_STRENGTH] = 0
    top_NLSS = strength_NLSS
    for axis in (1, 2, 3):
        top_NLSS = _largest_of_three(top_NLSS, axis)
    kept_NLSS = np.where(strength_NLSS == top_NLSS, strength_NLSS, np.float32(0))
    kept_NLSS[:, [0, -1]] = 0  # of these one neighbour in scale is not known
    for scale, scale_px in enumerate(_scales_px()[:-1]):
        rim = int(np.ceil(_RIM * scale_px))
        kept_NLSS[:, scale, :rim] = kept_NLSS[:, scale, -rim:] = 0
        kept_NLSS[:, scale, :, :rim] = kept_NLSS[:, scale, :, -rim:] = 0
    place_NK, value_NK = _largest(kept_NLSS.reshape(len(kept_NLSS), -1), num_points)
    scale_NK, y_NK, x_NK = np.unravel_index(place_NK, kept_NLSS.shape[1:])
    sign_NK = np.sign(np.take_along_axis(difference_NLSS.reshape(len(place_NK), -1), place_NK, axis=1))
    return scale_NK, y_NK, x_NK, value_NK * sign_NK


def _largest(value_NX: Floats, num: int) -> tuple[Ints, Floats]:
    """Place and value of the largest values of each row, the largest first, (N, K); 0 where no more are above 0.

    Nearly all values are 0: what is above is picked out first, and sorted alone.
    """
    place_NK = np.zeros((len(value_NX), num), np.int64)
    largest_NK = np.zeros(place_NK.shape, np.float32)
    for row, value_X in enumerate(value_NX):
        place_M = np.flatnonzero(value_X)
        order_K = np.lexsort((place_M, -value_X[place_M]))[:num]
        place_NK[row, : len(order_K)] = place_M[order_K]
        largest_NK[row, : len(order_K)] = value_X[place_M[order_K]]
    return place_NK, largest_NK


def _largest_of_three(values_NLSS: Floats, axis: int) -> Floats:
    """Of each value and its two neighbours on an axis; several times as fast as a filter of scipy's."""
    moved = np.moveaxis(values_NLSS, axis, 0)
    largest = moved.copy()
    np.maximum(largest[1:], moved[:-1], out=largest[1:])
    np.maximum(largest[:-1], moved[1:], out=largest[:-1])
    return np.moveaxis(largest, 0, axis)


def _patch_terms(blurred_NLSS: Floats, scale_NK: Ints, y_NK: Ints, x_NK: Ints) -> Floats:
    """Cosine terms of the patch around each point, (N, K, U, U); beyond the picture its edge is repeated."""
    half = (_NUM_PLACES - 1) / 2
    offset_LG = np.rint((np.arange(_NUM_PLACES) - half) * _SPACING * _scales_px()[:, None]).astype(np.int64)
    y_NKG, x_NKG = (np.clip(at_NK[:, :, None] + offset_LG[scale_NK], 0, SIDE_PX - 1) for at_NK in (y_NK, x_NK))
    picture_N = np.arange(len(blurred_NLSS))[:, None, None, None]
    patch_NKGG = blurred_NLSS[picture_N, scale_NK[:, :, None, None], y_NKG[:, :, :, None], x_NKG[:, :, None, :]]
    basis_UG = _basis()
    term_NKUU: Floats = basis_UG @ patch_NKGG @ basis_UG.T
    return term_NKUU


@functools.cache
def _basis() -> Floats:
    place_G = (np.arange(_NUM_PLACES) + 0.5) / _NUM_PLACES
    basis_UG = np.cos(np.pi * np.arange(_NUM_COSINES)[:, None] * place_G[None])
    unit_UG: Floats = (basis_UG / np.linalg.norm(basis_UG, axis=1, keepdims=True)).astype(np.float32)
    return unit_UG


def _codes(term_NKUU: Floats) -> tuple[NDArray[np.uint64], Ints]:
    """Codes of patches laid so that the first term of x is the largest and the first of y above 0, and the ways."""
    right_NK, down_NK = term_NKUU[:, :, 0, 1], term_NKUU[:, :, 1, 0]
    flip_x_NK, flip_y_NK, swap_NK = right_NK < 0, down_NK < 0, np.abs(down_NK) > np.abs(right_NK)
    odd_U = ((-1.0) ** np.arange(_NUM_COSINES)).astype(np.float32)
    laid_NKUU = term_NKUU * np.where(flip_x_NK[:, :, None], odd_U, 1)[:, :, None, :]
    laid_NKUU *= np.where(flip_y_NK[:, :, None], odd_U, 1)[:, :, :, None]
    laid_NKUU = np.where(swap_NK[:, :, None, None], laid_NKUU.swapaxes(2, 3), laid_NKUU)
    bit_NKB = np.zeros((*right_NK.shape, 64), np.bool_)
    bit_NKB[:, :, :NUM_BITS] = laid_NKUU[:, :, *_terms_of_code()] > 0
    code_NK = np.packbits(bit_NKB, axis=2, bitorder="little").view("<u8")[:, :, 0]
    return code_NK, flip_x_NK + 2 * flip_y_NK + 4 * swap_NK


@functools.cache
def _terms_of_code() -> tuple[Ints, Ints]:
    """Which terms make the bits: the low ones, but the two that laying makes positive, and one that hardly varies."""
    v_UU, u_UU = np.meshgrid(np.arange(_NUM_COSINES), np.arange(_NUM_COSINES), indexing="ij")
    used_UU = (u_UU + v_UU < _NUM_COSINES) & (u_UU + v_UU > 0)
    used_UU[0, 1] = used_UU[1, 0] = used_UU[2, 4] = False
    v, u = np.nonzero(used_UU)
    assert len(u) == NUM_BITS
    return v, u
