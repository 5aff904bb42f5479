"""The stage that reads the reports of a run's pool: labels and spans into `private/`, counts into `reports.json`."""

import json
import logging
from typing import Any

import pyarrow as pa

from pipeline.contracts.cache import cache_folder
from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError
from pipeline.contracts.finding_line import are_independent
from pipeline.contracts.healthy_class import healthy_among
from pipeline.contracts.tables import MANIFEST, write_text
from pipeline.labels.classes import findings_of
from pipeline.pool.sources import open_pool
from pipeline.radiology_reports import model_columns, report_labels, texts
from pipeline.radiology_reports.report_labels import ReportLabels
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.growth import record
from pipeline.runtime.private_files import pseudonym, salt_of

log = logging.getLogger(__name__)
_READ = ("image_id", "path", "study_id")  # of the manifest


def has_reports(config: Config) -> bool:
    """Whether a pool brings any."""
    return config.pool.reports is not None or bool(config.pool.report_labels)


def run(ctx: StageContext) -> dict[str, Any]:
    """Read the reports; a run without any keeps nothing of them, and has nothing to count.

    Raises:
        InputError: they, or the rules, cannot be read; or no finding of the run is known to the rules.
    """
    if not has_reports(ctx.config):
        for name in (run_files.REPORT_LABELS, run_files.REPORTS_READ):
            (ctx.folder / name).unlink(missing_ok=True)
        return {}
    asked = asked_findings(ctx)
    strange = sorted(set(ctx.config.pool.report_labels) - set(asked))
    if strange:
        raise InputError(
            "are no findings of the run",
            value=strange,
            where="pool.report_labels",
            fix=f"name columns for {', '.join(asked)}",
        )
    labels = _of_all_pools(ctx, asked)
    _say(labels)
    report_labels.write(ctx.folder, labels)
    write_text(ctx.folder / run_files.REPORTS_READ, json.dumps(summary(labels), indent=2) + "\n")
    return {"num_reports": labels.num_reports, "num_scans_with_report": num_scans_with(labels)}


def _of_all_pools(ctx: StageContext, asked: tuple[str, ...]) -> ReportLabels:
    """What the reports of the run's own pool say, and those of the pools that have joined it, by image_id."""
    manifest = run_files.read(ctx.folder, MANIFEST, _READ)
    is_own_N = record.part_of(ctx.folder, manifest["image_id"]) == record.OWN
    labels = _of_pool(ctx, ctx.config, manifest.filter(pa.array(is_own_N)), asked)
    for part in record.parts(ctx.folder):
        place = record.part_folder(ctx.folder, part.part)
        pool = run_dir.config_of(place).pool
        for one_source in ({"reports": ctx.config.pool.reports}, {"report_labels": ctx.config.pool.report_labels}):
            if any(one_source.values()):
                alone = pool.model_copy(update={"reports": None, "report_labels": {}, **one_source})
                there = ctx.config.model_copy(update={"pool": alone})
                labels.take(_of_part(ctx, there, part, asked, tuple(labels.of_source)))
    labels.num_scans = len(manifest)  # what a pool lists and the run had already is counted once
    return labels


def _of_part(
    ctx: StageContext, config: Config, part: record.Part, asked: tuple[str, ...], sources: tuple[str, ...]
) -> ReportLabels:
    """What the reports of a pool that joined say; where it is gone since, what an earlier try kept of it."""
    manifest = run_files.read(record.part_folder(ctx.folder, part.part), MANIFEST, _READ)
    try:
        return _of_pool(ctx, config, manifest, asked)
    except InputError as error:
        log.warning("no reports of part %d, %s, are read: %s %s", part.part, part.pool, error.where, error.what)
        has_none = error.where in (texts.WHERE, model_columns.WHERE)
        return ReportLabels() if has_none else report_labels.read_before(ctx.folder, manifest["image_id"], sources)


def _of_pool(ctx: StageContext, config: Config, manifest: pa.Table, asked: tuple[str, ...]) -> ReportLabels:
    """What the reports of one pool say, by the image_ids of its own manifest: two pools may name a file alike."""
    paths = manifest["path"].to_pylist()
    paths_of: dict[str, list[str]] = {}
    for path, study in zip(paths, manifest["study_id"].to_pylist(), strict=True):
        if study is not None:
            paths_of.setdefault(study, []).append(path)
    salt = salt_of(ctx.folder, ctx.config.splits.salt)
    pool = open_pool(config.pool, cache_folder())
    labels = report_labels.read(pool, config, asked, lambda study: paths_of.get(pseudonym(study, salt), ()))
    return labels.named(dict(zip(paths, manifest["image_id"].to_pylist(), strict=True)))


def asked_findings(ctx: StageContext) -> tuple[str, ...]:
    """What reports are asked about: the run's findings, or its classes but the healthy one."""
    findings = findings_of(ctx)
    healthy = () if are_independent(findings) else healthy_among(findings)
    return tuple(finding for finding in findings if finding not in healthy)


def summary(labels: ReportLabels) -> dict[str, Any]:
    """Counts alone: what `reports.json` and `labels reports` tell."""
    return {
        "num_reports": labels.num_reports,
        "num_scans": labels.num_scans,
        "num_scans_with_report": num_scans_with(labels),
        "reasons": dict(labels.reasons.most_common()),
        "unknown_findings": list(labels.unknown),
        "says": labels.counts(),
    }


def num_scans_with(labels: ReportLabels) -> int:
    """Scans of which some source says something, if only that it mentions nothing."""
    return len(set().union(*labels.of_source.values()))


def _say(labels: ReportLabels) -> None:
    """Say in the log what was read and what was not."""
    log.info("%d reports; %d of %d scans have one", labels.num_reports, num_scans_with(labels), labels.num_scans)
    for reason, count in labels.reasons.most_common():
        if count:
            log.warning("%d reports: %s", count, reason)
    if labels.unknown:
        log.warning(
            "the rules know no %s; add it to a rules file of your own (reports.rules)", ", ".join(labels.unknown)
        )
