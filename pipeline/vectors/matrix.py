"""The embeddings of a run: one memory-mapped matrix and the ids of its rows."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts import kept_tables
from pipeline.contracts.tables import read_parquet, write_parquet
from pipeline.runtime import run_files
from pipeline.vectors.row_blocks import row_blocks

# N scans, D dimensions


@dataclass(frozen=True)
class Vectors:
    """Embeddings by image id; positions stay inside this class and what is built on it.

    Attributes:
        ids: image_id of each row.
        emb_ND: float16, memory-mapped, read-only.
        own_dim: Of the backbone's own embedding of the scan, which comes first in a row; pooled stages follow.
    """

    ids: pa.ChunkedArray
    emb_ND: np.ndarray
    own_dim: int

    @classmethod
    def open(cls, folder: Path) -> "Vectors":
        """Map the matrix of a run."""
        place = run_files.path(folder, run_files.EMBEDDED)
        ids = kept_tables.read(place, lambda: read_parquet(place))["image_id"]
        emb_ND = np.load(run_files.path(folder, run_files.EMBEDDINGS), mmap_mode="r")
        path = run_files.path(folder, run_files.BACKBONE)
        card = json.loads(path.read_text("utf-8")) if path.exists() else {}
        return cls(ids, emb_ND, card.get("own_dim", emb_ND.shape[1]))

    @property
    def own_ND(self) -> np.ndarray:
        """The backbone's own embedding of each scan."""
        return self.emb_ND[:, : self.own_dim]

    def positions(self, image_ids: pa.Array | pa.ChunkedArray | list[str]) -> np.ndarray:
        """Row of each id, int64; ids without a vector are left out, in the order given."""
        wanted = image_ids if isinstance(image_ids, pa.Array | pa.ChunkedArray) else pa.array(image_ids, pa.string())
        index = pc.index_in(wanted, value_set=self.ids.combine_chunks())
        return np.asarray(index.drop_null().to_numpy(), dtype=np.int64)

    def has(self, image_ids: pa.Array | pa.ChunkedArray) -> pa.Array:
        """Whether each id has a vector."""
        return pc.is_in(image_ids, value_set=self.ids.combine_chunks())


def save_ids(folder: Path, image_ids: pa.Array | pa.ChunkedArray) -> None:
    """Name the rows of the matrix."""
    write_parquet(folder / run_files.EMBEDDED, pa.table({"image_id": image_ids}))


def unit_rows(emb_ND: np.ndarray, mean_D: np.ndarray | None = None, rows_M: np.ndarray | None = None) -> np.ndarray:
    """Rows of norm 1 as float32, block by block.

    Args:
        emb_ND: Vectors; may be memory-mapped.
        mean_D: Taken off each row first; None: nothing is.
        rows_M: The rows wanted, in the order wanted; None: all.
    """
    return units_and_lengths(emb_ND, mean_D, rows_M)[0]


def units_and_lengths(
    emb_ND: np.ndarray, mean_D: np.ndarray | None = None, rows_M: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The rows of `unit_rows`, and the length that each had before, float32, 0 or more; arguments as there."""
    num = len(emb_ND) if rows_M is None else len(rows_M)
    unit, length = np.empty((num, emb_ND.shape[1]), np.float32), np.empty(num, np.float32)
    for rows in row_blocks(num):
        block = np.asarray(emb_ND[rows if rows_M is None else rows_M[rows]], dtype=np.float32)
        if mean_D is not None:
            block = block - mean_D
        length[rows] = np.linalg.norm(block, axis=1)
        unit[rows] = block / np.maximum(length[rows, None], 1e-12)
    return unit, length


@dataclass(frozen=True)
class UnitRows:
    """Rows of norm 1 of a memory-mapped matrix, worked out as they are read: no copy of the whole is held.

    Attributes:
        emb_ND: Vectors; may be memory-mapped.
    """

    emb_ND: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """N and D."""
        return self.emb_ND.shape[0], self.emb_ND.shape[1]

    def __len__(self) -> int:
        return len(self.emb_ND)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """The rows of a slice or of positions, float32, as `unit_rows` makes them."""
        if isinstance(rows, slice):
            return unit_rows(self.emb_ND[rows])
        return unit_rows(self.emb_ND, rows_M=rows)
