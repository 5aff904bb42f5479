"""Whether pairs of scans that lie alike are one picture: their pixels are read and compared, in shards."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.contracts.options.scans import DuplicatesConfig
from pipeline.pool.copies.thumbnails import ScanFile, read_pairs
from pipeline.pool.pixel_pairs import same_picture
from pipeline.runtime.engine import Engine

Bools = NDArray[np.bool_]

_SHARD_SIZE = 1024


@dataclass(frozen=True)
class PairShard:
    """Pairs of scans that one task looks at; it reads a scan of several pairs once."""

    left: Sequence[ScanFile]
    right: Sequence[ScanFile]
    max_pixels: int
    min_correlation: float


def confirmed(
    left: Sequence[ScanFile],
    right: Sequence[ScanFile],
    engine: Engine,
    config: DuplicatesConfig,
    max_pixels: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Bools:
    """Which of P pairs show the same picture, shape (P,); `progress` is told of every finished shard."""
    same_P = np.zeros(len(left), np.bool_)
    blocks = [slice(start, start + _SHARD_SIZE) for start in range(0, len(left), _SHARD_SIZE)]
    shards = [PairShard(left[b], right[b], max_pixels, config.min_correlation) for b in blocks]
    done = 0
    for index, part_P in engine.map_shards(confirm_shard, shards):
        same_P[blocks[index]] = part_P
        done += len(part_P)
        progress(done, len(same_P))
    return same_P


def confirm_shard(shard: PairShard) -> Bools:
    """Which pairs of a shard show the same picture."""
    left_PSS, right_PSS = read_pairs(shard.left, shard.right, shard.max_pixels)
    return same_picture(left_PSS, right_PSS, shard.min_correlation)
