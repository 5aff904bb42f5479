"""What blind checks prove of the frozen releases: each finding by itself, and all of them at once."""

from dataclasses import dataclass

from pipeline.pages.wording import MISSING, floor_percent, known, percent, plural
from pipeline.report.gather import Row
from pipeline.report.overview.data import Overview, Part

TIERS = {"surest": "the surest part", "whole": "the whole release"}


@dataclass(frozen=True)
class FindingCertificate:
    """The release of one finding.

    Attributes:
        part: The finding.
        state: Of its release, as in its row of metrics.
        bound_together: Precision that holds for it together with all other findings' bounds; None: not known.
    """

    part: Part
    state: Row
    bound_together: float | None

    @property
    def tier(self) -> Row:
        """The widest tier certified, before that the first one."""
        tiers: list[Row] = self.state["tiers"]
        certified = [tier for tier in tiers if tier["holds"]]
        return max(certified, key=lambda tier: tier["num_scans"]) if certified else tiers[0]

    @property
    def what(self) -> str:
        """`the surest part, 120 pseudo-labels`."""
        return f"{TIERS[self.tier['tier']]}, {plural(self.tier['num_scans'], 'pseudo-label')}"

    @property
    def by_itself(self) -> str:
        """Its certified precision; a dash before the first check."""
        return floor_percent(self.tier["bound"]) if self.tier["num_checked"] else MISSING

    @property
    def together(self) -> str:
        """Its precision when all findings are to hold at once; a dash before the first check."""
        return floor_percent(self.bound_together) if self.tier["num_checked"] else MISSING

    @property
    def verdict(self) -> str:
        """Whether the promise holds, and what is missing."""
        needed, promise = self.state["checks_needed"], percent(self.state["promise"], 0)
        if self.state["certified_tier"]:
            more = f"; {plural(needed, 'more error-free check')} for the whole" if known(needed) and needed else ""
            return f"{promise} certified{more}"
        if needed is None:
            return f"{promise} cannot be certified any more"
        return f"{plural(needed, 'more error-free check')} would certify {promise}"


def certificates(overview: Overview) -> list[FindingCertificate]:
    """One for each finding with a frozen release, in the order of the run."""
    bounds = (together(overview) or {}).get("findings") or {}
    return [
        FindingCertificate(part, part.row["release"], (bounds.get(part.finding) or {}).get("bound"))
        for part in overview.parts
        if part.row.get("release")
    ]


def together(overview: Overview) -> Row | None:
    """What was said of all releases at once after the last round; None before there was one."""
    statement: Row | None = (overview.last or {}).get("releases_together")
    return statement
