"""A frozen release: the pseudo-labels others may use, fixed before the first check of it, and what checks say of it.

- **Tiers.** The surest of the proposals, then all of them. One order drawn by chance covers all scans; the surest
  ones in it are in an order drawn by chance as well, so that every answer counts for both tiers.
- **Fixed order of claims.** The second tier is claimed only once the first one is, so that both are claimed without
  splitting the error. The bounds beside the claims are statements of their own, one a tier: both at once hold with
  twice the error.
- **What counts.** Of each tier the checks in that order up to the first scan without an answer, for whatever reason a
  scan was asked. *Cannot tell*, a rejected scan and an even split are errors: leaving them out would void the bound.
- **A small release takes fewer checks.** No scan is checked twice, and the claim is about these scans alone, so the
  bound is that of draws without replacement from a tier of known size (`finite_plan`). Releases frozen by an earlier
  version keep the plan they were frozen with: one that is chosen after checks were seen proves nothing.
- **Several releases.** A new one is frozen only when every check of the one before is spent, or can no longer certify
  it. Each has its own error of 1 - confidence: of a run with k releases all certificates hold together with at least
  1 - k (1 - confidence).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.tables import RELEASE
from pipeline.measures.plans import finite_plan, sequential_plan
from pipeline.runtime import finding_folders, run_files

SUREST, WHOLE = "surest", "whole"
CHECKING, CERTIFIED, USED_UP = "checking", "certified", "used-up"
WITHOUT_REPLACEMENT = "without-replacement"


@dataclass(frozen=True)
class Tier:
    """What the checks so far say of one tier.

    Attributes:
        tier: `surest` or `whole`.
        num_scans: Scans of it.
        num_checked: Answered checks, in order, up to the first scan without an answer.
        num_errors: Of them those that do not confirm the proposal.
        bound: Precision that is certified, 0 to 1; valid at every look.
        holds: Whether the promise is certified, for this tier; those before it were claimed first.
        checks_needed: Fewest further checks, all clean, that certify it; 0 when it is; None: it cannot be any more.
        withdrawn: It was certified, and errors that were found later break the promise for certain.
    """

    tier: str
    num_scans: int
    num_checked: int
    num_errors: int
    bound: float
    holds: bool
    checks_needed: int | None
    withdrawn: bool = False


@dataclass(frozen=True)
class Release:
    """A release as it was frozen.

    Attributes:
        table: Rows of the `RELEASE` contract in the order of the checks.
        card: {"number","round","hash","promise","confidence","begin_with","plan","sampling","num_scans",
            "num_surest","num_not_admitted","expected","model"}; `expected` is the mean probability of each tier's
            proposals, by which `begin_with` was decided, `num_not_admitted` counts scans that training did not take;
            `plan` is of the tier that comes first; without `sampling` checks count as of an endless release.
    """

    table: pa.Table
    card: dict[str, Any]

    @cached_property
    def proposed(self) -> dict[str, str]:
        """What is proposed of each scan, in the order of the checks."""
        return dict(zip(self.table["image_id"].to_pylist(), self.table["finding"].to_pylist(), strict=True))

    @cached_property
    def ids_of(self) -> dict[str, tuple[str, ...]]:
        """Scans of each tier in the order of their checks."""
        is_surest = pc.equal(self.table["tier"], SUREST).to_pylist()
        surest = tuple(image_id for image_id, is_in in zip(self.proposed, is_surest, strict=True) if is_in)
        return {SUREST: surest, WHOLE: tuple(self.proposed)}

    def tiers(self) -> tuple[str, str]:
        """The tiers in the order in which they are claimed."""
        return (SUREST, WHOLE) if self.card["begin_with"] == SUREST else (WHOLE, SUREST)

    def errors(self, tier: str, answers: Mapping[str, str | None]) -> list[bool]:
        """Whether each answered check of a tier is an error, up to the first scan without an answer."""
        answered = takewhile(lambda image_id: image_id in answers, self.ids_of[tier])
        return [answers[image_id] != self.proposed[image_id] for image_id in answered]

    def standing(self, answers: Mapping[str, str | None], confidence: float | None = None) -> list[Tier]:
        """What the answers so far say of each tier, in the order in which they are claimed.

        Args:
            answers: Expert class of every answered scan; None: nobody can tell.
            confidence: Another one than was promised, for a statement about several releases at once.
        """
        promise = float(self.card["promise"])
        confidence = float(self.card["confidence"]) if confidence is None else confidence
        tiers: list[Tier] = []
        claimed = True  # of the tiers before
        for tier in self.tiers():
            errors, num_scans = self.errors(tier, answers), len(self.ids_of[tier])
            if self.card.get("sampling") == WITHOUT_REPLACEMENT:
                wrong = sum(i in answers and answers[i] != self.proposed[i] for i in self.ids_of[tier])
                bound = finite_plan.certified_precision(num_scans, errors, confidence, promise, wrong)
                needed = finite_plan.checks_needed(num_scans, errors, promise, confidence, wrong)
                proven = finite_plan.is_proven(num_scans, errors, promise, confidence)
            else:
                bound = sequential_plan.certified_precision(errors, confidence, promise)
                needed = sequential_plan.checks_needed(errors, promise, confidence)
                proven = bound >= promise
            if needed is not None and len(errors) + needed > num_scans:
                needed = None
            holds, withdrawn = claimed and proven and needed == 0, claimed and proven and needed is None
            tiers.append(Tier(tier, num_scans, len(errors), sum(errors), bound, holds, needed, withdrawn))
            claimed = claimed and proven
        return tiers

    def next_checks(self, answers: Mapping[str, str | None]) -> list[str]:
        """Scans still to be checked, in order: of the first tier that is not certified; none when that is hopeless."""
        for tier in self.standing(answers):
            if not tier.holds and not tier.withdrawn:
                return [] if tier.checks_needed is None else [i for i in self.ids_of[tier.tier] if i not in answers]
        return []

    def state(self, answers: Mapping[str, str | None]) -> dict[str, Any]:
        """The card with `state`, `tiers`, the widest certified tier, its bound, and what is still needed.

        Returns:
            The card, and {"state","tiers","certified_tier","bound","checks_needed"}; `bound` is that of the widest tier
            certified, before that of the first tier; `checks_needed` is of the tier under check, null when none is.
        """
        standing = self.standing(answers)
        certified = [tier for tier in standing if tier.holds]
        widest = max(certified, key=lambda tier: tier.num_scans, default=None)
        under_check = next((tier for tier in standing if not tier.holds and not tier.withdrawn), None)
        hopeful = under_check is not None and under_check.checks_needed is not None
        return self.card | {
            "state": CHECKING if hopeful else CERTIFIED if widest else USED_UP,
            "tiers": [asdict(tier) for tier in standing],
            "certified_tier": None if widest is None else widest.tier,
            "bound": (widest or standing[0]).bound,
            "checks_needed": under_check.checks_needed if under_check is not None else None,
        }


def load(folder: Path, number: int | None = None) -> Release | None:
    """The release of that number, the latest by default; None where none was frozen."""
    numbers = run_files.releases(folder)
    if not numbers:
        return None
    place = run_files.release_folder(folder, number or numbers[-1])
    card = json.loads((place / run_files.RELEASE_CARD).read_text("utf-8"))
    return Release(RELEASE.read(place).sort_by("position"), card)


def state_of(folder: Path, answers: Mapping[str, str | None]) -> dict[str, Any] | None:
    """The state of a run's latest release, see `Release.state`; None where none was frozen."""
    release = load(folder)
    return None if release is None else release.state(answers) | {"num_releases": len(run_files.releases(folder))}


def frozen_ids(folder: Path) -> tuple[str, ...]:
    """Scans of a run's latest release; none before one was frozen."""
    release = load(folder)
    return () if release is None else release.ids_of[WHOLE]


def frozen_anywhere(folder: Path) -> frozenset[str]:
    """Scans of the latest release of a run, or of any finding of it."""
    places = (folder, *finding_folders.parts_in(folder).values())
    return frozenset(image_id for place in places for image_id in frozen_ids(place))


def next_checks(folder: Path, answers: Mapping[str, str | None], round_index: int) -> tuple[str, ...]:
    """Scans the queue of a round should check next, in order; none before a release was frozen."""
    release = load(folder)
    if release is None or release.card["round"] >= round_index:
        return ()
    return tuple(release.next_checks(answers))
