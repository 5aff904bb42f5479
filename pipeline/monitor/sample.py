"""Scans as streams see them: arrays of a table of `observation`, whole patients drawn where there are very many.

Legend: N scans, Q leading features, X pixels of a thumbnail.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts import finding_line
from pipeline.monitor import observation
from pipeline.predict import columns


@dataclass(frozen=True)
class Sample:
    """N scans that are compared.

    Attributes:
        table: Rows of `observation.schema` that could be used.
        group_N: Patient as a number from 0.
        cluster_N: Slice, as a number from 0; empty where there are none.
    """

    table: pa.Table
    group_N: np.ndarray
    cluster_N: np.ndarray

    def __len__(self) -> int:
        return len(self.table)

    @property
    def num_groups(self) -> int:
        """Patients."""
        return len(np.unique(self.group_N))

    def numbers(self, column: str) -> np.ndarray:
        """A column as float64 (N,); NaN where unknown."""
        return np.asarray(pc.fill_null(self.table[column].cast(pa.float64()), np.nan).to_numpy())

    def words(self, column: str) -> list[str | None]:
        """A column of text; None where unknown."""
        return [None if word in (None, "", "unknown") else str(word) for word in self.table[column].to_pylist()]

    def matrix(self, column: str) -> np.ndarray:
        """A column of lists as (N, Q) or (N, X), float32."""
        flat = np.asarray(pc.list_flatten(self.table[column]), np.float32)
        return flat.reshape(len(self), -1) if len(self) else np.empty((0, 0), np.float32)

    def probabilities(self, finding: str) -> np.ndarray:
        """Calibrated probability of a finding or class (N,)."""
        return self.numbers(columns.names_of(finding)[0])

    def take(self, rows: np.ndarray) -> "Sample":
        """Some of the scans."""
        cluster_N = self.cluster_N[rows] if len(self.cluster_N) else self.cluster_N
        return Sample(self.table.take(pa.array(rows, pa.int64())), self.group_N[rows], cluster_N)

    def drawn(self, max_scans: int, rng: np.random.Generator) -> "Sample":
        """Whole patients by chance, until there would be more scans than wanted; all where they are few enough."""
        if len(self) <= max_scans:
            return self
        group, place_N = np.unique(self.group_N, return_inverse=True)
        order = rng.permutation(len(group))
        kept = order[np.cumsum(np.bincount(place_N)[order]) <= max_scans]
        return self.take(np.flatnonzero(np.isin(place_N, kept)))


def of_table(table: pa.Table, patients: Sequence[str | None], centre_KQ: np.ndarray) -> Sample:
    """The usable rows of a table.

    Args:
        table: Rows of `observation.schema`.
        patients: Of each row; None: unknown, a patient of its own.
        centre_KQ: Centres of the run's slices; a scan is of the nearest. No rows: no slices.
    """
    usable_N = np.asarray(pc.equal(table["status"], columns.OK)) & np.asarray(pc.is_valid(table["features"]))
    rows = [int(row) for row in np.flatnonzero(usable_N)]
    names = [patients[row] if patients[row] is not None else f"\0{row}" for row in rows]
    group_N = np.unique(np.array(names, object).astype(str), return_inverse=True)[1] if names else np.empty(0, int)
    sample = Sample(table.take(pa.array(rows, pa.int64())), group_N, np.empty(0, int))
    if not len(centre_KQ) or not len(rows):
        return sample
    x_NQ = sample.matrix("features").astype(np.float64)
    square_NK = np.square(centre_KQ).sum(1) - 2 * x_NQ @ centre_KQ.T
    return Sample(sample.table, group_N, square_NK.argmin(1))


def confidences(sample: Sample, findings: Sequence[str], independent: bool) -> dict[str, np.ndarray]:
    """Probability of the answer that was given, by question (N,); the one question of exclusive classes is `answer`."""
    answers = sample.table["answer"].to_pylist()
    if not independent:
        prob_NC = np.column_stack([sample.probabilities(finding) for finding in findings])
        place_N = np.array([findings.index(answer) for answer in answers])
        return {"answer": prob_NC[np.arange(len(place_N)), place_N] if len(place_N) else np.empty(0)}
    lines = [finding_line.read(answer) for answer in answers]
    out = {}
    for finding in findings:
        prob_N = sample.probabilities(finding)
        if np.isfinite(prob_N).any():
            present_N = np.array([line[finding] == 1.0 for line in lines])
            out[finding] = np.where(present_N, prob_N, 1 - prob_N)
    return out


def metadata() -> tuple[str, ...]:
    """The columns that are neither the model's nor the picture's."""
    return (*observation.CATEGORIES, *observation.NUMBERS)
