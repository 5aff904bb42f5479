"""Exported networks over scans, shard by shard, on CPUs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from embeddings import activations, onnx_file
from pipeline.learn.network.exported import Networks
from pipeline.runtime.context import StageContext

# N scans, C findings

R = TypeVar("R")


@dataclass(frozen=True)
class _Scans:
    """Scans of one prediction task."""

    uris: tuple[str, ...]
    size_px: int
    max_pixels: int
    num_threads: int

    def squares(self) -> Iterator[np.ndarray]:
        """What a network sees of each scan, one after the other."""
        for uri in self.uris:
            yield activations.load(uri, self.size_px, self.max_pixels)[None]


def predict(ctx: StageContext, model: Path, uris: Sequence[str], output: str) -> np.ndarray:
    """Run an exported network over scans, shard by shard.

    Args:
        ctx: The stage's context.
        model: ONNX file, see `network.write`.
        uris: N scans.
        output: `logit` or `probability`.

    Returns:
        That output (N, C), float32, in the order of the scans.
    """
    return np.concatenate(_over_shards(ctx, partial(_output, model, output), uris))


def logits_of_all(ctx: StageContext, models: Mapping[str, Path], uris: Sequence[str]) -> dict[str, np.ndarray]:
    """Run several exported networks over scans, each scan opened once; what networks share runs once, see `Networks`.

    Args:
        ctx: The stage's context.
        models: Name to ONNX file, with the weights beside it.
        uris: N scans.

    Returns:
        Logits (N, C) of each, float32, in the order of the scans.
    """
    shards = _over_shards(ctx, partial(_logits_of_all, dict(models)), uris)
    return {name: np.concatenate([logits[name] for logits in shards]) for name in models}


def _over_shards(ctx: StageContext, function: Callable[[_Scans], R], uris: Sequence[str]) -> list[R]:
    """What a function gives of each shard of the scans, in their order."""
    config, size = ctx.config, ctx.config.embed.shard_size
    shards = [
        _Scans(
            tuple(uris[start : start + size]),
            config.preprocess.size_px,
            config.pool.max_pixels,
            config.engine.threads_per_task,
        )
        for start in range(0, len(uris), size)
    ]
    of_shard: dict[int, R] = {}
    for index, result in ctx.engine.map_shards(function, shards):
        of_shard[index] = result
        ctx.progress("predict", len(of_shard), len(shards))
    return [of_shard[index] for index in range(len(shards))]


def _output(model: Path, output: str, shard: _Scans) -> np.ndarray:
    session = onnx_file.session(model, shard.num_threads)
    return np.concatenate([session.run([output], {"scan": scan})[0] for scan in shard.squares()])


def _logits_of_all(models: Mapping[str, Path], shard: _Scans) -> dict[str, np.ndarray]:
    networks = Networks(models, shard.num_threads)
    logits = [networks.logits(scan) for scan in shard.squares()]
    return {name: np.concatenate([of_scan[name] for of_scan in logits]) for name in models}
