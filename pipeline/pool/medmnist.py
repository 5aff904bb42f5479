"""A MedMNIST `.npz` file as a pool: pictures and a manifest, written once into the cache, never fetched.

Where a picture may show several findings (`chestmnist`), the manifest has a column for each.
"""

import csv
import hashlib
import importlib.util
import io
import logging
import os
import shutil
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import write_text

_log = logging.getLogger(__name__)

# MedMNIST's name of a split, which is also the one written to `official_split`.
_SPLITS = ("train", "val", "test")
_SIZES = ("", "64", "128", "224")


def write_medmnist(name: str, cache: Path) -> Path:
    """Write `NAME.npz` as PNG files and a manifest below `cache`, unless that was done before.

    Args:
        name: MedMNIST's name, with the size where it is not 28: `pneumoniamnist`, `pneumoniamnist_224`.
        cache: Folder that runs share.

    Returns:
        Path of the manifest.

    Raises:
        InputError: unknown name, no such file on this machine, or not 2-D pictures.
    """
    info = _info(name)
    source = _find(name, cache)
    folder = cache / f"medmnist-{name}-{_sha8(source)}"
    manifest = folder / "manifest.csv"
    if not manifest.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=cache))
        try:
            _write(source, info, part)
            if not manifest.is_file():  # another run may have been faster
                part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return manifest


def findings(name: str) -> tuple[str, ...]:
    """The independent findings of a set; empty where each picture is of one class.

    Raises:
        InputError: unknown name.
    """
    info = _info(name)
    return tuple(info["label"].values()) if "multi-label" in info["task"] else ()


def _info(name: str) -> dict[str, Any]:
    spec = importlib.util.find_spec("medmnist")
    assert spec is not None and spec.submodule_search_locations
    # The package itself imports torch, seconds that nobody needs for a dictionary.
    file = Path(spec.submodule_search_locations[0]) / "info.py"
    info_spec = importlib.util.spec_from_file_location("_medmnist_info", file)
    assert info_spec is not None and info_spec.loader is not None
    module = importlib.util.module_from_spec(info_spec)
    info_spec.loader.exec_module(module)
    every: dict[str, dict[str, Any]] = module.INFO
    base, _, size = name.partition("_")
    flat = [key for key in every if "3d" not in key]
    if base not in flat or size not in _SIZES or name.endswith("_"):
        raise InputError(
            "no MedMNIST set of 2-D pictures has this name",
            value=name,
            where="pool.uri",
            fix=f"choose one of {', '.join(flat)}",
        )
    return every[base]


def _find(name: str, cache: Path) -> Path:
    file = f"{name}.npz"
    data, own = os.environ.get("CXR_SSL_DATA"), os.environ.get("CXR_SSL_MEDMNIST")
    places = [Path(own) / file, Path(own)] if own else []
    places += [Path(data) / name / file] if data else []
    places += [cache / file, Path.home() / ".medmnist" / file]
    for place in places:
        if place.is_file() and place.name == file:
            return place
    raise InputError(
        f"{file} is not on this machine, and nothing is downloaded silently",
        where=f"medmnist:{name}",
        fix=f"download it from MedMNIST's page to {cache / file}, or name its folder in CXR_SSL_MEDMNIST",
    )


def _sha8(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:8]


def _write(source: Path, info: dict[str, Any], folder: Path) -> None:
    rows = io.StringIO()
    table = csv.writer(rows, lineterminator="\n")
    names = info["label"]
    several = "multi-label" in info["task"]
    table.writerow(("image_path", *(names.values() if several else ("label",)), "official_split"))
    try:
        with np.load(source, allow_pickle=False) as arrays:
            for split in _SPLITS:
                images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
                labels_NC = labels.reshape(len(images), len(names) if several else 1)
                published = info["n_samples"][split]
                if len(images) != published:
                    _log.warning("%s: %d %s pictures, %d were published", source, len(images), split, published)
                (folder / split).mkdir()
                for i, (image, label_C) in enumerate(zip(images, labels_NC.tolist(), strict=True)):
                    path = f"{split}/{i:06d}.png"
                    Image.fromarray(image).save(folder / path, compress_level=1)
                    table.writerow((path, *(label_C if several else (names[str(int(label_C[0]))],)), split))
    except (KeyError, ValueError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(
            f"not a MedMNIST file: {error}", where=source, fix="download it again from MedMNIST's page"
        ) from error
    write_text(folder / "manifest.csv", rows.getvalue())
