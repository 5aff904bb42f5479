"""Labels that look wrong: how many, and which scans a probe that never saw them would name otherwise.

Whether there are some is said by the likelihood of `measures.label_noise` with wrong labels and without, of all classes
together: lower bounds of each class by itself hide a fifth of wrong labels among three hundred. How many is estimated
by the same; which, by confident learning (Northcutt, Jiang & Chuang 2021).

Legend: K scans that a probe can be asked of, C classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.audit import probes
from pipeline.audit.audited_pool import Subject
from pipeline.audit.check import MAX_EVIDENCE, Check, Table
from pipeline.measures import label_noise
from pipeline.measures.consensus import label_issues

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_SMALLEST = 1e-9
# A tenth of that of the audit's other probes: what fits single scans learns wrong labels by heart. Chosen, as was the
# evidence a class, on the first draws of `tests/bench/wrong_labels.py`.
_INVERSE_PENALTY = 0.01
_EVIDENCE_A_CLASS, _EVIDENCE_BESIDE = 1.0, 1.0
# Of classes that the probe hardly tells apart nobody can say whose label is wrong: made-up clean ones were accused.
_MIN_AUROC = 0.7
_WORTH_SAYING = 0.005
_WHY = "A wrong label teaches the wrong thing, and a wrong label in the test makes a right answer look wrong."
_FIX = "Let somebody look at the scans shown, the likeliest first, and correct those that are wrong at their origin."


@dataclass(frozen=True)
class Doubt:
    """What a patient-grouped probe that never saw a label says of all labels.

    Attributes:
        prob_KC: Out-of-fold probabilities.
        share_C: Estimated share of wrong labels in each class, 0..1.
        share: Of all labels.
        share_low: Its lower bound.
        evidence: Log likelihood that wrong labels gain over hard cases alone, of all classes.
        auroc: How well the probe tells the classes apart, by the labels as they are; mean of each against the others.
    """

    prob_KC: Floats
    share_C: Floats
    share: float
    share_low: float
    evidence: float
    auroc: float

    @property
    def can_tell(self) -> bool:
        """Whether the probe tells the classes apart well enough to doubt a label."""
        return self.auroc >= _MIN_AUROC

    @property
    def is_beyond_hard_cases(self) -> bool:
        """Whether hard cases alone explain the labels badly."""
        return self.can_tell and self.evidence > _EVIDENCE_A_CLASS * len(self.share_C) + _EVIDENCE_BESIDE


@dataclass(frozen=True)
class Suspects:
    """Scans of likely wrong labels.

    Attributes:
        rows: The likeliest first; rows of the subject.
        notes: Of each, its label and what the probe would call it.
        num_asked: Scans that were looked at.
        doubt: What the probe says of all of them.
        per_class: Class, its scans, its estimated share of wrong labels, how many of them are named.
    """

    rows: NDArray[np.int64]
    notes: list[str]
    num_asked: int
    doubt: Doubt
    per_class: tuple[tuple[str, int, float, int], ...]


def check(subject: Subject) -> Check:
    """Whether labels look wrong beyond hard cases, more than `audit.warn_wrong_label_share`, and which they are."""
    check_id = "labels-look-wrong"
    suspects = find(subject)
    if suspects is None:
        few = f"no two classes have labels and embeddings of {probes.MIN_GROUPS} patients or more"
        return Check(check_id, "ok", f"Not checked: {few}.", _WHY, _FIX, checked=False)
    doubt, limit = suspects.doubt, subject.config.audit.warn_wrong_label_share
    if not doubt.can_tell:
        known = f"the embedding tells the classes apart with an AUROC of {doubt.auroc:.2f} only"
        return Check(check_id, "ok", f"Not checked: {known}.", _WHY, _FIX, checked=False)
    warns = doubt.is_beyond_hard_cases and doubt.share > limit
    if warns:
        at_least = f" ({doubt.share_low:.0%} at least)" if doubt.share_low >= _WORTH_SAYING else ""
        message = (
            f"About {doubt.share:.0%} of {suspects.num_asked} labels look wrong{at_least}: hard cases alone do not "
            f"explain them. {len(suspects.rows)} scans are named, the likeliest first."
        )
    elif doubt.is_beyond_hard_cases:
        message = f"About {doubt.share:.0%} of {suspects.num_asked} labels may be wrong, no more than is allowed."
    else:
        message = f"No more than chance and hard cases speak against the {suspects.num_asked} labels."
    return Check(
        check_id,
        "warn" if warns else "ok",
        message,
        _WHY,
        _FIX,
        count=len(suspects.rows) if warns else 0,
        value=doubt.share if doubt.is_beyond_hard_cases else 0.0,
        threshold=limit,
        evidence=subject.evidence(suspects.rows[:MAX_EVIDENCE], suspects.notes[:MAX_EVIDENCE]) if warns else (),
        table=Table(("class", "scans", "share that looks wrong", "scans named"), suspects.per_class),
    )


def find(subject: Subject) -> Suspects | None:
    """Scans whose label a patient-grouped probe on the embedding does not believe; None where it cannot be asked."""
    rows = np.array([row for row in subject.labelled if subject.has_emb_N[row]], dtype=np.int64)
    if len(rows) == 0:
        return None
    rows = subject.sample(rows, "labels")
    cases = probes.comparable(subject.label_N[rows], subject.group_N[rows], None)
    if cases is None:
        return None
    rows = rows[cases.kept_R]
    names = [name for _, name in cases.classes]
    class_K = np.searchsorted([code for code, _ in cases.classes], cases.code_K)
    doubt = doubt_of(subject.components(rows), class_K, cases.group_K, subject.rng("labels/folds"))
    issues = label_issues(class_K, doubt.prob_KC, round(doubt.share * len(rows)))
    notes = [
        f"labelled {names[label]}, looks like {names[other]} ({prob:.0%})"
        for label, other, prob in zip(issues.class_I, issues.model_class_I, issues.model_prob_I, strict=True)
    ]
    return Suspects(
        rows=rows[issues.row_I],
        notes=notes,
        num_asked=len(rows),
        doubt=doubt,
        per_class=tuple(
            (name, int((class_K == c).sum()), float(doubt.share_C[c]), int((issues.class_I == c).sum()))
            for c, name in enumerate(names)
        ),
    )


def doubt_of(
    x_KM: Floats, class_K: Ints, group_K: Ints, rng: np.random.Generator, inverse_penalty: float = _INVERSE_PENALTY
) -> Doubt:
    """Ask a probe of every scan that was taught without the scan's patient.

    Args:
        x_KM: Leading principal components.
        class_K: Index of the label; every class has scans.
        group_K: Number of the patient.
        rng: Draws the folds.
        inverse_penalty: Of the probe.
    """
    from sklearn.metrics import roc_auc_score

    prob_KC = probes.out_of_fold(x_KM, class_K, group_K, "linear", rng, inverse_penalty)
    num_classes = prob_KC.shape[1]
    part_C = np.bincount(class_K, minlength=num_classes) / len(class_K)
    num_people = sum(len(np.unique(group_K[class_K == c])) for c in range(num_classes))
    weight = min(1.0, num_people / len(class_K))  # so much is known, where several scans are of one patient
    aurocs = [roc_auc_score(class_K == c, prob_KC[:, c]) for c in range(num_classes)]
    auroc = float(np.mean(aurocs[: 1 if num_classes == 2 else None]))
    score_KC = np.log(np.maximum(prob_KC, _SMALLEST)) - np.log(np.maximum(1 - prob_KC, _SMALLEST))
    if num_classes == 2:
        both = label_noise.wrong_shares(score_KC[class_K == 0, 0], score_KC[class_K == 1, 0], weight)
        share_C = np.array([both.own, both.other])
        return Doubt(prob_KC, share_C, float(part_C @ share_C), both.all_low, both.evidence, auroc)
    of_C = [
        label_noise.wrong_shares(score_KC[class_K == c, c], score_KC[class_K != c, c], weight)
        for c in range(num_classes)
    ]
    # Labels that are wrong by the name that they bear, and by the name that they should bear.
    own_C, other_C = np.array([shares.own for shares in of_C]), np.array([shares.other for shares in of_C])
    share = float(part_C @ own_C + (1 - part_C) @ other_C) / 2
    low = float(part_C @ np.array([shares.own_low for shares in of_C]))
    return Doubt(prob_KC, own_C, share, low, sum(shares.evidence for shares in of_C), auroc)
