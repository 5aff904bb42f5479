"""A scan's grey values and what its file says, in one object, for tests to look at."""

from dataclasses import dataclass

import numpy as np

from embeddings.decode import open_grey


@dataclass(frozen=True)
class Decoded:
    pixels_HW: np.ndarray
    width_px: int
    height_px: int
    bit_depth: int
    format: str


def decode(data, *, max_pixels, white=None):
    grey = open_grey(data, max_pixels=max_pixels, white=white)
    return Decoded(grey.to_unit(), *grey.image.size, grey.bit_depth, grey.format)
