"""What a round leaves: a classifier, pseudo-labels, predictions and one row of metrics."""

import json
import logging
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from pipeline.audit import stage
from pipeline.contracts.tables import POOL_LABELS, QUEUE
from pipeline.labels import label_table, verdicts
from pipeline.labels.training_labels import Heard
from pipeline.learn import pseudo_labels, rollback, self_training
from pipeline.learn.adapt import Adapter
from pipeline.learn.classifier import Classifier
from pipeline.learn.self_training import Learned
from pipeline.rounds import holdout_score
from pipeline.rounds.round_outputs import (
    OF_THE_MODEL,
    certified_bound,
    flip_rate,
    nothing_learned,
    predictions,
    pseudo_row,
    save_model,
    write_predictions,
)
from pipeline.rounds.run_scans import Dataset
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.finding_folders import whole_of
from pipeline.selection import draw

# N scans with a vector, E expert-labelled, C findings

log = logging.getLogger(__name__)


def learn_round(
    ctx: StageContext,
    data: Dataset,
    round_index: int,
    heard: Heard,
    clock: dict[str, float],
) -> dict[str, Any]:
    """Learn from the answers so far, write the round's files, and return its row of metrics.

    Args:
        ctx: The stage's context.
        data: The run's scans.
        round_index: From 1.
        heard: What experts have said up to this round.
        clock: Seconds of each step are added here.
    """
    folder, config = ctx.round_folder(round_index), ctx.config
    material, ids = data.material(heard, _uniform(ctx, round_index))
    certificates = pseudo_labels.certificates(
        ctx.folder, heard.answers, data.findings, config.pseudo, round_index, config.rounds.num, data.group
    )
    row: dict[str, Any] = {
        "num_expert": len(material.expert_E),
        "gate": config.pseudo.gate,
        "certificates": {name: asdict(found) for name, found in certificates.items()},
        "pseudo_precision_certified": certified_bound(certificates),
    }
    reason = cannot_learn(material.class_E, material.group_E)
    if reason:
        log.warning("round %d: no classifier yet, %s", round_index, reason)
        for stale in ("pseudo.parquet", "predictions.parquet", run_files.OOF):
            (folder / stale).unlink(missing_ok=True)
        shutil.rmtree(folder / "model", ignore_errors=True)
        return row | nothing_learned(data.findings)
    with timed(clock, "audit"):
        stage.recheck(ctx)
    admitted = pseudo_labels.open_classes(config.pseudo.gate, data.findings, certificates)
    with timed(clock, "train"):
        rng = ctx.rng("learn", round_index)
        adapter = adapter_of(ctx, data, round_index, heard.answers, folder)
        learned = self_training.learn(material, config, ctx.engine, len(data.findings), admitted, rng, adapter)
        model = classifier(ctx, data, learned)
        oof_prob_EC = model.probabilities(learned.oof_logit_EC)
    before = ctx.round_folder(round_index - 1)
    with timed(clock, "pseudo"):
        rolled_back = rollback.is_worse(
            before,
            ids,
            oof_prob_EC,
            material.class_E,
            list(material.group_E),
            data.findings,
            config.pseudo.rollback_auroc,
            ctx.rng("rollback", round_index),
        )
        if rolled_back:
            rollback.carry_over(
                before, folder, ids, [f for f, open_ in zip(data.findings, admitted, strict=True) if open_]
            )
        else:
            rollback.save_oof(folder, ids, oof_prob_EC, data.findings)
            pseudo_labels.save(
                folder, data.ids_N[learned.open_T], learned.decisions, learned.threshold_C, data.findings
            )
        row |= pseudo_row(ctx, data, round_index, learned)
        if rolled_back:
            earlier = json.loads((before / "metrics.json").read_text("utf-8"))
            row |= {name: earlier[name] for name in OF_THE_MODEL}
    if rolled_back:
        prob_NC, predicted_N = predictions(before, data)
    else:
        prob_NC = model.probabilities(learned.student_logit_NC)
        predicted_N = model.classes(prob_NC)
    with timed(clock, "evaluate"):
        row["flip_rate"] = flip_rate(before, data, predicted_N)
        scores = holdout_score.evaluate(ctx, round_index, prob_NC, predicted_N, data.findings)
        row["holdout"] = None if scores is None else scores.to_json()
    row |= {"calibration_auroc": rollback.oof_auroc(oof_prob_EC, material.class_E), "rolled_back": rolled_back}
    save_model(ctx, round_index, model, learned, row)
    names = [data.findings[c] for c in predicted_N]
    write_predictions(ctx, data, round_index, names, dict(zip(data.findings, prob_NC.T, strict=True)))
    if adapter is not None:
        adapter.clean()
    return row


def adapter_of(
    ctx: StageContext, data: Dataset, round_index: int, answered: Collection[str], folder: Path
) -> Adapter | None:
    """What trains the network in this round; None where the backbone stays as it is."""
    return Adapter(ctx, data.ids_N, folder / "network") if adapts(ctx, round_index, answered) else None


def adapts(ctx: StageContext, round_index: int, answered: Collection[str]) -> bool:
    """Whether this round adapts the network: each does, or the last one, after which nothing is left to ask."""
    train = ctx.config.train
    if train.adapt == "head" or train.adapt_rounds == "all" or round_index >= ctx.config.rounds.num:
        return train.adapt != "head"
    whole = whole_of(ctx.folder)
    if whole is not None:  # a finding's part of a run: what is left to ask is the run's matter
        pool = ctx.config.pool.model_copy(update={"finding": None})
        ctx = replace(ctx, folder=whole, config=ctx.config.model_copy(update={"pool": pool}))
        answered = verdicts.read_whole(label_table.read(whole))
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


def _uniform(ctx: StageContext, round_index: int) -> set[str]:
    found: set[str] = set()
    for r in range(1, round_index + 1):
        queue = QUEUE.read(ctx.round_folder(r))
        found |= set(queue.filter(pc.equal(queue["kind"], "uniform"))["image_id"].to_pylist())
    if ctx.config.pool.finding is None or ctx.config.oracle:
        return found
    pool = POOL_LABELS.read(ctx.folder)  # drawn for another finding: this one was known, and is no sample of the open
    return found - set(pool.filter(pc.is_valid(pool["label"]))["image_id"].to_pylist())


def classifier(ctx: StageContext, data: Dataset, learned: Learned) -> Classifier:
    """The classifier of what was learned, at the configured operating point."""
    weights_C = holdout_score.operating_weights(learned.prevalence_C, ctx.config.evaluate.operating_point)
    return Classifier(learned.student, data.findings, learned.temperature, learned.prevalence_C, weights_C)
