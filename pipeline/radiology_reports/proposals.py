"""From what reports say of findings to the class each proposes for a scan, and why.

Of one finding: present is its class; absent, and not mentioned, is the class without it. Of exclusive classes: the one
finding that is present; the healthy class where none is. Whatever is uncertain, or two classes at once, proposes
nothing. That what is not mentioned is not there is an assumption like any other: it counts, and is checked, by itself.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pipeline.contracts.healthy_class import healthy_among
from pipeline.radiology_reports.labeler import ABSENT, NOT_MENTIONED, PRESENT, UNCERTAIN

Statements = Mapping[str, str]  # finding to one of `labeler.SAYS`


class Kind(NamedTuple):
    """Proposals that are right or wrong together: their precision is learned as one.

    Attributes:
        source: Who says it: rules of a name, or another model's columns.
        class_index: The class proposed.
        says: present, absent or not mentioned.
    """

    source: str
    class_index: int
    says: str


def proposals(
    of_source: Mapping[str, Mapping[str, Statements]], classes: Sequence[str], finding: str | None
) -> dict[Kind, list[str]]:
    """The scans of each kind of proposal, in the order of the sources.

    Args:
        of_source: Source to image_id to what is said, see `report_labels.kept`.
        classes: C classes of the question.
        finding: Of independent findings the one asked about, whose classes are absent and present; None: exclusive.
    """
    of_kind: dict[Kind, list[str]] = {}
    healthy = [] if finding is not None else healthy_among(classes)
    for source, of_scan in of_source.items():
        for image_id, statements in of_scan.items():
            if finding is not None:
                proposed = _of_finding(statements.get(finding))
            else:
                proposed = _of_classes(statements, classes, classes.index(healthy[0]) if healthy else None)
            if proposed is not None:
                of_kind.setdefault(Kind(source, *proposed), []).append(image_id)
    return of_kind


def _of_finding(says: str | None) -> tuple[int, str] | None:
    return None if says is None or says == UNCERTAIN else (int(says == PRESENT), says)


def _of_classes(statements: Statements, classes: Sequence[str], healthy: int | None) -> tuple[int, str] | None:
    own = {c: statements[name] for c, name in enumerate(classes) if name in statements}
    present = [c for c, says in own.items() if says == PRESENT]
    if UNCERTAIN in own.values() or len(present) > 1:
        return None
    if present:
        return present[0], PRESENT
    if healthy is None or not own:
        return None
    return healthy, ABSENT if ABSENT in own.values() else NOT_MENTIONED


def one_class_a_scan(of_kind: Mapping[Kind, Sequence[str]], order: Iterable[Kind]) -> dict[str, Kind]:
    """The kind that counts for each scan: none where two sources propose different classes, else the first in order."""
    chosen: dict[str, Kind] = {}
    contradicted: set[str] = set()
    for kind in order:
        for image_id in of_kind[kind]:
            if chosen.setdefault(image_id, kind).class_index != kind.class_index:
                contradicted.add(image_id)
    return {image_id: kind for image_id, kind in chosen.items() if image_id not in contradicted}
