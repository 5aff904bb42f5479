"""Write a phantom pool to a folder: images, a marker that says whose they are, the manifest."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from pipeline.contracts import finding_line
from pipeline.pool.phantoms.film import render
from pipeline.pool.phantoms.plan import plan

if TYPE_CHECKING:
    from pipeline.pool.phantoms.scan import PhantomScan
    from pipeline.pool.phantoms.spec import PhantomSpec

logger = logging.getLogger(__name__)

MANIFEST_NAME = "manifest.csv"
MARKER_NAME = "phantom-pool.json"
RENDER_VERSION = 1  # raise it whenever pixels or plans change, so that old pools are not mixed
COLUMNS = ("image_path", "label", "patient_id", "source", "age", "sex", "view")
SPLIT_COLUMN = "official_split"
JPEG_QUALITY = 92
KEPT_OF_TRUNCATED = 0.4


def write_pool(spec: PhantomSpec, folder: Path, num_threads: int = 2) -> Path:
    """Write a pool, or finish one that an earlier run of the same spec began.

    Args:
        spec: what to write.
        folder: an empty or missing folder, or one with a pool of the same spec.
        num_threads: threads that render and encode, 1 or more; no effect on the bytes.

    Returns:
        The path of the manifest. It is written last, so a pool that has one is complete.

    Raises:
        ValueError: the folder holds something else, or `num_threads` is below 1.
    """
    if num_threads < 1:
        raise ValueError(f"num_threads is {num_threads}; write 1 or more")
    _claim(spec, folder)
    scans = plan(spec)
    (folder / "images").mkdir(exist_ok=True)
    missing = [scan for scan in scans if not (folder / scan.image_path).is_file()]
    logger.info("phantom pool %s: %d scans, %d to render", folder, len(scans), len(missing))
    with ThreadPoolExecutor(max_workers=num_threads) as threads:
        writes = [threads.submit(_write_scan, folder / scan.image_path, scan, spec) for scan in missing]
        for write in writes:
            write.result()
    manifest = folder / MANIFEST_NAME
    text = manifest_text(scans, spec).encode()
    if not manifest.is_file() or manifest.read_bytes() != text:
        _write_bytes(manifest, text)
    return manifest


def manifest_text(scans: list[PhantomScan], spec: PhantomSpec) -> str:
    """Return the manifest as CSV text; blank cells are missing metadata."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    path, label, *others = COLUMNS
    header = [path, *(spec.independent or (label,)), *others]
    table.writerow([*header, SPLIT_COLUMN] if spec.has_split else header)
    for scan in scans:
        age = "" if scan.age_years is None else scan.age_years
        row = [scan.image_path, *_manifest_row(scan, spec), scan.patient_id, scan.source, age, scan.sex, scan.view]
        table.writerow([*row, scan.official_split] if spec.has_split else row)
    return text.getvalue()


def _manifest_row(scan: PhantomScan, spec: PhantomSpec) -> list[str]:
    if not spec.independent:
        return [scan.label]
    values = finding_line.read(scan.label)
    return ["" if math.isnan(values[finding]) else f"{values[finding]:.0f}" for finding in spec.independent]


def encode(scan: PhantomScan, spec: PhantomSpec) -> bytes:
    """Return the bytes of a scan's file, broken if the plan says so."""
    if scan.damage == "empty-file":
        return b""
    if scan.damage == "text-as-png":
        return b"The archive could not export this image.\n"
    image = Image.fromarray(render(scan, spec))
    data = io.BytesIO()
    if scan.image_path.endswith(".jpg"):
        quality = scan.edit.jpeg_quality if scan.edit is not None else None
        image.save(data, format="JPEG", quality=quality or JPEG_QUALITY)
    else:
        image.save(data, format="PNG", compress_level=3)
    whole = data.getvalue()
    if scan.damage == "truncated-jpeg":
        return whole[: int(len(whole) * KEPT_OF_TRUNCATED)]
    return whole


def _claim(spec: PhantomSpec, folder: Path) -> None:
    """Mark the folder as this spec's pool, or refuse it."""
    marker = folder / MARKER_NAME
    text = json.dumps({"render_version": RENDER_VERSION, "spec": json.loads(spec.to_json())}, indent=1)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; name a folder for the phantom pool")
    folder.mkdir(parents=True, exist_ok=True)
    if marker.is_file():
        if marker.read_text(encoding="utf-8") != text:
            raise ValueError(
                f"{folder} holds a phantom pool of another spec or version ({MARKER_NAME}); "
                "name an empty folder or remove that pool"
            )
        return
    # A marker's own temporary file may be left over from a run that was cut off.
    others = sorted(entry.name for entry in folder.iterdir() if not entry.name.endswith(".part"))
    if others:
        raise ValueError(
            f"{folder} is not empty and not a phantom pool (it holds {others[0]!r} and "
            f"{len(others) - 1} more); name an empty folder"
        )
    _write_bytes(marker, text.encode())


def _write_scan(path: Path, scan: PhantomScan, spec: PhantomSpec) -> None:
    _write_bytes(path, encode(scan, spec))


def _write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with part.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
