"""A frozen release: the pseudo-labels others may use, fixed before the first check of it.

Freezing writes down which scans the run would release, with which proposal, and in which order they are checked. From
then on nothing of it changes, whatever the model learns later. Checks of earlier rounds do not count for it.

- **Tiers.** The surest of the proposals, then all of them. One order drawn by chance covers all scans; the surest
  ones in it are in an order drawn by chance as well, so that every answer counts for both tiers.
- **Fixed order of claims.** The second tier is claimed only once the first one is, so that both are claimed without
  splitting the error. The bounds beside the claims are statements of their own, one a tier: both at once hold with
  twice the error. Which tier comes first is
  decided when the release is frozen, by what the classifier expects of it.
- **Enough to check.** Where training admits fewer pseudo-labels than checks need, the surest open scans join: training
  has an estimate to rely on, a release its checks.
- **What counts.** Of each tier the checks in that order up to the first scan without an answer, for whatever reason a
  scan was asked. *Cannot tell*, a rejected scan and an even split are errors: leaving them out would void the bound.
- **No patient rule.** The order is a uniform draw from a finite list; it needs no independence between scans. Taking
  one scan a patient would check patients with many scans too rarely.
- **A small release takes fewer checks.** No scan is checked twice, and the claim is about these scans alone, so the
  bound is that of draws without replacement from a tier of known size (`finite_plan`). Releases frozen by an earlier
  version keep the plan they were frozen with: one that is chosen after checks were seen proves nothing.
- **Independent findings.** Each has a release of its own. The order is that of a number drawn for each scan, the same
  for all findings: releases frozen after the same round are checked in the same order, so that one reading checks
  several. A later release draws new numbers: the old ones have decided which scans are answered by now.
- **Several releases.** A new one is frozen only when every check of the one before is spent, or can no longer certify
  it. Each has its own error of 1 - confidence: of a run with k releases all certificates hold together with at least
  1 - k (1 - confidence).
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.config import Config
from pipeline.contracts.object_store import local_path
from pipeline.contracts.tables import MANIFEST, POOL_LABELS, PSEUDO, RELEASE, write_text
from pipeline.labels import label_table, verdicts
from pipeline.measures.plans import finite_plan, sequential_plan
from pipeline.runtime import finding_folders, run_dir, run_files
from pipeline.runtime.context import StageContext

SUREST, WHOLE = "surest", "whole"
CHECKING, CERTIFIED, USED_UP = "checking", "certified", "used-up"
WITHOUT_REPLACEMENT = "without-replacement"
NUM_STEPS_TOLD = 5  # of the plan, in files and pages


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


def freeze_if_due(ctx: StageContext, round_index: int, answers: Mapping[str, str | None]) -> None:
    """Freeze what the run would release after a round, where that is due and something was accepted.

    Nothing is frozen while a release is under check or certified, or after a later queue was drawn: what is frozen must
    not depend on its own checks.
    """
    folder, config = ctx.folder, ctx.config
    numbers = run_files.releases(folder)
    before = state_of(folder, answers)
    if not is_due(config, round_index, len(numbers)):
        return
    if (before is not None and before["state"] != USED_UP) or (run_files.latest_round(folder) or 0) > round_index:
        return
    proposals, num_not_admitted = _proposals(ctx, round_index, answers)
    if len(proposals) == 0:
        return
    number = len(numbers) + 1
    num_surest = _num_surest(len(proposals), config)
    table = _ordered(proposals, num_surest, f"{config.seed}/release {number} after round {round_index}")
    place = run_files.release_folder(folder, number)
    card = _card(ctx, number, round_index, table) | {"num_not_admitted": num_not_admitted}
    RELEASE.write(place, table)
    write_text(place / run_files.RELEASE_CARD, json.dumps(card, indent=1))  # last: with it the release is frozen


def checks_to_come(ctx: StageContext, round_index: int, answers: Mapping[str, str | None]) -> bool:
    """Whether later rounds are needed for a certificate: a release is under check, or is still to be frozen."""
    state = state_of(ctx.folder, answers)
    if state is not None:
        return bool(state["state"] == CHECKING)
    last = ctx.config.rounds.num
    return ctx.config.pool.finding is None and any(is_due(ctx.config, r, 0) for r in range(round_index + 1, last))


def release_hash(table: pa.Table) -> str:
    """SHA-256 over the rows in the order of the checks: scan, content, proposal, probability, tier."""
    digest = hashlib.sha256()
    for row in table.sort_by("position").select(RELEASE.schema.names).to_pylist():
        digest.update((json.dumps(list(row.values())) + "\n").encode())
    return digest.hexdigest()


def scans_changed(folder: Path, release: Release) -> list[str]:
    """Scans of a release that the pool no longer holds as they were frozen; their files are read again."""
    manifest = run_files.read(folder, MANIFEST, ["image_id", "sha256", "uri"])
    rows = zip(*(manifest[name].to_pylist() for name in ("image_id", "sha256", "uri")), strict=True)
    known = {image_id: (sha256, uri) for image_id, sha256, uri in rows}
    frozen = zip(release.table["image_id"].to_pylist(), release.table["sha256"].to_pylist(), strict=True)
    changed = []
    for image_id, sha256 in frozen:
        now, uri = known.get(image_id, (None, ""))
        file = local_path(uri) if uri else None
        if image_id not in known or now != sha256 or (file is not None and not _is_as_read(file, sha256)):
            changed.append(image_id)
    return changed


def _is_as_read(file: Path, sha256: str | None) -> bool:
    """Whether a local file has the content the manifest knows; what is no local file is not read again."""
    if not file.is_absolute():
        return True
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == sha256


def _proposals(ctx: StageContext, round_index: int, answers: Mapping[str, str | None]) -> tuple[pa.Table, int]:
    """What a round would release of the scans nobody has read, and how many of it training did not admit.

    The accepted proposals; where they are fewer than four times the clean checks, the surest of the others join up to
    that number. Of an oracle only scans it can answer.
    """
    pseudo = _unread(ctx, PSEUDO.read(ctx.round_folder(round_index)), answers)
    is_accepted = pc.equal(pseudo["decision"], "accept")
    accepted, others = pseudo.filter(is_accepted), _by_probability(pseudo.filter(pc.invert(is_accepted)))
    joined = others.slice(0, max(0, 4 * plan_of(ctx.config)[0] - len(accepted)))
    proposals = pa.concat_tables([accepted, joined]).combine_chunks()
    manifest = run_files.read(ctx.folder, MANIFEST, ["image_id", "sha256"])
    place = pc.index_in(proposals["image_id"], value_set=manifest["image_id"].combine_chunks())
    columns = proposals.select(["image_id", "finding", "probability"])
    return columns.append_column("sha256", manifest["sha256"].take(place)), len(joined)


def _unread(ctx: StageContext, pseudo: pa.Table, answers: Mapping[str, str | None]) -> pa.Table:
    read = set(answers) | verdicts.read_whole(label_table.read(run_files.home(ctx.folder)))
    is_known = pc.is_in(pseudo["image_id"], value_set=pa.array(sorted(read), pa.string()))
    pseudo = pseudo.filter(pc.invert(is_known))
    if ctx.config.oracle:
        truth = POOL_LABELS.read(ctx.folder)
        answerable = truth.filter(pc.is_valid(truth["label"]))["image_id"].combine_chunks()
        pseudo = pseudo.filter(pc.is_in(pseudo["image_id"], value_set=answerable))
    return pseudo


def _num_surest(num_scans: int, config: Config) -> int:
    """Scans of the surest tier: its share, but room for twice the clean checks where the release has it."""
    share = math.ceil(config.release.surest_share * num_scans)
    return min(num_scans, max(share, 2 * plan_of(config)[0]))


def _by_probability(proposals: pa.Table) -> pa.Table:
    return proposals.sort_by([("probability", "descending"), ("image_id", "ascending")])


def _ordered(proposals: pa.Table, num_surest: int, drawn_by: str) -> pa.Table:
    """The proposals as rows of the contract, in the order of their checks.

    Args:
        proposals: What is released.
        num_surest: Scans of the surest tier.
        drawn_by: What the number of each scan is drawn from; two releases with the same have the same order.
    """
    proposals = _by_probability(proposals)
    tier_N = np.where(np.arange(len(proposals)) < num_surest, SUREST, "rest")
    drawn_N = [run_files.digest(drawn_by, image_id) for image_id in proposals["image_id"].to_pylist()]
    order = np.argsort(np.array(drawn_N, dtype=str), kind="stable")
    proposals = proposals.append_column("tier", pa.array(tier_N, pa.string())).take(order)
    position = pa.array(np.arange(1, len(proposals) + 1, dtype=np.int32))
    return proposals.append_column("position", position).select(RELEASE.schema.names).cast(RELEASE.schema)


def _card(ctx: StageContext, number: int, round_index: int, table: pa.Table) -> dict[str, Any]:
    options, confidence = ctx.config.release, ctx.config.pseudo.confidence
    weights = ctx.round_folder(round_index) / run_files.MODEL / run_files.MODEL_WEIGHTS
    is_surest = pc.equal(table["tier"], SUREST)
    expected = {
        SUREST: pc.mean(table.filter(is_surest)["probability"]).as_py(),
        WHOLE: pc.mean(table["probability"]).as_py(),
    }
    begin_with = _first_tier(options.begin_with, expected[WHOLE], options.promise)
    num_surest = int(pc.sum(is_surest).as_py())
    num_first = num_surest if begin_with == SUREST else len(table)
    return {
        "number": number,
        "round": round_index,
        "hash": release_hash(table),
        "promise": options.promise,
        "confidence": confidence,
        "begin_with": begin_with,
        "expected": expected,
        "sampling": WITHOUT_REPLACEMENT,
        "plan": list(finite_plan.plan(num_first, options.promise, confidence, NUM_STEPS_TOLD)),
        "num_scans": len(table),
        "num_surest": num_surest,
        "model": run_dir.file_hash(weights) if weights.exists() else None,
    }


def _first_tier(wanted: str, expected_of_whole: float, promise: float) -> str:
    """The tier that is claimed first.

    By default the whole, where its proposals are right by the classifier's own probabilities so often that the errors
    it expects are less than a third of what the promise allows: checks would then find none in 36 more often than not.
    """
    if wanted != "auto":
        return wanted
    return WHOLE if 1.0 - expected_of_whole < (1.0 - promise) / 3.0 else SUREST


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
