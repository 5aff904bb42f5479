"""Scans as small pictures inside the page; one that cannot be read becomes a placeholder and is counted."""

import base64
import io
import logging
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from embeddings.alterations.alteration import Alteration, altered
from embeddings.decoding import files

logger = logging.getLogger(__name__)

MAX_PIXELS = 100_000_000
MAX_KEPT = 1000  # pictures of some kilobytes: a page of the audit is written three times in a run


def thumbnail(
    uri: str, *, side_px: int, quality: int = 72, max_pixels: int = MAX_PIXELS, alteration: Alteration = "none"
) -> str | None:
    """A scan as a JPEG data URI whose longer side is at most `side_px`, without any metadata of the file.

    An altered one is shown as networks see it: squashed to a square.

    Returns:
        `None` when the scan cannot be read or decoded.
    """
    try:
        state = _state(uri)
        make: Callable[..., str] = _make if state is not None else _make.__wrapped__
        return make(uri, state, side_px, quality, max_pixels, alteration)
    except Exception as error:  # noqa: BLE001 - one bad scan must not end the report; the caller counts it
        logger.warning("no thumbnail of a scan: %s", error)
        return None


@lru_cache(maxsize=MAX_KEPT)
def _make(
    uri: str, _: tuple[int, ...] | None, side_px: int, quality: int, max_pixels: int, alteration: Alteration
) -> str:
    from embeddings.decode import open_scan

    grey = open_scan(uri, max_pixels=max_pixels)
    if alteration == "none":
        return _jpeg(grey.eight_bit(), side_px, quality)
    square_SS = altered(grey.square(side_px), alteration)
    return _jpeg(Image.fromarray(np.rint(square_SS * 255.0).astype(np.uint8)), side_px, quality)


def _state(uri: str) -> tuple[int, ...] | None:
    """What changes with the file of a scan; None of one that lies elsewhere, whose picture is made each time."""
    place = files.place_of(uri)
    if "://" in place or files.archive_of(uri) is not None:
        return None
    try:
        stat = Path(place).stat()
    except (OSError, ValueError):  # who reads it says what is wrong
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _jpeg(image: Image.Image, side_px: int, quality: int) -> str:
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS, reducing_gap=2.0)
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(sink.getvalue()).decode("ascii")


def thumbnails(
    uris: Mapping[str, str],
    *,
    side_px: int,
    max_pixels: int = MAX_PIXELS,
    alteration: Alteration = "none",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, str]:
    """Image id to data URI, for the scans that could be read.

    Args:
        uris: Image id to where the scan is read from.
        side_px: Longer side of a picture.
        max_pixels: Scans with more pixels are not decoded.
        alteration: What is taken out of every scan first.
        progress: Called with (done, total).
    """
    picture_of: dict[str, str] = {}
    for done, (image_id, uri) in enumerate(uris.items(), start=1):
        picture = thumbnail(uri, side_px=side_px, max_pixels=max_pixels, alteration=alteration)
        if picture is not None:
            picture_of[image_id] = picture
        if progress is not None:
            progress(done, len(uris))
    return picture_of
