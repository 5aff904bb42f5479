"""How many blind checks a run sets aside for a certificate, and after which round it freezes what they check."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.contracts.config import Config
from pipeline.learn.releases import frozen_release
from pipeline.learn.releases.frozen_release import CHECKING
from pipeline.measures.plans import sequential_plan
from pipeline.runtime.context import StageContext

NUM_STEPS_TOLD = 5  # of the plan, in files and pages


def checks_a_queue(config: Config) -> int:
    """Checks in a queue after freezing, as long as checks are needed."""
    return config.release.checks_in(config.queue.budget)


def is_due(config: Config, round_index: int, num_frozen: int) -> bool:
    """Whether the release is frozen after this round.

    By default after the last round whose remaining queues can pay for the checks planned: the later the better the
    model, as long as the promise can still be earned. A run too short for that freezes nothing. After a release that
    failed, another one is frozen as soon as its clean checks can be paid for.
    """
    if config.release.freeze_round is not None:
        return config.release.freeze_round > 0 and round_index >= config.release.freeze_round
    planned = checks_planned(config)
    if planned is None:
        return False
    if num_frozen:
        return _can_pay(config, round_index, plan_of(config)[0])
    return _can_pay(config, round_index, planned) and not _can_pay(config, round_index + 1, planned)


def checks_planned(config: Config) -> int | None:
    """Checks a run sets aside: with as many errors as `release.run_share` of its labels pays for; None: not one."""
    affordable = config.release.run_share * config.rounds.num * config.queue.budget
    return max((num for num in plan_of(config) if num <= affordable and _can_pay(config, 1, num)), default=None)


def plan_of(config: Config) -> tuple[int, ...]:
    """Checks after which a run's promise is certified with 0, 1, 2, … errors, however large the release will be."""
    return sequential_plan.plan(config.release.promise, config.pseudo.confidence, NUM_STEPS_TOLD)


def _can_pay(config: Config, after: int, num_checks: int) -> bool:
    """Whether the queues after a round have room for so many checks."""
    return (config.rounds.num - after) * checks_a_queue(config) >= num_checks


def freezing_round(config: Config) -> int | None:
    """The round after which a run freezes its first release; None: it freezes none."""
    return next((r for r in range(1, config.rounds.num + 1) if is_due(config, r, 0)), None)


def checks_to_come(ctx: StageContext, round_index: int, answers: Mapping[str, str | None]) -> bool:
    """Whether later rounds are needed for a certificate: a release is under check, or is still to be frozen."""
    state = frozen_release.state_of(ctx.folder, answers)
    if state is not None:
        return bool(state["state"] == CHECKING)
    last = ctx.config.rounds.num
    return ctx.config.pool.finding is None and any(is_due(ctx.config, r, 0) for r in range(round_index + 1, last))


def planning_table(budgets: Sequence[int], check_share: float, confidence: float) -> list[dict[str, Any]]:
    """What budgets of labels can promise when this share of them are checks.

    Returns:
        One row a budget: {"num_labels","num_checks","clean","one_error","two_errors"}, the certified precision with so
        many errors, the last at the end of the checks.
    """
    rows = []
    for budget in budgets:
        num_checks = round(check_share * budget)

        def bound(num_errors: int, num_checks: int = num_checks) -> float:
            wrong = [True] * num_errors + [False] * max(0, num_checks - num_errors)
            return sequential_plan.certified_precision(wrong[:num_checks], confidence)

        rows.append(
            {
                "num_labels": budget,
                "num_checks": num_checks,
                "clean": bound(0),
                "one_error": bound(1),
                "two_errors": bound(2),
            }
        )
    return rows
