"""Exported networks over scans, shard by shard, on CPUs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embeddings import activations, onnx_file
from pipeline.learn.network.exported import Networks
from pipeline.runtime.context import StageContext

# N scans, C findings


@dataclass(frozen=True)
class _Scans:
    """Scans of one prediction task."""

    model: Path
    uris: tuple[str, ...]
    output: str
    size_px: int
    max_pixels: int
    num_threads: int


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
    config, size = ctx.config, ctx.config.embed.shard_size
    shards = [
        _Scans(
            model,
            tuple(uris[start : start + size]),
            output,
            config.preprocess.size_px,
            config.pool.max_pixels,
            config.engine.threads_per_task,
        )
        for start in range(0, len(uris), size)
    ]
    of_shard: dict[int, np.ndarray] = {}
    for index, output_NC in ctx.engine.map_shards(_predict_shard, shards):
        of_shard[index] = output_NC
        ctx.progress("predict", len(of_shard), len(shards))
    return np.concatenate([of_shard[index] for index in range(len(shards))])


@dataclass(frozen=True)
class _ScansOfAll:
    """Scans of one prediction task, for several networks."""

    models: Mapping[str, Path]
    uris: tuple[str, ...]
    size_px: int
    max_pixels: int
    num_threads: int


def logits_of_all(ctx: StageContext, models: Mapping[str, Path], uris: Sequence[str]) -> dict[str, np.ndarray]:
    """Run several exported networks over scans, each scan opened once; what networks share runs once, see `Networks`.

    Args:
        ctx: The stage's context.
        models: Name to ONNX file, with the weights beside it.
        uris: N scans.

    Returns:
        Logits (N, C) of each, float32, in the order of the scans.
    """
    config, size = ctx.config, ctx.config.embed.shard_size
    shards = [
        _ScansOfAll(
            dict(models),
            tuple(uris[start : start + size]),
            config.preprocess.size_px,
            config.pool.max_pixels,
            config.engine.threads_per_task,
        )
        for start in range(0, len(uris), size)
    ]
    of_shard: dict[int, dict[str, np.ndarray]] = {}
    for index, logits in ctx.engine.map_shards(_all_of_shard, shards):
        of_shard[index] = logits
        ctx.progress("predict", len(of_shard), len(shards))
    return {name: np.concatenate([of_shard[index][name] for index in range(len(shards))]) for name in models}


def _all_of_shard(shard: _ScansOfAll) -> dict[str, np.ndarray]:
    networks = Networks(shard.models, shard.num_threads)
    logits = [networks.logits(activations.load(uri, shard.size_px, shard.max_pixels)[None]) for uri in shard.uris]
    return {name: np.concatenate([of_scan[name] for of_scan in logits]) for name in shard.models}


def _predict_shard(shard: _Scans) -> np.ndarray:
    session = onnx_file.session(shard.model, shard.num_threads)

    def scans() -> Iterator[np.ndarray]:
        for uri in shard.uris:
            yield activations.load(uri, shard.size_px, shard.max_pixels)[None]

    return np.concatenate([session.run([shard.output], {"scan": scan})[0] for scan in scans()])
