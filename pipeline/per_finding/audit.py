"""The audit of independent findings: each finding's own, and all of them as one verdict."""

from typing import Any

from pipeline.audit import overrides, stage
from pipeline.audit.check import judged
from pipeline.per_finding import parts as per_finding_parts
from pipeline.per_finding.merge import merged_audit
from pipeline.runtime import finding_folders
from pipeline.runtime.context import StageContext


def run(ctx: StageContext) -> dict[str, Any]:
    """Audit what the stages before have left, finding by finding, write `audit.json` and its page.

    Raises:
        AuditBlocked: a check of one of them blocks and nobody has accepted it.
    """
    merged = examine(ctx, stage.POOL)
    stage.publish(ctx, merged)
    return stage.counts(merged)


def examine(ctx: StageContext, phase: str) -> dict[str, Any]:
    """Audit every finding, write each in its folder, and return what holds for all."""
    audits = {}
    parts = per_finding_parts.parts_of(ctx)
    for number, (finding, part) in enumerate(parts.items()):
        ctx.progress("audit of findings", number, len(parts))
        audits[finding] = stage.examine(part, phase)
        stage.write(part.folder, audits[finding])
    return judged(merged_audit(audits), overrides.read(ctx.folder))


def conclude(ctx: StageContext) -> None:
    """Bring the run's audit up to date with those of its findings."""
    parts = finding_folders.parts_in(ctx.folder)
    audits = {finding: audit for finding, part in parts.items() if (audit := stage.read(part)) is not None}
    if audits:
        stage.write(ctx.folder, judged(merged_audit(audits), overrides.read(ctx.folder)))
