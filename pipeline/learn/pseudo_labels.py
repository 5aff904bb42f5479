"""Pseudo-labels: an estimate admits them to training, a certificate lets them out to others.

Two numbers, never mixed up:
- the ESTIMATE comes from patient-grouped out-of-fold scores of the expert labels. It is cheap, it may use labels an
  algorithm chose, and it is good enough to train on;
- the CERTIFICATE comes from blind expert checks. What others may use is frozen and checked by itself, see `release`;
  the certificates here add up the uniform slice and re-checks over the rounds, and steer the gate `certified` alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.options.learning import PseudoConfig
from pipeline.contracts.tables import BLIND_CHECKS, PSEUDO, QUEUE
from pipeline.learn.scan_rows import ScanRows
from pipeline.measures.certify import Certificate, certify
from pipeline.runtime import run_files
from pipeline.runtime.growth import record

# N scans, C findings


@dataclass(frozen=True)
class Decisions:
    """The proposed class of each of N scans, and whether it becomes a pseudo-label.

    Attributes:
        class_N: Index of the most probable class, int64.
        prob_N: Calibrated probability of it, at the pool's prevalence.
        accepted_N: Whether it is at or above the class's threshold, and neither contradicted nor cut off by a cap.
        admitted_N: Whether it was accepted and the gate lets its class into training.
        decision_N: `accept`; `queue`: unsure enough to ask an expert; or `leave`.
        left_out: Scans above the threshold that are not accepted, by reason: `second_opinion`, `max_share`,
            `cap_per_class`, `cap_per_cluster`.
    """

    class_N: np.ndarray
    prob_N: np.ndarray
    accepted_N: np.ndarray
    admitted_N: np.ndarray
    decision_N: np.ndarray
    left_out: dict[str, int]


@dataclass(frozen=True)
class Screening:
    """What is known of N scans that may get a pseudo-label.

    Attributes:
        cluster_N: Cluster of each; None: it does not matter.
        opinion_N: Class by the second opinion, negative where nobody can be asked; None: it does not matter.
    """

    cluster_N: np.ndarray | None = None
    opinion_N: np.ndarray | None = None

    def keep(self, mask_N: np.ndarray) -> "Screening":
        """The same of the scans where the mask is True."""
        parts = (self.cluster_N, self.opinion_N)
        return Screening(*(None if along_N is None else along_N[mask_N] for along_N in parts))


def decide(
    prob_NC: np.ndarray,
    threshold_C: np.ndarray,
    config: PseudoConfig,
    admitted_classes: Sequence[bool],
    prevalence_C: np.ndarray,
    screening: Screening,
) -> Decisions:
    """Accept what passes the estimate, mark the unsure for experts, leave the rest.

    Args:
        prob_NC: Calibrated probabilities at the pool's prevalence.
        threshold_C: Per class; above 1 accepts nothing.
        config: Options.
        admitted_classes: Whether the gate lets each class through.
        prevalence_C: Share of each class in the pool, as estimated.
        screening: What else is known of the scans.
    """
    class_N = prob_NC.argmax(1)
    prob_N = prob_NC.max(1)
    accepted_N = prob_N >= threshold_C[class_N]
    left_out = dict.fromkeys(("second_opinion", "max_share", "cap_per_class", "cap_per_cluster"), 0)
    if screening.opinion_N is not None:
        contradicted_N = accepted_N & (screening.opinion_N != class_N)
        left_out["second_opinion"] = int(contradicted_N.sum())
        accepted_N &= ~contradicted_N
    for c in range(prob_NC.shape[1]):
        called_N = class_N == c
        left_out["max_share"] += _cut(accepted_N, called_N, prob_N, int(config.max_share * called_N.sum()))
        if config.cap_per_class is not None:
            most = int(config.cap_per_class * prevalence_C[c] * len(class_N))
            left_out["cap_per_class"] += _cut(accepted_N, called_N, prob_N, most)
    if config.cap_per_cluster is not None and screening.cluster_N is not None:
        most = int(config.cap_per_cluster * accepted_N.sum())
        for cluster in np.unique(screening.cluster_N[accepted_N]):
            left_out["cap_per_cluster"] += _cut(accepted_N, screening.cluster_N == cluster, prob_N, most)
    admitted_N = accepted_N & np.asarray(admitted_classes, dtype=bool)[class_N]
    decision_N = np.where(accepted_N, "accept", np.where(prob_N < config.queue_below, "queue", "leave"))
    return Decisions(class_N, prob_N, accepted_N, admitted_N, decision_N, left_out)


def _cut(accepted_N: np.ndarray, among_N: np.ndarray, prob_N: np.ndarray, most: int) -> int:
    """Take back what is accepted of some scans beyond `most`, the least certain first; returns how many."""
    rows = np.flatnonzero(accepted_N & among_N)
    cut = rows[np.argsort(-prob_N[rows], kind="stable")[most:]]
    accepted_N[cut] = False
    return len(cut)


def open_classes(gate: str, findings: Sequence[str], certificates: Mapping[str, Certificate]) -> list[bool]:
    """Which classes the gate lets through: all, none, or those whose certificate holds."""
    if gate == "certified":
        return [certificates[finding].holds for finding in findings]
    return [gate == "estimated"] * len(findings)


def blind_checks(
    folder: Path,
    answers: Mapping[str, str | None],
    findings: Sequence[str],
    up_to_round: int,
    from_round: int = 1,
) -> tuple[list[str], list[str]]:
    """Proposals and expert answers of every uniformly drawn scan that had a proposal, over all rounds so far.

    Both the uniform slice and the re-checks are uniform among the proposals they were drawn from, scan by
    scan; a scan counts once, with its first check.

    A scan the experts could not tell counts against its proposal: leaving such checks out would void the bound.
    """
    proposed, truth = [], []
    checked: set[str] = set()
    for round_index in range(from_round, up_to_round + 1):
        path = run_files.round_folder(folder, round_index)
        if not (path / QUEUE.file).exists():
            continue
        queue = QUEUE.read(path)
        blind = pc.is_in(queue["kind"], value_set=pa.array(BLIND_CHECKS))
        drawn = queue.filter(pc.and_(blind, pc.is_valid(queue["proposed"])))
        for image_id, finding in zip(drawn["image_id"].to_pylist(), drawn["proposed"].to_pylist(), strict=True):
            if image_id in answers and image_id not in checked:
                checked.add(image_id)
                proposed.append(finding)
                truth.append(answers[image_id] or next(other for other in findings if other != finding))
    return proposed, truth


def certificates(
    folder: Path,
    answers: Mapping[str, str | None],
    findings: Sequence[str],
    config: PseudoConfig,
    up_to_round: int,
    num_rounds: int,
) -> dict[str, Certificate]:
    """Certificates per class and pooled, from the blind checks accumulated over the rounds.

    They speak of what the rounds so far proposed; the latest proposals are checked by the next queue. Where the run has
    grown they begin anew: checks of proposals about the pool of before say nothing of the pool as it is now.
    """
    from_round = record.first_certifying_round(folder)
    proposed, truth = blind_checks(folder, answers, findings, up_to_round, from_round)
    looks = (
        max(num_rounds - record.frozen_rounds(folder), 1) if config.gate == "certified" else 1
    )  # a gate looks every round, a reader once
    return certify(proposed, truth, findings, config.precision, config.confidence, num_looks=looks)


def save(folder: Path, scans: ScanRows, decisions: Decisions, threshold_C: np.ndarray, findings: Sequence[str]) -> None:
    """Write `pseudo.parquet` of a round: the decision on each of the scans, in their order."""
    names = np.array(findings, dtype=object)
    PSEUDO.write(
        folder,
        pa.table(
            {
                "image_id": scans.image_id,
                "finding": names[decisions.class_N],
                "probability": decisions.prob_N.astype(np.float32),
                "threshold_prob": threshold_C[decisions.class_N].astype(np.float32),
                "decision": decisions.decision_N,
                "admitted": decisions.admitted_N,
            },
            schema=PSEUDO.schema,
        ),
    )
