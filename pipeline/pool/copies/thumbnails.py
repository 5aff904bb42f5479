"""Small grey pictures of scans, kept or read where they are compared."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embeddings.decoding.unusable import DecodeError
from embeddings.shrunk.read_shrunk import square_of

Bytes = NDArray[np.uint8]

_log = logging.getLogger(__name__)

SIDE_PX = 128


class ScanFile(NamedTuple):
    """Where a scan is read from, and the SHA-256 of its bytes."""

    uri: str
    sha256: str


def scan_files(manifest: pa.Table) -> list[ScanFile]:
    """The files of a manifest's rows."""
    return [ScanFile(*pair) for pair in zip(manifest["uri"].to_pylist(), manifest["sha256"].to_pylist(), strict=True)]


def read_thumbnails(scans: Sequence[ScanFile], max_pixels: int) -> Bytes:
    """Scans as (N, 128, 128) grey bytes; one that is gone by now is black and matches nothing."""
    thumb_NSS = np.zeros((len(scans), SIDE_PX, SIDE_PX), np.uint8)
    for i, scan in enumerate(scans):
        try:
            square_1SS = square_of(scan.uri, SIDE_PX, max_pixels, scan.sha256, is_stored=False)
            thumb_NSS[i] = np.rint(square_1SS[0] * np.float32(255))
        except DecodeError as error:
            _log.warning("%s could be read by the manifest stage and cannot now: %s", scan.uri, error)
    return thumb_NSS


def read_pairs(left: Sequence[ScanFile], right: Sequence[ScanFile], max_pixels: int) -> tuple[Bytes, Bytes]:
    """Thumbnails of both sides of some pairs; each scan is read once."""
    scans = sorted({*left, *right})
    place = {scan: i for i, scan in enumerate(scans)}
    thumb_NSS = read_thumbnails(scans, max_pixels)
    return thumb_NSS[[place[scan] for scan in left]], thumb_NSS[[place[scan] for scan in right]]
