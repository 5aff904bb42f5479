"""Scans as annotators see them: whole, at their own size, without metadata; 8 bits a pixel, at our page 16."""

import io
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.tables import MANIFEST, write_bytes
from pipeline.runtime import run_files


def write_picture(path: Path, uri: str, max_pixels: int, *, full_depth: bool = False) -> None:
    """Write the scan at `uri` as a grey PNG, unless it is there; no metadata, no identity.

    Args:
        path: Where to.
        uri: See `embeddings.decoding.files`.
        max_pixels: A larger scan is not decoded.
        full_depth: 16 bits where the file has more than 8. Other programs than our page mostly show 8, and some
            show a picture of 16 bits white.

    Raises:
        DecodeError: when the scan cannot be read.
    """
    if path.exists():
        return
    from embeddings import decode

    grey = decode.open_scan(uri, max_pixels=max_pixels)
    stream = io.BytesIO()
    (grey.full_depth() if full_depth else grey.eight_bit()).save(stream, "PNG")
    write_bytes(path, stream.getvalue())


def deep_scans(folder: Path) -> frozenset[str]:
    """Ids of the scans whose files hold more than 8 bits a grey value."""
    manifest = run_files.read(folder, MANIFEST, ["image_id", "bit_depth"])
    deep = manifest.filter(pc.fill_null(pc.greater(manifest["bit_depth"], 8), False))
    return frozenset(deep["image_id"].to_pylist())


def spacing_of(folder: Path, image_ids: Collection[str]) -> dict[str, float]:
    """Millimetres between two pixels of each scan whose file says so."""
    manifest = run_files.read(folder, MANIFEST, ["image_id", "pixel_spacing_mm"])
    known = manifest.filter(pc.is_valid(manifest["pixel_spacing_mm"])).to_pydict()
    pairs = zip(known["image_id"], known["pixel_spacing_mm"], strict=True)
    return {image_id: float(mm) for image_id, mm in pairs if image_id in image_ids and mm > 0}


def uris_and_priors(folder: Path, asked: set[str]) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Where each asked scan and each other scan of its patient is read from, and those others for each."""
    manifest = run_files.read(folder, MANIFEST, ["image_id", "uri", "patient_id", "status"])
    manifest = manifest.filter(pc.equal(manifest["status"], "ok"))
    is_asked = pc.is_in(manifest["image_id"], value_set=pa.array(sorted(asked), pa.string()))
    patients = pc.drop_null(pc.unique(manifest.filter(is_asked)["patient_id"]))
    kin = manifest.filter(pc.or_(is_asked, pc.is_in(manifest["patient_id"], value_set=patients))).to_pylist()
    by_patient: dict[str, list[str]] = {}
    for row in kin:
        if row["patient_id"] is not None:
            by_patient.setdefault(row["patient_id"], []).append(row["image_id"])
    priors = {
        row["image_id"]: tuple(other for other in by_patient.get(row["patient_id"], ()) if other != row["image_id"])
        for row in kin
        if row["image_id"] in asked
    }
    return {row["image_id"]: row["uri"] for row in kin}, priors
