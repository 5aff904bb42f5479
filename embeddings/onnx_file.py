"""A torch module as an ONNX file, batch axis free; and such a file at work."""

import hashlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.contracts.damaged_files import set_aside
from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import write_text

if TYPE_CHECKING:
    from torch import nn


def write(
    module: "nn.Module", example: Any, path: Path, names: tuple[str, ...], properties: dict[str, str] | None = None
) -> None:
    """Write a module, whole or not at all.

    Args:
        module: In eval mode after the call.
        example: An input of any batch size.
        path: Of the file.
        names: Of the input and then of the outputs.
        properties: Metadata of the file.

    Raises:
        InputError: when the network has a step that ONNX does not know at this size.
    """
    import warnings

    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")  # two runs may write the same file
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the exporter without onnxscript is enough here
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # sides are fixed; what is traced is one size
            torch.onnx.export(
                module.eval(),
                (example,),
                str(partial),
                input_names=[names[0]],
                output_names=list(names[1:]),
                dynamic_axes={name: {0: "n"} for name in names},
                dynamo=False,
            )
        if properties:
            _describe(partial, properties)
        partial.replace(path)
    except torch.onnx.OnnxExporterError as error:
        raise InputError(
            f"this network cannot be written as ONNX: {str(error).splitlines()[0]}",
            value=f"{example.shape[-1]} pixels",
            where="preprocess.size_px",
            fix="use the size the network was made for, or embed.runtime=torch with train.adapt=head",
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def make_once(path: Path, make: Callable[[], None]) -> None:
    """Have a file made that runs share, unless it is there as it was made; a damaged one is set aside.

    Args:
        path: Of the file; its hash is kept beside it.
        make: Writes it.
    """
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if is_whole(path):
            return
        if path.exists():
            set_aside(path, "it is not the file whose hash stands beside it")
        make()
        write_text(hash_path(path), _hash(path))


def is_whole(path: Path) -> bool:
    """Whether a file that `make_once` has had made is there, byte for byte."""
    try:
        return hash_path(path).read_text("utf-8", errors="replace") == _hash(path)
    except FileNotFoundError:
        return False


def hash_path(path: Path) -> Path:
    """Where the hash of a file lies that `make_once` has had made."""
    return path.with_name(f"{path.name}.sha256")


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def session(model: Path | bytes, num_threads: int) -> Any:
    """An onnxruntime session on the CPU that takes no more than its threads, of a file or of what it holds."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    source = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _describe(path: Path, properties: dict[str, str]) -> None:
    import onnx

    model = onnx.load(path)
    for key, value in properties.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
