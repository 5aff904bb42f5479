"""A scan's picture without its size: squares, grey levels and borders, and the bytes that stand for them in a file.

A square is exactly what `Grey.square` makes of the whole picture: what is computed of it does not depend on whether it
was kept. Pictures of 8 bits have squares of 8 bits, others of 32.

Legend: H height, W width, S side of a square.
"""

import json
import struct
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embeddings.decoding.grey import FloatArray, Grey, squashed, unit_of

VERSION = 3  # raise it whenever pictures of 8 bits are decoded, or any are shrunk, in another way
# Of the squares that stages ask for beside the network's own: a glance, copies, the rim.
SIDES_PX = (96, 128, 224)
_MAGIC = b"cxr-ssl shrunk scan\n"
_HEAD = struct.Struct(">II")  # CRC-32 of all that follows, length of the description
_ALIGNED_BYTES = 64  # NumPy sums numbers that lie otherwise in another order
_BLACK = 8  # of 255: what JPEG makes of a black border
_NUM_GREYS = 256


@dataclass(frozen=True)
class ShrunkScan:
    """What is known of a picture.

    Attributes:
        squares: By their side: the whole scan squashed to (S, S), uint8, or float32 in [0, 1].
        num_by_grey_256: Pixels of each grey level of the whole picture, in 8 bits.
        dark_lines_px: Rows at the top and at the bottom, columns at the left and at the right, that hold nothing but
            black; 0 where all do.
        width_px: Of the picture in the file.
        height_px: Likewise.
        bit_depth: Bits of a grey value in the file.
        format: PNG, JPEG, TIFF or DICOM.
        num_bytes: Of the file.
    """

    squares: Mapping[int, NDArray[Any]]
    num_by_grey_256: NDArray[np.int64]
    dark_lines_px: tuple[int, int, int, int]
    width_px: int
    height_px: int
    bit_depth: int
    format: str
    num_bytes: int

    def square(self, size_px: int) -> FloatArray:
        """The whole scan squashed to (S, S), float32 in [0, 1]; KeyError where there is none of that side."""
        return unit_of(self.squares[size_px])


def shrink(grey: Grey, num_bytes: int, sides_px: Collection[int], eight_bit: Image.Image | None = None) -> ShrunkScan:
    """All that is kept of a picture.

    Args:
        grey: The picture.
        num_bytes: Of its file.
        sides_px: Of the squares.
        eight_bit: The picture in 8 bits, where it has been made already.
    """
    picture = grey.eight_bit() if eight_bit is None else eight_bit
    picture_HW = np.asarray(picture)
    lit_H, lit_W = picture_HW.max(axis=1) > _BLACK, picture_HW.max(axis=0) > _BLACK
    return ShrunkScan(
        squares={side: np.asarray(squashed(grey.image, side)) for side in sorted(sides_px)},
        num_by_grey_256=np.array(picture.histogram(), np.int64),
        dark_lines_px=tuple(int(lit.argmax()) for lit in (lit_H, lit_H[::-1], lit_W, lit_W[::-1])),  # type: ignore[arg-type]
        width_px=grey.image.width,
        height_px=grey.image.height,
        bit_depth=grey.bit_depth,
        format=grey.format,
        num_bytes=num_bytes,
    )


def to_bytes(scan: ShrunkScan) -> bytes:
    """A file's content; the same scan gives the same bytes."""
    sides = sorted(scan.squares)
    facts = {
        "sides_px": sides,
        "is_8_bit": all(scan.squares[side].dtype == np.uint8 for side in sides),
        "num_by_grey": scan.num_by_grey_256.tolist(),
        "dark_lines_px": scan.dark_lines_px,
        **{name: getattr(scan, name) for name in ("width_px", "height_px", "bit_depth", "format", "num_bytes")},
    }
    text = json.dumps(facts).encode()
    text += b" " * (-(len(_MAGIC) + _HEAD.size + len(text)) % _ALIGNED_BYTES)
    body = text + b"".join(scan.squares[side].tobytes() for side in sides)
    return _MAGIC + _HEAD.pack(zlib.crc32(body), len(text)) + body


def from_bytes(data: bytes) -> ShrunkScan:
    """What `to_bytes` was given.

    Raises:
        ValueError: it is cut off or changed.
    """
    start = len(_MAGIC) + _HEAD.size
    if not data.startswith(_MAGIC) or len(data) < start:
        raise ValueError("it is no shrunk scan, or cut off")
    checksum, num_text = _HEAD.unpack_from(data, len(_MAGIC))
    if zlib.crc32(memoryview(data)[start:]) != checksum:
        raise ValueError("its checksum is another one")
    facts = json.loads(data[start : start + num_text])
    at, kind = start + num_text, np.dtype(np.uint8 if facts.pop("is_8_bit") else np.float32)
    squares = {}
    for side in facts.pop("sides_px"):
        squares[side] = np.frombuffer(data, kind, side * side, at).reshape(side, side)
        at += side * side * kind.itemsize
    num_by_grey_256 = np.array(facts.pop("num_by_grey"), np.int64)
    return ShrunkScan(squares, num_by_grey_256, tuple(facts.pop("dark_lines_px")), **facts)
