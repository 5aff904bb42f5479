"""What the square that a network sees looks like: brightness, contrast, sharpness, noise, and a thumbnail.

Sharpness and noise are over the contrast, so that a change of contrast alone does not move them.

Legend: N scans, S side of the square, X pixels of the thumbnail.
"""

import math

import numpy as np

from embeddings.alterations import lungs
from pipeline.audit import picture_facts

FACTS = ("brightness", "contrast", "sharpness", "noise")
_FLAT = 1e-4  # a spread below which a picture has nothing that could be sharp
# Second differences both ways, whose response to anything smooth is nothing (Immerkaer 1996, "Fast noise variance
# estimation").
_NOISE_WEIGHT = math.sqrt(math.pi / 2) / 6


def facts_of(square_SS: np.ndarray) -> dict[str, float]:
    """Each of `FACTS` inside flat borders.

    - brightness: mean grey value, 0..1
    - contrast: from the 5th to the 95th percentile, 0..1
    - sharpness: logarithm of the mean absolute gradient over the standard deviation
    - noise: logarithm of Immerkaer's estimate of the standard deviation of the noise over that of the picture
    """
    top, bottom, left, right = lungs.inner_box(square_SS)
    inner_HW = np.asarray(square_SS[top:bottom, left:right], np.float64)
    low, high = np.percentile(inner_HW, (5, 95))
    spread = float(inner_HW.std())
    facts = {"brightness": float(inner_HW.mean()), "contrast": float(high - low), "sharpness": 0.0, "noise": 0.0}
    if spread < _FLAT or min(inner_HW.shape) < 3:
        return facts
    gradient = np.abs(np.diff(inner_HW, axis=0)).mean() + np.abs(np.diff(inner_HW, axis=1)).mean()
    second_HW = inner_HW[:-2] - 2 * inner_HW[1:-1] + inner_HW[2:]
    second_HW = second_HW[:, :-2] - 2 * second_HW[:, 1:-1] + second_HW[:, 2:]
    # The quarter of the picture with the least structure tells noise from edges.
    noise = _NOISE_WEIGHT * _in_flat_places(np.abs(second_HW), inner_HW)
    facts["sharpness"] = float(np.log(max(gradient, 1e-6) / spread))
    facts["noise"] = float(np.log(max(noise, 1e-6) / spread))
    return facts


def _in_flat_places(response_HW: np.ndarray, inner_HW: np.ndarray) -> float:
    """Mean response where the picture is flattest, of blocks of 8 x 8 that are not clipped to black or white."""
    side = 8
    height, width = (size // side for size in response_HW.shape)
    if height * width < 4:
        return float(response_HW.mean())

    def blocks(picture_HW: np.ndarray) -> np.ndarray:
        cut_HW = picture_HW[: height * side, : width * side]
        return np.asarray(cut_HW.reshape(height, side, width, side).swapaxes(1, 2).reshape(height * width, side * side))

    grey_BP, response_BP = blocks(inner_HW[1:-1, 1:-1]), blocks(response_HW)
    is_open_B = (grey_BP.mean(1) > 0.02) & (grey_BP.mean(1) < 0.98)
    if is_open_B.sum() < 4:
        is_open_B[:] = True
    mean_B = response_BP[is_open_B].mean(1)
    return float(np.sort(mean_B)[: max(1, len(mean_B) // 4)].mean())


def thumbnail(square_SS: np.ndarray) -> np.ndarray:
    """A small picture of mean 0 and norm 1, (X,): the audit's own, by which it finds what is no upright chest."""
    return picture_facts.grid(np.ascontiguousarray(square_SS, np.float32))


def likeness(thumbnail_NX: np.ndarray, usual_X: np.ndarray) -> np.ndarray:
    """Correlation of thumbnails with the usual one, -1..1, (N,): near -1 of one that is inverted."""
    return np.asarray(thumbnail_NX @ usual_X / max(float(np.linalg.norm(usual_X)), 1e-12), np.float64)


def likeness_among(thumbnail_NX: np.ndarray, group_N: np.ndarray) -> np.ndarray:
    """The same of scans that the usual one is made of, (N,): each held against those of other patients alone.

    A scan that is in the mean it is compared with would look more usual than a new one ever can.
    """
    exact_NX = thumbnail_NX.astype(np.float64)
    place_N = np.unique(group_N, return_inverse=True)[1]
    own_GX = np.zeros((int(place_N.max()) + 1, exact_NX.shape[1]))
    np.add.at(own_GX, place_N, exact_NX)
    others_NX = exact_NX.sum(0) - own_GX[place_N]
    return np.asarray((exact_NX * others_NX).sum(1) / np.maximum(np.linalg.norm(others_NX, axis=1), 1e-12))
