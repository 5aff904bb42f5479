"""Scans of known class with a model's answer.

Legend: S scored scans, C findings.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


@dataclass(frozen=True)
class Scored:
    """Scans of known class with a model's answer.

    Attributes:
        ids_S: image_id of each.
        group_S: Patient group.
        positive: Index of the class that is the finding; None where no single one is.
        class_S: Index of the true class.
        prob_SC: Calibrated probabilities.
        predicted_S: Class at the operating point.
    """

    findings: tuple[str, ...]
    positive: int | None
    ids_S: list[str]
    group_S: list[str]
    class_S: NDArray[np.int64]
    prob_SC: NDArray[np.float64]
    predicted_S: NDArray[np.int64]

    @property
    def name_of_positive(self) -> str | None:
        """The class that is the finding."""
        return None if self.positive is None else self.findings[self.positive]


def probabilities(
    table: pa.Table, ids_S: Sequence[str], findings: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """What a table of predictions says of scans: probabilities (S, C), rows sum to 1, and classes (S,)."""
    rows = table.take(pc.index_in(pa.array(ids_S, pa.string()), value_set=table["image_id"].combine_chunks()))
    prob_SC = np.stack([np.asarray(rows[f"prob_{f}"], dtype=np.float64) for f in findings], axis=1)
    index = pc.index_in(rows["predicted"], value_set=pa.array(findings, pa.string()))
    return prob_SC / prob_SC.sum(axis=1, keepdims=True), np.asarray(index).astype(np.int64)
