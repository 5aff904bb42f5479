"""A file of weights, or a folder as Hugging Face publishes it -> tensors by dotted name. No code of the file runs."""

import argparse
import hashlib
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.contracts.errors import InputError

WHERE = "backbone.weights"
# What a folder may hold, the best first: safetensors need no unpickling.
NAMES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
)
INDEX = ".index.json"  # of weights in several files
# Of a training's state, not of its network.
NOT_WEIGHTS = ("optim", "sched", "scaler", "rng", "args", "hparams", "hyper_parameters", "callbacks", "loops", "loss")


def find(path: Path) -> Path:
    """The file of weights at `path`, or inside it where it is a folder.

    Raises:
        InputError: there is none.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise InputError(
            "no such weights file",
            value=str(path),
            where=WHERE,
            fix="correct the path, or leave it out for the backbone's own pretrained weights",
        )
    for name in NAMES:
        if (path / name).is_file():
            return path / name
    single = sorted(path.glob("*.safetensors")) + sorted(path.glob("*.pth"))
    if len(single) == 1:
        return single[0]
    raise InputError(
        f"this folder holds {len(single) or 'no'} files of weights",
        value=str(path),
        where=WHERE,
        fix=f"name the file itself; known by name are {', '.join(NAMES)}",
    )


def parts(path: Path) -> list[Path]:
    """The files that the weights are in: `path`, or an index and the files it lists."""
    if not path.name.endswith(INDEX):
        return [path]
    try:
        names = sorted({str(name) for name in json.loads(path.read_text("utf-8"))["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(path, f"the index of its parts: {type(error).__name__}", "download it again") from error
    part_files = [path.parent / Path(name).name for name in names]  # never outside the folder
    absent = [part.name for part in part_files if not part.is_file()]
    if absent:
        raise _unreadable(
            path, f"{len(absent)} of its {len(part_files)} parts are missing, first {absent[0]}", "download it"
        )
    return [path, *part_files]


def file_hash(path: Path) -> str:
    """SHA-256 of a file, 16 hex digits; of weights in several files, over the hashes of all."""
    files = parts(path)
    if len(files) == 1:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
    digest = hashlib.sha256()
    for part in files:
        with part.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def read(path: Path) -> dict[str, Any]:
    """Every tensor of a file by its dotted name: `teacher.backbone.cls_token` of {"teacher": {"backbone.cls_token"}}.

    Raises:
        InputError: it cannot be read, needs code to be read, or holds no tensors.
    """
    tensors: dict[str, Any] = {}
    for part in parts(path):
        if not part.name.endswith(INDEX):
            tensors |= dict(_flat(_safetensors(part) if part.suffix == ".safetensors" else _pickled(part)))
    if not tensors:
        raise _unreadable(path, "it holds no tensors", "name a file of weights")
    return tensors


def _safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise _unreadable(path, f"{type(error).__name__}: {error}", "download it again") from error


def _pickled(path: Path) -> Any:
    """What `torch.load` gives with nothing but tensors and plain data allowed."""
    import torch

    try:
        with torch.serialization.safe_globals(_plain_data()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own text recommends weights_only=False: never, for that runs whatever code the file brings
        raise _unreadable(
            path,
            "the file holds more than tensors, and reading it would run its code",
            "open it once where you trust it and save the tensors alone: "
            "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors'); then name the .safetensors file",
        ) from error
    except Exception as error:
        raise _unreadable(
            path,
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}",
            "name a .safetensors file, or a .pth file that holds tensors alone",
        ) from error


def _plain_data() -> list[Any]:
    """Types that trainings leave beside their weights and that are nothing but data: arguments and numpy's scalars."""
    import numpy as np
    from numpy._core.multiarray import scalar

    dtypes = [type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")]
    return [argparse.Namespace, np.dtype, *dtypes, scalar, (scalar, "numpy.core.multiarray.scalar")]


def _flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    import torch

    if not isinstance(tree, dict):
        return
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, torch.Tensor):
            yield name, value
        elif isinstance(value, dict) and not any(word in str(key).lower() for word in NOT_WEIGHTS):
            yield from _flat(value, f"{name}.")


def _unreadable(path: Path, reason: str, fix: str) -> InputError:
    return InputError(f"the weights cannot be read: {reason}", value=path.name, where=WHERE, fix=fix)
