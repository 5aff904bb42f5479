"""How much memory a picture would take, told by its header: refused before a pixel is decoded.

A file of some hundred KB may hold a picture of gigabytes. The bytes a pixel are what decoding takes at its peak, the
library's copies and ours together; `python -m tests.bench fuzz` shows what some large files really take.
"""

import io
import struct
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from embeddings.decoding import dicom_file
from embeddings.decoding.unusable import DecodeError

if TYPE_CHECKING:
    from pydicom import Dataset

_MIB = 2**20
# By Pillow's mode; of any other as of the widest.
_BYTES_A_PIXEL = {"1": 3, "L": 3, "P": 5, "LA": 9, "I;16": 16, "I;16B": 16, "I;16L": 16, "RGB": 6, "F": 14, "I": 14}
_OTHER_BYTES_A_PIXEL = 10
_DEEP_COLOUR_BYTES_A_PIXEL = 24
_BYTES_A_DICOM_VALUE, _BYTES_A_TABLE_VALUE = 16, 48


@dataclass(frozen=True)
class Limits:
    """What one file may take.

    Attributes:
        max_memory_mb: MiB of its picture while it is decoded.
        max_frames: Pictures in it, of which the first is used.
    """

    max_memory_mb: int
    max_frames: int


def check(data: bytes, limits: Limits, dataset: "Dataset | None" = None) -> None:
    """Refuse a picture by what its header says; a header that cannot be read is left to the decoder.

    Args:
        data: The file's bytes.
        limits: See there.
        dataset: Of a DICOM file its tags; they are read where they are not given.

    Raises:
        DecodeError: it would take more memory, or has more frames.
    """
    if dataset is None and dicom_file.is_dicom(data):
        dataset = dicom_file.parse(data, with_pixels=False)
    num_frames, num_bytes = _of_raster(data, limits.max_frames) if dataset is None else _of_dicom(dataset)
    if num_frames > limits.max_frames:
        shown = f"more than {limits.max_frames:,}" if dataset is None else f"{num_frames:,}"
        raise DecodeError(f"it has {shown} frames; the limit is {limits.max_frames:,} (pool.max_frames)")
    if num_bytes > limits.max_memory_mb * _MIB:
        raise DecodeError(
            f"its picture would take {num_bytes // _MIB:,} MiB while it is decoded; the limit is "
            f"{limits.max_memory_mb:,} MiB (pool.max_memory_mb)"
        )


def _of_raster(data: bytes, max_frames: int) -> tuple[int, int]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "TIFF"))
    except Exception:  # noqa: BLE001 - the decoder says what is wrong with it
        return 1, 0
    bytes_a_pixel = _BYTES_A_PIXEL.get(image.mode, _OTHER_BYTES_A_PIXEL)
    if data[24:25] == b"\x10" and image.format == "PNG" and image.mode in ("RGB", "RGBA", "LA"):
        bytes_a_pixel = _DEEP_COLOUR_BYTES_A_PIXEL
    if image.format == "TIFF" and image.mode in ("RGB", "RGBA") and set(_bits(image)) == {16}:
        bytes_a_pixel = _DEEP_COLOUR_BYTES_A_PIXEL
    num_frames = num_tiff_frames(data, max_frames + 1) if image.format == "TIFF" else getattr(image, "n_frames", 1)
    return num_frames, image.width * image.height * bytes_a_pixel


def _bits(image: Image.Image) -> tuple[int, ...]:
    bits = getattr(image, "tag_v2", {}).get(258)
    return bits if isinstance(bits, tuple) else (bits or 8,)


def num_tiff_frames(data: bytes, most: int) -> int:
    """Pictures in a TIFF file, counted no further than `most`; a chain that turns in a circle is as long as that."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        return 1
    count, place = 0, 4
    try:
        while count < most:
            (start,) = struct.unpack_from(f"{order}I", data, place)
            if start == 0:
                break
            (num_tags,) = struct.unpack_from(f"{order}H", data, start)
            count, place = count + 1, start + 2 + 12 * num_tags
    except struct.error:
        pass  # cut off: so many there are
    return max(count, 1)


def _of_dicom(dataset: "Dataset") -> tuple[int, int]:
    try:
        num_values = int(dataset.get("Rows") or 0) * int(dataset.get("Columns") or 0)
        num_values *= int(dataset.get("SamplesPerPixel") or 1)
        num_frames = int(dataset.get("NumberOfFrames") or 1)
    except (TypeError, ValueError):
        return 1, 0
    has_table = dataset.get("VOILUTSequence") or dataset.get("ModalityLUTSequence")
    bytes_a_value = _BYTES_A_TABLE_VALUE if has_table else _BYTES_A_DICOM_VALUE
    if int(dataset.get("BitsAllocated") or 16) > 16:
        bytes_a_value *= 2
    return num_frames, num_values * bytes_a_value
