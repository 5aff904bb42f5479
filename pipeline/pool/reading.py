"""What one scan's file holds: hashes, size, what its tags say, or why it cannot be used. Done in a guarded process.

`pipeline.pool.manifest` asks, `answer` replies; what goes over the pipe holds no name and no id in the clear.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embeddings.decode import open_like_pool
from embeddings.decoding import dicom_file, grey_range, picture_limits
from embeddings.decoding.grey import FloatArray, Grey
from embeddings.decoding.raster import short
from embeddings.decoding.unusable import DecodeError
from embeddings.shrunk import shrunk_files, shrunk_scan
from pipeline.pool import picture_hash
from pipeline.pool.burned_in.note import noted
from pipeline.pool.burned_in.text_lines import has_text
from pipeline.pool.dicom import rules, tags
from pipeline.runtime import guarded_process

IMAGE_SIDE = 32  # of imagehash.phash
_NUM_HEX = 16
FEW_GREYS = "its greys take up less than a twelfth of black to white"
_FEWEST_GREYS, _OUTER_PERCENT = 255 / 12, (2, 98)
_MIB = 2**20
_VERSION = 6  # raise it whenever other facts are found of a file, text that is burnt in among them


@dataclass(frozen=True)
class ReadingOptions:
    """How files are read.

    Attributes:
        max_pixels: A larger picture is refused.
        max_seconds: A slower one too.
        white: The white of files that do not say it; None: `whites`, or each file's own values, tell.
        whites: Where `white` is None: of each such file the smallest of these that holds its values, as far as the scan
            may be that dark; see `embeddings.decoding.grey_range.among`.
        salt: Secret key of the pseudonyms.
        draw: Of the holdout: the key that decides a patient's side depends on it, and not on the secret.
        set_aside: The rules of `pipeline.pool.dicom.rules` that hold.
        max_bytes: A longer file is not read to its end.
        max_memory_mb: MiB that a file's picture may take while it is decoded.
        max_frames: Pictures that a file may hold.
        allow_outside: What may lead out of the pool, see `pipeline.pool.outside`.
        size_px: Side of the square that a network sees, which is then all that is made of the picture; None: the two
            small pictures that copies are found by.
        keep_sides_px: Of the squares that are to be kept of a large picture beside these, see
            `embeddings.shrunk.shrunk_scan`; none: nothing is kept.
    """

    max_pixels: int
    max_seconds: float = 30.0
    white: int | None = None
    whites: Sequence[int] = ()
    salt: str = ""
    draw: str = ""
    set_aside: Sequence[str] = ()
    max_bytes: int = 2**28
    max_memory_mb: int = 512
    max_frames: int = 1000
    allow_outside: Sequence[str] = ()
    size_px: int | None = None
    keep_sides_px: Sequence[int] = ()

    @property
    def key(self) -> str:
        """Changes with whatever changes the facts of a file; the salt is not found in it."""
        settings = f"{_VERSION}\0{self.white}\0{self.salt}\0{self.draw}\0{sorted(self.set_aside)}"
        settings += f"\0{sorted(self.whites)}" if self.whites else ""
        settings += f"\0{sorted(self.allow_outside)}" if self.allow_outside else ""
        return hashlib.sha256(settings.encode()).hexdigest()[:_NUM_HEX]


@dataclass(frozen=True)
class Read:
    """What was found of one file.

    Attributes:
        facts: Columns of `pipeline.pool.manifest`; with a `reason` where it cannot be used.
        small_SS: 32 x 32 grey bytes, for `phash`; None where it cannot be used.
        medium_SS: 64 x 64 grey bytes, for `picture_hash`.
        square_SS: With `size_px`: what a network sees, float32 in [0, 1], as `embeddings.decode.load_square` makes it.
        shrunk: With `keep_sides_px`, of a large picture: the content of the file that is kept of it.
    """

    facts: dict[str, Any]
    small_SS: NDArray[np.uint8] | None = None
    medium_SS: NDArray[np.uint8] | None = None
    square_SS: FloatArray | None = None
    shrunk: bytes | None = None


def read_scan(data: bytes, options: ReadingOptions) -> Read:
    """Look at a file in a process that may crash or hang without harm."""
    guard = _guard(options)
    try:
        facts, pixels = guard.ask(asdict(options), data, options.max_seconds)
    except guarded_process.GuardError as error:
        return Read({"reason": f"it cannot be decoded: {error}"})
    if not pixels:
        return Read(facts)
    if options.size_px is not None:
        square = np.frombuffer(pixels, np.float32).reshape(options.size_px, options.size_px)
        return Read(facts, square_SS=square)
    side, end = picture_hash.SIDE_PX, IMAGE_SIDE**2 + picture_hash.SIDE_PX**2
    values = np.frombuffer(pixels, np.uint8, end)
    small, medium = values[: IMAGE_SIDE**2], values[IMAGE_SIDE**2 :]
    return Read(
        facts,
        small.reshape(IMAGE_SIDE, IMAGE_SIDE),
        medium.reshape(side, side),
        shrunk=pixels[end:] or None,
    )


def start(options: ReadingOptions) -> None:
    """Start that process, so that it is ready when the first file comes."""
    _guard(options).start()


def _guard(options: ReadingOptions) -> guarded_process.GuardedProcess:
    # Of address space, which is more than what is used: the file twice, and threads of libraries.
    return guarded_process.shared(__name__, 2 * options.max_memory_mb * _MIB + 2 * options.max_bytes)


def split_key(patient: str | None, draw: str) -> str | None:
    """What decides the side of a patient in one draw of the holdout: anybody can compute it, so it stays private."""
    return None if patient is None else hashlib.sha256(f"{draw}\0{patient}".encode()).hexdigest()[:_NUM_HEX]


def answer(question: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    """Inside the guarded process: facts of a file, and its small pictures or the square that a network sees."""
    options = ReadingOptions(**question)
    facts: dict[str, Any] = {}
    limits = picture_limits.Limits(options.max_memory_mb, options.max_frames)
    try:
        dataset = None
        if dicom_file.is_dicom(data):
            dataset = dicom_file.parse(data, with_pixels=False)
            facts |= tags.facts(dataset, options.salt)
            facts["split_key"] = split_key(tags.patient(dataset), options.draw)
            facts["reason"] = rules.set_aside(dataset, options.set_aside)
            if facts["reason"] is not None:
                return facts, b""
        picture_limits.check(data, limits, dataset)
        grey, white = open_like_pool(data, max_pixels=options.max_pixels, white=options.white, whites=options.whites)
        if options.size_px is not None:
            square_SS = np.ascontiguousarray(grey.square(options.size_px), np.float32)
            of_picture = _of_picture(grey, white, facts.get("note"))
            return facts | of_picture | {"note": _with_white(of_picture, options)}, square_SS.tobytes()
        picture = grey.eight_bit()
        if has_text(picture):
            facts["note"] = noted(facts.get("note"))
        small = _shrunk(picture, IMAGE_SIDE, Image.Resampling.LANCZOS)
        medium = _shrunk(picture, picture_hash.SIDE_PX, Image.Resampling.BILINEAR)
        notes = [*([facts["note"]] if facts.get("note") else []), *_of_greys(medium)]
        facts["note"] = "; ".join(notes) or None
        pixels = small.tobytes() + medium.tobytes() + _to_keep(grey, picture, len(data), options.keep_sides_px)
        return facts | _of_picture(grey, white, facts.get("note")), pixels
    except DecodeError as error:
        facts["reason"] = str(error).removesuffix(".")
    except MemoryError:
        facts["reason"] = "it cannot be decoded: it needs more memory than pool.max_memory_mb allows"
    except Exception as error:  # noqa: BLE001 - one bad scan must not end a run; counted and logged by the manifest
        facts["reason"] = f"unexpected {type(error).__name__}: {short(error)}"
    return facts, b""


def _of_greys(medium_SS: NDArray[np.uint8]) -> list[str]:
    """A note where a picture is nearly of one grey, as after a conversion that kept the wrong bits."""
    low, high = np.percentile(medium_SS, _OUTER_PERCENT)
    return [FEW_GREYS] if high - low < _FEWEST_GREYS else []


def _to_keep(grey: Grey, eight_bit: Image.Image, num_bytes: int, sides_px: Sequence[int]) -> bytes:
    """What is kept of a picture; nothing of one that is decoded again as quickly."""
    if not sides_px or grey.image.width * grey.image.height < shrunk_files.MIN_PIXELS:
        return b""
    return shrunk_scan.to_bytes(shrunk_scan.shrink(grey, num_bytes, sides_px, eight_bit))


def _of_picture(grey: Grey, white: int | None, note: str | None) -> dict[str, Any]:
    width_px, height_px = grey.image.size
    open_bits = grey.open_bits
    notes = [*([note] if note else []), *grey.notes]
    return {
        "width_px": width_px,
        "height_px": height_px,
        "bit_depth": grey.bit_depth,
        "format": grey.format,
        "open_bits": open_bits,
        "white": None if open_bits is None else white,
        "note": "; ".join(notes) or None,
    }


def _with_white(facts: dict[str, Any], options: ReadingOptions) -> str | None:
    """The note of a scan, with the white that was decided for it alone; what a pool decides is said of the pool."""
    white, own = facts["white"], None
    if white is not None and options.white is None:
        own = grey_range.note(facts["open_bits"], facts["bit_depth"], white, options.whites)
    return "; ".join(note for note in (facts["note"], own) if note) or None


def _shrunk(picture: Image.Image, side: int, filter_: Image.Resampling) -> NDArray[np.uint8]:
    return np.asarray(picture.resize((side, side), filter_))
