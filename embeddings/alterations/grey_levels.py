"""A scan without its exposure: every grey value becomes its rank among those of the middle.

Brightness, contrast, gamma and windowing of a whole picture change no rank, so scans that differ in them alone are the
same scan afterwards; what is left is which structure is lighter than which. The middle decides because borders, markers
and the air beside the chest would otherwise move every grey value.

Legend: S side of the square, M pixels of the middle.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

VERSION = 1  # raise it whenever equalised scans change: it is part of the address of their embeddings
MIDDLE = 0.8  # of the side: where a chest film holds the lungs


def equalise(pixels_SS: Floats) -> Floats:
    """The scan with the histogram of its middle made flat, float32 in [0, 1].

    A value becomes the share of the middle's pixels that are darker, equal ones counted half: the middle then holds
    every grey equally often. What is darker or lighter than all of the middle becomes 0 or 1.

    Args:
        pixels_SS: The square the networks see, float32 in [0, 1].

    Source: histogram equalisation, Gonzalez & Woods, Digital Image Processing, section 3.3, with mid-ranks for ties.
    """
    rim = round(len(pixels_SS) * (1.0 - MIDDLE) / 2.0)
    end = len(pixels_SS) - rim
    sorted_M = np.sort(pixels_SS[rim:end, rim:end], axis=None)
    value_V, place_SS = np.unique(pixels_SS, return_inverse=True)
    darker_V = np.searchsorted(sorted_M, value_V, "left") + np.searchsorted(sorted_M, value_V, "right")
    rank_V = (darker_V / (2 * len(sorted_M))).astype(np.float32)
    return np.asarray(rank_V[place_SS].reshape(pixels_SS.shape), dtype=np.float32)
