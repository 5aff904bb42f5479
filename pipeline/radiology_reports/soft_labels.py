"""What a round takes from reports: learned errors, soft labels to train on, and scans to check next."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.contracts.config import Config
from pipeline.radiology_reports import learned_errors, report_labels
from pipeline.radiology_reports.learned_errors import TOO_FEW, LearnedError
from pipeline.radiology_reports.proposals import Kind, one_class_a_scan, proposals
from pipeline.runtime import run_files

# C classes


@dataclass(frozen=True)
class FromReports:
    """What reports tell a question of a run, as far as experts have checked them.

    Attributes:
        learned: The learned error of each kind of proposal.
        used: Scan to the class that reports which are used propose for it, and how often they are right.
        to_check: Scans whose proposals are neither used nor refused yet.
    """

    learned: tuple[LearnedError, ...] = ()
    used: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    to_check: frozenset[str] = frozenset()

    def targets(self, image_ids: Sequence[str], num_classes: int, weight: float) -> tuple[np.ndarray, np.ndarray]:
        """Class probabilities (N, C) and weights (N,) of some scans; 0 and 0 where reports tell nothing.

        The class proposed has its learned precision; the others share the rest.
        """
        target_NC = np.zeros((len(image_ids), num_classes))
        weight_N = np.zeros(len(image_ids))
        for row, image_id in enumerate(image_ids):
            if image_id in self.used:
                proposed, precision = self.used[image_id]
                target_NC[row] = (1.0 - precision) / (num_classes - 1)
                target_NC[row, proposed] = precision
                weight_N[row] = weight
        return target_NC, weight_N


def from_reports(
    folder: Path,
    config: Config,
    classes: Sequence[str],
    checks: Iterable[str],
    answers: Mapping[str, str | None],
) -> FromReports:
    """Learn how far the reports of a run may be trusted in a question.

    Args:
        folder: The run, or its part for one finding.
        config: Options; `pool.finding` is the finding asked about.
        classes: C classes of the question.
        checks: Scans drawn by chance, in the order they were drawn.
        answers: The experts' class by scan; None: they could not tell.
    """
    finding = config.pool.finding
    of_source = report_labels.kept(folder, classes if finding is None else (finding,))
    of_kind = proposals(of_source, classes, finding)
    learned = learned_errors.learn(of_kind, checks, answers, classes, config.reports)
    good = sorted((error for error in learned if error.is_used), key=lambda error: (-error.bound, error.kind))
    precision = {error.kind: error.precision or 0.0 for error in good}
    chosen = one_class_a_scan(of_kind, [error.kind for error in good])
    used = {image_id: (kind.class_index, precision[kind]) for image_id, kind in chosen.items()}
    open_kinds: Collection[Kind] = {error.kind for error in learned if error.verdict == TOO_FEW}
    to_check = frozenset(image_id for kind in open_kinds for image_id in of_kind[kind])
    return FromReports(tuple(learned), used, to_check)


def fingerprint(folder: Path, config: Config) -> str | None:
    """What decides what a round takes from reports, besides its answers; None without reports."""
    place = run_files.path(folder, run_files.REPORT_LABELS)
    if not place.exists():
        return None
    return hashlib.sha256(place.read_bytes() + config.reports.model_dump_json().encode()).hexdigest()
