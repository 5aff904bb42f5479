"""What a folder of weights says of them: normalisation, size, architecture, licence."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.contracts.errors import InputError

Channels = tuple[float, ...]
FILES = ("preprocessor_config.json", "open_clip_config.json", "config.json", "README.md")


@dataclass(frozen=True)
class Facts:
    """None wherever the folder says nothing.

    Attributes:
        normalisation: Mean and standard deviation of each channel, of grey values in [0, 1].
        size_px: Side of the network's input.
        licence: As the folder's README names it.
    """

    normalisation: tuple[Channels, Channels] | None = None
    size_px: int | None = None
    licence: str | None = None


def read(folder: Path) -> Facts:
    """Read what lies beside the weights.

    Raises:
        InputError: a file that is there cannot be understood.
    """
    try:
        processor, clip, config = (_json(folder / name) for name in FILES[:3])
        timm_config = config.get("pretrained_cfg") or {}
        clip_config = clip.get("preprocess_cfg") or {}
        normalisation = _of_processor(processor) or _pair(timm_config) or _pair(clip_config)
        size_px = _size(processor) or _side(timm_config.get("input_size")) or _side(config.get("image_size"))
        return Facts(normalisation, size_px, _licence(folder / FILES[3]))
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise InputError(
            f"what lies beside the weights cannot be read: {type(error).__name__} {error}",
            value=str(folder),
            where="backbone.weights",
            fix=f"put back {', '.join(FILES[:3])} as published, or name the file of weights itself",
        ) from error


def _json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    if not isinstance(content, dict):
        raise TypeError(f"{path.name} holds no object")
    return content


def _of_processor(processor: dict[str, Any]) -> tuple[Channels, Channels] | None:
    """Of a Hugging Face image processor: pixels (0..255) * rescale_factor, less the mean, over the deviation."""
    if not processor or ("image_mean" not in processor and processor.get("do_normalize", True)):
        return None
    white = 255.0 * float(processor.get("rescale_factor", 1 / 255)) if processor.get("do_rescale", True) else 255.0
    mean: Channels = (0.0,)
    std: Channels = (1.0,)
    if processor.get("do_normalize", True):
        mean, std = (tuple(float(value) for value in processor[name]) for name in ("image_mean", "image_std"))
    return tuple(value / white for value in mean), tuple(value / white for value in std)


def _pair(config: dict[str, Any]) -> tuple[Channels, Channels] | None:
    if config.get("mean") is None or config.get("std") is None:
        return None
    mean, std = (tuple(float(value) for value in config[name]) for name in ("mean", "std"))
    return mean, std


def _size(processor: dict[str, Any]) -> int | None:
    cropped = processor.get("do_center_crop", "crop_size" in processor)
    return _side(processor.get("crop_size")) if cropped else _side(processor.get("size"))


def _side(size: Any) -> int | None:
    """224, {"height": 224, "width": 224}, {"shortest_edge": 224}, or (3, 224, 224) -> 224."""
    if isinstance(size, dict):
        size = size.get("height", size.get("shortest_edge"))
    if isinstance(size, list | tuple):
        size = size[-1]
    return None if size is None else int(size)


def _licence(readme: Path) -> str | None:
    """Of the header that a model card begins with."""
    if not readme.is_file():
        return None
    header = re.match(r"---\n(.*?)\n---", readme.read_text("utf-8", errors="replace"), re.DOTALL)
    fields = dict(re.findall(r"^(license(?:_name)?):\s*(\S+)\s*$", header.group(1), re.MULTILINE)) if header else {}
    return fields.get("license_name") or fields.get("license")
