"""The scans as the loop reads them: decoded once, 8 bits, squashed to the side of the views, mapped into memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embeddings.activations import PREPROCESSING
from embeddings.scan_cache import Rows, ScanCache
from embeddings.shrunk.read_shrunk import square_of

# N scans, B of them in a batch, S side in pixels


@dataclass(frozen=True)
class Shard:
    """Scans that one task decodes.

    Attributes:
        sha256: Content of each scan.
        uris: Where to read it.
        size_px: S.
        max_pixels: A larger picture is refused.
        cache: Where the pixels go.
    """

    sha256: tuple[str, ...]
    uris: tuple[str, ...]
    size_px: int
    max_pixels: int
    cache: ScanCache


def open_cache(root: Path, size_px: int) -> ScanCache:
    """The cache of this side below `root`, whatever the pool; the same that `activations` keeps its pixels in."""
    return ScanCache(root, f"{PREPROCESSING}/{size_px}")


def plan(
    cache: ScanCache, scans: Sequence[tuple[str, str]], size_px: int, max_pixels: int, shard_size: int
) -> list[Shard]:
    """Cut (sha256, uri) pairs into shards of what the cache lacks; a content is decoded once."""
    return [Shard(sha256, uris, size_px, max_pixels, cache) for sha256, uris in cache.lacking(scans, shard_size)]


def decode_shard(shard: Shard) -> tuple[tuple[str, str], ...]:
    """Decode and publish one shard; returns (sha256, reason) of the scans that could not be used."""
    kept, pixels, broken = [], [], []
    for sha, uri in zip(shard.sha256, shard.uris, strict=True):
        try:
            scan_1SS = square_of(uri, shard.size_px, shard.max_pixels, sha)
        except Exception as error:  # noqa: BLE001 - one bad scan must not end a run; it is counted and reported
            broken.append((sha, f"{type(error).__name__}: {error}"))
            continue
        kept.append(sha)
        pixels.append(np.round(scan_1SS[None] * 255.0).astype(np.uint8))
    if kept:
        shard.cache.write(kept, np.stack(pixels))
    return tuple(broken)


def take(rows: Rows, position_B: np.ndarray) -> np.ndarray:
    """Grey values of some scans, (B, 1, S, S) float32 in [0, 1]."""
    return rows.plain(position_B)
