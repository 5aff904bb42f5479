"""Which scans of a run have text burnt in, and so are not handed on unless `pool.allow_burned_in_text` says so.

What is written may be a name. Nobody reads it here: a word such as PORTABLE keeps a scan back as well.
"""

from collections.abc import Collection
from pathlib import Path

import pyarrow.compute as pc

from embeddings.decoding.unusable import DecodeError
from pipeline.contracts.options.scans import PoolConfig
from pipeline.contracts.tables import MANIFEST
from pipeline.pool.burned_in.note import reason_in
from pipeline.pool.burned_in.text_lines import has_text
from pipeline.pool.dicom import tags
from pipeline.runtime import run_files

FIX = "label them on the page (cxr-ssl annotate), or set pool.allow_burned_in_text where their text names nobody"


def kept_back(folder: Path, pool: PoolConfig, among: Collection[str] | None = None) -> frozenset[str]:
    """Ids of the scans that may not be handed on; none where `pool.allow_burned_in_text` is set.

    Args:
        folder: Of a run, or of one of its findings.
        pool: Its configuration.
        among: Only these; None: all of the manifest.
    """
    if pool.allow_burned_in_text:
        return frozenset()
    manifest = run_files.read(folder, MANIFEST, ["image_id", "note"])
    manifest = manifest.filter(pc.is_valid(manifest["note"]))
    ids = zip(manifest["image_id"].to_pylist(), manifest["note"].to_pylist(), strict=True)
    with_text = frozenset(image_id for image_id, note in ids if reason_in(note) is not None)
    return with_text if among is None else with_text.intersection(among)


def is_seen_in(uri: str, max_pixels: int) -> bool:
    """Whether text is in a scan that no manifest speaks of, as its tags tell or as is seen; False of an unreadable one.

    Args:
        uri: Where it is read from.
        max_pixels: A larger scan is not decoded.
    """
    from embeddings.decode import open_grey
    from embeddings.decoding import dicom_file
    from embeddings.decoding.files import read_bytes, white_of

    try:
        data = read_bytes(uri)
        if dicom_file.is_dicom(data) and tags.is_written_on(dicom_file.parse(data, with_pixels=False)):
            return True
        return has_text(open_grey(data, max_pixels=max_pixels, white=white_of(uri)).eight_bit())
    except (DecodeError, OSError):
        return False
