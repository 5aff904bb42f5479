"""Whether two scans show the same picture: their pixels, aligned, share fine detail.

Films of different chests, and two films of one chest, may share every edge; what only copies share is what is
finer: texture and grain. So the pictures are aligned (shift and zoom of each axis: a cropped copy is still the
copy) from coarse to fine, and the correlation of the detail finer than 3 of 128 pixels decides. Where either
picture is clipped, or where one does not reach, nothing is compared.

Legend: P pairs, S side, K parameters of the alignment (shift x, y, zoom x, y in half sides), X pixels.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]

SIDE_PX = 128
# Side, steps, and the least correlation of coarse detail with which a pair is looked at more closely; no copy of
# the bench falls below.
_LEVELS = ((32, 5, 0.50), (64, 4, 0.75), (128, 2, 0.0))
_COARSE_DETAIL_PX, _FINE_DETAIL_PX, _REFINE_DETAIL_PX = 5, 3, 9
_REFINE_STEPS = 2
_CLIPPED = 0.10  # of the pixels at each end, at least: they do not steer the alignment
_MAX_CLIPPED = 0.60
_NEAR_WHITE = 2.0  # grey values from a picture's own black or white that count as clipped
_MARGIN = 0.05  # of the side: does not steer the alignment, for a cropped copy lacks it
_MAX_WARP = 0.20
_PAIRS_A_BLOCK = 32  # so that a block's arrays fit the processor's cache


def same_picture(a_PSS: Bytes, b_PSS: Bytes, min_correlation: float) -> Bools:
    """Which pairs of 128 x 128 thumbnails show one picture, one perhaps inverted; shape (P,).

    Either picture is moved onto the other in turn, for moving smooths: a film that only resembles another one may
    pass one way, a copy passes both.
    """
    same_P = np.zeros(len(a_PSS), np.bool_)
    for start in range(0, len(a_PSS), _PAIRS_A_BLOCK):
        block = slice(start, start + _PAIRS_A_BLOCK)
        close = start + np.flatnonzero(detail_correlation(a_PSS[block], b_PSS[block]) >= min_correlation)
        if len(close):
            same_P[close] = detail_correlation(b_PSS[close], a_PSS[close]) >= min_correlation
    return same_P


def detail_correlation(a_PSS: Bytes, b_PSS: Bytes) -> Floats:
    """Correlation of fine detail after alignment, shape (P,); -1 for pairs that differ at a coarse look."""
    correlation_P = np.full(len(a_PSS), -1.0, np.float32)
    place_P, warp_PK = np.arange(len(a_PSS)), np.zeros((len(a_PSS), 4), np.float32)
    a_SIZES, b_SIZES = _pyramid(a_PSS.astype(np.float32)), _pyramid(b_PSS.astype(np.float32))
    b_SIZES = _upright(a_SIZES, b_SIZES)
    range_a_P2, range_b_P2 = _equal_ranges(a_SIZES[64], b_SIZES[64])
    for side, num_steps, least in _LEVELS:
        own_PSS, other_PSS = a_SIZES[side][place_P], b_SIZES[side][place_P]
        soft = (_limited(own_PSS, range_a_P2[place_P]), _limited(other_PSS, range_b_P2[place_P]))
        warp_PK = _aligned(*soft, warp_PK, num_steps)
        if side == SIDE_PX:
            warps = (warp_PK, _refined(*soft, warp_PK))
            correlations = [_correlation(own_PSS, other_PSS, fit_PK, _FINE_DETAIL_PX) for fit_PK in warps]
            correlation_P[place_P] = np.maximum(*correlations)
            break
        close_P = _correlation(own_PSS, other_PSS, warp_PK, _COARSE_DETAIL_PX) >= least
        place_P, warp_PK = place_P[close_P], warp_PK[close_P]
        if not len(place_P):
            break
    return correlation_P


def _pyramid(image_PSS: Floats) -> dict[int, Floats]:
    """The pictures at 128, 64 and 32 pixels, by side."""
    sizes = {SIDE_PX: image_PSS}
    for side in (SIDE_PX // 2, SIDE_PX // 4):
        sizes[side] = _halved(sizes[2 * side])
    return sizes


def _upright(a_SIZES: dict[int, Floats], b_SIZES: dict[int, Floats]) -> dict[int, Floats]:
    """`b`, inverted where it is more like the negative of `a`."""
    a_PX, b_PX = (_unit(_flat(sizes[SIDE_PX // 4])) for sizes in (a_SIZES, b_SIZES))
    negative_P = ((a_PX * b_PX).sum(axis=1) < 0)[:, None, None]
    return {side: np.where(negative_P, np.float32(255) - b_PSS, b_PSS) for side, b_PSS in b_SIZES.items()}


def _equal_ranges(a_PSS: Floats, b_PSS: Floats) -> tuple[Floats, Floats]:
    """Lowest and highest grey kept of each picture, (P, 2), so that both have the same share of flat black and white.

    A windowed copy, clipped, then aligns with its original.
    """
    dark_P, light_P = (
        np.maximum(np.maximum(_dark(sign * a_PSS).mean((1, 2)), _dark(sign * b_PSS).mean((1, 2))), _CLIPPED)
        for sign in (np.float32(1), np.float32(-1))
    )
    dark_P = np.minimum(dark_P, _MAX_CLIPPED)
    light_P = np.minimum(light_P, 0.95 - dark_P)
    ranges = []
    for image_PSS in (a_PSS, b_PSS):
        sorted_PX = np.sort(_flat(image_PSS), axis=1)
        pairs, last = np.arange(len(sorted_PX)), sorted_PX.shape[1] - 1
        low_P = sorted_PX[pairs, (dark_P * last).astype(np.int64)]
        high_P = np.maximum(sorted_PX[pairs, ((1 - light_P) * last).astype(np.int64)], low_P + 1)
        ranges.append(np.stack([low_P, high_P], axis=1))
    return ranges[0], ranges[1]


def _limited(image_PSS: Floats, range_P2: Floats) -> Floats:
    limited_PSS: Floats = np.clip(image_PSS, range_P2[:, :1, None], range_P2[:, 1:, None])
    return limited_PSS


def _dark(image_PSS: Floats) -> Bools:
    """Pixels at, or nearly at, a picture's own smallest value."""
    dark_PSS: Bools = image_PSS <= image_PSS.min(axis=(1, 2), keepdims=True) + np.float32(_NEAR_WHITE)
    return dark_PSS


def _refined(a_PSS: Floats, b_PSS: Floats, warp_PK: Floats) -> Floats:
    """The alignment again, steered by detail alone: soft shadows that an edit changed pull the other one aside."""
    a_PSS, b_PSS = _detail(a_PSS, _REFINE_DETAIL_PX), _detail(b_PSS, _REFINE_DETAIL_PX)
    warp_PK = _aligned(_halved(a_PSS), _halved(b_PSS), warp_PK, _REFINE_STEPS)
    return _aligned(a_PSS, b_PSS, warp_PK, _REFINE_STEPS)


def _aligned(a_PSS: Floats, b_PSS: Floats, warp_PK: Floats, num_steps: int) -> Floats:
    """Shift and zoom `b` onto `a` by Gauss-Newton steps over the pixels both have."""
    side = a_PSS.shape[1]
    margin = max(2, round(_MARGIN * side))
    inner = (slice(None), slice(margin, -margin), slice(margin, -margin))
    for _ in range(num_steps):
        moved_PSS = _warped(b_PSS, warp_PK)
        seen_PX = _flat(_reached(side, warp_PK)[inner]).astype(np.float32)
        basis_PKX = _slopes(moved_PSS, margin)
        a_PX, moved_PX = _centred(_flat(a_PSS[inner]), seen_PX), _centred(_flat(moved_PSS[inner]), seen_PX)
        contrast_P = np.linalg.norm(moved_PX, axis=1) / np.maximum(np.linalg.norm(a_PX, axis=1), 1e-6)
        error_PX = a_PX * contrast_P[:, None] - moved_PX
        basis_PKX = _centred(basis_PKX, seen_PX[:, None])
        gram_PKK = basis_PKX @ basis_PKX.transpose(0, 2, 1)
        ridge_P = np.float32(1e-5) * np.trace(gram_PKK, axis1=1, axis2=2) + np.float32(1e-6)  # for flat pictures
        gram_PKK += ridge_P[:, None, None] * np.eye(4, dtype=np.float32)
        step_PK = np.linalg.solve(gram_PKK, basis_PKX @ error_PX[:, :, None])[:, :, 0]
        warp_PK = np.clip(warp_PK + step_PK, -_MAX_WARP, _MAX_WARP).astype(np.float32)
    return warp_PK


def _correlation(a_PSS: Floats, b_PSS: Floats, warp_PK: Floats, detail_px: int) -> Floats:
    """Correlation of the detail of `a` and the moved `b` where neither is clipped and both reach."""
    from scipy.ndimage import minimum_filter

    clipped_a_PSS, clipped_b_PSS = (_dark(image_PSS) | _dark(-image_PSS) for image_PSS in (a_PSS, b_PSS))
    clipped_b_PSS = _warped(clipped_b_PSS.astype(np.float32), warp_PK) > 0
    good_PSS = ~clipped_a_PSS & ~clipped_b_PSS & _reached(a_PSS.shape[1], warp_PK)
    good_PSS[:, [0, 1, -2, -1]] = good_PSS[:, :, [0, 1, -2, -1]] = False
    good_PX = _flat(minimum_filter(good_PSS, (1, 5, 5))).astype(np.float32)
    a_PX, b_PX = (_flat(_detail(image_PSS, detail_px)) for image_PSS in (a_PSS, _warped(b_PSS, warp_PK)))
    correlation_P: Floats = (_unit(_centred(a_PX, good_PX)) * _unit(_centred(b_PX, good_PX))).sum(axis=1)
    return correlation_P


def _detail(image_PSS: Floats, size_px: int) -> Floats:
    """The picture without what its neighbourhood already tells."""
    from scipy.ndimage import uniform_filter

    detail_PSS: Floats = image_PSS - uniform_filter(image_PSS, (1, size_px, size_px), mode="nearest")
    return detail_PSS


def _slopes(image_PSS: Floats, margin: int) -> Floats:
    """How inner pixels change with shift in x, y and zoom in x, y; shape (P, 4, X)."""
    m, side = margin, image_PSS.shape[1]
    inner = side - 2 * m
    slope_PKSS = np.empty((len(image_PSS), 4, inner, inner), np.float32)
    slope_PKSS[:, 0] = image_PSS[:, m:-m, m + 1 : side - m + 1] - image_PSS[:, m:-m, m - 1 : side - m - 1]
    slope_PKSS[:, 1] = image_PSS[:, m + 1 : side - m + 1, m:-m] - image_PSS[:, m - 1 : side - m - 1, m:-m]
    slope_PKSS[:, :2] *= np.float32(side / 4)  # per half side
    ramp_S = _ramp(side)[m:-m]
    np.multiply(slope_PKSS[:, 0], ramp_S, out=slope_PKSS[:, 2])
    np.multiply(slope_PKSS[:, 1], ramp_S[:, None], out=slope_PKSS[:, 3])
    return slope_PKSS.reshape(len(image_PSS), 4, -1)


def _places(side: int, warp_PK: Floats, axis: int) -> Floats:
    """Where along an axis (0: x, 1: y) each pixel of the moved picture is taken from; shape (P, S)."""
    move_PS = warp_PK[:, axis : axis + 1] + warp_PK[:, axis + 2 : axis + 3] * _ramp(side)[None]
    return np.asarray(np.arange(side)[None] + move_PS * np.float32(side / 2), np.float32)


def _reached(side: int, warp_PK: Floats) -> Bools:
    """Pixels of the moved picture that lie inside the original one."""
    x_PS, y_PS = (_places(side, warp_PK, axis) for axis in (0, 1))
    inside_x_PS, inside_y_PS = ((at_PS >= 0) & (at_PS <= side - 1) for at_PS in (x_PS, y_PS))
    return inside_y_PS[:, :, None] & inside_x_PS[:, None, :]


def _warped(image_PSS: Floats, warp_PK: Floats) -> Floats:
    """Bilinear sampling at the moved places; pixels outside repeat the edge."""
    side = image_PSS.shape[1]
    pairs = np.arange(len(image_PSS))[:, None]
    for axis in (1, 0):  # y, then x on the transposed picture
        at_PS = np.clip(_places(side, warp_PK, axis), 0, np.float32(side - 1.001))
        low_PS = at_PS.astype(np.int64)
        part_PS1 = (at_PS - low_PS)[:, :, None].astype(np.float32)
        mixed_PSS = image_PSS[pairs, low_PS] * (np.float32(1) - part_PS1) + image_PSS[pairs, low_PS + 1] * part_PS1
        image_PSS = mixed_PSS.transpose(0, 2, 1)
    return image_PSS


def _halved(image_PSS: Floats) -> Floats:
    rows_PSS = image_PSS[:, ::2] + image_PSS[:, 1::2]
    halved_PSS: Floats = (rows_PSS[:, :, ::2] + rows_PSS[:, :, 1::2]) * np.float32(0.25)
    return halved_PSS


def _ramp(side: int) -> Floats:
    return ((np.arange(side) - (side - 1) / 2) / (side / 2)).astype(np.float32)


def _flat(image_PSS: NDArray[np.generic]) -> Floats:
    flat_PX: Floats = image_PSS.reshape(len(image_PSS), -1)  # type: ignore[assignment]
    return flat_PX


def _centred(values_PX: Floats, weight_PX: Floats) -> Floats:
    """Values less their weighted mean, zero where the weight is zero."""
    total_P1 = np.maximum(weight_PX.sum(axis=-1, keepdims=True), 1)
    centred_PX: Floats = (values_PX - (values_PX * weight_PX).sum(axis=-1, keepdims=True) / total_P1) * weight_PX
    return centred_PX


def _unit(values_PX: Floats) -> Floats:
    centred_PX = values_PX - values_PX.mean(axis=1, keepdims=True)
    unit: Floats = centred_PX / np.maximum(np.linalg.norm(centred_PX, axis=1, keepdims=True), 1e-6)
    return unit
