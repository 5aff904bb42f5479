"""Arrays of scans on disk, addressed by content and mapped into memory: pixels, or activations of an early stage.

A cache is a folder of parts, each a `.npy` with its list of scans, published whole. What is in it can be made again,
and is where it was cut off.
"""

import hashlib
import json
import math
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from pipeline.contracts.damaged_files import set_aside
from pipeline.contracts.tables import write_text

# N scans, V views

MOST_OPEN = 256  # each mapped part is an open file


class ScanCache:
    """The arrays of one kind.

    Args:
        root: Folder of all caches.
        kind: Everything that changes the arrays, as text.
    """

    def __init__(self, root: Path, kind: str) -> None:
        self.folder = root / hashlib.sha256(kind.encode()).hexdigest()[:16]
        self.kind = kind

    def known(self) -> set[str]:
        """SHA-256 of every scan that is there."""
        return {sha for _, content in self._parts() for sha in content}

    def lacking(
        self, scans: Sequence[tuple[str, str]], shard_size: int
    ) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        """Contents and uris of the (sha256, uri) pairs that are not there, cut into shards; the first uri wins."""
        known = self.known()
        uri = {sha: uri for sha, uri in reversed(scans) if sha not in known}
        content = sorted(uri)
        parts = [tuple(content[start : start + shard_size]) for start in range(0, len(content), shard_size)]
        return [(part, tuple(uri[sha] for sha in part)) for part in parts]

    def write(self, sha256: Sequence[str], array_NV: np.ndarray) -> None:
        """Publish one part, (N, V, …); named by what it holds, so that a repeated shard replaces itself."""
        assert len(sha256) == len(array_NV), "one array per scan"
        name = hashlib.sha256("".join(sha256).encode()).hexdigest()[:24]
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f".part-{name}-{uuid.uuid4().hex[:8]}.npy"  # two runs may compute the same shard
        try:
            with partial.open("wb") as stream:
                np.save(stream, array_NV)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(self.folder / f"part-{name}.npy")
        finally:
            partial.unlink(missing_ok=True)
        write_text(self.folder / f"part-{name}.json", json.dumps(list(sha256)))  # the index last: now it counts

    def rows(self, sha256: Sequence[str]) -> "Rows":
        """The arrays of these scans, in this order.

        Raises:
            KeyError: naming the number of scans that are not there.
        """
        place: dict[str, tuple[int, int]] = {}
        parts: list[Path] = []
        asked = set(sha256)
        for index, content in self._parts():
            row_of = {sha: row for row, sha in enumerate(content) if sha in asked}
            if row_of:
                place |= {sha: (len(parts), row) for sha, row in row_of.items()}
                parts.append(index.with_suffix(".npy"))
        missing = sum(sha not in place for sha in sha256)
        if missing:
            raise KeyError(f"{missing} of {len(sha256)} scans are not in the cache {self.folder}")
        return Rows(tuple(parts), np.array([place[sha] for sha in sha256], np.int64).reshape(-1, 2))

    def _parts(self) -> Iterator[tuple[Path, list[str]]]:
        """The index and the scans of every part that is whole; another is set aside, and its scans are lacking."""
        for index in sorted(self.folder.glob("part-*.json")):
            try:
                content = json.loads(index.read_text("utf-8"))
                _check_length(index.with_suffix(".npy"), len(content))
            except (ValueError, TypeError, FileNotFoundError) as error:
                set_aside(index, error)
                set_aside(index.with_suffix(".npy"), error)
                continue
            yield index, content


def _check_length(path: Path, num_scans: int) -> None:
    """Refuse a part that is cut off, or of another number of scans.

    Raises:
        ValueError: it is.
    """
    with path.open("rb") as stream:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(stream)
        num_bytes = stream.tell() + math.prod(shape) * dtype.itemsize
    if shape[:1] != (num_scans,) or path.stat().st_size != num_bytes:
        raise ValueError(f"{path.stat().st_size} bytes of shape {shape}, not {num_bytes} of {num_scans} scans")


@dataclass(frozen=True)
class Rows:
    """Scans of a cache by position.

    Attributes:
        parts: Files (n, V, …) of the parts that hold them.
        place_N2: Part and row of each scan.
    """

    parts: tuple[Path, ...]
    place_N2: np.ndarray

    def __len__(self) -> int:
        return len(self.place_N2)

    @property
    def num_views(self) -> int:
        """V."""
        return int(_mapped(self.parts[0]).shape[1])

    @property
    def are_pixels(self) -> bool:
        """Whether these are scans in 8 bits, of which views are still to be made."""
        return bool(_mapped(self.parts[0]).dtype == np.uint8)

    def chosen(self, position_B: np.ndarray) -> "Rows":
        """B of these scans, in the order of their positions here."""
        return Rows(self.parts, self.place_N2[position_B])

    def plain(self, position_B: np.ndarray) -> np.ndarray:
        """View 0 of each of B scans, (B, …), float32: the scan as it is."""
        return self.take(position_B, np.zeros(len(position_B), np.int64))

    def take(self, position_B: np.ndarray, view_B: np.ndarray) -> np.ndarray:
        """The chosen view of each of B scans, (B, …), float32; 8-bit values become [0, 1]."""
        place_B2 = self.place_N2[position_B]
        chosen = zip(place_B2, view_B, strict=True)
        out = np.stack([_mapped(self.parts[part])[row, view] for (part, row), view in chosen])
        return out.astype(np.float32) / 255.0 if out.dtype == np.uint8 else out.astype(np.float32)


@lru_cache(maxsize=MOST_OPEN)
def _mapped(path: Path) -> np.ndarray:
    """A part, mapped into memory; the least used ones are closed again."""
    array: np.ndarray = np.load(path, mmap_mode="r")
    return array
