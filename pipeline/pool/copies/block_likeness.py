"""Whether two pictures are one after turning, zooming and shifting: block by block, so that a caption spoils little.

The pictures are aligned by an affine warp, from coarse to fine, in greys that are made equally bright and equally
contrasty everywhere; each step solves for the warp (Gauss and Newton, composed forwards), and pixels that
disagree much count little. Then each of 7 x 7 blocks is correlated on its own, in the detail between 1 and 2.5 of
128 pixels, and asked how far it would still have to move. What a third of the blocks reach decides, and the median of
those moves. Two films of one person share more
detail than a copy keeps after strong compression; but people breathe and turn, so their blocks do not fit one warp,
while those of a copy do. Drawn pictures of one kind may fit one warp; so the detail finer than 1 pixel is asked too. A
copy may have lost it or be drowned in noise, but has not as much of its own: what both share is at least a good part
of what the poorer of the two has.

Legend: P pairs, S side, X pixels, W six numbers of a warp, J blocks.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.pool.copies.points import blur
from pipeline.pool.copies.symmetry import laid

Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]

SIDE_PX = 128
_NUM_BLOCKS = 7
_MIN_SEEN = 0.6  # of a block's pixels
_MIN_BLOCKS = 16
_FLAT = 0.5  # grey values: a block of less detail than this says nothing
_FINE_PX, _COARSE_PX = 1.0, 2.5
_MIN_COARSE_CORRELATION = 0.5  # after the coarse alignment; no copy of the bench that is confirmed falls below
_COARSE_DETAIL_PX = (0.7, 2.0)  # at 64 pixels
# Side, width of the neighbourhood that evens out the greys, steps.
_LEVELS = ((32, 4.0, 3), (64, 5.0, 8))
_LAST_LEVEL = (128, 4.0, 4)
_EVEN_GREYS = 4.0
_MAX_STEP = 0.1
_PAIRS_A_BLOCK = 32  # so that a block's arrays fit the processor's cache
_UNLIKE_BLOCK = 0.3
_BEST_BLOCKS = 1 / 3  # of the blocks: captions and rims may cover the others
_BLOCK_STEPS = 3
_MAX_BLOCK_MOVE = 2.0  # pixels


@dataclass(frozen=True)
class Likeness:
    """What a close look at P pairs says.

    Attributes:
        correlation_P: Median over the blocks; -1 where a coarse look at half of them was enough.
        best_P: Correlation that a third of the blocks reach; -1 where a coarse look at a third of them was enough.
        apart_px_P: Median over the blocks of what each would still have to move, in pixels of 128; infinite where
            `best_P` is -1.
        kept_P: Median over the blocks of the covariance of the finest detail over the smaller of both variances;
            infinite where one of the two has none.
        warp_P33: From places of the laid first picture to places of the second, in half sides.
        num_unlike_P: Blocks that are not alike: in a pair that is one picture, what a caption covers.
    """

    correlation_P: Floats
    best_P: Floats
    apart_px_P: Floats
    kept_P: Floats
    warp_P33: Floats
    num_unlike_P: NDArray[np.int64]

    @classmethod
    def joined(cls, parts: Sequence["Likeness"], place_P: NDArray[np.int64] | None = None) -> "Likeness":
        """All pairs of the parts, in their order, or each at its place."""
        order = slice(None) if place_P is None else np.argsort(place_P)
        return cls(*(np.concatenate([getattr(part, name) for part in parts])[order] for name in cls.__annotations__))


def likeness(a_PSS: Bytes, b_PSS: Bytes, way_P: Bytes, negative_P: Bools, warp_P33: Floats) -> Likeness:
    """Align the first picture of each pair with the second and compare them, from a first guess of how they differ.

    Args:
        a_PSS: 128 x 128 greys.
        b_PSS: The same of the second pictures.
        way_P: How the first has to be laid, see `pipeline.pool.copies.symmetry`.
        negative_P: Whether it has to be inverted.
        warp_P33: From the laid first to the second.
    """
    shown_PSS = laid(a_PSS, way_P)
    shown_PSS = np.where(negative_P[:, None, None], 255 - shown_PSS, shown_PSS).astype(np.uint8)
    parts = []
    for start in range(0, len(a_PSS), _PAIRS_A_BLOCK):
        block = slice(start, start + _PAIRS_A_BLOCK)
        parts.append(_looked_at(shown_PSS[block], b_PSS[block], warp_P33[block]))
    if not parts:
        return Likeness(*(np.zeros(0, np.float32),) * 4, warp_P33, np.zeros(0, np.int64))
    return Likeness.joined(parts)


def _looked_at(a_PSS: Bytes, b_PSS: Bytes, warp_P33: Floats) -> Likeness:
    correlation_P, best_P = (np.full(len(a_PSS), -1.0, np.float32) for _ in range(2))
    apart_px_P, kept_P = (np.full(len(a_PSS), np.inf, np.float32) for _ in range(2))
    num_unlike_P = np.zeros(len(a_PSS), np.int64)
    a_SIZES, b_SIZES = _pyramid(a_PSS.astype(np.float32)), _pyramid(b_PSS.astype(np.float32))
    for side, even_px, num_steps in _LEVELS:
        warp_P33 = _aligned(_evened(a_SIZES[side], even_px), _evened(b_SIZES[side], even_px), warp_P33, num_steps)
    half = SIDE_PX // 2
    bands = (_band(sizes[half], *_COARSE_DETAIL_PX) for sizes in (a_SIZES, b_SIZES))
    coarse_PJ, _ = _blocks(next(bands), next(bands), warp_P33)
    close = np.flatnonzero(_reached(coarse_PJ, _BEST_BLOCKS) >= _MIN_COARSE_CORRELATION)
    if not len(close):
        return Likeness(correlation_P, best_P, apart_px_P, kept_P, warp_P33, num_unlike_P)
    side, even_px, num_steps = _LAST_LEVEL
    blur_SS = blur(_FINE_PX, side)
    a_grey_PSS, b_grey_PSS = a_SIZES[side][close], b_SIZES[side][close]
    soft_a_PSS, soft_b_PSS = (
        _evened(np.asarray(blur_SS @ grey_PSS @ blur_SS.T, np.float32), even_px)
        for grey_PSS in (a_grey_PSS, b_grey_PSS)
    )
    fine_P33 = _aligned(soft_a_PSS, soft_b_PSS, warp_P33[close], num_steps)
    band_a_PSS, band_b_PSS = (_band(grey_PSS, _FINE_PX, _COARSE_PX) for grey_PSS in (a_grey_PSS, b_grey_PSS))
    for _ in range(_BLOCK_STEPS):
        fine_PJ, move_PJ2 = _blocks(band_a_PSS, band_b_PSS, fine_P33)
        fine_P33 = _moved_by_blocks(fine_P33, fine_PJ, move_PJ2)
    fine_PJ, move_PJ2 = _blocks(band_a_PSS, band_b_PSS, fine_P33)
    half_P = _reached(coarse_PJ[close], 0.5) >= _MIN_COARSE_CORRELATION
    correlation_P[close] = np.where(half_P, _reached(fine_PJ, 0.5), -1)
    best_P[close] = _reached(fine_PJ, _BEST_BLOCKS)
    apart_px_P[close] = _reached(np.linalg.norm(move_PJ2, axis=2), 0.5, np.inf)
    finest = (grey_PSS - _smoothed(grey_PSS, _FINE_PX) for grey_PSS in (a_grey_PSS, b_grey_PSS))
    kept_P[close] = _kept(next(finest), next(finest), fine_P33)
    num_unlike_P[close] = (fine_PJ < _UNLIKE_BLOCK).sum(axis=1)
    warp_P33 = warp_P33.copy()
    warp_P33[close] = fine_P33
    return Likeness(correlation_P, best_P, apart_px_P, kept_P, warp_P33, num_unlike_P)


def _kept(a_PSS: Floats, b_PSS: Floats, warp_P33: Floats) -> Floats:
    """Covariance of the finest detail over the smaller variance, the median of the blocks that have any."""
    moved_PSS, seen_PSS = _warped(b_PSS, warp_P33)
    columns = []
    for rows, across in _spans(a_PSS.shape[-1]):
        seen_P, a_PX, b_PX = (
            part[:, rows, across].reshape(len(a_PSS), -1).astype(np.float32) for part in (seen_PSS, a_PSS, moved_PSS)
        )
        smaller_P = np.minimum((a_PX**2).mean(axis=1), (b_PX**2).mean(axis=1))
        known_P = (seen_P.mean(axis=1) >= _MIN_SEEN) & (smaller_P >= _FLAT**2)
        columns.append(np.where(known_P, (a_PX * b_PX).mean(axis=1) / np.maximum(smaller_P, 1e-6), np.nan))
    return _reached(np.stack(columns, axis=1).astype(np.float32), 0.5, np.inf)


def _spans(side: int) -> list[tuple[slice, slice]]:
    """Rows and columns of each block."""
    edges = np.linspace(0, side, _NUM_BLOCKS + 1).astype(int)
    spans = [slice(first, last) for first, last in itertools.pairwise(edges)]
    return list(itertools.product(spans, spans))


def _smoothed(image_PSS: Floats, width_px: float) -> Floats:
    blur_SS = blur(width_px, image_PSS.shape[-1])
    return np.asarray(blur_SS @ image_PSS @ blur_SS.T, np.float32)


def _moved_by_blocks(warp_P33: Floats, correlation_PJ: Floats, move_PJ2: Floats) -> Floats:
    """The warp, better by what the blocks that are alike ask for; least squares, then again without the odd ones."""
    centre_J = (2 * np.arange(_NUM_BLOCKS) + 1) / _NUM_BLOCKS - 1
    y_J, x_J = (part.ravel() for part in np.meshgrid(centre_J, centre_J, indexing="ij"))
    basis_J3 = np.stack([x_J, y_J, np.ones_like(x_J)], axis=1)
    move_PJ2 = np.nan_to_num(np.clip(move_PJ2, -_MAX_BLOCK_MOVE, _MAX_BLOCK_MOVE))
    alike_PJ = np.nan_to_num(np.maximum(correlation_PJ, 0)) ** 2
    weight_PJ = alike_PJ
    for _ in range(2):
        gram_P33 = np.einsum("pj,ja,jb->pab", weight_PJ, basis_J3, basis_J3) + 1e-3 * np.eye(3)
        step_P32 = np.linalg.solve(gram_P33, np.einsum("pj,ja,pjc->pac", weight_PJ, basis_J3, move_PJ2))
        rest_PJ2 = move_PJ2 - basis_J3 @ step_P32
        weight_PJ = alike_PJ / (1 + 4 * (rest_PJ2**2).sum(axis=2))
    step_P33 = np.repeat(np.eye(3)[None], len(warp_P33), axis=0)
    step_P33[:, :2] += step_P32.transpose(0, 2, 1) / (SIDE_PX / 2)
    return np.asarray(warp_P33 @ step_P33, np.float32)


def _pyramid(image_PSS: Floats) -> dict[int, Floats]:
    sizes = {SIDE_PX: image_PSS}
    for side in (SIDE_PX // 2, SIDE_PX // 4):
        rows_PSS = sizes[2 * side][:, ::2] + sizes[2 * side][:, 1::2]
        sizes[side] = (rows_PSS[:, :, ::2] + rows_PSS[:, :, 1::2]) * np.float32(0.25)
    return sizes


def _evened(image_PSS: Floats, width_px: float) -> Floats:
    """Each pixel against its neighbourhood: less its mean, over its spread."""
    blur_SS = blur(width_px, image_PSS.shape[-1])
    mean_PSS = blur_SS @ image_PSS @ blur_SS.T
    variance_PSS = blur_SS @ (image_PSS * image_PSS) @ blur_SS.T - mean_PSS * mean_PSS
    spread_PSS = np.sqrt(np.maximum(variance_PSS, 0) + np.float32(_EVEN_GREYS**2))
    return np.asarray((image_PSS - mean_PSS) / spread_PSS, np.float32)


def _band(image_PSS: Floats, fine_px: float, coarse_px: float) -> Floats:
    """The detail between two widths."""
    fine_SS, coarse_SS = (blur(width_px, image_PSS.shape[-1]) for width_px in (fine_px, coarse_px))
    return np.asarray(fine_SS @ image_PSS @ fine_SS.T - coarse_SS @ image_PSS @ coarse_SS.T, np.float32)


def _aligned(a_PSS: Floats, b_PSS: Floats, warp_P33: Floats, num_steps: int) -> Floats:
    """Gauss-Newton steps of an affine warp that brings `b` onto `a`."""
    side = a_PSS.shape[-1]
    ramp_S = _ramp(side)
    for _ in range(num_steps):
        moved_PSS, seen_PSS = _warped(b_PSS, warp_P33)
        slope_PSS = np.zeros((2, *moved_PSS.shape), np.float32)
        slope_PSS[0][:, :, 1:-1] = moved_PSS[:, :, 2:] - moved_PSS[:, :, :-2]
        slope_PSS[1][:, 1:-1] = moved_PSS[:, 2:] - moved_PSS[:, :-2]
        slope_PSS *= np.float32(side / 4)  # per half side
        basis_PWX = np.stack(
            [part_PSS * factor for part_PSS in slope_PSS for factor in (ramp_S, ramp_S[:, None], np.float32(1))], axis=1
        ).reshape(len(a_PSS), 6, -1)
        seen_PSS[:, [0, -1]] = seen_PSS[:, :, [0, -1]] = False
        error_PX = (a_PSS - moved_PSS).reshape(len(a_PSS), -1)
        weight_PX = seen_PSS.reshape(len(a_PSS), -1) / (1 + error_PX * error_PX)  # Cauchy's weights
        weighted_PWX = basis_PWX * weight_PX[:, None]
        gram_PWW = weighted_PWX @ basis_PWX.transpose(0, 2, 1)
        ridge_P = np.float32(1e-4) * np.trace(gram_PWW, axis1=1, axis2=2) + np.float32(1e-6)  # for flat pictures
        gram_PWW += ridge_P[:, None, None] * np.eye(6, dtype=np.float32)
        step_PW = np.linalg.solve(gram_PWW, weighted_PWX @ error_PX[:, :, None])[:, :, 0]
        step_P33 = np.repeat(np.eye(3, dtype=np.float32)[None], len(a_PSS), axis=0)
        step_P33[:, :2] += np.clip(step_PW, -_MAX_STEP, _MAX_STEP).reshape(-1, 2, 3)
        warp_P33 = (warp_P33 @ step_P33).astype(np.float32)
    return warp_P33


def _warped(image_PSS: Floats, warp_P33: Floats) -> tuple[Floats, Bools]:
    """The picture seen through a warp, bilinear, and where it reaches."""
    side = image_PSS.shape[-1]
    ramp_S, half = _ramp(side), np.float32(side / 2)
    x_PSS, y_PSS = (
        (row_P3[:, 0, None, None] * ramp_S + row_P3[:, 1, None, None] * ramp_S[:, None] + row_P3[:, 2, None, None])
        * half
        + np.float32((side - 1) / 2)
        for row_P3 in (warp_P33[:, 0], warp_P33[:, 1])
    )
    seen_PSS = (x_PSS >= 0) & (x_PSS <= side - 1) & (y_PSS >= 0) & (y_PSS <= side - 1)
    x_PSS, y_PSS = (np.clip(at_PSS, 0, np.float32(side - 1.001)) for at_PSS in (x_PSS, y_PSS))
    left_PSS, top_PSS = x_PSS.astype(np.int32), y_PSS.astype(np.int32)
    part_x_PSS, part_y_PSS = x_PSS - left_PSS, y_PSS - top_PSS
    pictures = np.arange(len(image_PSS), dtype=np.int32)[:, None, None] * np.int32(side * side)
    at_PSS, flat_X = pictures + top_PSS * side + left_PSS, image_PSS.ravel()
    upper_PSS = flat_X[at_PSS] + (flat_X[at_PSS + 1] - flat_X[at_PSS]) * part_x_PSS
    lower_PSS = flat_X[at_PSS + side] + (flat_X[at_PSS + side + 1] - flat_X[at_PSS + side]) * part_x_PSS
    moved_PSS: Floats = (upper_PSS + (lower_PSS - upper_PSS) * part_y_PSS).astype(np.float32)
    return moved_PSS, seen_PSS


def _blocks(a_PSS: Floats, b_PSS: Floats, warp_P33: Floats) -> tuple[Floats, Floats]:
    """Correlation of each block, (P, J), and the shift in pixels that would improve it, (P, J, 2).

    NaN where too little is seen, or one of the two is flat. The shift is one step of Lucas and Kanade's.
    """
    moved_PSS, seen_PSS = _warped(b_PSS, warp_P33)
    slope_PSS2 = np.zeros((*a_PSS.shape, 2), np.float32)
    both_PSS = a_PSS + moved_PSS
    slope_PSS2[:, :, 1:-1, 0] = (both_PSS[:, :, 2:] - both_PSS[:, :, :-2]) / 4
    slope_PSS2[:, 1:-1, :, 1] = (both_PSS[:, 2:] - both_PSS[:, :-2]) / 4
    images: tuple[Any, ...] = (a_PSS, moved_PSS, seen_PSS, slope_PSS2)
    cells = [_block(*(part[:, rows, across] for part in images)) for rows, across in _spans(a_PSS.shape[-1])]
    return np.stack([cell[0] for cell in cells], axis=1), np.stack([cell[1] for cell in cells], axis=1)


def _block(a_PYX: Floats, b_PYX: Floats, seen_PYX: Bools, slope_PYX2: Floats) -> tuple[Floats, Floats]:
    """Correlation (P,) and shift (P, 2) of one block."""
    seen_PX, a_PX, b_PX = (part.reshape(len(a_PYX), -1).astype(np.float32) for part in (seen_PYX, a_PYX, b_PYX))
    slope_PX2 = slope_PYX2.reshape(len(a_PYX), -1, 2) * seen_PX[:, :, None]
    num_P = np.maximum(seen_PX.sum(axis=1), 1)
    a_PX, b_PX = ((part - ((part * seen_PX).sum(axis=1) / num_P)[:, None]) * seen_PX for part in (a_PX, b_PX))
    square_a_P, square_b_P = (a_PX**2).sum(axis=1), (b_PX**2).sum(axis=1)
    known_P = (num_P >= _MIN_SEEN * seen_PX.shape[1]) & (np.minimum(square_a_P, square_b_P) >= _FLAT**2 * num_P)
    correlation_P = (a_PX * b_PX).sum(axis=1) / np.sqrt(np.maximum(square_a_P * square_b_P, 1e-6))
    gain_P = np.sqrt(square_a_P / np.maximum(square_b_P, 1e-6))
    gram_P22 = slope_PX2.transpose(0, 2, 1) @ slope_PX2 + np.float32(1e-3) * np.eye(2, dtype=np.float32)
    error_PX = a_PX - b_PX * gain_P[:, None]
    move_P2 = np.linalg.solve(gram_P22, slope_PX2.transpose(0, 2, 1) @ error_PX[:, :, None])[:, :, 0]
    unknown = np.float32(np.nan)
    return np.where(known_P, correlation_P, unknown), np.where(known_P[:, None], move_P2, unknown)


def _reached(value_PJ: Floats, share: float, few: float = -1.0) -> Floats:
    """What a share of the blocks that say something reach or exceed; `few` where they are few."""
    sorted_PJ = np.sort(value_PJ, axis=1)  # blocks that say nothing come last
    num_P = (~np.isnan(value_PJ)).sum(axis=1)
    place_P = (1 - share) * np.maximum(num_P - 1, 0)
    low_P = place_P.astype(np.int64)
    below_P, above_P = (
        np.take_along_axis(sorted_PJ, at_P[:, None], axis=1)[:, 0]
        for at_P in (low_P, np.minimum(low_P + 1, np.maximum(num_P - 1, 0)))
    )
    reached_P = below_P + (above_P - below_P) * (place_P - low_P)
    return np.where(num_P >= _MIN_BLOCKS, reached_P, few).astype(np.float32)


def _ramp(side: int) -> Floats:
    return ((np.arange(side) - (side - 1) / 2) / (side / 2)).astype(np.float32)
