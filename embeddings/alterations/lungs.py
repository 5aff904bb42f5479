"""Where the lungs may be, to be erased: a smooth dome over both, the same for clear and for opaque lungs.

What a network still tells from an erased scan, it tells from markers, borders, devices and habits of a site
(Maguolo & Nanni 2021, who blacked out the centre of the film). A segmentation will not do: it follows the air,
so the outline of a consolidated lung would itself show the disease. Instead a schematic chest is laid over the
scan with four numbers (middle, half width, top, bottom), averaged over all placements that fit: one opaque lung
leaves the other, and both leave the walls and the spine. The dome only ever grows from a fixed one, which is
all that most films of adults need. Where it grows it follows the chest, and can then tell what posture, crop and
haze of the whole film tell (tests/bench/results/lungs.md: "region alone").

Legend: S side of the square, G side of the grid the fit is made on, K placements, X pixels of the grid.
Lengths without a unit are shares of the square's side.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from embeddings import decode

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

VERSION = 1  # raise it whenever regions or fills change: it is part of the address of erased embeddings

_GRID = 32
_MIDDLES = (0.42, 0.46, 0.50, 0.54, 0.58)
_HALF_WIDTHS = (0.25, 0.29, 0.33, 0.37, 0.41, 0.45, 0.49)
_TOPS = (0.00, 0.05, 0.10, 0.15, 0.20, 0.25)
_BOTTOMS = (0.64, 0.70, 0.76, 0.82, 0.88, 0.94, 1.00)
# Of those four, how films of adults and children are usually taken.
_CENTRE, _SPREAD = (0.50, 0.39, 0.10, 0.84), (0.05, 0.08, 0.08, 0.10)
_SHARPNESS = 40.0  # a placement whose correlation is 0.05 lower weighs e^2 less
_MARGIN = 0.02
# What is erased in any case: left, right, top, bottom. Most films of adults keep inside it, and for them the
# region is a constant, which cannot tell a label.
_LEAST = (0.085, 0.915, 0.055, 0.925)
_FALLBACK = (0.05, 0.95, 0.03, 0.95)  # where nothing fits
_MIN_QUALITY = 0.15
_FLAT = 0.03  # a row or column whose grey values deviate less is a border
_MAX_BORDER = 0.25
# Black and the mean of what is kept were measured too: no difference beyond the noise (tests/bench/results).
_FILL = np.float32(0.5)


@dataclass(frozen=True)
class Region:
    """What to erase so that no lung is visible.

    Attributes:
        mask_SS: True where lung may be.
        left: Of the dome where it is widest; below 0 or above 1 the picture cuts it.
        right: As `left`.
        top: Of the dome.
        bottom: Of the dome.
        quality: Correlation of the schematic chest with the scan; 0: nothing fits, a central dome is taken.
    """

    mask_SS: Mask
    left: float
    right: float
    top: float
    bottom: float
    quality: float


def lung_region(pixels_SS: Floats) -> Region:
    """Lay the schematic chest over a scan; a scan and its negative have the same region.

    Args:
        pixels_SS: The square the networks see, float32 in [0, 1].
    """
    size_px = len(pixels_SS)
    top_px, bottom_px, left_px, right_px = inner_box(pixels_SS)
    placement_K4, template_KX, prior_K = _bank()
    score_K = template_KX @ _contrast(pixels_SS[top_px:bottom_px, left_px:right_px])
    if score_K.min() < -score_K.max():
        score_K = -score_K
    quality = float(score_K.max())
    if quality < _MIN_QUALITY:
        return _region(size_px, _FALLBACK, 0.0)
    weight_K = np.exp(np.float32(_SHARPNESS) * (score_K - np.float32(quality)) + prior_K)
    middle, half_width, top, bottom = (weight_K @ placement_K4 / weight_K.sum()).tolist()
    width_px, height_px = right_px - left_px, bottom_px - top_px
    dome = (
        min((left_px + (middle - half_width) * width_px) / size_px - _MARGIN, _LEAST[0]),
        max((left_px + (middle + half_width) * width_px) / size_px + _MARGIN, _LEAST[1]),
        min((top_px + top * height_px) / size_px - _MARGIN, _LEAST[2]),
        max((top_px + bottom * height_px) / size_px + _MARGIN, _LEAST[3]),
    )
    return _region(size_px, dome, quality)


def erase(pixels_SS: Floats, region: Region) -> Floats:
    """A copy of the scan with mid-grey in place of the region: the same grey for every scan."""
    return np.where(region.mask_SS, _FILL, pixels_SS)


def inner_box(pixels_SS: Floats) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of the picture inside flat borders, black or white, in pixels.

    A quarter of the side at most is taken for border; more than that is a picture of flat regions.
    """
    limit_px = int(_MAX_BORDER * len(pixels_SS))
    edges = []
    for lines in (pixels_SS, pixels_SS.T):
        detailed = lines.std(axis=1) >= _FLAT
        before, after = detailed[:limit_px], detailed[::-1][:limit_px]
        edges += [int(before.argmax()), len(lines) - int(after.argmax())]  # 0 where all of it is flat
    top_px, bottom_px, left_px, right_px = edges
    return top_px, bottom_px, left_px, right_px


def _region(size_px: int, dome: tuple[float, float, float, float], quality: float) -> Region:
    left, right, top, bottom = dome
    y_S1, x_1S = _axes(size_px)
    half_S1 = np.float32((right - left) / 2) * _shape((y_S1 - np.float32(top)) / np.float32(bottom - top))
    mask_SS: Mask = np.abs(x_1S - np.float32((left + right) / 2)) <= half_S1
    return Region(mask_SS, left, right, top, bottom, quality)


def _shape(down: Floats) -> Floats:
    """Half width of the thorax over its height: 0 at the top, 1 from the middle on, -1 below the bottom."""
    rising: Floats = np.sqrt(1 - (1 - np.clip(down, 0, 1)) ** 3)
    return np.where(down < 0, np.float32(-1), np.where(down <= 1, rising, np.float32(-1)))


def _axes(size: int) -> tuple[Floats, Floats]:
    centre = ((np.arange(size) + 0.5) / size).astype(np.float32)
    return centre[:, None], centre[None, :]


def _contrast(picture_HW: Floats) -> Floats:
    """The picture on the grid without its slow changes, of norm 1; shape (X,)."""
    fine_GG = decode.resize(np.ascontiguousarray(picture_HW), _GRID)
    detail_GG = gaussian_filter(fine_GG, 0.7) - gaussian_filter(fine_GG, 7.0)
    detail_GG = np.clip(detail_GG, -0.15, 0.15)  # markers and devices must not outweigh a chest
    return np.asarray(detail_GG.ravel() / max(float(np.linalg.norm(detail_GG)), 1e-6), dtype=np.float32)


@lru_cache(maxsize=1)
def _bank() -> tuple[Floats, Floats, Floats]:
    """Placements (K, 4), their templates (K, X) of norm 1, and the log of how usual they are (K,)."""
    axes = np.meshgrid(_MIDDLES, _HALF_WIDTHS, _TOPS, _BOTTOMS, indexing="ij")
    placement_K4 = np.stack([axis.ravel() for axis in axes], axis=1).astype(np.float32)
    template_KX = np.stack([_template(*placement.tolist()) for placement in placement_K4])
    prior_K = -0.5 * (((placement_K4 - np.array(_CENTRE)) / np.array(_SPREAD)) ** 2).sum(axis=1)
    return placement_K4, template_KX, prior_K.astype(np.float32)


def _template(middle: float, half_width: float, top: float, bottom: float) -> Floats:
    """Dark lungs between bright walls and a bright middle; what is farther out does not count."""
    y_G1, x_1G = _axes(_GRID)
    down_G1 = (y_G1 - top) / (bottom - top)
    aside_GG = np.abs(x_1G - middle)
    lungs_GG = (aside_GG <= half_width * _shape(down_G1)) & (
        aside_GG > half_width * (0.2 + 0.15 * np.clip(down_G1, 0, 1))
    )
    wall = 0.08
    around_GG = aside_GG <= (half_width + wall) * _shape((y_G1 - top + wall) / (bottom - top + 2 * wall))
    around_GG &= ~lungs_GG
    template_GG = gaussian_filter(around_GG / around_GG.sum() - lungs_GG / lungs_GG.sum(), 0.7)
    return np.asarray(template_GG.ravel() / np.linalg.norm(template_GG), dtype=np.float32)
