"""The audit: what may make a pool, a split or a run no evidence, found before anybody relies on it.

It runs three times: before labels are spent (`run`, a stage), before the holdout is read when labels have come in
since (`recheck`), and after the run, when the holdout's reads and the labels given can be counted (`conclude`).
"""

import json
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.audit import overrides
from pipeline.audit.check import judged
from pipeline.contracts.errors import AuditBlocked
from pipeline.contracts.tables import write_text
from pipeline.labels.holdout import scores_of
from pipeline.pages.wording import place
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext

if TYPE_CHECKING:
    from pipeline.audit.audited_pool import Subject

log = logging.getLogger(__name__)
POOL, EVALUATION, FINAL = "pool", "evaluation", "final"  # phases


def run(ctx: StageContext) -> dict[str, Any]:
    """Audit what the stages before have left, write `audit.json` and its page.

    Raises:
        AuditBlocked: a check blocks and nobody has accepted it.
    """
    audit = examine(ctx, POOL)
    publish(ctx, audit)
    return counts(audit)


def counts(audit: dict[str, Any]) -> dict[str, int]:
    """How many checks are ok, warn and block, and how many could not be made."""
    made = Counter(check["severity"] for check in audit["checks"] if check.get("checked", True))
    num_unchecked = sum(not check.get("checked", True) for check in audit["checks"])
    return {name: made[name] for name in ("ok", "warn", "block")} | {"unchecked": num_unchecked}


def recheck(ctx: StageContext) -> None:
    """Audit again before the holdout is read, where labels have come in since.

    Raises:
        AuditBlocked: as `run`.
    """
    before = read(ctx.folder)
    if _has_new_labels(ctx):
        publish(ctx, examine(ctx, EVALUATION))
    elif before is not None:  # it may have blocked an earlier attempt, and an override may have come since
        now = judged(before, overrides.read(ctx.folder))
        if now["blocking"]:
            publish(ctx, now)


def conclude(ctx: StageContext) -> None:
    """Bring `audit.json` up to date after the run: the holdout's reads, the labels given, the model beside the probes.

    Never blocks: the labels are spent, and what was found is said.
    """
    from pipeline.audit.audited_pool import open_subject
    from pipeline.audit.check import TITLES
    from pipeline.audit.checks import holdout_reads, unlabelled_slices

    audit = examine(ctx, FINAL) if _has_new_labels(ctx) else read(ctx.folder)
    if audit is None:
        return
    subject = open_subject(ctx)
    fresh = holdout_reads.check(subject).to_json()
    audit["checks"] = [fresh if check["id"] == fresh["id"] else check for check in audit["checks"]]
    assert len(audit["checks"]) == len(TITLES)
    audit["slices"] = unlabelled_slices.coverage(subject)
    audit["shortcuts"] = [row for row in audit["shortcuts"] if row["probe"] != "run"] + _of_the_run(ctx.folder)
    audit["phase"] = FINAL
    write(ctx.folder, judged(audit, overrides.read(ctx.folder)))


def examine(ctx: StageContext, phase: str) -> dict[str, Any]:
    """All checks of the pool in the folder; returns the content of `audit.json` and writes nothing."""
    from pipeline.audit.audited_pool import open_subject
    from pipeline.audit.checks import (
        between_splits,
        burned_in,
        cases,
        confounding,
        copies,
        grey_levels,
        holdout_reads,
        label_errors,
        left_out_source,
        not_chest,
        patient_ids,
        patients,
        shortcuts,
        unlabelled_slices,
    )
    from pipeline.labels.holdout import log_read

    subject = open_subject(ctx)
    sealed = int(((subject.side_N == "test") & (subject.label_N != None)).sum())  # noqa: E711 - element by element
    if sealed:
        log_read(ctx.folder, "audit", None, sealed)
    probes = shortcuts.measure(subject)
    grey = grey_levels.measure(subject, probes)
    left_out = left_out_source.leave_one_source_out(subject)
    checks = [
        not_chest.check(subject),
        burned_in.check(subject),
        *copies.check(subject),
        label_errors.check(subject),
        *patients.check(subject),
        patient_ids.check(subject),
        *cases.check(subject),
        between_splits.check(subject),
        *confounding.check(subject, probes.of(shortcuts.POPULATION)),
        *shortcuts.check(subject, probes),
        grey_levels.check(subject, grey),
        left_out_source.check(subject, left_out),
        holdout_reads.check(subject),
    ]
    audit = {
        "phase": phase,
        "strict": ctx.config.audit.strict,
        "facts": _facts(subject, probes.quality),
        "checks": [check.to_json() for check in checks],
        "shortcuts": probes.to_json() + grey.to_json(),
        "external": [tested.to_json() for tested in left_out],
        "slices": unlabelled_slices.coverage(subject),
    }
    return judged(audit, overrides.read(ctx.folder))


def _facts(subject: "Subject", lung_mask_quality: float | None) -> dict[str, Any]:
    """What was audited, in numbers."""
    return {
        "pool": place(subject.config.pool.uri),
        "num_files": subject.num_files,
        "num_scans": len(subject),
        "num_patients": len({patient for patient in subject.patient_N if patient is not None}),
        "num_labelled": len(subject.labelled),
        "classes": {finding: int((subject.label_N == finding).sum()) for finding in subject.findings},
        "burned_in_text": "handed on" if subject.config.pool.allow_burned_in_text else "kept back",
        "sources": sorted({source for source in subject.source_N if source is not None}),
        "split": _split_of(subject),
        "lung_mask_quality": lung_mask_quality,
        "labels_hash": subject.labels_hash(),
    }


def _split_of(subject: "Subject") -> str:
    if not any(subject.side_N):
        return "none"
    source = subject.config.splits.holdout_source
    if source is not None:
        return f"source {source} sealed"
    return "drawn by group" if subject.drawn else "the pool's own"


def read(folder: Path) -> dict[str, Any] | None:
    """The audit of a run; None before there is one."""
    path = folder / run_files.AUDIT
    if not path.exists():
        return None
    audit: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return audit


def _has_new_labels(ctx: StageContext) -> bool:
    """Whether labels have come in since the last audit; an oracle's were all known from the start."""
    from pipeline.audit.audited_pool import open_subject

    before = read(ctx.folder)
    if ctx.config.oracle or before is None:
        return False
    return bool(open_subject(ctx).labels_hash() != before["facts"].get("labels_hash"))


def publish(ctx: StageContext, audit: dict[str, Any]) -> None:
    """Write an audit and say what it found.

    Raises:
        AuditBlocked: a check blocks and nobody has accepted it.
    """
    write(ctx.folder, audit)
    log_at: Callable[..., None] = log.info if audit["verdict"] == "valid" else log.warning
    log_at("audit: %s", audit["verdict"])
    for check in audit["checks"]:
        if check["severity"] != "ok":
            accepted = f" [accepted: {check['accepted']}]" if check["accepted"] else ""
            log.warning("audit: %s %s: %s%s", check["severity"], check["id"], check["message"], accepted)
    if audit["blocking"]:
        raise AuditBlocked(blocked_message(audit), where=ctx.folder / run_files.AUDIT_PAGE)


def blocked_message(audit: dict[str, Any]) -> str:
    """What blocks, and the two ways out."""
    by_id = {check["id"]: check for check in audit["checks"]}
    lines = [f"the audit blocks ({', '.join(audit['blocking'])}): this would not be evidence"]
    lines += [f"  {name}: {by_id[name]['message']} {by_id[name]['fix']}" for name in audit["blocking"]]
    accept = " ".join(f"--accept {name}" for name in audit["blocking"])
    lines.append(f'  to go on all the same, say why in writing: {accept} --because "…" (printed in every report)')
    return "\n".join(lines)


def write(folder: Path, audit: dict[str, Any]) -> None:
    """Write `audit.json` and its page."""
    from pipeline.audit import page

    write_text(folder / run_files.AUDIT, json.dumps(audit, indent=1, ensure_ascii=False))
    page.build(folder)


def _of_the_run(folder: Path) -> list[dict[str, Any]]:
    """The run's own model on its holdout, to stand beside the probes."""
    path = folder / run_files.METRICS
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    scores = scores_of(folder, json.loads(lines[-1]).get("holdout")) if lines else None
    if scores is None:
        return []
    return [
        {
            "finding": finding,
            "probe": "run",
            "auroc": of_class.auroc,
            "auroc_ci95": of_class.auroc_ci95,
            "num_positive": of_class.num_positive,
            "num_scans": scores.num_scans,
            "num_groups": scores.num_groups,
        }
        for finding, of_class in scores.per_class.items()
        if of_class.auroc is not None
    ]
