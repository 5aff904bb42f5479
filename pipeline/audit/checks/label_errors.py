"""Labels that look wrong: how many, and which scans a probe that never saw them would name otherwise.

How many is estimated by `measures.label_noise`, which tells wrong labels from hard cases; which, by confident learning
(Northcutt, Jiang & Chuang 2021).

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

_SMALLEST = 1e-9
_WHY = "A wrong label teaches the wrong thing, and a wrong label in the test makes a right answer look wrong."
_FIX = "Let somebody look at the scans shown, the likeliest first, and correct those that are wrong at their origin."


@dataclass(frozen=True)
class Suspects:
    """What a probe says of the labels.

    Attributes:
        rows: Scans of likely wrong labels, the likeliest first; rows of the subject.
        notes: Of each, its label and what the probe would call it.
        num_asked: Scans that were looked at.
        share: Estimated share of wrong labels, 0..1.
        share_low: Its lower bound.
        per_class: Class, its scans, its estimated share of wrong labels, how many of them are named.
    """

    rows: NDArray[np.int64]
    notes: list[str]
    num_asked: int
    share: float
    share_low: float
    per_class: tuple[tuple[str, int, float, int], ...]


def check(subject: Subject) -> Check:
    """Whether more labels look wrong than `audit.warn_wrong_label_share`, and which they are."""
    check_id = "labels-look-wrong"
    suspects = find(subject)
    if suspects is None:
        few = f"no two classes have labels and embeddings of {probes.MIN_GROUPS} patients or more"
        return Check(check_id, "ok", f"Not checked: {few}.", _WHY, _FIX, checked=False)
    limit = subject.config.audit.warn_wrong_label_share
    warns = suspects.share_low > limit
    message = (
        f"About {suspects.share:.0%} of {suspects.num_asked} labels look wrong (at least {suspects.share_low:.0%}); "
        f"{len(suspects.rows)} scans are named, the likeliest first."
        if warns
        else f"No more than chance and hard cases speak against the labels: about {suspects.share:.0%} of "
        f"{suspects.num_asked} may be wrong, {suspects.share_low:.0%} at least."
    )
    return Check(
        check_id,
        "warn" if warns else "ok",
        message,
        _WHY,
        _FIX,
        count=len(suspects.rows) if warns else 0,
        value=suspects.share_low,
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
    prob_KC = probes.out_of_fold(
        subject.components(rows), cases.code_K, cases.group_K, "linear", subject.rng("labels/folds")
    )
    names = [name for _, name in cases.classes]
    class_K = np.searchsorted([code for code, _ in cases.classes], cases.code_K)
    people_C = np.array([len(np.unique(cases.group_K[class_K == c])) for c in range(len(names))], dtype=np.int64)
    share_C, share_low = wrong_shares(prob_KC, class_K, people_C)
    weight_C = np.bincount(class_K, minlength=len(names)) / len(class_K)
    issues = label_issues(class_K, prob_KC, len(rows))
    expected = round(float(weight_C @ share_C) * len(rows))
    kept = issues.row_I[: max(expected, 0)]
    notes = [
        f"labelled {names[label]}, looks like {names[other]} ({prob:.0%})"
        for label, other, prob in zip(issues.class_I, issues.model_class_I, issues.model_prob_I, strict=True)
    ][: len(kept)]
    return Suspects(
        rows=rows[kept],
        notes=notes,
        num_asked=len(rows),
        share=float(weight_C @ share_C),
        share_low=share_low,
        per_class=tuple(
            (name, int((class_K == c).sum()), float(share_C[c]), int((class_K[kept] == c).sum()))
            for c, name in enumerate(names)
        ),
    )


def wrong_shares(prob_KC: Floats, class_K: NDArray[np.int64], people_C: NDArray[np.int64]) -> tuple[Floats, float]:
    """Estimated share of wrong labels in each class, (C,), and the lower bound of that of all labels, 0..1.

    Args:
        prob_KC: Out-of-fold probabilities.
        class_K: Index of the label; every class has scans.
        people_C: Patients of each class: how much is known of it.
    """
    weight = min(1.0, float(people_C.sum()) / len(class_K))
    score_KC = np.log(np.maximum(prob_KC, _SMALLEST)) - np.log(np.maximum(1 - prob_KC, _SMALLEST))
    if prob_KC.shape[1] == 2:
        of_both = label_noise.wrong_shares(score_KC[class_K == 0, 0], score_KC[class_K == 1, 0], weight)
        return np.array([of_both.own, of_both.other]), of_both.all_low
    of_C = [
        label_noise.wrong_shares(score_KC[class_K == c, c], score_KC[class_K != c, c], weight)
        for c in range(prob_KC.shape[1])
    ]
    part_C = np.bincount(class_K, minlength=len(of_C)) / len(class_K)
    return np.array([shares.own for shares in of_C]), float(part_C @ np.array([shares.own_low for shares in of_C]))
