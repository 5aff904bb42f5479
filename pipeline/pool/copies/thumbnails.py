"""Small grey pictures of scans, read where they are compared."""

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embeddings.decode import open_scan
from embeddings.decoding.unusable import DecodeError

Bytes = NDArray[np.uint8]

_log = logging.getLogger(__name__)

SIDE_PX = 128


def read_thumbnails(uris: Sequence[str], max_pixels: int) -> Bytes:
    """Decode scans to (N, 128, 128) grey bytes; one that is gone by now is black and matches nothing."""
    thumb_NSS = np.zeros((len(uris), SIDE_PX, SIDE_PX), np.uint8)
    for i, uri in enumerate(uris):
        try:
            square = open_scan(uri, max_pixels=max_pixels).square(SIDE_PX)
            thumb_NSS[i] = np.rint(square * np.float32(255))
        except DecodeError as error:
            _log.warning("%s could be read by the manifest stage and cannot now: %s", uri, error)
    return thumb_NSS


def read_pairs(
    left_uris: Sequence[str], right_uris: Sequence[str], max_pixels: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Thumbnails of both sides of some pairs; each scan is read once."""
    uris = sorted({*left_uris, *right_uris})
    place = {uri: i for i, uri in enumerate(uris)}
    thumb_NSS = read_thumbnails(uris, max_pixels)
    return thumb_NSS[[place[uri] for uri in left_uris]], thumb_NSS[[place[uri] for uri in right_uris]]
