"""A round of learning: from the answers so far to a classifier, pseudo-labels, predictions and a row of metrics."""

import json
import logging
import shutil
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.audit import stage
from pipeline.contracts.tables import PREDICTIONS, PSEUDO, QUEUE, RELEASE_CHECK
from pipeline.labels import class_counts, label_table, verdicts
from pipeline.labels.training_labels import ExpertLabels
from pipeline.learn import pseudo_labels, rollback, self_training
from pipeline.learn.material import Material
from pipeline.learn.network.adapter import Adapter
from pipeline.learn.releases import freezing, frozen_release
from pipeline.learn.self_training import Learned
from pipeline.measures.certify import Certificate
from pipeline.radiology_reports.soft_labels import FromReports
from pipeline.rounds import holdout_score, pseudo_checks, report_tier
from pipeline.rounds.round_outputs import (
    OF_THE_MODEL,
    flip_rates,
    nothing_learned,
    predictions,
    pseudo_row,
    save_model,
    write_predictions,
)
from pipeline.rounds.run_scans import Dataset
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.growth import record
from pipeline.selection import draw

# N scans with a vector, E expert-labelled, C findings

log = logging.getLogger(__name__)


def learn_round(
    ctx: StageContext,
    data: Dataset,
    round_index: int,
    expert: ExpertLabels,
    clock: dict[str, float],
    learned: Learned | None = None,
) -> dict[str, Any]:
    """Learn from the answers so far, write the round's files, and return its row of metrics.

    Args:
        ctx: The stage's context.
        data: The run's scans.
        round_index: From 1.
        expert: What experts have said up to this round.
        clock: Seconds of each step are added here.
        learned: What came of `begun`, audited, where others learned with it; None: it learns here, alone.
    """
    material, certificates, admitted_C, reason, reports = begun(ctx, data, round_index, expert)
    row: dict[str, Any] = {
        "num_expert": len(material.expert_E),
        "expert_by_class": class_counts.count_by_class(material.class_E, data.findings),
        "gate": ctx.config.pseudo.gate,
        "certificates": {name: asdict(certificate) for name, certificate in certificates.items()},
        **({"certificates_from_round": record.first_certifying_round(ctx.folder)} if record.parts(ctx.folder) else {}),
        **_of_the_release(ctx, expert),
        **report_tier.counts(material, reports),
    }
    if reason:
        log.warning("round %d: no classifier yet, %s", round_index, reason)
        _remove_classifier(ctx.round_folder(round_index))
        return row | nothing_learned(data.findings)
    if learned is None:
        with timed(clock, "audit"):
            stage.recheck(ctx)
        with timed(clock, "train"):
            learned = _learn(ctx, data, round_index, material, expert, admitted_C)
    row |= _write(ctx, data, round_index, material, learned, admitted_C, clock)
    row |= report_tier.counts(material, reports, PSEUDO.read(ctx.round_folder(round_index)))
    shutil.rmtree(ctx.round_folder(round_index) / run_files.NETWORK_FITS, ignore_errors=True)  # the model is there
    freezing.freeze_if_due(ctx, round_index, expert.answers)
    return row | _of_the_release(ctx, expert)


class Begun(NamedTuple):
    """What a round has before it learns.

    Attributes:
        material: What it learns from.
        certificates: Of each class, and pooled.
        admitted_C: Whether the gate lets each class into training.
        reason: Why the labels give no classifier; None when they do.
        reports: What radiology reports tell, as far as experts have checked them.
    """

    material: Material
    certificates: dict[str, Certificate]
    admitted_C: list[bool]
    reason: str | None
    reports: FromReports


def begun(ctx: StageContext, data: Dataset, round_index: int, expert: ExpertLabels) -> Begun:
    """What the answers so far give a round to learn from; writes nothing."""
    pseudo = ctx.config.pseudo
    asked = _asked_by_kind(ctx, round_index)
    reports = report_tier.of_round(ctx, data.findings, round_index, expert.answers)
    soft = report_tier.soft(reports, data, ctx.config.reports.weight)
    uniform = asked["uniform"] - report_tier.known_before(ctx)  # of the others they are a sample of the open pool
    material = data.material(expert, uniform, asked[RELEASE_CHECK], soft)
    certificates = pseudo_labels.certificates(
        ctx.folder, expert.answers, data.findings, pseudo, round_index, ctx.config.rounds.num
    )
    admitted_C = pseudo_labels.open_classes(pseudo.gate, data.findings, certificates)
    return Begun(material, certificates, admitted_C, cannot_learn(material.class_E, material.group_E), reports)


def _of_the_release(ctx: StageContext, expert: ExpertLabels) -> dict[str, Any]:
    """The fields of a round's row that speak of the frozen release; null before there is one, or a check of it."""
    state = frozen_release.state_of(ctx.folder, expert.answers)
    checked = state is not None and any(tier["num_checked"] for tier in state["tiers"])
    return {"release": state, "pseudo_precision_certified": state["bound"] if state and checked else None}


def _learn(
    ctx: StageContext,
    data: Dataset,
    round_index: int,
    material: Material,
    expert: ExpertLabels,
    admitted_C: Sequence[bool],
) -> Learned:
    """Learn by itself."""
    adapter = adapter_of(ctx, data, round_index, expert.answers, ctx.round_folder(round_index))
    rng = ctx.rng("learn", round_index)
    return self_training.learn(material, ctx.config, ctx.engine, len(data.findings), admitted_C, rng, adapter)


def _write(
    ctx: StageContext,
    data: Dataset,
    round_index: int,
    material: Material,
    learned: Learned,
    admitted_C: Sequence[bool],
    clock: dict[str, float],
) -> dict[str, Any]:
    """Write the round's files, and return the fields of its row that speak of the model."""
    before, folder = record.folder_before(ctx.folder, round_index), ctx.round_folder(round_index)
    model = learned.classifier(data.findings)
    oof_prob_EC = model.probabilities(learned.oof_logit_EC)
    with timed(clock, "pseudo"):
        rolled_back = _write_pseudo_labels(ctx, data, round_index, material, learned, oof_prob_EC, admitted_C)
        row = pseudo_row(ctx, data, round_index, learned)
        if rolled_back:
            earlier = json.loads((before / run_files.ROW).read_text("utf-8"))
            row |= {name: earlier[name] for name in OF_THE_MODEL}
        truth = data.pool_labels if ctx.config.oracle else None
        neighbors = ctx.config.pseudo.second_opinion_neighbors
        row["pseudo_flips"] = pseudo_checks.flips(before, folder, data.findings)
        row["second_opinion"] = pseudo_checks.opinions(folder, material, data.findings, neighbors, truth)
    if rolled_back:
        prob_NC, predicted_N = predictions(before, data)
    else:
        prob_NC = model.probabilities(learned.student_logit_NC)
        predicted_N = model.classes(prob_NC)
    with timed(clock, "evaluate"):
        row |= flip_rates(before, data, predicted_N)
        scores = holdout_score.evaluate(ctx, round_index, prob_NC, predicted_N, data.findings)
        row["holdout"] = None if scores is None else scores.to_json()
        row |= holdout_score.by_part(ctx, round_index, prob_NC, predicted_N, data.findings)
    row |= {"calibration_auroc": rollback.oof_auroc(oof_prob_EC, material.class_E), "rolled_back": rolled_back}
    save_model(ctx, round_index, model, learned, row | {"num_expert": len(material.expert_E)})
    names = [data.findings[c] for c in predicted_N]
    write_predictions(ctx, data, round_index, names, dict(zip(data.findings, prob_NC.T, strict=True)))
    return row


def _write_pseudo_labels(
    ctx: StageContext,
    data: Dataset,
    round_index: int,
    material: Material,
    learned: Learned,
    oof_prob_EC: np.ndarray,
    admitted_C: Sequence[bool],
) -> bool:
    """Write the round's pseudo-labels and out-of-fold probabilities, or carry over those of the round before.

    Returns:
        Whether the round was rolled back: its classifier is worse than the one before, beyond chance.
    """
    before, folder = record.folder_before(ctx.folder, round_index), ctx.round_folder(round_index)
    ids = material.expert_E.image_id.to_pylist()
    rolled_back = rollback.is_worse(
        before,
        ids,
        oof_prob_EC,
        material.class_E,
        list(material.group_E),
        data.findings,
        rollback.Allowed.of(ctx.config.pseudo),
        ctx.rng("rollback", round_index),
    )
    if rolled_back:
        admitted = [finding for finding, is_open in zip(data.findings, admitted_C, strict=True) if is_open]
        rollback.carry_over(before, folder, ids, admitted)
    else:
        rollback.save_oof(folder, ids, oof_prob_EC, data.findings)
        threshold_C = learned.acceptance.threshold_C
        pseudo_labels.save(folder, learned.open_O, learned.decisions, threshold_C, data.findings)
    return rolled_back


def _remove_classifier(folder: Path) -> None:
    """A round that learns nothing keeps nothing of an earlier attempt."""
    for name in (PSEUDO.file, PREDICTIONS.file, run_files.OOF):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / run_files.MODEL, ignore_errors=True)


def adapter_of(
    ctx: StageContext, data: Dataset, round_index: int, answered: Collection[str], folder: Path
) -> Adapter | None:
    """The trainer of this round's networks; None where the backbone stays as it is."""
    return Adapter(ctx, data.scans_N, folder / run_files.NETWORK_FITS) if adapts(ctx, round_index, answered) else None


def adapts(ctx: StageContext, round_index: int, answered: Collection[str]) -> bool:
    """Whether this round adapts the network: each does, or the last one, after which nothing is left to ask."""
    train = ctx.config.train
    if train.adapt == "head" or train.adapt_rounds == "all" or round_index >= ctx.config.rounds.num:
        return train.adapt != "head"
    if ctx.whole is not None:  # what is left to ask is the run's matter
        ctx = ctx.whole
        answered = verdicts.read_whole(label_table.read(ctx.folder))
    return not draw.selection_pool(ctx, set(answered)).candidate_N.any()


def cannot_learn(class_E: np.ndarray, group_E: Any) -> str | None:
    """Why these expert labels give no classifier; None when they do."""
    if len(np.unique(class_E)) < 2:
        return f"the {len(class_E)} expert labels name fewer than two classes"
    if len(set(group_E)) < 2:
        return "the expert labels are of one patient"
    return None


@contextmanager
def timed(clock: dict[str, float], name: str) -> Iterator[None]:
    """Add the seconds spent inside to `clock[name]`."""
    start = time.perf_counter()
    yield
    clock[name] = clock.get(name, 0.0) + time.perf_counter() - start


def _asked_by_kind(ctx: StageContext, round_index: int) -> dict[str, set[str]]:
    """image_ids of the queues so far, by why they were asked; each queue is read once."""
    asked: dict[str, set[str]] = defaultdict(set)
    for r in range(1, round_index + 1):
        queue = QUEUE.read(ctx.round_folder(r))
        for image_id, kind in zip(queue["image_id"].to_pylist(), queue["kind"].to_pylist(), strict=True):
            asked[kind].add(image_id)
    return asked
