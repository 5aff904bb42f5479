"""Do training and test ask the same question? The share of each class on either side of the split."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.audited_pool import Subject
from pipeline.audit.check import Check, Table
from pipeline.audit.checks.associations import MAX_P, bias_corrected_v

SIDES = {"train": "training", "val": "validation", "test": "the test"}

# Legend: C classes, S sides


def check(subject: Subject) -> Check:
    """Whether the classes have about the same shares in training, validation and test; people are counted."""
    check_id = "classes-differ-across-splits"
    why = (
        "Where a class is common in training and rare in the test, calibration, operating point and predictive "
        "values of the one do not hold in the other; a validation of other shares chooses another model."
    )
    fix = "Draw the test from the same people as the training, or report figures at the test's own prevalence."
    count_SC = people_by_class(subject)
    names = list(SIDES)
    train_C, test_C = (count_SC[names.index(side)] for side in ("train", "test"))
    if len(subject.findings) < 2 or not train_C.any() or not test_C.any():
        message = "Not checked: training and test do not both have labels of two classes."
        return Check(check_id, "ok", message, why, fix, checked=False)
    others = [side for side in ("test", "val") if count_SC[names.index(side)].any()]
    compared = [_compared(subject, train_C, count_SC[names.index(side)], side) for side in others]
    worst = max(
        compared, key=lambda pair: (pair.differs, pair.cramers_v if pair.differs else 0.0)
    )  # of equals the test
    present = [s for s in range(len(names)) if count_SC[s].any()]
    return Check(
        check_id,
        "warn" if worst.differs else "ok",
        worst.words,
        why,
        fix,
        count=sum(pair.differs for pair in compared),
        value=worst.cramers_v,
        threshold=subject.config.audit.warn_association,
        table=Table(
            (
                "class",
                *(f"people in {SIDES[names[s]].removeprefix('the ')}" for s in present),
                *(f"share in {SIDES[names[s]].removeprefix('the ')}" for s in present),
            ),
            tuple(
                (
                    finding,
                    *(int(count_SC[s, c]) for s in present),
                    *(float(count_SC[s, c] / count_SC[s].sum()) for s in present),
                )
                for c, finding in enumerate(subject.findings)
            ),
        ),
    )


@dataclass(frozen=True)
class Compared:
    """Class shares of training beside those of another side.

    Attributes:
        cramers_v: How strongly class and side go together.
        differs: Beyond chance and `audit.warn_association`.
        words: The class that is furthest apart, in a sentence.
    """

    cramers_v: float
    differs: bool
    words: str


def _compared(subject: Subject, train_C: NDArray[np.float64], other_C: NDArray[np.float64], side: str) -> Compared:
    cramers_v, p_value = bias_corrected_v(np.stack([train_C, other_C]))
    train_share_C, other_share_C = train_C / train_C.sum(), other_C / other_C.sum()
    apart_C = np.abs(train_share_C - other_share_C).round(9)
    furthest = int(np.flatnonzero(apart_C == apart_C.max())[-1])  # of two classes the one that is not healthy
    words = (
        f"{subject.findings[furthest]} is {train_share_C[furthest]:.0%} of the people in training and "
        f"{other_share_C[furthest]:.0%} in {SIDES[side]} (Cramér's V {cramers_v:.2f})."
    )
    return Compared(cramers_v, p_value < MAX_P and cramers_v > subject.config.audit.warn_association, words)


def people_by_class(subject: Subject) -> NDArray[np.float64]:
    """People of each class on each of `SIDES`, (S, C); somebody with scans of two classes counts for both."""
    rows = subject.labelled
    units = set(zip(subject.person_N[rows], subject.label_N[rows], subject.side_N[rows], strict=True))
    counts = Counter((side, label) for _, label, side in units)
    return np.array([[counts[side, finding] for finding in subject.findings] for side in SIDES], dtype=np.float64)
