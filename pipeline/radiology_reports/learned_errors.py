"""How often reports are right, learned from experts who had not seen them; and which are good enough to be used.

The checks are scans drawn by chance (the uniform slice of a queue, and the slice drawn from what reports say), which an
expert answered without the report. Their order was drawn by chance too, so that the plan of `sequential_plan` holds at
every look, after every answer. A scan that the expert could not tell counts as an error. The bound speaks of the scans
that were open when the checks were drawn.

What is refused stays refused out loud: too many errors already, or too few checks so far and how many more would do.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipeline.contracts.options.labelling import ReportsConfig
from pipeline.measures import certify
from pipeline.measures.plans import sequential_plan
from pipeline.radiology_reports.labeler import PRESENT
from pipeline.radiology_reports.proposals import Kind

USED = "used"
TOO_WRONG = "refused: experts find it wrong too often"
TOO_FEW = "not used yet: too few blind checks"
FINDING_REFUSED = "not used: of the findings themselves none is"


@dataclass(frozen=True)
class LearnedError:
    """What blind checks say of one kind of proposal.

    Attributes:
        kind: Of proposals.
        class_name: The class proposed.
        num_scans: Scans with such a proposal.
        num_checked: Blind checks of them.
        num_errors: Checks in which the expert said something else, or could not tell.
        precision: Mean of the precision after the checks, from an even prior; None before the first check.
        bound: Lower bound of the precision: of a finding that is present its positive predictive value, of the class
            without it the negative one. Valid at every look.
        checks_needed: Further checks without an error that would do; 0: none. None: no number of them will.
        verdict: `USED`, or why not.
    """

    kind: Kind
    class_name: str
    num_scans: int
    num_checked: int
    num_errors: int
    precision: float | None
    bound: float
    checks_needed: int | None
    verdict: str

    @property
    def is_used(self) -> bool:
        """Whether it may train and rank."""
        return self.verdict == USED

    def to_json(self) -> dict[str, Any]:
        """A row of the run's metrics: counts alone."""
        row = asdict(self) | {"used": self.is_used, "why": in_words(self)}
        kind = row.pop("kind")
        del row["verdict"]
        return {"source": kind[0], "says": kind[2], **row}


def learn(
    of_kind: Mapping[Kind, Sequence[str]],
    checks: Iterable[str],
    answers: Mapping[str, str | None],
    classes: Sequence[str],
    options: ReportsConfig,
) -> list[LearnedError]:
    """The learned error of each kind, in their order.

    Args:
        of_kind: Scans of each kind of proposal.
        checks: Scans drawn by chance and answered blind, in the order they were drawn; one counts once.
        answers: The experts' class by scan; None: they could not tell.
        classes: C classes.
        options: From which bound on a kind is used.
    """
    drawn = [image_id for image_id in dict.fromkeys(checks) if image_id in answers]
    learned = []
    for kind, scans in of_kind.items():
        own = set(scans)
        is_error = [answers[i] != classes[kind.class_index] for i in drawn if i in own]
        learned.append(_of_kind(kind, classes[kind.class_index], len(own), is_error, options))
    any_present = {error.kind.source for error in learned if error.is_used and error.kind.says == PRESENT}
    return [error if _may_stand(error, any_present) else replace(error, verdict=FINDING_REFUSED) for error in learned]


def _of_kind(
    kind: Kind, class_name: str, num_scans: int, is_error: Sequence[bool], options: ReportsConfig
) -> LearnedError:
    num, errors = len(is_error), sum(is_error)
    bound = sequential_plan.certified_precision(is_error, options.confidence, options.min_precision)
    needed = sequential_plan.checks_needed(is_error, options.min_precision, options.confidence)
    highest = 1.0 - certify.lower_bound(errors, num, options.confidence) if num else 1.0
    verdict = USED if needed == 0 else TOO_WRONG if needed is None or highest < options.min_precision else TOO_FEW
    if verdict == TOO_WRONG:
        needed = None
    precision = (num - errors + 1) / (num + 2) if num else None
    return LearnedError(kind, class_name, num_scans, num, errors, precision, bound, needed, verdict)


def _may_stand(learned: LearnedError, any_present: set[str]) -> bool:
    """A source whose word is not taken for the findings is not taken for their absence either."""
    return not learned.is_used or learned.kind.says == PRESENT or learned.kind.source in any_present


def in_words(learned: LearnedError) -> str:
    """What becomes of it, with how many more clean checks would do."""
    if learned.verdict == TOO_FEW:
        return f"{TOO_FEW}; {learned.checks_needed} more without an error would do"
    return learned.verdict
