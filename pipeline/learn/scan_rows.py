"""Scans in a fixed order, by id: what the first axis of an array means."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# N scans here, M scans asked for


@dataclass(frozen=True, eq=False)
class ScanRows:
    """Scans in a fixed order.

    A position means nothing without the order it counts in. So functions hand each other these, or arrays that lie
    along one of them; a position stays with the object that looked it up.

    Attributes:
        image_id: A `pyarrow.StringArray`, 20 bytes a scan; no id occurs twice.
    """

    image_id: pa.StringArray

    @classmethod
    def of(cls, image_ids: Iterable[str] | pa.Array | pa.ChunkedArray) -> "ScanRows":
        """Scans in the order given."""
        if isinstance(image_ids, pa.ChunkedArray):
            return cls(image_ids.combine_chunks())
        return cls(image_ids if isinstance(image_ids, pa.Array) else pa.array(list(image_ids), pa.string()))

    def __len__(self) -> int:
        return len(self.image_id)

    def positions(self, asked: "ScanRows") -> np.ndarray:
        """Position here of each scan asked for, (M,), int64, in their order.

        Raises:
            KeyError: naming how many of them are not here, and the first.
        """
        position_M = pc.index_in(asked.image_id, value_set=self.image_id)
        if position_M.null_count:
            absent = asked.image_id.filter(pc.is_null(position_M))
            raise KeyError(f"{len(absent)} of {len(asked)} scans are not among these {len(self)}, first: {absent[0]}")
        return np.asarray(position_M.to_numpy(), np.int64)

    def among(self, others: "ScanRows") -> np.ndarray:
        """Which of the scans here are also in `others`: a mask (N,)."""
        return np.asarray(pc.is_in(self.image_id, value_set=others.image_id).to_numpy(zero_copy_only=False), bool)

    def keep(self, mask_N: np.ndarray) -> "ScanRows":
        """Those a mask of these scans chooses, in the same order."""
        assert mask_N.dtype == bool and mask_N.shape == (len(self),), "a mask over these very scans"
        return ScanRows(self.image_id.filter(pa.array(mask_N)))
