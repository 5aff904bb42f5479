"""The classes of a run, and which of them is the finding: checked as soon as the pool has been read."""

import difflib
import logging
from collections.abc import Sequence

from pipeline.contracts import finding_line
from pipeline.contracts.answers import reply_of
from pipeline.contracts.errors import InputError
from pipeline.contracts.healthy_class import healthy_among, healthy_first, is_negative, positive_of
from pipeline.contracts.options.scans import PoolConfig
from pipeline.contracts.tables import POOL_LABELS
from pipeline.labels import label_table
from pipeline.measures.certify import POOLED
from pipeline.runtime.context import StageContext

log = logging.getLogger(__name__)


def check_labels(ctx: StageContext) -> None:
    """Refuse a pool that cannot name its classes or its finding, or an oracle with nothing to reveal.

    Raises:
        InputError: saying what is missing.
    """
    findings = findings_of(ctx)
    label_table.check_people(ctx.folder, findings)
    _say(findings, positive_among(ctx.config.pool, findings))
    if ctx.config.oracle and POOL_LABELS.read(ctx.folder)["label"].null_count == len(POOL_LABELS.read(ctx.folder)):
        raise InputError(
            "the pool has no labels to reveal", where="oracle", fix="leave --oracle out, and label the queue"
        )


def positive_among(pool: PoolConfig, findings: Sequence[str]) -> int | None:
    """Index of the class that is the finding: its sensitivity is the run's; None of three and more classes.

    Args:
        pool: The options.
        findings: The classes, as `findings_of` has them; of independent findings each is the finding of its own run.

    Raises:
        InputError: the names leave it open, or `pool.positive` is none of them.
    """
    if finding_line.are_independent(findings):
        return None
    name = pool.finding if pool.finding is not None else positive_of(findings, pool.positive)
    return None if name is None else findings.index(name)


def check_positive(ctx: StageContext) -> None:
    """Refuse a `pool.positive` that the pool does not have, where nothing else is asked of its classes.

    Raises:
        InputError: naming it.
    """
    pool = ctx.config.pool
    names = pool.findings or sorted(set(POOL_LABELS.read(ctx.folder)["label"].to_pylist()) - {None})
    if pool.positive is not None and names and tuple(names) != (pool.positive,):
        positive_of(names, pool.positive)


def _say(findings: Sequence[str], positive: int | None) -> None:
    if positive is not None:
        log.info("classes: %s; the finding is %s", ", ".join(findings), findings[positive])
    elif not finding_line.are_independent(findings):
        healthy = ", ".join(healthy_among(findings)) or "none"
        log.info("classes: %s; healthy: %s; sensitivity is the mean over all", ", ".join(findings), healthy)


def findings_of(ctx: StageContext) -> tuple[str, ...]:
    """The classes: as configured, else the pool's labels in sorted order with a healthy class first.

    Independent findings come as `finding_line.Independent`; in the folder of one of them, as the two classes of its
    question.

    Raises:
        InputError: when there are fewer than two, or the pool holds labels outside the configured ones.
    """
    pool = ctx.config.pool
    pool_classes = sorted(set(POOL_LABELS.read(ctx.folder)["label"].to_pylist()) - {None})
    if pool.finding is not None:
        return finding_line.question(pool.finding)
    if pool.findings_are == "independent":
        return _independent(pool.findings, pool_classes)
    configured = pool.findings
    if configured is not None:
        stray = sorted(set(pool_classes) - set(configured))
        if stray:
            raise InputError(
                "the pool holds labels outside pool.findings",
                value=stray,
                where="pool.findings",
                fix=f"{_meant(stray[0], configured)}add them there",
            )
        return _safe(configured)
    _refuse_too_few(pool_classes)
    return _safe(healthy_first(pool_classes, pool.positive))


def check_listed(config: PoolConfig, labels: Sequence[str | None]) -> None:
    """Refuse a pool whose classes nothing names, by what it lists, before a scan is opened: that may take hours.

    Args:
        config: Options.
        labels: Of the scans listed; None: unknown.

    Raises:
        InputError: there are fewer than two classes, or of independent findings none.
    """
    if config.findings is not None or config.finding is not None:
        return
    named = sorted({label for label in labels if label is not None})
    if config.findings_are == "independent":
        _independent(None, named)
    else:
        _refuse_too_few(named)


def _refuse_too_few(pool_classes: Sequence[str]) -> None:
    if len(pool_classes) < 2:
        raise InputError(
            "one class only, there is nothing to tell apart"
            if pool_classes
            else "the pool has no labels that name the classes",
            value=pool_classes[0] if pool_classes else None,
            where="pool.findings",
            fix="name the classes, e.g. --set 'pool.findings=[normal, pneumonia]'",
        )


def _meant(label: str, findings: Sequence[str]) -> str:
    near = difflib.get_close_matches(label, findings, n=1, cutoff=0.8)
    return f"did you mean {near[0]!r}? Mend them in the pool, or " if near else ""


def asked_for(pool: PoolConfig) -> tuple[str, ...]:
    """The classes a configuration names, labelled or not."""
    return finding_line.question(pool.finding) if pool.finding is not None else pool.findings or ()


def _independent(configured: tuple[str, ...] | None, lines: list[str]) -> finding_line.Independent:
    """The findings: as configured, else those that the pool's lines name (every line names all of them)."""
    names = configured or (tuple(finding_line.read(lines[0])) if lines else ())
    if not names:
        raise InputError(
            "the pool has no labels that name the findings",
            where="pool.findings",
            fix="name them, e.g. --set 'pool.findings=[effusion, nodule]'",
        )
    strange = [name for name in names if set(name) & set(finding_line.RESERVED) or name.startswith("?")]
    if strange:
        raise InputError(
            f"a finding may not hold {' '.join(finding_line.RESERVED)} or start with ?",
            value=strange[0],
            where="pool.findings",
            fix="rename it",
        )
    plain = [finding_line.plain(name) for name in names]
    if len(set(plain)) < len(plain):
        twice = [name for name in names if plain.count(finding_line.plain(name)) > 1]
        raise InputError(
            "two findings differ in case or blanks alone", value=twice, where="pool.findings", fix="rename one of them"
        )
    empty = [name for name in names if is_negative(name)]
    if empty:
        raise InputError(
            "this says that there is no finding; scans without one need no name",
            value=empty[0],
            where="pool.findings",
            fix="leave it out",
        )
    return finding_line.Independent(_safe(names))


def _safe(findings: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse names that annotators or their spreadsheets would take for something else."""
    if POOLED in findings:
        raise InputError(
            "this name stands for all classes", value=POOLED, where="pool.findings", fix="rename the class"
        )
    taken = [finding for finding in findings if reply_of(finding, ()) is not None]
    if taken:
        raise InputError(
            "this answer says that there is no class", value=taken[0], where="pool.findings", fix="rename the class"
        )
    formulas = [finding for finding in findings if finding[:1] in "=+-@" or not finding.strip()]
    if formulas:
        raise InputError(
            "a finding may not be blank or start with = + - @",
            value=formulas[0],
            where="pool.findings",
            fix="rename it in the pool",
        )
    return findings
