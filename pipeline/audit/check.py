"""What a check finds, and the verdict over all of them: the shape of `audit.json`."""

from collections.abc import Sequence, Sized
from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["ok", "warn", "block"]
Verdict = Literal["valid", "caution", "invalid"]

MAX_EVIDENCE = 24  # rows of evidence kept with a check; `count` tells how many there are

# Every check, in the order a reader meets it: what may be wrong with the pictures, the people, the places, the numbers.
TITLES: dict[str, str] = {
    "quarantined-scans": "Files that cannot be read",
    "not-chest-x-rays": "Pictures that are no upright chest X-ray",
    "burned-in-text": "Text burnt into pictures",
    "exact-duplicates": "Exact duplicates",
    "near-duplicates": "Near duplicates",
    "duplicates-across-splits": "Same picture in training and test",
    "duplicates-across-patients": "Same picture under several patients",
    "label-conflict": "Same picture, different labels",
    "labels-look-wrong": "Labels that look wrong",
    "patient-across-splits": "Same patient in training and test",
    "patient-id-collision": "One patient id, several people",
    "patient-ids-doubtful": "Patient ids that may be none",
    "missing-metadata": "Metadata that is missing",
    "classes-differ-across-splits": "Classes differ between training and test",
    "source-label-confounding": "The source gives the label away",
    "source-predictable": "The source can be told from the picture",
    "population-confounding": "The population gives the label away",
    "metadata-predicts-label": "The file gives the label away",
    "lungs-masked-predicts-label": "The label can be told without the lungs",
    "grey-levels-predict-label": "Part of the score is grey level",
    "class-imbalance": "Rare classes",
    "too-few-cases": "Too few cases",
    "no-external-test": "Test on another source",
    "holdout-access": "Reads of the sealed holdout",
}


@dataclass(frozen=True)
class Table:
    """Numbers behind a check, for people: a header and rows of text, numbers or null."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Check:
    """The finding of one check.

    Attributes:
        id: One of `TITLES`.
        severity: ok, warn (a reader must know), block (the evidence is not valid).
        count: How many scans, groups, patients or classes are concerned.
        value: The number that was held against the threshold; None where there is none.
        threshold: What it was held against, from the configuration.
        message: What was found, in numbers.
        why: Why it matters, one sentence.
        fix: What to do, one sentence.
        evidence: Rows of {"image_id", "note"}, at most `MAX_EVIDENCE`.
        table: Numbers behind it.
        checked: False where the pool lacks what the check needs; the message says what.
        accepted: Why somebody overrode a block, in their words.
    """

    id: str
    severity: Severity
    message: str
    why: str
    fix: str
    count: int = 0
    value: float | None = None
    threshold: float | None = None
    evidence: tuple[dict[str, Any], ...] = ()
    table: Table | None = None
    checked: bool = True
    accepted: str | None = None

    def __post_init__(self) -> None:
        assert self.id in TITLES, self.id
        object.__setattr__(self, "evidence", self.evidence[:MAX_EVIDENCE])

    def to_json(self) -> dict[str, Any]:
        """A row of `audit.json`."""
        return {"title": TITLES[self.id]} | asdict(self) | {"evidence": list(self.evidence)}


@dataclass(frozen=True)
class Override:
    """Somebody's written word that the work goes on although a check blocks."""

    check: str  # an id, or "all"
    because: str
    time: str

    def covers(self, check_id: str) -> bool:
        """Whether it speaks of this check."""
        return self.check in ("all", check_id)


def judged(audit: dict[str, Any], overrides: Sequence[Override]) -> dict[str, Any]:
    """An audit with its verdict, its checks in order, and what has been accepted by now.

    The verdict is invalid where a check blocks, overridden or not; caution where one warns; else valid. `blocking`
    are the checks that stop the work: they block, or warn under `strict`, and nobody has accepted them.

    Args:
        audit: At least `strict` and `checks`, as `Check.to_json` gives them.
        overrides: All that were written down, oldest first.
    """
    place = {check_id: i for i, check_id in enumerate(TITLES)}
    checks = []
    for check in sorted(audit["checks"], key=lambda row: place[row["id"]]):
        words = [override.because for override in overrides if override.covers(check["id"])]
        checks.append(check | {"accepted": words[-1] if words and check["severity"] != "ok" else None})
    severities = {check["severity"] for check in checks}
    verdict: Verdict = "invalid" if "block" in severities else "caution" if "warn" in severities else "valid"
    stops = ("block", "warn") if audit["strict"] else ("block",)
    blocking = [check["id"] for check in checks if check["severity"] in stops and check["accepted"] is None]
    words_given = [asdict(override) for override in overrides]
    return (
        {"verdict": verdict}
        | audit
        | {
            "verdict": verdict,
            "blocking": blocking,
            "overrides": words_given,
            "checks": checks,
        }
    )


def counted(num: int, noun: str) -> str:
    """`1 picture`, `2 pictures`."""
    return f"{num} {noun}" if num == 1 else f"{num} {noun}s"


def are(items: Sized) -> str:
    """`is` of one thing, else `are`."""
    return "is" if len(items) == 1 else "are"
