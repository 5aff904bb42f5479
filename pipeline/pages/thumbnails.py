"""Scans as small pictures inside the page; one that cannot be read becomes a placeholder and is counted."""

import base64
import io
import logging
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from embeddings.alterations.alteration import Alteration, altered

logger = logging.getLogger(__name__)

MAX_PIXELS = 100_000_000


def thumbnail(
    uri: str, *, side_px: int, quality: int = 72, max_pixels: int = MAX_PIXELS, alteration: Alteration = "none"
) -> str | None:
    """A scan as a JPEG data URI whose longer side is at most `side_px`, without any metadata of the file.

    An altered one is shown as networks see it: squashed to a square.

    Returns:
        `None` when the scan cannot be read or decoded.
    """
    from embeddings.decode import open_scan

    try:
        grey = open_scan(uri, max_pixels=max_pixels)
        if alteration == "none":
            return _jpeg(grey.eight_bit(), side_px, quality)
        square_SS = altered(grey.square(side_px), alteration)
        return _jpeg(Image.fromarray(np.rint(square_SS * 255.0).astype(np.uint8)), side_px, quality)
    except Exception as error:  # noqa: BLE001 - one bad scan must not end the report; the caller counts it
        logger.warning("no thumbnail of a scan: %s", error)
        return None


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
