"""Scans with text burnt in: pictures that are written upon, and runs whose manifest says so of some scans."""

from pathlib import Path

import pyarrow as pa
from PIL import Image, ImageDraw, ImageFont

from pipeline.contracts.tables import MANIFEST, write_parquet
from pipeline.pool.burned_in.note import SEEN


def written_on(picture: Image.Image, text: str, size_px: int, grey: int, place=(6, 6)) -> Image.Image:
    """A copy of a grey picture with a line of text."""
    copy = picture.copy()
    ImageDraw.Draw(copy).text(place, text, fill=grey, font=ImageFont.load_default(size_px))
    return copy


def say_written_on(folder: Path, ids) -> None:
    """Make the manifest of a run say that text seems to be burnt into these scans."""
    manifest = MANIFEST.read(folder)
    notes = [SEEN if image_id in set(ids) else None for image_id in manifest["image_id"].to_pylist()]
    place = manifest.column_names.index("note")
    write_parquet(folder / MANIFEST.file, manifest.set_column(place, "note", pa.array(notes, pa.string())))
