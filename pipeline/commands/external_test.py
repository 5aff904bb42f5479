"""A run's classifier on another pool: what that pool has in common with training is taken out first."""

import datetime as dt
import json
from typing import Any

import numpy as np

from pipeline import stages
from pipeline.audit import stage
from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import write_text
from pipeline.evidence import other_pool
from pipeline.evidence.other_pool import Shared
from pipeline.evidence.scored import Scored
from pipeline.evidence.stage import detailed
from pipeline.labels.classes import positive_among
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.stages import READ_WITHOUT_SPLIT


def external(ctx: StageContext, pool: str, overrides: dict[str, Any]) -> dict[str, Any]:
    """The run's last model on another pool; scans that the run knows already are left out and counted."""
    folder = ctx.folder / run_files.EXTERNAL / other_pool.folder_name(pool)
    with other_pool.opened(ctx, folder, pool, overrides, _read) as there:
        return _tested(ctx, there, pool)


def _read(there: StageContext) -> None:
    stages.run_stages(there, READ_WITHOUT_SPLIT)


def _tested(ctx: StageContext, there: StageContext, pool: str) -> dict[str, Any]:
    from pipeline.audit.audited_pool import open_subject

    folder = there.folder
    audited = stage.examine(there, stage.POOL)
    stage.write(folder, audited)
    subject = open_subject(there)
    seen = other_pool.shared(ctx, other_pool.usable_scans(ctx.folder), other_pool.usable_scans(folder))
    scored, left_out, num_other = _scored_there(ctx, there, subject, seen)
    scope = {
        "kind": "external",
        "pool": pool,
        "round": run_files.last_round(ctx.folder),
        "read": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }
    evaluation = detailed(ctx, scored, subject, scope) | {
        "audit": {
            "num_shared_patients": seen.num_patients,
            "num_copies": seen.num_copies,
            "num_left_out": left_out,
            "num_other_classes": num_other,
            "verdict": audited["verdict"],
        }
    }
    write_text(folder / run_files.EVALUATION, json.dumps(evaluation, indent=1))
    return evaluation


def _scored_there(ctx: StageContext, there: StageContext, subject: Any, seen: Shared) -> tuple[Scored, int, int]:
    """The labelled scans of a pool as the run's model sees them; how many it knew or cannot name."""
    model = other_pool.last_classifier(ctx.folder)
    index = {finding: c for c, finding in enumerate(model.findings)}
    labelled = [row for row in subject.labelled if subject.has_emb_N[row]]
    known = [row for row in labelled if subject.label_N[row] in index]
    rows = np.array([row for row in known if subject.image_id_N[row] not in seen.ids], dtype=np.int64)
    if len(rows) == 0:
        raise InputError(
            f"none of its {len(labelled)} labelled scans can be scored: classes {list(subject.findings)}, "
            f"{len(seen.ids)} scans known from the run itself",
            where=subject.config.pool.uri,
            fix=f"give scans labelled {', '.join(model.findings)}; of scans without labels `cxr-ssl predict` says what "
            "the model thinks",
        )
    ids = [str(subject.image_id_N[row]) for row in rows]
    prob_SC = model.probabilities(other_pool.logits(there, model, ids))
    scored = Scored(
        findings=model.findings,
        positive=positive_among(ctx.config.pool, model.findings),
        ids_S=ids,
        group_S=[str(subject.group_N[row]) for row in rows],
        class_S=np.array([index[subject.label_N[row]] for row in rows], dtype=np.int64),
        prob_SC=np.asarray(prob_SC, dtype=np.float64),
        predicted_S=model.classes(prob_SC).astype(np.int64),
    )
    return scored, len(known) - len(rows), len(labelled) - len(known)
