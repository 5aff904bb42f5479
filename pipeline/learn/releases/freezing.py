"""Freezing a release: which scans, with which proposals, in which order they are checked.

From then on nothing of it changes, whatever the model learns later. Checks of earlier rounds do not count for it.

- **Enough to check.** Where training admits fewer pseudo-labels than checks need, the surest open scans join: training
  has an estimate to rely on, a release its checks.
- **No patient rule.** The order is a uniform draw from a finite list; it needs no independence between scans. Taking
  one scan a patient would check patients with many scans too rarely.
- **Independent findings.** Each has a release of its own. The order is that of a number drawn for each scan, the same
  for all findings: releases frozen after the same round are checked in the same order, so that one reading checks
  several. A later release draws new numbers: the old ones have decided which scans are answered by now.
- **Which tier is claimed first** is decided here, by what the classifier expects of it.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.config import Config
from pipeline.contracts.tables import MANIFEST, POOL_LABELS, PSEUDO, RELEASE, write_text
from pipeline.labels import label_table, verdicts
from pipeline.learn.releases import check_planning, frozen_content, frozen_release
from pipeline.learn.releases.frozen_release import SUREST, USED_UP, WHOLE, WITHOUT_REPLACEMENT
from pipeline.measures.plans import finite_plan
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.context import StageContext


def freeze_if_due(ctx: StageContext, round_index: int, answers: Mapping[str, str | None]) -> None:
    """Freeze what the run would release after a round, where that is due and something was accepted.

    Nothing is frozen while a release is under check or certified, or after a later queue was drawn: what is frozen must
    not depend on its own checks.
    """
    folder, config = ctx.folder, ctx.config
    numbers = run_files.releases(folder)
    before = frozen_release.state_of(folder, answers)
    if not check_planning.is_due(config, round_index, len(numbers)):
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


def _proposals(ctx: StageContext, round_index: int, answers: Mapping[str, str | None]) -> tuple[pa.Table, int]:
    """What a round would release of the scans nobody has read, and how many of it training did not admit.

    The accepted proposals; where they are fewer than four times the clean checks, the surest of the others join up to
    that number. Of an oracle only scans it can answer.
    """
    pseudo = _unread(ctx, PSEUDO.read(ctx.round_folder(round_index)), answers)
    is_accepted = pc.equal(pseudo["decision"], "accept")
    accepted, others = pseudo.filter(is_accepted), _by_probability(pseudo.filter(pc.invert(is_accepted)))
    joined = others.slice(0, max(0, 4 * check_planning.plan_of(ctx.config)[0] - len(accepted)))
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
    return min(num_scans, max(share, 2 * check_planning.plan_of(config)[0]))


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
        "hash": frozen_content.release_hash(table),
        "promise": options.promise,
        "confidence": confidence,
        "begin_with": begin_with,
        "expected": expected,
        "sampling": WITHOUT_REPLACEMENT,
        "plan": list(finite_plan.plan(num_first, options.promise, confidence, check_planning.NUM_STEPS_TOLD)),
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
