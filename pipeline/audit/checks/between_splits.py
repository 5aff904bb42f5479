"""Do training and test ask the same question? The share of each class on either side of the split."""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.audited_pool import Subject
from pipeline.audit.check import Check, Table
from pipeline.audit.checks.associations import MAX_P, bias_corrected_v

SIDES = ("train", "test")

# C classes


def check(subject: Subject) -> Check:
    """Whether the classes have about the same shares in training and test; people are counted, not scans."""
    check_id = "classes-differ-across-splits"
    why = (
        "Where a class is common in training and rare in the test, calibration, operating point and predictive "
        "values of the one do not hold in the other."
    )
    fix = "Draw the test from the same people as the training, or report figures at the test's own prevalence."
    count_SC = people_by_class(subject)
    if len(subject.findings) < 2 or not count_SC.sum(axis=1).all():
        message = "Not checked: training and test do not both have labels of two classes."
        return Check(check_id, "ok", message, why, fix, checked=False)
    cramers_v, p_value = bias_corrected_v(count_SC)
    share_SC = count_SC / count_SC.sum(axis=1, keepdims=True)
    apart_C = np.abs(share_SC[0] - share_SC[1]).round(9)
    furthest = int(np.flatnonzero(apart_C == apart_C.max())[-1])  # of two classes the one that is not healthy
    limit = subject.config.audit.warn_association
    differs = p_value < MAX_P and cramers_v > limit
    train, test = share_SC[:, furthest]
    return Check(
        check_id,
        "warn" if differs else "ok",
        f"{subject.findings[furthest]} is {train:.0%} of the people in training and {test:.0%} in the test "
        f"(Cramér's V {cramers_v:.2f}).",
        why,
        fix,
        count=int(differs),
        value=cramers_v,
        threshold=limit,
        table=Table(
            ("class", "people in training", "people in test", "share in training", "share in test"),
            tuple(
                (finding, *(int(num) for num in count_SC[:, c]), *(float(share) for share in share_SC[:, c]))
                for c, finding in enumerate(subject.findings)
            ),
        ),
    )


def people_by_class(subject: Subject) -> NDArray[np.float64]:
    """People of each class on each side, (2, C); somebody with scans of two classes counts for both."""
    rows = subject.labelled
    units = set(zip(subject.person_N[rows], subject.label_N[rows], subject.side_N[rows], strict=True))
    counts = Counter((side, label) for _, label, side in units)
    return np.array([[counts[side, finding] for finding in subject.findings] for side in SIDES], dtype=np.float64)
