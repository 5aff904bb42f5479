"""The planning table of certificates: checks needed, the chance of earning one, the share of a queue it takes.

All of it is exact arithmetic of the sequential plan; nothing is estimated from the run. Legend: S steps of the plan,
one for each number of errors.
"""

from dataclasses import dataclass
from typing import Any

from pipeline.contracts.options.learning import ReleaseConfig
from pipeline.learn.releases.frozen_release import WHOLE, WITHOUT_REPLACEMENT
from pipeline.measures.plans import finite_plan, sequential_plan
from pipeline.pages.wording import known, percent, plural, words
from pipeline.report.gather import Row, RunData

TARGETS = (0.90, 0.95, 0.99)
TRUTHS = (0.97, 0.98, 0.99, 0.998)
BUDGETS = (100, 234, 500)  # labels, beside those that the run has left
NUM_STEPS = 5  # 0 to 4 errors


@dataclass(frozen=True)
class Budget:
    """Labels that could be spent."""

    name: str
    num_labels: int


@dataclass(frozen=True)
class Target:
    """What it takes to certify one precision.

    Attributes:
        promise: Precision to prove.
        is_own: Whether it is the run's own promise.
        checks_S: Checks needed with 0, 1, 2, ... errors.
        share: For each budget the share of its labels that the clean checks take; None: it does not reach.
        chance: True precision and the chance of having certified by each step.
    """

    promise: float
    is_own: bool
    checks_S: tuple[int, ...]
    share: list[float | None]
    chance: list[tuple[float, tuple[float | None, ...]]]


@dataclass(frozen=True)
class Plan:
    """The planning table and where the run stands."""

    targets: list[Target]
    budgets: list[Budget]
    state: list[str]
    confidence: float


def plan(run: RunData) -> Plan | None:
    """The table for a run that can freeze a release; None for one of several findings, which cannot."""
    if run.finding is not None or not run.config:
        return None
    return Plan(targets(run), budgets(run), present_state(run), _confidence(run))


def targets(run: RunData) -> list[Target]:
    """The targets, the run's own promise among them, in rising order."""
    confidence, own = _confidence(run), _promise(run)
    rows = []
    for promise in sorted({*TARGETS, own}):
        checks_S = sequential_plan.plan(promise, confidence, NUM_STEPS)
        fits = [checks_S[0] / budget.num_labels for budget in budgets(run)]
        chance = [(p, sequential_plan.chance_certified(promise, confidence, p, NUM_STEPS)) for p in TRUTHS]
        share = [value if value <= 1.0 else None for value in fits]
        rows.append(Target(promise, promise == own, checks_S, share, chance))
    return rows


def budgets(run: RunData) -> list[Budget]:
    """What is left to the run's rounds, where anything is, and three round numbers."""
    budget, left = _option(run, "queue", "budget"), _rounds_left(run)
    own = [Budget("next queue", budget)] if left and known(budget) else []
    if left > 1 and known(budget):
        own.append(Budget(f"the {left} rounds left", left * budget))
    return own + [Budget(plural(number, "label"), number) for number in BUDGETS]


def present_state(run: RunData) -> list[str]:
    """Where the release stands, and the chance of a certificate by the end of the rounds, in sentences."""
    release = (run.last or {}).get("release") or {}
    if not release:
        return ["No release is frozen yet, so every check is still to come."]
    if release.get("state") == "certified":
        return [
            f"The release frozen after round {release['round']} holds its promise of {percent(release['promise'])}."
        ]
    tiers = release["tiers"]
    under_check = next((tier for tier in tiers if not tier["holds"] and not tier.get("withdrawn")), tiers[-1])
    checked, errors = under_check["num_checked"], under_check["num_errors"]
    certified = [
        f"Of the release frozen after round {release['round']}, {_named(tier)} is certified: at least "
        f"{percent(tier['bound'])} of it are right, after {plural(tier['num_checked'], 'check')}."
        for tier in release["tiers"]
        if tier["holds"]
    ]
    text = (
        f"Of {_named(under_check)} of the release frozen after round {release['round']}, "
        f"{plural(checked, 'scan')} {'has' if checked == 1 else 'have'} been checked in its order, with "
        f"{plural(errors, 'error')}."
    )
    if under_check["checks_needed"] is None:
        return [*certified, text, "No number of further checks can certify it."]
    needed = f"{plural(under_check['checks_needed'], 'further check')} without an error would certify it."
    return [*certified, text, needed, *_chances_left(run, release, under_check)]


def _named(tier: Row) -> str:
    """A tier in words."""
    return "the whole" if tier["tier"] == WHOLE else f"the surest tier ({plural(tier['num_scans'], 'scan')})"


def _chances_left(run: RunData, release: Row, tier: Row) -> list[str]:
    """The chance that the checks of the queues left certify the tier under check, by its true precision."""
    num_more = _checks_a_queue(run) * _rounds_left(run)
    if not num_more:
        return []
    is_finite = release.get("sampling") == WITHOUT_REPLACEMENT
    parts = []
    for truth in TRUTHS:
        chance = finite_plan.chance_certified(
            tier["num_scans"] if is_finite else finite_plan.ENDLESS,
            release["promise"],
            release["confidence"],
            truth,
            num_checked=tier["num_checked"],
            num_errors=tier["num_errors"],
            most_checks=min(tier["num_checked"] + num_more, tier["num_scans"]),
        )
        parts.append(f"{percent(chance, 0)} if {percent(truth)} of it are right")
    return [
        f"The rounds left pay for up to {plural(num_more, 'check')}; the chance that they certify it is {words(parts)}."
    ]


def _rounds_left(run: RunData) -> int:
    num = _option(run, "rounds", "num")
    return max(0, num - len(run.rounds)) if known(num) else 0


def _checks_a_queue(run: RunData) -> int:
    share, budget = _option(run, "release", "check_share"), _option(run, "queue", "budget")
    return ReleaseConfig(check_share=share).checks_in(budget) if known(share) and known(budget) else 0


def _confidence(run: RunData) -> float:
    return float(_option(run, "pseudo", "confidence") or 0.95)


def _promise(run: RunData) -> float:
    release = (run.last or {}).get("release") or {}
    return float(release.get("promise") or _option(run, "release", "promise") or TARGETS[0])


def _option(run: RunData, section: str, name: str) -> Any:
    return (run.config.get(section) or {}).get(name)
