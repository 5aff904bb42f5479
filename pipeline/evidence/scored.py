"""Scans of known class with a model's answer.

Legend: S scored scans, C findings.
"""

from dataclasses import dataclass

import numpy as np
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
