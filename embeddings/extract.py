"""Scans -> vectors, shard by shard: read squares in one thread, embed in another, publish the shard.

On a CPU the network runs through onnxruntime (several times faster than eager torch on depthwise networks), on a
GPU through torch in half precision.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from embeddings import backbones, onnx_file, stage_features
from embeddings.alterations.alteration import Alteration, address, altered
from embeddings.attempts import MAX_DEATHS, Attempts
from embeddings.backbones import Backbone
from embeddings.decoding import picture_keys
from embeddings.shrunk.read_shrunk import square_of
from embeddings.store import EmbeddingStore
from pipeline.contracts.config import Config
from pipeline.contracts.options.vectors import Features
from pipeline.contracts.shared_folder import SharedFolder

# N scans of a batch, S side in pixels, D dimensions

MODELS = "backbones"  # folder of the root of all stores
OWN_DIM = "own_dim"  # property of an ONNX file: how many of its numbers are the network's own embedding
DEADLY = "the process that was to embed it died twice, and it is left out"
NOT_FINITE = "the network's embedding of it holds values that are not finite"


@dataclass(frozen=True)
class Shard:
    """Scans of one task; a plan of the same pool has the same shards, whatever was finished before.

    Attributes:
        sha256: Content of each scan.
        uris: Where to read it.
        backbone: What embeds it.
        model: ONNX file of the backbone, of a store at a URL where it lies on the machine of the plan; None: torch.
        store: Where the vectors go.
        alteration: What is taken out of the scans before the network sees them.
        features: What of the network is kept, see `embed.features`.
    """

    sha256: tuple[str, ...]
    uris: tuple[str, ...]
    backbone: Backbone
    model: Path | None
    store: EmbeddingStore
    batch_size: int
    size_px: int
    max_pixels: int
    num_threads: int
    alteration: Alteration = "none"
    features: Features = "pooled"


@dataclass(frozen=True)
class ShardResult:
    """Counts only: the vectors are in the store."""

    num_embedded: int
    broken: tuple[tuple[str, str], ...]  # (sha256, reason)


def open_store(
    config: Config, backbone: Backbone, root: Path | SharedFolder, *, alteration: Alteration = "none"
) -> EmbeddingStore:
    """The store of this backbone and preprocessing below `root`; altered scans have stores of their own."""
    preprocessing = f"squash-bilinear-{config.preprocess.size_px}-grey01-v{picture_keys.FLAT_VERSION}"
    if config.embed.features == "stages":
        preprocessing += f"-stages-v{stage_features.VERSION}"
    return EmbeddingStore(root, backbone.key, preprocessing + address(alteration))


def plan(
    config: Config,
    backbone: Backbone,
    model: Path | None,
    store: EmbeddingStore,
    scans: Sequence[tuple[str, str]],
    *,
    alteration: Alteration = "none",
) -> list[Shard]:
    """Cut (sha256, uri) pairs into shards of what the store, opened with the same `alteration`, lacks.

    The cut is made before finished scans are taken out, so a resumed run works on the batches of the first one.
    """
    unique = dict(reversed(scans))  # the first uri of a content wins
    content = list(dict.fromkeys(sha for sha, _ in scans))
    known = store.known()
    shards = []
    for start in range(0, len(content), config.embed.shard_size):
        todo = tuple(sha for sha in content[start : start + config.embed.shard_size] if sha not in known)
        if todo:
            shards.append(
                Shard(
                    sha256=todo,
                    uris=tuple(unique[sha] for sha in todo),
                    backbone=backbone,
                    model=model,
                    store=store,
                    batch_size=config.embed.batch_size,
                    size_px=config.preprocess.size_px,
                    max_pixels=config.pool.max_pixels,
                    num_threads=config.engine.threads_per_task,
                    alteration=alteration,
                    features=config.embed.features,
                )
            )
    return shards


def embed_shard(shard: Shard) -> ShardResult:
    """Decode, embed and publish one shard; a scan that fails is reported, not raised."""
    broken: list[tuple[str, str]] = []
    kept: list[str] = []
    vectors: list[np.ndarray] = []
    model = shard.model
    if model is not None and shard.store.root.url is not None:
        model = model_here(shard.store.root, model.name)
    forward, own_dim = forward_of(shard.backbone, shard.features, shard.size_px, model, shard.num_threads)
    with Attempts(shard.store.folder, shard.sha256) as attempts:
        for sha256, scan_N1SS in _loaded(shard, attempts, broken):
            emb_ND = as_stored(forward(scan_N1SS))
            attempts.end(sha256)
            finite_N = np.isfinite(emb_ND).all(axis=1)
            kept += [sha for sha, is_finite in zip(sha256, finite_N, strict=True) if is_finite]
            broken += [(sha, NOT_FINITE) for sha, is_finite in zip(sha256, finite_N, strict=True) if not is_finite]
            vectors.append(emb_ND[finite_N])
        if kept:
            shard.store.write(kept, np.concatenate(vectors))
            if own_dim is not None:
                shard.store.write_layout(own_dim)
    return ShardResult(len(kept), tuple(broken))


def as_stored(emb_ND: np.ndarray) -> np.ndarray:
    """Half precision, as the store keeps it; a value beyond its range becomes infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(emb_ND, dtype=np.float16)


def _loaded(shard: Shard, attempts: Attempts, broken: list[tuple[str, str]]) -> Iterator[tuple[list[str], np.ndarray]]:
    """Batches of decoded scans: all that nobody died of, then each of the others alone, with nothing beside it."""
    places = range(len(shard.sha256))
    deaths = [attempts.deaths(sha) for sha in shard.sha256]
    cuts = [places[start : start + shard.batch_size] for start in range(0, len(places), shard.batch_size)]
    harmless = [batch for cut in cuts if (batch := [i for i in cut if not deaths[i]])]
    if harmless:
        with ThreadPoolExecutor(1) as reader:
            following = reader.submit(_load, shard, harmless[0], attempts, broken)
            for number in range(len(harmless)):
                loaded = following.result()
                if number + 1 < len(harmless):
                    following = reader.submit(_load, shard, harmless[number + 1], attempts, broken)
                if loaded[0]:
                    yield loaded
    for i in places:
        if deaths[i] >= MAX_DEATHS:
            broken.append((shard.sha256[i], f"{Path(shard.uris[i]).name}: {DEADLY}"))
        elif deaths[i] and (alone := _load(shard, [i], attempts, broken))[0]:
            yield alone


def _load(
    shard: Shard, places: Sequence[int], attempts: Attempts, broken: list[tuple[str, str]]
) -> tuple[list[str], np.ndarray]:
    """Decode the scans of a shard at these places: the SHA-256 of those that could be, and (N, 1, S, S)."""
    kept, scans = [], []
    attempts.begin([shard.sha256[i] for i in places])
    for sha, uri in ((shard.sha256[i], shard.uris[i]) for i in places):
        try:
            scan_1SS = square_of(uri, shard.size_px, shard.max_pixels, sha)
            scans.append(altered(scan_1SS[0], shard.alteration)[None])
            kept.append(sha)
        except Exception as error:  # noqa: BLE001 - one bad scan must not end a run; it is counted and reported
            broken.append((sha, f"{type(error).__name__}: {error}"))
            attempts.end([sha])
    return kept, np.stack(scans) if scans else np.empty((0, 1, shard.size_px, shard.size_px), np.float32)


@lru_cache(maxsize=2)
def forward_of(
    backbone: Backbone, features: Features, size_px: int, model: Path | None, num_threads: int
) -> tuple[Any, int | None]:
    """What embeds a batch, and of how many numbers the network's own embedding is; None: of all.

    Arguments as in `Shard`.
    """
    return _onnx_forward(model, num_threads) if model is not None else _torch_forward(backbone, features, size_px)


def _onnx_forward(model: Path, num_threads: int) -> tuple[Any, int | None]:
    session = onnx_file.session(model, num_threads)
    own_dim = session.get_modelmeta().custom_metadata_map.get(OWN_DIM)

    def forward(scan_N1SS: np.ndarray) -> np.ndarray:
        # One scan at a time: its activations stay in the cache of the core, which is half as fast again as a batch
        # of 32 on depthwise networks, and a vector then depends on nothing but its own scan.
        return np.concatenate([session.run(["emb"], {"scan": scan[None]})[0] for scan in scan_N1SS])

    return forward, None if own_dim is None else int(own_dim)


def build(backbone: Backbone, features: Features, size_px: int) -> Any:
    """The module that embeds, in eval mode: (N, 1, S, S) in [0, 1] -> (N, D); the network's own embedding first."""
    return stage_features.build(backbone, size_px) if features == "stages" else backbones.build(backbone, size_px)


def export_onnx(backbone: Backbone, features: Features, size_px: int, folder: Path) -> Path:
    """Write the module that embeds as an ONNX file, once; see `backbones.export_onnx`."""
    if features == "pooled":
        return backbones.export_onnx(backbone, size_px, folder)
    path = model_path(backbone, features, size_px, folder)

    def make() -> None:
        import torch

        example = torch.zeros(2, 1, size_px, size_px)
        module = build(backbone, features, size_px)
        onnx_file.write(module, example, path, ("scan", "emb"), {OWN_DIM: str(module.own_dim)})

    onnx_file.make_once(path, make)
    return path


def model_here(root: SharedFolder, name: str) -> Path:
    """An ONNX file in the root of the stores, fetched where another machine wrote it."""
    path = root.here / MODELS / name
    if root.url is not None and not onnx_file.is_whole(path):
        root.receive(MODELS, lambda other: other in (name, onnx_file.hash_path(path).name))
    return path


def model_path(backbone: Backbone, features: Features, size_px: int, folder: Path) -> Path:
    """Where `export_onnx` writes."""
    path = backbones.onnx_path(backbone, size_px, folder)
    return path.with_stem(f"{path.stem}-stages-v{stage_features.VERSION}") if features == "stages" else path


def _torch_forward(backbone: Backbone, features: Features, size_px: int) -> tuple[Any, int | None]:
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = build(backbone, features, size_px).to(device, memory_format=torch.channels_last)

    def forward(scan_N1SS: np.ndarray) -> np.ndarray:
        scan = torch.from_numpy(scan_N1SS).to(device, non_blocking=True)
        with (
            torch.inference_mode(),
            torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"),
        ):
            return np.asarray(module(scan.contiguous(memory_format=torch.channels_last)).float().cpu())

    return forward, getattr(module, "own_dim", None)
