"""Every text in a file that a run may write, with its place: tables, pages, pictures, models, archives."""

import base64
import binascii
import html
import io
import json
import re
import struct
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import ExifTags, Image

Texts = Iterator[tuple[str, str]]  # place, text
_DATA_URI = re.compile(r"data:image/[\w.+-]+;base64,([A-Za-z0-9+/=]+)")
_PRINTABLE = re.compile(rb"[\x20-\x7e]{6,}")
_MAX_DEPTH = 3  # archives in archives


def texts_of(name: str, data: bytes, depth: int = 0) -> Texts:
    """The texts of a file.

    Args:
        name: Its name; the content decides where the two disagree.
        data: Its bytes.
        depth: Of archives around it.
    """
    if data[:4] == b"PAR1":
        yield from _parquet(data)
    elif data[:4] == b"PK\x03\x04" and depth < _MAX_DEPTH:
        yield from _archive(data, depth)
    elif data[:6] == b"\x93NUMPY":
        yield from _array(data)
    elif name.endswith(".safetensors"):
        yield from _safetensors(data)
    elif name.endswith(".onnx"):
        yield from _onnx(data)
    elif data[:4] in (b"\x89PNG", b"GIF8", b"II*\0", b"MM\0*") or data[:2] == b"\xff\xd8":
        yield from _picture(data)
    else:
        yield from _plain(name, data)


def _parquet(data: bytes) -> Texts:
    table = pq.read_table(pa.BufferReader(data))
    for key, value in (table.schema.metadata or {}).items():
        if key != b"ARROW:schema":
            yield "metadata", f"{key.decode(errors='replace')} {value.decode(errors='replace')}"
    for name in table.column_names:
        yield "name of a column", name
        if not pa.types.is_floating(table[name].type) and not pa.types.is_boolean(table[name].type):
            yield from ((f"column {name}", str(value)) for value in table[name].drop_null().to_pylist())


def _archive(data: bytes, depth: int) -> Texts:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in archive.namelist():
            yield "name in the archive", member
            for place, text in texts_of(member, archive.read(member), depth + 1):
                yield f"{member}, {place}", text


def _array(data: bytes) -> Texts:
    array = np.load(io.BytesIO(data), allow_pickle=False)
    if array.dtype.kind in "US":
        yield from (("array", str(value)) for value in array.ravel())


def _safetensors(data: bytes) -> Texts:
    (size,) = struct.unpack("<Q", data[:8])
    header: dict[str, Any] = json.loads(data[8 : 8 + size])
    yield from (("metadata", f"{key} {value}") for key, value in header.pop("__metadata__", {}).items())
    yield from (("name of a tensor", name) for name in header)


def _onnx(data: bytes) -> Texts:
    import onnx

    model = onnx.load_model_from_string(data)
    for entry in model.metadata_props:
        yield "metadata", f"{entry.key} {entry.value}"
    graph = model.graph
    for text in (model.producer_name, model.doc_string, graph.name, graph.doc_string, model.domain):
        yield "description", text
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        yield "name in the graph", f"{part.name} {part.doc_string}"


def _picture(data: bytes) -> Texts:
    with Image.open(io.BytesIO(data)) as image:
        yield from picture_texts(image)


def picture_texts(image: Image.Image) -> Texts:
    """Text chunks, comments and EXIF of a picture."""
    image.load()  # chunks behind the pixels count too
    for key, value in image.info.items():
        if isinstance(value, str | bytes) and key not in ("exif", "icc_profile"):
            yield f"text {key}", value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    exif = image.getexif()
    for tags in (exif, exif.get_ifd(ExifTags.IFD.Exif), exif.get_ifd(ExifTags.IFD.GPSInfo)):
        for tag, value in tags.items():
            if isinstance(value, bytes):
                value = value.replace(b"\0", b"").decode("utf-8", "replace")
            if isinstance(value, str):
                yield f"EXIF {ExifTags.TAGS.get(tag, tag)}", value


def _plain(name: str, data: bytes) -> Texts:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        yield from (("bytes", run.decode("ascii")) for run in _PRINTABLE.findall(data))
        return
    if name.endswith((".json", ".jsonl")):
        try:
            for number, line in enumerate(text.splitlines() if name.endswith("l") else [text], start=1):
                yield from _json(json.loads(line), f"line {number}" if name.endswith("l") else "")
            return
        except ValueError:
            pass  # as any other text
    for number, line in enumerate(_DATA_URI.sub(" ", text).splitlines(), start=1):
        yield f"line {number}", html.unescape(line) if name.endswith((".html", ".svg")) else line
    for number, encoded in enumerate(_DATA_URI.findall(text), start=1):
        try:
            yield from ((f"picture {number}, {place}", inner) for place, inner in _picture(base64.b64decode(encoded)))
        except (binascii.Error, OSError, ValueError):
            yield f"picture {number}", "it cannot be read"


def _json(value: Any, place: str) -> Texts:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield place or "key", str(key)
            yield from _json(inner, f"{place} {key}".strip() if len(place) < 60 else place)
    elif isinstance(value, list):
        for inner in value:
            yield from _json(inner, place)
    elif isinstance(value, str | int) and not isinstance(value, bool):
        yield place, str(value)
