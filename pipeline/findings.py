"""The classes of a run, checked as soon as the pool has been read."""

from pipeline.answers import reply_of
from pipeline.context import StageContext
from pipeline.contracts import POOL_LABELS
from pipeline.errors import InputError

NORMAL_NAMES = ("normal", "no finding", "no_finding", "healthy", "negative")


def check_labels(ctx: StageContext) -> None:
    """Refuse a pool that cannot name its classes, or an oracle with nothing to reveal.

    Raises:
        InputError: saying what is missing.
    """
    findings_of(ctx)
    if ctx.config.oracle and POOL_LABELS.read(ctx.folder)["label"].null_count == len(POOL_LABELS.read(ctx.folder)):
        raise InputError(
            "the pool has no labels to reveal", where="oracle", fix="leave --oracle out, and label the queue"
        )


def findings_of(ctx: StageContext) -> tuple[str, ...]:
    """The classes: as configured, else the pool's labels in sorted order with a normal class first.

    Raises:
        InputError: when there are fewer than two, or the pool holds labels outside the configured ones.
    """
    found = sorted(set(POOL_LABELS.read(ctx.folder)["label"].to_pylist()) - {None})
    given = ctx.config.pool.findings
    if given is not None:
        stray = sorted(set(found) - set(given))
        if stray:
            raise InputError(
                "the pool holds labels outside pool.findings",
                value=stray,
                where="pool.findings",
                fix="add them there",
            )
        return _safe(given)
    if len(found) < 2:
        raise InputError(
            "one class only, there is nothing to tell apart"
            if found
            else "the pool has no labels that name the classes",
            value=found[0] if found else None,
            where="pool.findings",
            fix="name the classes, e.g. --set 'pool.findings=[normal, pneumonia]'",
        )
    normal = [f for f in found if f.casefold() in NORMAL_NAMES]
    return _safe((*normal, *[f for f in found if f not in normal]))


def _safe(findings: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse names that annotators or their spreadsheets would take for something else."""
    taken = [finding for finding in findings if reply_of(finding, ()) is not None]
    if taken:
        raise InputError(
            "this answer says that there is no class", value=taken[0], where="pool.findings", fix="rename the class"
        )
    formulas = [finding for finding in findings if finding[:1] in "=+-@" or not finding.strip()]
    if formulas:
        raise InputError(
            "a finding may not be blank or start with = + - @", value=formulas[0], where="pool.findings",
            fix="rename it in the pool",
        )  # fmt: skip
    return findings
