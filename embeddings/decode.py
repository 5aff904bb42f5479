"""From the address or the bytes of a scan to one grey picture, float32 in [0, 1].

PNG, JPEG and TIFF are read by `decoding.raster`, DICOM by `decoding.dicom_pixels`; `decoding.grey_range` says what
white is where the file does not. Nothing is cropped: the whole scan is squashed to the square.

Legend: H height, W width, S side of the square the networks see.
"""

import warnings
from collections.abc import Sequence

import numpy as np
from PIL import Image

from embeddings.decoding import dicom_file, dicom_pixels, grey_range, raster
from embeddings.decoding.files import read_bytes, read_unchanged, white_of
from embeddings.decoding.grey import FloatArray, Grey, squashed
from embeddings.decoding.unusable import DecodeError

# Lower case, with the dot: what a folder is searched for.
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".dcm", ".dicom")


def open_scan(uri: str, *, max_pixels: int) -> Grey:
    """Read and decode the scan at an address, with the white that the address names.

    Raises:
        DecodeError: it cannot be read, or see `open_grey`.
    """
    return open_grey(read_bytes(uri), max_pixels=max_pixels, white=white_of(uri))


def scan_square(uri: str, size_px: int, max_pixels: int, key: str | None = None) -> FloatArray:
    """Read a scan and do what `load_square` does, with the white that its address names.

    Args:
        uri: Where it is.
        size_px: S.
        max_pixels: A larger picture is refused.
        key: What is made of it will be kept under this hash, see `read_unchanged`; None: under none.

    Raises:
        DecodeError: see `open_scan` and `read_unchanged`.
    """
    data = read_bytes(uri) if key is None else read_unchanged(uri, key)
    return load_square(data, size_px, max_pixels, white_of(uri))


def load_square(data: bytes, size_px: int, max_pixels: int, white: int | None = None) -> FloatArray:
    """Decode and squash to (1, S, S) float32 in [0, 1]; 8-bit files are shrunk in 8 bits.

    Raises:
        DecodeError: see `open_grey`.
    """
    return open_grey(data, max_pixels=max_pixels, white=white).square(size_px)[None]


def resize(pixels_HW: FloatArray, size_px: int) -> FloatArray:
    """Squash a picture to (S, S), bilinear with antialiasing; the same array if it has that size already."""
    if pixels_HW.shape == (size_px, size_px):
        return pixels_HW
    return np.asarray(squashed(Image.fromarray(pixels_HW), size_px))


def open_grey(data: bytes, *, max_pixels: int, white: int | None = None) -> Grey:
    """Decode a PNG, JPEG, TIFF or DICOM file to a Pillow picture.

    Args:
        data: The file's bytes.
        max_pixels: A larger picture is refused before its pixels are decoded.
        white: The grey value that is white where the file leaves that open; None: its own values tell.

    Raises:
        DecodeError: empty, not an image, too large, truncated or blank; says which.
    """
    if not data:
        raise DecodeError("the file is empty (0 bytes)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata; the pixels decide here
        read = dicom_pixels.read if dicom_file.is_dicom(data) else raster.read
        scan = read(data, max_pixels)
        grey = scan if isinstance(scan, Grey) else scan.shown(white)
    low, high = grey.image.getextrema()
    if low == high:
        of_which = f" ({'; '.join(grey.notes)})" if grey.notes else ""
        size = f"{grey.image.width} x {grey.image.height}"
        raise DecodeError(f"a blank picture: all {size} pixels have the same value{of_which}")
    return grey


def open_like_pool(
    data: bytes, *, max_pixels: int, white: int | None, whites: Sequence[int]
) -> tuple[Grey, int | None]:
    """The same, and the white it is shown with where the file leaves that open.

    Args:
        data: The file's bytes.
        max_pixels: A larger picture is refused before its pixels are decoded.
        white: That was asked for; None: `whites` or the scan's own values tell.
        whites: That a pool has decided on, see `grey_range.among`; may be empty.

    Raises:
        DecodeError: as `open_grey`.
    """
    grey = open_grey(data, max_pixels=max_pixels, white=white)
    if white is not None or grey.open_bits is None:
        return grey, white
    chosen = grey_range.among(whites, grey.open_bits)
    if chosen == grey_range.white_of_bits(grey.open_bits):
        return grey, chosen
    return open_grey(data, max_pixels=max_pixels, white=chosen), chosen
