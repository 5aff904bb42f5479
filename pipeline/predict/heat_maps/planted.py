"""Scans with an opacity put into a lung, so that the right place is known: what a map must point at.

The opacity is a soft-edged, mottled ellipse as bright as a consolidation. It is not meant to fool a radiologist: a
finding whose odds it does not raise is not checked with it.

Legend: S side in pixels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Floats = NDArray[np.float32]
# Shares of the side. The middle lies where lung is on a frontal film of a child or an adult.
_ACROSS, _DOWN = ((0.20, 0.36), (0.64, 0.80)), (0.28, 0.62)
_RADIUS = (0.07, 0.12)
_STRENGTH = (0.25, 0.40)  # of the scan's range of grey
_EDGE = 8.0  # the larger, the sharper
INSIDE = 0.5  # of the opacity's full brightness


@dataclass(frozen=True)
class Planted:
    """A scan with an opacity.

    Attributes:
        square_SS: The scan, float32 in [0, 1].
        mask_SS: True where the opacity has at least half of its brightness.
    """

    square_SS: Floats
    mask_SS: NDArray[np.bool_]


def plant(square_SS: Floats, rng: np.random.Generator) -> Planted:
    """Put an opacity into one lung of a frontal scan.

    Args:
        square_SS: What the network sees, float32 in [0, 1].
        rng: Draws side, place, size and brightness.
    """
    size_px = len(square_SS)
    across = rng.uniform(*_ACROSS[int(rng.integers(2))])
    down = rng.uniform(*_DOWN)
    radius_x, radius_y = rng.uniform(*_RADIUS, size=2)
    axis_S = (np.arange(size_px) + 0.5) / size_px
    distance_SS = np.hypot((axis_S[None, :] - across) / radius_x, (axis_S[:, None] - down) / radius_y)
    shape_SS = 1.0 / (1.0 + distance_SS**_EDGE)
    grain_SS = gaussian_filter(rng.standard_normal((size_px, size_px)), max(0.02 * size_px, 0.5))
    mottled_SS = shape_SS * np.clip(0.9 + 0.15 * grain_SS / max(float(grain_SS.std()), 1e-9), 0.5, 1.3)
    low, high = np.percentile(square_SS, [2, 98])
    brighter_SS = square_SS + rng.uniform(*_STRENGTH) * max(float(high - low), 1e-3) * mottled_SS
    return Planted(np.clip(brighter_SS, 0.0, 1.0).astype(np.float32), np.asarray(shape_SS >= INSIDE))
