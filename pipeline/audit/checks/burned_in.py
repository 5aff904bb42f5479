"""Text burnt into pictures: how many scans have it, and whether they are handed on all the same."""

from collections import Counter

import numpy as np

from pipeline.audit.audited_pool import Subject
from pipeline.audit.check import Check, Table
from pipeline.pool.burned_in.note import reason_in

_WHY = "Names, dates and numbers in the pixels stay when the tags are cleaned; and a network may read what is written."
_FIX = "Black them out at their origin, or look at them all and set pool.allow_burned_in_text where nobody is named."


def check(subject: Subject) -> Check:
    """Scans with text burnt in; it warns where such scans are handed on (`pool.allow_burned_in_text`)."""
    check_id = "burned-in-text"
    reason_N = [reason_in(note) for note in subject.scans["note"].to_pylist()]
    rows = np.flatnonzero([reason is not None for reason in reason_N])
    if len(rows) == 0:
        return Check(check_id, "ok", f"No line of text was seen in {len(subject)} scans.", _WHY, _FIX)
    counts = Counter(str(reason_N[row]) for row in rows)
    allowed = subject.config.pool.allow_burned_in_text
    kept = (
        "They are handed on all the same (pool.allow_burned_in_text)."
        if allowed
        else "Their pictures stay out of queues that are handed out, of reports, manifests and releases."
    )
    listed = ", ".join(f"{num} × {reason}" for reason, num in counts.most_common())
    return Check(
        check_id,
        "warn" if allowed else "ok",
        f"{len(rows)} of {len(subject)} scans: {listed}. {kept}",
        _WHY,
        _FIX,
        count=len(rows),
        value=len(rows) / len(subject),
        evidence=subject.evidence(rows, [str(reason_N[row]) for row in rows]),
        table=Table(("what was found", "scans"), tuple(counts.most_common())),
    )
