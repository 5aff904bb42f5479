"""A scan's square, or all that is known of its picture: what is kept of it, else from its file."""

from embeddings import decode
from embeddings.decoding import files
from embeddings.decoding.grey import FloatArray
from embeddings.shrunk import shrunk_files
from embeddings.shrunk.shrunk_scan import SIDES_PX, ShrunkScan, shrink

# S side of the square


def square_of(uri: str, size_px: int, max_pixels: int, key: str | None, *, is_stored: bool = True) -> FloatArray:
    """The square (1, S, S), float32 in [0, 1], as `decode.scan_square` makes it; with a kept one the file is not read.

    Args:
        uri: Where the scan is.
        size_px: S.
        max_pixels: A larger picture is refused.
        key: The SHA-256 of the file that is meant, alone or followed by `-` and more; None: whatever is there.
        is_stored: What is made of it will be stored under the key, so no other file may stand in its place.

    Raises:
        DecodeError: see `decode.scan_square`.
    """
    scan = None if key is None else shrunk_files.kept(key, uri, size_px)
    if scan is None:
        return decode.scan_square(uri, size_px, max_pixels, key if is_stored else None)
    return scan.square(size_px)[None]


def shrunk_scan(uri: str, key: str, max_pixels: int, size_px: int) -> ShrunkScan:
    """All that is known of a picture, with a square of this side; arguments and errors as those of `square_of`."""
    scan = shrunk_files.kept(key, uri, size_px)
    if scan is not None:
        return scan
    data = files.read_unchanged(uri, key)
    grey = decode.open_grey(data, max_pixels=max_pixels, white=files.white_of(uri))
    return shrink(grey, len(data), {*SIDES_PX, size_px})
