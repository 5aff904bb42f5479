"""Whether a frozen release is still what was frozen: its hash, and its scans in the pool."""

import hashlib
import json
from pathlib import Path

import pyarrow as pa

from pipeline.contracts.object_store import local_path
from pipeline.contracts.tables import MANIFEST, RELEASE
from pipeline.learn.releases.frozen_release import Release
from pipeline.runtime import run_files


def release_hash(table: pa.Table) -> str:
    """SHA-256 over the rows in the order of the checks: scan, content, proposal, probability, tier."""
    digest = hashlib.sha256()
    for row in table.sort_by("position").select(RELEASE.schema.names).to_pylist():
        digest.update((json.dumps(list(row.values())) + "\n").encode())
    return digest.hexdigest()


def scans_changed(folder: Path, release: Release) -> list[str]:
    """Scans of a release that the pool no longer holds as they were frozen; their files are read again."""
    manifest = run_files.read(folder, MANIFEST, ["image_id", "sha256", "uri"])
    rows = zip(*(manifest[name].to_pylist() for name in ("image_id", "sha256", "uri")), strict=True)
    known = {image_id: (sha256, uri) for image_id, sha256, uri in rows}
    frozen = zip(release.table["image_id"].to_pylist(), release.table["sha256"].to_pylist(), strict=True)
    changed = []
    for image_id, sha256 in frozen:
        now, uri = known.get(image_id, (None, ""))
        file = local_path(uri) if uri else None
        if image_id not in known or now != sha256 or (file is not None and not _is_as_read(file, sha256)):
            changed.append(image_id)
    return changed


def _is_as_read(file: Path, sha256: str | None) -> bool:
    """Whether a local file has the content the manifest knows; what is no local file is not read again."""
    if not file.is_absolute():
        return True
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == sha256
