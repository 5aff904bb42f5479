"""What a scan looks like at a glance, without a network: colour, contrast, noise, grey levels, shape, a thumbnail.

Radiographs are grey, full of grey levels, smooth at the scale of a thumbnail, and about as wide as high.

Legend: N scans, F facts, S side of the square, X pixels of the grid.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from embeddings import decode
from embeddings.alterations import lungs
from embeddings.decoding import files
from embeddings.decoding.grey import Grey

Floats = NDArray[np.float32]

FACTS = ("colour", "contrast", "neighbour", "entropy_bits", "elongation")
GRID = 24  # side of the thumbnail by which scans are held against the pool's usual one
_SIDE_PX = 96
_COLOUR_SIDE_PX = 64


@dataclass(frozen=True)
class Shard:
    """Scans of one task."""

    uris: tuple[str, ...]
    max_pixels: int


def look(shard: Shard) -> tuple[Floats, Floats]:
    """One task: facts (n, F) and thumbnails without slow changes (n, X); NaN where a scan cannot be read."""
    fact_NF = np.full((len(shard.uris), len(FACTS)), np.nan, np.float32)
    grid_NX = np.full((len(shard.uris), GRID * GRID), np.nan, np.float32)
    for row, uri in enumerate(shard.uris):
        try:
            data = files.read_bytes(uri)
            grey = decode.open_grey(data, max_pixels=shard.max_pixels, white=files.white_of(uri))
            square_SS = grey.square(_SIDE_PX)
            fact_NF[row] = [_colour(data, grey), *_of_square(square_SS), _elongation(grey)]
            grid_NX[row] = grid(square_SS)
        except Exception:  # noqa: BLE001 - what cannot be read is the business of quarantined-scans
            continue
    return fact_NF, grid_NX


def _colour(data: bytes, grey: Grey) -> float:
    """Mean difference of the strongest and the weakest channel, 0..1; 0 of what is no ordinary picture."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode not in ("RGB", "RGBA", "P", "CMYK", "YCbCr"):
                return 0.0
            small = image.convert("RGB").resize((_COLOUR_SIDE_PX, _COLOUR_SIDE_PX))
    except (UnidentifiedImageError, OSError, ValueError):
        return 0.0
    pixel_SS3 = np.asarray(small, np.float32) / 255
    return float((pixel_SS3.max(axis=2) - pixel_SS3.min(axis=2)).mean())


def _of_square(square_SS: Floats) -> Sequence[float]:
    """Contrast (5 to 95 %), correlation of neighbouring pixels, and entropy of the grey levels, inside flat borders."""
    top, bottom, left, right = lungs.inner_box(square_SS)
    inner_HW = square_SS[top:bottom, left:right]
    low, high = np.percentile(inner_HW, (5, 95))
    spread = float(inner_HW.std())
    near = 1.0 if spread < 1e-4 else float(np.corrcoef(inner_HW[:, 1:].ravel(), inner_HW[:, :-1].ravel())[0, 1])
    share_256 = np.bincount((inner_HW.ravel() * 255).astype(np.int64), minlength=256) / inner_HW.size
    entropy_bits = float(-(share_256[share_256 > 0] * np.log2(share_256[share_256 > 0])).sum())
    return float(high - low), near, entropy_bits


def _elongation(grey: Grey) -> float:
    """The longer side over the shorter one."""
    return max(grey.image.size) / max(min(grey.image.size), 1)


def grid(square_SS: Floats) -> Floats:
    """A thumbnail of mean 0 and norm 1, clipped so that markers do not outweigh a chest, (X,)."""
    small_GG = decode.resize(np.ascontiguousarray(square_SS), GRID)
    centred_GG = np.clip(small_GG - small_GG.mean(), -0.3, 0.3)
    return np.asarray(centred_GG.ravel() / max(float(np.linalg.norm(centred_GG)), 1e-6), np.float32)
