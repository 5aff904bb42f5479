"""The stage that reads the reports of a run's pool: labels and spans into `private/`, counts into `reports.json`."""

import json
import logging
from typing import Any

from pipeline.contracts.cache import cache_folder
from pipeline.contracts.config import Config
from pipeline.contracts.errors import InputError
from pipeline.contracts.finding_line import are_independent
from pipeline.contracts.healthy_class import healthy_among
from pipeline.contracts.tables import MANIFEST, write_text
from pipeline.labels.classes import findings_of
from pipeline.pool.sources import open_pool
from pipeline.radiology_reports import report_labels
from pipeline.radiology_reports.report_labels import ReportLabels
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.private_files import pseudonym, salt_of

log = logging.getLogger(__name__)


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
    manifest = run_files.read(ctx.folder, MANIFEST)
    ids = dict(zip(manifest["path"].to_pylist(), manifest["image_id"].to_pylist(), strict=True))
    paths_of: dict[str, list[str]] = {}
    for path, study in zip(manifest["path"].to_pylist(), manifest["study_id"].to_pylist(), strict=True):
        if study is not None:
            paths_of.setdefault(study, []).append(path)
    asked = asked_findings(ctx)
    strange = sorted(set(ctx.config.pool.report_labels) - set(asked))
    if strange:
        raise InputError(
            "are no findings of the run",
            value=strange,
            where="pool.report_labels",
            fix=f"name columns for {', '.join(asked)}",
        )
    salt = salt_of(ctx.folder, ctx.config.splits.salt)
    pool = open_pool(ctx.config.pool, cache_folder())
    labels = report_labels.read(pool, ctx.config, asked, lambda study: paths_of.get(pseudonym(study, salt), ()))
    _say(labels)
    report_labels.write(ctx.folder, labels, ids)
    write_text(ctx.folder / run_files.REPORTS_READ, json.dumps(summary(labels), indent=2) + "\n")
    return {"num_reports": labels.num_reports, "num_scans_with_report": num_scans_with(labels)}


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
