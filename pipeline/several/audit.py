"""The audit of independent findings: each finding's own, and all of them as one verdict."""

from typing import Any

from pipeline import audit
from pipeline.audit import overrides
from pipeline.audit.check import judged
from pipeline.audit.pixels import FILE as PIXELS
from pipeline.context import StageContext
from pipeline.several import folders, layout
from pipeline.several.merge import merged_audit


def run(ctx: StageContext) -> dict[str, Any]:
    """Audit what the stages before have left, finding by finding, write `audit.json` and its page.

    Raises:
        AuditBlocked: a check of one of them blocks and nobody has accepted it.
    """
    found = examine(ctx, audit.POOL)
    audit.publish(ctx, found)
    return audit.counts(found)


def examine(ctx: StageContext, phase: str) -> dict[str, Any]:
    """Audit every finding, write each in its folder, and return what holds for all."""
    found = {}
    parts = folders.parts_of(ctx)
    for number, (finding, part) in enumerate(parts.items()):
        ctx.progress("audit of findings", number, len(parts))
        found[finding] = audit.examine(part, phase)
        folders.hand_up(part.folder, PIXELS)  # what the pictures look like, no finding changes
        audit.write(part.folder, found[finding])
    return judged(merged_audit(found), overrides.read(ctx.folder))


def conclude(ctx: StageContext) -> None:
    """Bring the run's audit up to date with those of its findings."""
    parts = layout.parts_in(ctx.folder)
    found = {finding: one for finding, part in parts.items() if (one := audit.read(part)) is not None}
    if found:
        audit.write(ctx.folder, judged(merged_audit(found), overrides.read(ctx.folder)))
