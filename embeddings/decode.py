"""From the bytes of a scan's file to one grey picture, float32 in [0, 1].

Legend: H height, W width, S side of the square the networks see.

White is the largest value the file's type can hold: 8 bits / 255, 16 bits / 65535 (12-bit TIFF / 4095).
Floating point and 32-bit integer files have no agreed white: their own smallest and largest values become 0
and 1. Colour becomes luminance (ITU-R 601), alpha is dropped, EXIF orientation is applied, a multi-frame TIFF
gives its first frame. Nothing is cropped: the whole scan is squashed to the square.
"""

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.contracts.errors import CxrSslError

FloatArray = NDArray[np.float32]

# Lower case, with the dot: what a folder is searched for.
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_FORMATS = ("JPEG", "PNG", "TIFF")
# What Pillow's plugins raise on broken files.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    struct.error,
    zlib.error,
)
_ORIENTATION = 0x0112
_WHITE_16_BIT = np.float32(65535)
_LUT_8_BIT = np.arange(256, dtype=np.float32) / np.float32(255)

# `_check_size` applies the user's own limit to every scan; Pillow's warning and error must not interfere.
Image.MAX_IMAGE_PIXELS = None


class DecodeError(CxrSslError):
    """A scan that cannot be used; the message is the reason of its row in the manifest."""


@dataclass(frozen=True)
class Decoded:
    """A scan's picture and what its file says about it.

    Attributes:
        pixels_HW: Grey values, float32 in [0, 1].
        width_px: W, after orientation.
        height_px: H, after orientation.
        bit_depth: Bits of a grey value in the file.
        format: PNG, JPEG or TIFF.
    """

    pixels_HW: FloatArray
    width_px: int
    height_px: int
    bit_depth: int
    format: str


@dataclass(frozen=True)
class Grey:
    """A decoded scan as a Pillow picture, mode "L" (0..255) or "F" (0..1): cheap to shrink."""

    image: Image.Image
    bit_depth: int
    format: str

    def to_unit(self) -> FloatArray:
        """Grey values, float32 in [0, 1], shape (H, W)."""
        return _unit(self.image)

    def eight_bit(self) -> Image.Image:
        """The picture in mode "L"."""
        return self.image if self.image.mode == "L" else Image.fromarray(_to_uint8(np.asarray(self.image)))

    def square(self, size_px: int) -> FloatArray:
        """The whole scan squashed to (S, S), bilinear with antialiasing, float32 in [0, 1]."""
        return _unit(_squashed(self.image, size_px))


def read_uri(uri: str) -> bytes:
    """The bytes behind a local path or any URI that fsspec knows; OSError as it comes."""
    if "://" not in uri:
        return Path(uri).read_bytes()
    import fsspec

    with fsspec.open(uri, "rb") as stream:
        data: bytes = stream.read()
    return data


def read_bytes(uri: str) -> bytes:
    """Read a local path or any URI that fsspec knows.

    Raises:
        DecodeError: the file is missing or cannot be read.
    """
    try:
        return read_uri(uri)
    except FileNotFoundError:
        raise DecodeError("the file is missing") from None
    except IsADirectoryError:
        raise DecodeError("it is a folder, not a file") from None
    except OSError as error:
        raise DecodeError(f"the file cannot be read: {error.strerror or type(error).__name__}") from error


def decode(data: bytes, *, max_pixels: int) -> Decoded:
    """Decode a PNG, JPEG or TIFF file.

    Args:
        data: The file's bytes.
        max_pixels: A larger picture is refused before its pixels are decoded.

    Raises:
        DecodeError: empty, not an image, too large, truncated or blank; says which.
    """
    grey = open_grey(data, max_pixels=max_pixels)
    width_px, height_px = grey.image.size
    return Decoded(grey.to_unit(), width_px, height_px, grey.bit_depth, grey.format)


def load_square(data: bytes, size_px: int, max_pixels: int) -> FloatArray:
    """Decode and squash to (1, S, S) float32 in [0, 1]; 8-bit files are shrunk in 8 bits.

    Raises:
        DecodeError: see `decode`.
    """
    return open_grey(data, max_pixels=max_pixels).square(size_px)[None]


def resize(pixels_HW: FloatArray, size_px: int) -> FloatArray:
    """Squash a picture to (S, S), bilinear with antialiasing; the same array if it has that size already."""
    if pixels_HW.shape == (size_px, size_px):
        return pixels_HW
    return np.asarray(_squashed(Image.fromarray(pixels_HW), size_px))


def open_grey(data: bytes, *, max_pixels: int) -> Grey:
    """Decode to a Pillow picture, for callers that only need a smaller one.

    Raises:
        DecodeError: see `decode`.
    """
    if not data:
        raise DecodeError("the file is empty (0 bytes)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata; the pixels decide here
        try:
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
        except UnidentifiedImageError:
            raise DecodeError(f"not a PNG, JPEG or TIFF image: {_first_bytes(data)}") from None
        except _BROKEN as error:
            raise DecodeError(f"its header cannot be read: {_short(error)}") from error
        _check_size(image, max_pixels)
        bit_depth, kind = _bit_depth(image), _kind(image)
        try:
            image.load()
            grey = _grey(_upright(image), bit_depth)
        except _BROKEN as error:
            raise DecodeError(f"its pixels cannot be decoded: {_short(error)}") from error
    low, high = grey.getextrema()
    if low == high:
        raise DecodeError(f"a blank picture: all {grey.width} x {grey.height} pixels have the same value")
    return Grey(_stretched(grey) if image.mode in ("I", "F") else grey, bit_depth, kind)


def _check_size(image: Image.Image, max_pixels: int) -> None:
    num_pixels = image.width * image.height
    if num_pixels > max_pixels:
        raise DecodeError(
            f"{image.width} x {image.height} = {num_pixels:,} pixels are over the limit of {max_pixels:,}"
        )


def _bit_depth(image: Image.Image) -> int:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        bits = getattr(image, "tag_v2", {}).get(258, (32 if image.mode in ("I", "F") else 16,))
        return int(bits[0])
    return 1 if image.mode == "1" else 8  # Pillow itself reduces 16-bit colour to 8 bits


def _kind(image: Image.Image) -> str:
    return "JPEG" if image.format == "MPO" else str(image.format)


def _upright(image: Image.Image) -> Image.Image:
    if image.getexif().get(_ORIENTATION, 1) == 1:
        return image
    return ImageOps.exif_transpose(image)


def _grey(image: Image.Image, bit_depth: int) -> Image.Image:
    """Mode "L" as it is, deeper pictures in mode "F" (not yet stretched for modes "I" and "F")."""
    if image.mode == "L":
        return image
    if image.mode.startswith("I;16"):
        white = np.float32(2**bit_depth - 1) if bit_depth < 16 else _WHITE_16_BIT
        return Image.fromarray(np.asarray(image).astype(np.float32) / white)
    if image.mode in ("I", "F"):
        pixels_HW = np.asarray(image).astype(np.float32)
        if not np.isfinite(pixels_HW).all():
            raise ValueError("it holds values that are not finite")
        return Image.fromarray(pixels_HW)
    if image.mode == "LAB":
        image = image.convert("RGB")
    return image.convert("L")


def _stretched(grey: Image.Image) -> Image.Image:
    pixels_HW = np.asarray(grey).astype(np.float64)
    low, high = pixels_HW.min(), pixels_HW.max()
    return Image.fromarray(((pixels_HW - low) / (high - low)).astype(np.float32))


def _squashed(image: Image.Image, size_px: int) -> Image.Image:
    if image.size == (size_px, size_px):
        return image
    return image.resize((size_px, size_px), Image.Resampling.BILINEAR)


def _unit(image: Image.Image) -> FloatArray:
    pixels_HW = np.asarray(image)
    return _LUT_8_BIT.take(pixels_HW) if pixels_HW.dtype == np.uint8 else pixels_HW


def _to_uint8(pixels_HW: FloatArray) -> NDArray[np.uint8]:
    scaled_HW: FloatArray = np.clip(pixels_HW, 0, 1) * np.float32(255)
    return np.rint(scaled_HW).astype(np.uint8)


def _first_bytes(data: bytes) -> str:
    if data[128:132] == b"DICM":
        return "it is a DICOM file"
    head = data[:16]
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        return f"its first bytes are text, {head.decode('ascii')!r}"
    return f"its first bytes are {head[:8].hex(' ')}"


def _short(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:120] or type(error).__name__
