"""Embeddings addressed by content: (backbone, preprocessing, SHA-256 of the scan) -> vector.

A store is a folder of Parquet parts, each published whole; who shares the folder, or its URL, shares the work. A part
that cannot be read is set aside: its scans are then lacking, and embedded again.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.contracts.damaged_files import set_aside
from pipeline.contracts.shared_folder import SharedFolder
from pipeline.contracts.storage import patiently
from pipeline.contracts.tables import read_parquet, write_parquet, write_text

LAYOUT = "layout.json"
# N scans, D dimensions


class EmbeddingStore:
    """The vectors of one backbone under one preprocessing.

    Args:
        root: Folder of all stores, or its URL.
        backbone_key: Of the backbone: its weights, normalisation and pooling.
        preprocessing: Everything that changes the pixels a network sees, as text.
    """

    def __init__(self, root: Path | str | SharedFolder, backbone_key: str, preprocessing: str) -> None:
        digest = hashlib.sha256(preprocessing.encode()).hexdigest()[:8]
        self.root = root if isinstance(root, SharedFolder) else SharedFolder(root)
        self._name = f"{backbone_key}-{digest}"

    @property
    def folder(self) -> Path:
        """Where its parts lie on this machine."""
        return self.root.here / self._name

    def known(self) -> set[str]:
        """SHA-256 of every scan that has a vector."""
        self.root.receive(self._name, _is_ours)
        self._check_layout()
        return {sha for table in self._tables(["sha256"]) for sha in table["sha256"].to_pylist()}

    def write(self, sha256: Sequence[str], emb_ND: np.ndarray) -> Path:
        """Publish one part; float16, named by what it holds, so that a repeated shard replaces itself."""
        assert len(sha256) == len(emb_ND), "one vector per scan"
        name = hashlib.sha256("".join(sha256).encode()).hexdigest()[:24]
        flat = pa.array(np.ascontiguousarray(emb_ND, dtype=np.float16).ravel())
        vectors = pa.FixedSizeListArray.from_arrays(flat, emb_ND.shape[1])
        path = self.folder / f"part-{name}.parquet"
        write_parquet(path, pa.table({"sha256": pa.array(list(sha256), pa.string()), "emb": vectors}))
        self.root.give(path)
        return path

    def write_layout(self, own_dim: int) -> None:
        """Note of how many numbers, the first ones, the network's own embedding is."""
        path = self.folder / LAYOUT
        if not path.exists():
            write_text(path, json.dumps({"own_dim": own_dim}))
            self.root.give(path)

    def own_dim(self, dim: int) -> int:
        """How many of a vector's `dim` numbers, the first ones, are the network's own embedding."""
        path = self.folder / LAYOUT
        return int(json.loads(path.read_text("utf-8"))["own_dim"]) if path.exists() else dim

    def gather(self, sha256: Sequence[str], path: Path) -> np.ndarray:
        """Write the vectors of `sha256`, in that order, to `path` (.npy, float16, (N, D)); memory-mapped, read-only.

        Only one part is in memory at a time.

        Raises:
            KeyError: naming the scans without a vector, which may be those of a part that was set aside on the way.
        """
        self.root.receive(self._name, _is_ours)
        rows: dict[str, list[int]] = {}
        for row, sha in enumerate(sha256):
            rows.setdefault(sha, []).append(row)
        out: Any = None
        unfinished = path.with_suffix(".npy.part")
        for table in self._tables(["sha256", "emb"]):
            vectors = table["emb"].combine_chunks()
            emb_ND = vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1)
            if out is None:
                out = np.lib.format.open_memmap(unfinished, "w+", np.float16, (len(sha256), emb_ND.shape[1]))
            for i, sha in enumerate(table["sha256"].to_pylist()):
                for row in rows.pop(sha, ()):
                    out[row] = emb_ND[i]
        if rows or out is None:
            raise KeyError(f"{len(rows)} scans have no embedding, first {next(iter(rows), None)}")
        out.flush()
        del out
        unfinished.replace(path)
        shard_ND: np.ndarray = np.load(path, mmap_mode="r")
        return shard_ND

    def _tables(self, columns: list[str]) -> Iterator[pa.Table]:
        """Every part that can be read whole."""
        for part in sorted(self.folder.glob("part-*.parquet")):
            try:
                table = patiently(partial(read_parquet, part, columns), part)
            except FileNotFoundError:
                continue  # another run has set it aside
            except (OSError, pa.ArrowException) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # the disk or its permissions: the part may be whole
                set_aside(part, error)
                continue
            yield table

    def _check_layout(self) -> None:
        """Vectors whose layout is not known any more are of no use."""
        try:
            self.own_dim(0)
        except (ValueError, KeyError, TypeError) as error:
            for part in self.folder.glob("part-*.parquet"):
                set_aside(part, f"{LAYOUT} beside it cannot be read")
            set_aside(self.folder / LAYOUT, error)


def _is_ours(name: str) -> bool:
    return name == LAYOUT or (name.startswith("part-") and name.endswith(".parquet"))
