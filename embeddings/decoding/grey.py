"""A scan as one grey picture, and one whose white is still open.

Legend: H height, W width, S side of the square the networks see.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embeddings.decoding import grey_range

FloatArray = NDArray[np.float32]

_LUT_8_BIT = np.arange(256, dtype=np.float32) / np.float32(255)
_WHITE_16_BIT = np.float32(65535)
_BLOCK_PIXELS = 2**18
_FEWEST_BITS_BELOW = 2  # that marks at the top of a container lie above the picture


@dataclass(frozen=True)
class Grey:
    """A decoded scan as a Pillow picture, mode "L" (0..255) or "F" (0..1): cheap to shrink.

    Attributes:
        image: The picture.
        bit_depth: Bits of a grey value in the file.
        format: PNG, JPEG, TIFF or DICOM.
        open_bits: Where the file does not say what white is, the bits that its own values seem to have; else None.
        notes: What a reader should know of how the file was read.
    """

    image: Image.Image
    bit_depth: int
    format: str
    open_bits: int | None = None
    notes: tuple[str, ...] = ()

    def to_unit(self) -> FloatArray:
        """Grey values, float32 in [0, 1], shape (H, W)."""
        return unit(self.image)

    def eight_bit(self) -> Image.Image:
        """The picture in mode "L", without anything that its file says beside the pixels."""
        return self._bare() if self.image.mode == "L" else Image.fromarray(_to_uint8(np.asarray(self.image)))

    def full_depth(self) -> Image.Image:
        """The picture in mode "L" where that is all its file holds, else in mode "I;16"; bare as `eight_bit`."""
        if self.image.mode == "L":
            return self._bare()
        scaled_HW: FloatArray = np.clip(np.asarray(self.image), 0, 1) * _WHITE_16_BIT
        return Image.fromarray(np.rint(scaled_HW).astype(np.uint16))

    def _bare(self) -> Image.Image:
        """The picture without comments, profiles and tags, some of which Pillow writes into every copy."""
        self.image.info = {}
        return self.image

    def square(self, size_px: int) -> FloatArray:
        """The whole scan squashed to (S, S), bilinear with antialiasing, float32 in [0, 1]."""
        return unit(squashed(self.image, size_px))


@dataclass(frozen=True)
class Wide:
    """Whole numbers in a container that may be wider than they are: what white is comes from elsewhere.

    Attributes:
        value_HW: Unsigned, as they stand in the file.
        container_bits: Of a value.
        format: PNG, TIFF or DICOM.
        said_bits: The bits that the file says count, where it says so.
        zero_is_white: The larger, the darker.
        outside_HW: Pixels that are no part of the picture (padding), shown black; None: there are none.
        notes: See `Grey`.
    """

    value_HW: NDArray[np.uint16]
    container_bits: int
    format: str
    said_bits: int | None = None
    zero_is_white: bool = False
    outside_HW: NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = ()

    def shown(self, white: int | None) -> Grey:
        """The picture with this value as white; it counts only where the file does not say what white is.

        Args:
            white: None: the largest value of the width that the picture's own values seem to have.
        """
        value_HW, zero_is_white, largest = self._at_the_bottom()
        open_bits = None
        if self.said_bits is None:
            open_bits = grey_range.bits_of(largest, self.container_bits)
            white = white or grey_range.white_of_bits(open_bits)
        else:  # PNG asks for values scaled up to the whole container, and not everybody does that
            is_scaled = largest > grey_range.white_of_bits(self.said_bits)
            white = grey_range.white_of_bits(self.container_bits if is_scaled else self.said_bits)
        unit_HW = value_HW.astype(np.float32)
        unit_HW /= np.float32(white)
        if zero_is_white:
            np.subtract(np.float32(1), unit_HW, out=unit_HW)
        if value_HW.max() > white:
            np.clip(unit_HW, 0, 1, out=unit_HW)
        if self.outside_HW is not None:
            unit_HW[self.outside_HW] = 0
        return Grey(Image.fromarray(unit_HW), self.container_bits, self.format, open_bits, self.notes)

    def _at_the_bottom(self) -> tuple[NDArray[np.uint16], bool, int]:
        """The values, whether zero is white, the largest.

        A narrow picture turned around at the top of a wide container lies there: it is turned back.
        """
        inside = self.value_HW if self.outside_HW is None else self.value_HW[~self.outside_HW]
        smallest, largest = (int(inside.min()), int(inside.max())) if inside.size else (0, 0)
        top, most = grey_range.white_of_bits(self.container_bits), self.container_bits
        lies_at_top = grey_range.bits_of(top - smallest, most) < grey_range.bits_of(largest, most)
        if self.zero_is_white and self.said_bits is None and lies_at_top:
            return np.asarray(top - self.value_HW, np.uint16), False, top - smallest
        if self.said_bits is None and largest == top:  # marks are often written at the top of the container
            below = inside[inside < top]
            second = int(below.max()) if below.size else top
            largest = second if grey_range.bits_of(second, most) <= most - _FEWEST_BITS_BELOW else largest
        return self.value_HW, self.zero_is_white, largest


def by_blocks(function: Callable[[NDArray[Any]], NDArray[Any]], value_HW: NDArray[Any]) -> FloatArray:
    """What a function of each value by itself makes of a picture, float32; worked out by blocks of rows.

    What the function needs on the way, in double precision and several times over, it then needs of a block only.
    """
    out_HW = np.empty(value_HW.shape, np.float32)
    num_rows = max(1, _BLOCK_PIXELS // max(1, value_HW.shape[1]))
    for start in range(0, len(value_HW), num_rows):
        out_HW[start : start + num_rows] = function(value_HW[start : start + num_rows])
    return out_HW


def unit(image: Image.Image) -> FloatArray:
    """Grey values of a picture in mode "L" or "F", float32 in [0, 1]."""
    return unit_of(np.asarray(image))


def unit_of(pixels_HW: NDArray[Any]) -> FloatArray:
    """Grey values of pixels, uint8 or float32 in [0, 1], as float32 in [0, 1]."""
    return _LUT_8_BIT.take(pixels_HW) if pixels_HW.dtype == np.uint8 else pixels_HW


def squashed(image: Image.Image, size_px: int) -> Image.Image:
    """The whole picture, bilinear with antialiasing; the same one if it has that size already."""
    if image.size == (size_px, size_px):
        return image
    return image.resize((size_px, size_px), Image.Resampling.BILINEAR)


def _to_uint8(pixels_HW: FloatArray) -> NDArray[np.uint8]:
    scaled_HW: FloatArray = np.clip(pixels_HW, 0, 1)
    scaled_HW *= np.float32(255)
    return np.rint(scaled_HW, out=scaled_HW).astype(np.uint8)
