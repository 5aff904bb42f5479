"""PNG, JPEG and TIFF files, by Pillow.

8 bits / 255; 12-bit TIFF / 4095; 16 bits: see `grey_range`. Floating point and 32-bit integer files have no agreed
white: their own smallest and largest values become 0 and 1. Colour becomes luminance (ITU-R 601), alpha is dropped,
EXIF orientation and TIFF's WhiteIsZero are applied, a TIFF of several pages gives its first that is no small copy.

Legend: H height, B rows of a block, W width, C channels.
"""

import io
import re
import struct
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from embeddings.decoding import first_bytes, grey, grey_range
from embeddings.decoding.grey import Grey, Wide
from embeddings.decoding.unusable import DecodeError

# Quoted values, bytes, `Doe^Jane`, anything with five digits or more, `<… object at 0x…>`.
_CONTENT = re.compile(r"""b?'[^']*'|b?"[^"]*"|\S*\^\S*|[\w.-]*\d{5,}[\w.-]*|<[^>]*>""")

_FORMATS = ("JPEG", "PNG", "TIFF")
# What Pillow's plugins raise on broken files.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, TypeError, struct.error, zlib.error)
_ORIENTATION, _BITS, _PHOTOMETRIC = 0x0112, 258, 262
_WHITE_IS_ZERO = 0
_SAMPLE_FORMAT, _HAS_SIGN, _HAS_NONE = 339, 2, 1
_KIND_OF_PAGE, _OLDER_KIND_OF_PAGE, _COPY_OR_MASK, _OLDER_COPY = 254, 255, 0b101, 2
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# Pillow keeps the high byte of 16-bit colour; read in the other order of bytes, it keeps the low one.
_OTHER_ORDER = {
    "RGB;16B": "RGB;16L",
    "RGB;16L": "RGB;16B",
    "RGB;16N": "RGB;16B",
    "RGBA;16B": "RGBA;16L",
    "RGBA;16L": "RGBA;16B",
    "RGBA;16N": "RGBA;16B",
}
_LUMINANCE_C = np.array((299, 587, 114), np.float32) / np.float32(1000)

# `check_size` applies the user's own limit to every scan; Pillow's warning and error must not interfere.
Image.MAX_IMAGE_PIXELS = None


def read(data: bytes, max_pixels: int) -> Grey | Wide:
    """Decode a file's bytes.

    Raises:
        DecodeError: not an image, too large or broken; says which.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError:
        black_at_zero = _with_black_at_zero(data)
        if black_at_zero is not None:
            scan = read(black_at_zero, max_pixels)
            return replace(scan, zero_is_white=True) if isinstance(scan, Wide) else scan
        raise DecodeError(
            f"not a PNG, JPEG, TIFF or DICOM image: its first bytes are {first_bytes.kind(data)}"
        ) from None
    except _BROKEN as error:
        raise DecodeError(f"its header cannot be read: {short(error)}") from error
    try:
        page, num_pages = _page(data) if image.format == "TIFF" else (0, 1)
        if page:
            image.seek(page)
        check_size(image.width, image.height, max_pixels)
        scan = _read(image, data, page)
        return scan if num_pages == 1 else replace(scan, notes=(f"page {page + 1} of {num_pages}",))
    except DecodeError:
        raise
    except _BROKEN as error:
        raise DecodeError(f"its pixels cannot be decoded: {short(error)}") from error


def _page(data: bytes) -> tuple[int, int]:
    """Which page of a TIFF is the scan, of how many: the first that calls itself neither a small copy nor a mask."""
    pages = TiffImagePlugin.TiffImageFile(io.BytesIO(data))
    try:
        for page in range(pages.n_frames):
            pages.seek(page)
            kind, older_kind = (int(pages.tag_v2.get(tag, 0)) for tag in (_KIND_OF_PAGE, _OLDER_KIND_OF_PAGE))
            if not kind & _COPY_OR_MASK and older_kind != _OLDER_COPY:
                return page, pages.n_frames
        return 0, pages.n_frames
    except _BROKEN:  # behind the first page there is no other
        return 0, 1


def _with_black_at_zero(data: bytes) -> bytes | None:
    """A TIFF that says WhiteIsZero, saying BlackIsZero; None of any other file.

    Pillow knows no big-endian TIFF of 16 bits with white at zero; its values are read all the same.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (num_tags,) = struct.unpack_from(f"{order}H", data, start)
        for place in range(start + 2, start + 2 + 12 * num_tags, 12):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", data, place)
            if (tag, value) == (_PHOTOMETRIC, _WHITE_IS_ZERO):
                return data[: place + 8] + struct.pack(f"{order}H", 1) + data[place + 10 :]
    except struct.error:
        return None
    return None


def is_raster(head: bytes) -> bool:
    """Whether a file begins as a PNG, JPEG or TIFF does."""
    return head.startswith((_PNG_MAGIC, b"\xff\xd8\xff", b"II*\0", b"MM\0*"))


def check_size(width_px: int, height_px: int, max_pixels: int) -> None:
    """Raise `DecodeError` for a picture of more pixels."""
    if width_px * height_px > max_pixels:
        raise DecodeError(
            f"{width_px} x {height_px} = {width_px * height_px:,} pixels are over the limit of {max_pixels:,}"
        )


def short(error: BaseException) -> str:
    """The first line of an error, for a reason, without what it quotes of the file: that may name a patient."""
    return without_content((str(error).splitlines() or [""])[0])[:120] or type(error).__name__


def without_content(text: str) -> str:
    """A library's message without quoted values, names as DICOM writes them, long numbers and addresses in memory."""
    return _CONTENT.sub("…", text)


def _read(image: Any, data: bytes, page: int) -> Grey | Wide:
    kind = "JPEG" if image.format == "MPO" else str(image.format)
    bits, said_bits = _bits(image), _said_bits(image, data)
    zero_is_white = getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    colour_HWC = _deep_colour(image, data, page)
    upright = image if image.getexif().get(_ORIENTATION, 1) == 1 else ImageOps.exif_transpose(image)
    if colour_HWC is not None:
        grey_HW = np.rint(luminance(_turned(colour_HWC, image))).astype(np.uint16)
        return Wide(grey_HW, 16, kind, said_bits)
    if upright.mode.startswith("I;16"):
        return Wide(np.asarray(upright).astype(np.uint16), bits[0], kind, said_bits, zero_is_white)
    sample_format = _sample_format(image)
    if upright.mode in ("I", "F"):
        value_HW = np.asarray(upright)
        if upright.mode == "I" and bits[0] == 32 and image.format == "TIFF" and sample_format == _HAS_NONE:
            value_HW = value_HW.view(np.uint32)  # Pillow takes the highest bit for a sign
        return Grey(stretched(value_HW, zero_is_white), bits[0], kind)
    if upright.mode == "L":
        upright.load()
        if sample_format == _HAS_SIGN and bits[0] == 8:
            upright = Image.fromarray(np.asarray(upright) ^ 0x80)
        elif image.format == "PNG" and said_bits is not None:
            upright = _widened(upright, said_bits)
        return Grey(upright, 8, kind)
    if upright.mode == "LAB":
        upright = upright.convert("RGB")
    return Grey(upright.convert("L"), 1 if image.mode == "1" else 8, kind)


def _sample_format(image: Any) -> int:
    """Whether the values of a TIFF have a sign."""
    value = getattr(image, "tag_v2", {}).get(_SAMPLE_FORMAT, _HAS_NONE)
    return int(value[0] if isinstance(value, tuple) else value)


def _widened(image: Image.Image, said_bits: int) -> Image.Image:
    """A picture of 8 bits, of which fewer are said to count, where its values are not scaled up as PNG asks for."""
    white = grey_range.white_of_bits(said_bits)
    if said_bits >= 8 or image.getextrema()[1] > white:  # type: ignore[operator]
        return image
    return Image.fromarray(np.rint(np.asarray(image) * np.float32(255 / white)).astype(np.uint8))


def stretched(value_HW: NDArray[Any], zero_is_white: bool = False) -> Image.Image:
    """A picture's own smallest and largest values become 0 and 1, or 1 and 0.

    Raises:
        ValueError: it holds NaN or an infinity.
    """
    low, high = (np.float64(extreme) for extreme in (value_HW.min(), value_HW.max()))
    if not (np.isfinite(low) and np.isfinite(high)):  # a NaN is the smallest and the largest value
        raise ValueError("it holds values that are not finite")
    span = high - low if high > low else np.float64(1)

    def stretch(value_BW: NDArray[Any]) -> NDArray[np.float64]:
        unit_BW = (value_BW.astype(np.float64) - low) / span
        return 1 - unit_BW if zero_is_white else unit_BW

    return Image.fromarray(grey.by_blocks(stretch, value_HW))


def _bits(image: Image.Image) -> tuple[int, ...]:
    """Bits of each channel, of TIFF and PNG."""
    bits = getattr(image, "tag_v2", {}).get(_BITS)
    if bits is None:
        bits = 32 if image.mode in ("I", "F") else 16 if image.mode.startswith("I;16") else 8
    return tuple(bits) if isinstance(bits, tuple) else (int(bits),)


def _said_bits(image: Image.Image, data: bytes) -> int | None:
    """The bits that the file says count: PNG's `sBIT` of 8 or 16, TIFF's BitsPerSample of 16."""
    if image.format == "TIFF":
        bits = _bits(image)[0]
        return bits if 8 < bits < 16 else None
    place = len(_PNG_MAGIC)
    while image.format == "PNG" and place + 8 <= len(data):
        length, name = struct.unpack(">I4s", data[place : place + 8])
        if name == b"sBIT" and length:
            return data[place + 8] if 0 < data[place + 8] <= 16 else None
        if name == b"IDAT":
            break
        place += 12 + length
    return None


def _deep_colour(image: Any, data: bytes, page: int) -> NDArray[np.uint16] | None:
    """Colour of 16 bits a channel, (H, W, C), of which Pillow itself keeps 8; None of any other file."""
    if image.format == "PNG" and data[24:26] == b"\x10\x04":  # grey and alpha: read as four bytes a pixel
        other = Image.open(io.BytesIO(data), formats=_FORMATS)
        other._mode = "RGBA"
        high_HW, low_HW = (_bytes_in_order(other, "RGBA")[:, :, channel] for channel in (0, 1))
        return np.asarray(high_HW.astype(np.uint16) << 8 | low_HW, np.uint16)[:, :, None]
    orders = {_order(tile) for tile in image.tile}
    if len(orders) != 1 or (order := orders.pop()) not in _OTHER_ORDER:
        return None
    if image.format == "TIFF" and set(_bits(image)) != {16}:
        return None
    other = Image.open(io.BytesIO(data), formats=_FORMATS)
    other.seek(page)
    low_HWC = _bytes_in_order(other, _OTHER_ORDER[order])
    image.load()
    return np.asarray(np.asarray(image).astype(np.uint16) << 8 | low_HWC, np.uint16)


def _order(tile: Any) -> str:
    """Pillow's name for the order of a tile's bytes."""
    args = tile.args
    return str(args[0] if isinstance(args, tuple) else args)


def _bytes_in_order(image: Any, order: str) -> NDArray[np.uint8]:
    """A picture that is not loaded yet, read as if its bytes stood in another order."""
    image.tile = [
        tile._replace(args=(order, *tile.args[1:]) if isinstance(tile.args, tuple) else order) for tile in image.tile
    ]
    image.load()
    return np.asarray(image)


def _turned(colour_HWC: NDArray[np.uint16], image: Image.Image) -> NDArray[np.uint16]:
    """Upright, as EXIF asks; by its channels, for Pillow has no picture of 16-bit colour."""
    orientation = image.getexif().get(_ORIENTATION, 1)
    if orientation == 1:
        return colour_HWC
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    channels = [Image.fromarray(colour_HWC[:, :, channel]) for channel in range(colour_HWC.shape[2])]
    for channel in channels:
        channel.info["exif"] = exif.tobytes()
    return np.stack([np.asarray(ImageOps.exif_transpose(channel)) for channel in channels], axis=2)


def luminance(colour_HWC: NDArray[Any]) -> NDArray[np.float32]:
    """ITU-R 601 of the first three channels, (H, W); a single channel as it is."""
    if colour_HWC.shape[2] == 1:
        return colour_HWC[:, :, 0].astype(np.float32)
    return np.asarray(colour_HWC[:, :, :3].astype(np.float32) @ _LUMINANCE_C)
