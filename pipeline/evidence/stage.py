"""The sealed holdout in detail, once, after the last round: `evaluation.json`.

Legend: S scored scans, C findings.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.audit import stage
from pipeline.audit.audited_pool import Subject, named, open_subject
from pipeline.audit.checks import unlabelled_slices
from pipeline.contracts.tables import PREDICTIONS, write_text
from pipeline.evidence import act_or_defer, growth_effect, site_adaptation
from pipeline.evidence.scored import Scored, probabilities
from pipeline.labels import holdout as labels_holdout
from pipeline.labels.classes import findings_of, positive_among
from pipeline.measures import holdout_metrics
from pipeline.pages.wording import place
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.run_files import last_round

log = logging.getLogger(__name__)


def run(ctx: StageContext) -> dict[str, Any]:
    """Write `evaluation.json` of the last round's model, and the audit's last word."""
    scored = holdout(ctx)
    path = ctx.folder / run_files.EVALUATION
    if scored is None:
        path.unlink(missing_ok=True)
        if ctx.config.evaluate.site is not None:
            log.warning("no operating point is adapted to the site yet: no label of the holdout is known to show it by")
    else:
        labels_holdout.log_read(ctx.folder, "evidence", None, len(scored.ids_S))
        scope = {"kind": "holdout", "pool": place(ctx.config.pool.uri), "round": last_round(ctx.folder)}
        evaluation = detailed(ctx, scored, open_subject(ctx), scope)
        if ctx.config.evaluate.site is not None:
            evaluation["site"] = adapted_to_the_site(ctx, scored, ctx.config.evaluate.site)
        grown = growth_effect.compared(ctx, scored)
        if grown is not None:
            evaluation["growth"] = grown
        write_text(path, json.dumps(evaluation, indent=1))
        if ctx.config.evaluate.promise_error is not None:
            act_or_defer.write(ctx, scored)
    stage.conclude(ctx)
    audit = stage.read(ctx.folder) or {}
    return {"num_scored": len(scored.ids_S) if scored else 0, "verdict": audit.get("verdict")}


def holdout(ctx: StageContext) -> Scored | None:
    """The holdout's scans of known class as the run's last model sees them; None before there are any."""
    if not (ctx.folder / PREDICTIONS.file).exists():
        return None
    findings = findings_of(ctx)
    truth, table = labels_holdout.holdout_truth(ctx.folder, findings), PREDICTIONS.read(ctx.folder)
    scored = pc.is_in(pa.array(truth.ids, pa.string()), value_set=table["image_id"].combine_chunks())
    truth = truth.keep(np.asarray(scored))
    if not truth.ids:
        return None
    prob_SC, predicted_S = probabilities(table, truth.ids, findings)
    return Scored(
        findings=findings,
        positive=positive_among(ctx.config.pool, findings),
        ids_S=truth.ids,
        group_S=truth.group_N,
        class_S=truth.class_N,
        prob_SC=prob_SC,
        predicted_S=predicted_S,
    )


def detailed(ctx: StageContext, scored: Scored, subject: Subject, scope: dict[str, Any]) -> dict[str, Any]:
    """All that `evaluation.json` says of scored scans."""
    from pipeline.evidence import full

    config = ctx.config.evaluate
    evaluation = full.full(
        scored.prob_SC,
        scored.predicted_S,
        scored.class_S,
        scored.findings,
        scored.group_S,
        _slices(subject, scored.ids_S),
        positive=scored.positive,
        prevalences=config.prevalences,
        num_bootstrap=config.num_bootstrap,
        rng=ctx.rng("evaluate", scope["round"]),  # so the round's own intervals come out again
    )
    of_what = {
        "num_scans": len(scored.ids_S),
        "num_groups": len(set(scored.group_S)),
        "findings": list(scored.findings),
        "positive": scored.name_of_positive,
    }
    return {"scope": scope | of_what, **evaluation}


def adapted_to_the_site(ctx: StageContext, scored: Scored, address: str) -> dict[str, Any]:
    """What `evaluation.json` says under `site`: the operating point, and the same holdout at it.

    Raises:
        InputError: see `site_adaptation.adapt`.
    """
    point = site_adaptation.adapt(ctx, address)
    predicted_S = point.classes(scored.prob_SC)
    scores = holdout_metrics.evaluate(
        scored.prob_SC,
        predicted_S,
        scored.class_S,
        scored.findings,
        scored.group_S,
        positive=scored.positive,
        num_bootstrap=ctx.config.evaluate.num_bootstrap,
        rng=ctx.rng("evaluate", last_round(ctx.folder) or 0),  # the draws of the run's own point
    )
    changed = int((predicted_S != scored.predicted_S).sum())
    return point.to_json() | {"num_changed": changed, "holdout": scores.to_json()}


def _slices(subject: Subject, ids_S: list[str]) -> Mapping[str, list[str]]:
    place = {image_id: row for row, image_id in enumerate(subject.image_id_N)}
    rows = np.array([place[image_id] for image_id in ids_S], dtype=np.int64)
    return {
        by: [str(name) for name in named(values_N[rows])] for by, values_N in unlabelled_slices.columns(subject).items()
    }
