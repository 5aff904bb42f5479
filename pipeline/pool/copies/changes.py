"""How a copy was made from a picture, in words: mirrored, turned by 90 degrees, cropped, and so on.

Legend: a map is a 3 x 3 matrix from places of the picture to places of the copy, in half sides from the centre.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.pool.copies.symmetry import MATRICES, NUM_WAYS

Map = NDArray[np.float64]

MIRRORED = "mirrored"
_MIN_TURN_DEGREES = 0.7
_MIN_SHARE = 0.015  # of a side that was cut off or added
GREYS = "same frame"
_MIN_UNLIKE_BLOCKS = 2
COVERED = "partly covered"
INVERTED = "inverted"
# Degrees that a picture was turned counter-clockwise, for each way; the odd ones are mirrored first.
_QUARTERS = {(1, 0, 0, 1): 0, (0, 1, -1, 0): 90, (-1, 0, 0, -1): 180, (0, -1, 1, 0): 270}


def words(change: Map, *, inverted: bool = False, num_unlike_blocks: int = 0) -> str:
    """What was done to a picture, such as `mirrored, turned by 90 degrees, cropped`.

    Args:
        change: From places of the picture to places of the copy.
        inverted: Whether black became white.
        num_unlike_blocks: Blocks of 49 whose detail differs though the rest agrees.
    """
    way = int(np.argmax([(MATRICES[i] * change[:2, :2]).sum() for i in range(NUM_WAYS)]))
    small = change.copy()
    small[:2, :2] = change[:2, :2] @ MATRICES[way].T
    changes = [*_laid(way), *_turned(small), *_framed(small)]
    if inverted:
        changes.append(INVERTED)
    if num_unlike_blocks >= _MIN_UNLIKE_BLOCKS:
        changes.append(COVERED)
    return ", ".join(changes) or GREYS


def _laid(way: int) -> list[str]:
    matrix = MATRICES[way]
    mirrored = np.linalg.det(matrix) < 0
    turn = matrix @ np.diag([-1.0, 1.0]) if mirrored else matrix
    degrees = _QUARTERS[tuple(np.rint(turn).astype(int).ravel().tolist())]
    return [MIRRORED] * bool(mirrored) + [f"turned by {degrees} degrees"] * bool(degrees)


def _turned(small: Map) -> list[str]:
    degrees = np.degrees(np.arctan2(small[1, 0] - small[0, 1], small[0, 0] + small[1, 1]))
    return [f"turned by {abs(degrees):.0f} degrees"] if abs(degrees) >= _MIN_TURN_DEGREES else []


def _framed(small: Map) -> list[str]:
    """Cropped, padded or shifted, by where the picture's edges lie in the copy's frame."""
    cut, added, moved = 0.0, 0.0, False
    for axis in (0, 1):
        zoom = float(np.linalg.norm(small[:2, axis]))
        before = (-1 - (small[axis, 2] - zoom)) / (2 * zoom)  # of the picture; below 0: the copy begins before it
        after = ((small[axis, 2] + zoom) - 1) / (2 * zoom)
        moved |= min(before, after) < -_MIN_SHARE and max(before, after) > _MIN_SHARE
        cut, added = max(cut, before, after), max(added, -before, -after)
    if moved:
        return ["shifted"]
    return ["cropped"] * bool(cut > _MIN_SHARE) + ["padded"] * bool(added > _MIN_SHARE)
