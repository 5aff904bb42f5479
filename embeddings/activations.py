"""Scans -> what the late stages of a network learn from: activations of an early stage, or the pixels themselves.

The early stages see each scan once plain (view 0) and once for each further view (`embeddings.augment`, seeded by the
scan's content); their activations are kept in half precision. Without early stages the pixels are kept in 8 bits and
views are made while training.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from embeddings import augment, network_stages, onnx_file
from embeddings.backbones import Backbone
from embeddings.decoding import picture_keys
from embeddings.decoding.unusable import DecodeError
from embeddings.scan_cache import ScanCache
from embeddings.shrunk.read_shrunk import square_of
from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.vectors import AugmentConfig

# N scans, V views, S side in pixels, H height and W width and C channels of the activations

PREPROCESSING = f"squash-bilinear-grey01-v{picture_keys.FLAT_VERSION}"


@dataclass(frozen=True)
class Early:
    """The part of a network that does not learn.

    Attributes:
        backbone: The network.
        num_stages: Of its early part; 0: the pixels are the activations.
        size_px: S.
        num_views: V; 1 for pixels.
        augment: The views.
    """

    backbone: Backbone
    num_stages: int
    size_px: int
    num_views: int
    augment: AugmentConfig

    def cache(self, root: Path) -> ScanCache:
        """Where its activations are kept."""
        kind = f"{PREPROCESSING}/{self.size_px}"
        if self.num_stages:
            kind += f"/{self.backbone.key}/{self.num_stages}/{self.num_views}"
            kind += f"/{self.augment.model_dump_json()}/v{augment.VERSION}"
        return ScanCache(root, kind)


@dataclass(frozen=True)
class Shard:
    """Scans of one task."""

    sha256: tuple[str, ...]
    uris: tuple[str, ...]
    early: Early
    model: Path | None
    cache: ScanCache
    max_pixels: int
    num_threads: int


def early_of(backbone: Backbone, config: Config, num_stages: int) -> Early:
    """The early part under this configuration: see `Early`."""
    num_views = config.network.num_views if num_stages else 1
    return Early(backbone, num_stages, config.preprocess.size_px, num_views, config.network.augment)


def plan(config: Config, early: Early, model: Path | None, root: Path, scans: Sequence[tuple[str, str]]) -> list[Shard]:
    """Cut (sha256, uri) pairs into shards of what the cache lacks."""
    cache = early.cache(root)
    return [
        Shard(sha256, uris, early, model, cache, config.pool.max_pixels, config.engine.threads_per_task)
        for sha256, uris in cache.lacking(scans, config.embed.shard_size)
    ]


def fill_shard(shard: Shard) -> int:
    """Decode, make the views, run the early stages, publish; returns the number of scans.

    Raises:
        InputError: see `load`.
    """
    forward = _forward(shard.early, shard.model, shard.num_threads)
    arrays = []
    for sha, uri in zip(shard.sha256, shard.uris, strict=True):
        scan_1SS = load(uri, shard.early.size_px, shard.max_pixels, sha)
        arrays.append(forward(_views(scan_1SS, sha, shard.early)))
    shard.cache.write(shard.sha256, np.stack(arrays))
    return len(arrays)


def load(uri: str, size_px: int, max_pixels: int, key: str | None = None) -> np.ndarray:
    """One scan (1, S, S) in [0, 1]; `key` as in `shrunk.read_shrunk.square_of`.

    Raises:
        InputError: for a scan that was readable when it was embedded and is no longer.
    """
    try:
        return square_of(uri, size_px, max_pixels, key)
    except DecodeError as error:
        raise InputError(
            f"the scan could be read before and cannot be read now: {error}",
            where=uri,
            fix="put it back, and go on with --resume",
        ) from error


def _views(scan_1SS: np.ndarray, sha256: str, early: Early) -> np.ndarray:
    import torch

    scan = torch.from_numpy(np.array(scan_1SS[None]))  # a copy: 16-bit files come read-only
    made = [scan]
    for view in range(1, early.num_views):
        generator = torch.Generator().manual_seed(augment.seed_of(sha256, view))
        made.append(augment.views(scan, early.augment, generator))
    return np.asarray(torch.cat(made).numpy())


@lru_cache(maxsize=2)
def _forward(early: Early, model: Path | None, num_threads: int) -> Any:
    """(V, 1, S, S) -> (V, C, H, W) float16, or (V, 1, S, S) uint8."""
    if early.num_stages == 0:
        return lambda scan_V1SS: np.round(scan_V1SS * 255.0).astype(np.uint8)
    if model is None:
        return _torch_forward(early)
    session = onnx_file.session(model, num_threads)
    # One view at a time stays in the core's cache, see `extract`.
    return lambda scan_V1SS: np.concatenate(
        [session.run(None, {"scan": scan[None]})[0].astype(np.float16) for scan in scan_V1SS]
    )


def _torch_forward(early: Early) -> Any:
    import torch
    from torch import nn

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = nn.Sequential(*network_stages.stages(early.backbone, early.size_px)[: early.num_stages]).eval().to(device)

    def forward(scan_V1SS: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(module(torch.from_numpy(scan_V1SS).to(device)).half().cpu())

    return forward


def export_early(request: tuple[Early, Path]) -> str:
    """One task: write the ONNX file of the early stages, once."""
    early, path = request

    def make() -> None:
        import torch
        from torch import nn

        module = nn.Sequential(*network_stages.stages(early.backbone, early.size_px)[: early.num_stages]).eval()
        onnx_file.write(module, torch.zeros(2, 1, early.size_px, early.size_px), path, ("scan", "act"))

    onnx_file.make_once(path, make)
    return str(path)
