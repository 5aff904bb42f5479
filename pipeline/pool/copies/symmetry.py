"""The eight ways to lay a square on itself: four quarter turns, each of them perhaps mirrored.

A way is a number of three bits: 1 flips x, 2 then flips y, 4 then swaps x and y. Coordinates are in half sides from
the centre, x to the right and y downwards, so a way is a matrix of zeros and plus or minus ones.
"""

import numpy as np
from numpy.typing import NDArray

NUM_WAYS = 8


def _matrix(way: int) -> NDArray[np.float32]:
    matrix = np.diag([-1.0 if way & 1 else 1.0, -1.0 if way & 2 else 1.0])
    return np.asarray(matrix[::-1] if way & 4 else matrix, np.float32)


MATRICES = np.stack([_matrix(way) for way in range(NUM_WAYS)])
# From the ways that bring two pictures to one frame: the way that brings the first onto the second.
BETWEEN = np.array(
    [
        [
            next(way for way in range(NUM_WAYS) if np.array_equal(MATRICES[way], MATRICES[b].T @ MATRICES[a]))
            for b in range(NUM_WAYS)
        ]
        for a in range(NUM_WAYS)
    ],
    np.uint8,
)


def laid(image_PSS: NDArray[np.uint8], way_P: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Each picture laid its way: what was at a place is then at the place times the way's matrix."""
    out_PSS = np.empty_like(image_PSS)
    for way in range(NUM_WAYS):
        chosen_PSS = image_PSS[way_P == way]
        if way & 1:
            chosen_PSS = chosen_PSS[:, :, ::-1]
        if way & 2:
            chosen_PSS = chosen_PSS[:, ::-1]
        out_PSS[way_P == way] = chosen_PSS.swapaxes(1, 2) if way & 4 else chosen_PSS
    return out_PSS
