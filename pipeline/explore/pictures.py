"""Scans as the page shows them: small for the gallery, large to look at; grey, without any metadata of the file."""

import io
from functools import lru_cache

from PIL import Image

THUMBNAIL_PX, LARGE_PX = 224, 2048
KEPT_THUMBNAILS = 3_000  # about 20 MB


def jpeg(uri: str, side_px: int, max_pixels: int) -> bytes:
    """A scan as a JPEG whose longer side is at most `side_px`.

    Raises:
        DecodeError: when there is no picture in the scan's file.
        OSError: when it cannot be read just now.
    """
    from embeddings.decode import open_scan

    image = open_scan(uri, max_pixels=max_pixels).eight_bit()
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS, reducing_gap=2.0)
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=80 if side_px <= THUMBNAIL_PX else 90)
    return sink.getvalue()


@lru_cache(KEPT_THUMBNAILS)
def thumbnail(uri: str, max_pixels: int) -> bytes:
    """A small picture of a scan, kept for the next look; see `jpeg`."""
    return jpeg(uri, THUMBNAIL_PX, max_pixels)
