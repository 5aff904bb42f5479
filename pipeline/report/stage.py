"""The report stage: gathers a finished run, draws it, and writes `report/index.html` and the model card."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from markupsafe import Markup

from pipeline.audit import page as audit_page
from pipeline.contracts.tables import write_text
from pipeline.labels.holdout import log_read
from pipeline.pages.thumbnails import MAX_PIXELS, thumbnails
from pipeline.pool.burned_in.note import reason_in
from pipeline.report import checklist_page, evaluation_figures, figures, holdout_reads, scan_map, site_point, summary
from pipeline.report.cautions import cautions
from pipeline.report.flow_diagram import diagram
from pipeline.report.gather import RunData, Scan, gather
from pipeline.report.methods import methods
from pipeline.report.model_card import model_card
from pipeline.report.page_env import environment
from pipeline.report.planning import certificates, when_to_stop
from pipeline.report.regulators import croissant, papers
from pipeline.report.sections import act_or_defer, class_labels, growth, pseudo_checks, radiology_reports
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext

STAGE = "report"
MAX_THUMBNAILS = 250
MAX_MISTAKES = 24
SIDE_PX = 192
Progress = Callable[[int, int], None]


def run(ctx: StageContext) -> dict[str, Any]:
    """Write the report of the run in `ctx.folder`."""
    log_read(ctx.folder, "report", None, None)
    page = build(ctx.folder, progress=lambda done, total: ctx.progress("report: thumbnails", done, total))
    return {"bytes": page.stat().st_size}


def build(folder: Path, *, progress: Progress | None = None) -> Path:
    """Write the pages and the model card from the run directory alone.

    `report/index.html`, `report/checklists.html`, `report/model_card.md`, the drafts for regulators, and
    `report/audit.html` where there is an audit.

    Returns:
        The path of the page.

    Raises:
        RunDirError: `folder` holds no run.
    """
    folder = Path(folder)
    data = gather(folder)
    page = folder / run_files.REPORT
    write_text(folder / run_files.MODEL_CARD, model_card(data))
    write_text(page, html(data, progress))
    write_text(folder / run_files.CHECKLISTS, checklist_page.html(data))
    write_text(folder / run_files.DATA_GOVERNANCE, papers.paper("ai_act_10", data))
    write_text(folder / run_files.CHANGE_PLAN, papers.paper("change_plan", data))
    write_text(folder / run_files.CROISSANT, croissant.text(data))
    if data.audit is not None:
        audit_page.build(folder, max_pixels=_max_pixels(data))
    return page


def _max_pixels(data: RunData) -> int:
    return (data.config.get("pool") or {}).get("max_pixels") or MAX_PIXELS


def html(data: RunData, progress: Progress | None = None) -> str:
    """The page as text."""
    mistakes = data.mistakes[:MAX_MISTAKES]
    queued = [scan for scans in data.queues.values() for scan in scans]
    faces = _faces(data)
    allowed = (data.config.get("pool") or {}).get("allow_burned_in_text", False)
    asked = [scan for scan in (*mistakes, *faces, *queued) if scan.uri]
    kept_back = set() if allowed else {scan.image_id for scan in asked if reason_in(scan.note)}
    shown = [scan for scan in asked if scan.image_id not in kept_back][:MAX_THUMBNAILS]
    pictures = thumbnails(
        {scan.image_id: scan.uri for scan in shown if scan.uri},
        side_px=SIDE_PX,
        max_pixels=_max_pixels(data),
        progress=progress,
    )
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            run=data,
            name=data.folder.resolve().name,
            title=summary.title(data),
            sentences=[text for text in summary.sentences(data) if text],
            tiles=summary.tiles(data),
            precisions=summary.precisions(data),
            certificates=summary.certificates(data),
            outlook=when_to_stop.outlook(data),
            certificate_plan=certificates.plan(data),
            cautions=cautions(data),
            against_random=summary.against_random(data),
            class_labels=class_labels.by_round(data),
            pseudo_checks=pseudo_checks.rows(data),
            knows_truth=pseudo_checks.knows_truth(data),
            report_rows=radiology_reports.rows(data),
            figures=_figures(data),
            confusion=_confusion(data),
            map=scan_map.draw(data),
            mistakes=mistakes,
            pictures=pictures,
            kept_back=kept_back,
            faces={str(s.cluster): pictures[s.image_id] for s in faces if s.image_id in pictures},
            num_unread=len({scan.image_id for scan in shown}) - len(pictures),
            num_left_out=len({scan.image_id for scan in queued} - {scan.image_id for scan in shown}),
            diagram=diagram(data),
            methods=methods(data),
            readers=holdout_reads.readers(data),
            site=site_point.adapted(data),
            alone=act_or_defer.alone(data),
            growth=growth.growth(data),
            curves=[(finding, Markup(svg)) for finding, svg in evaluation_figures.decision_curves(data)],
            timings=_timings(data),
        )
    )


def _faces(data: RunData) -> list[Scan]:
    """The most typical scan of each cluster that the evaluation looks at by itself."""
    sliced = {row.get("slice") for row in (data.evaluation or {}).get("slices") or () if row.get("by") == "cluster"}
    return [scan for scan in data.medoids if str(scan.cluster) in sliced]


def _figures(data: RunData) -> dict[str, Markup | None]:
    drawn = {
        "auroc": figures.learning_curve(data, "auroc", "AUROC on the holdout"),
        "balanced": figures.learning_curve(data, "balanced_accuracy", "balanced accuracy"),
        "roc": figures.roc(data),
        "pr": figures.precision_recall(data),
        "reliability": figures.reliability(data),
        "pseudo_counts": figures.pseudo_counts(data),
        "pseudo_precision": figures.pseudo_precision(data),
        "teacher": figures.training(data, "teacher"),
        "student": figures.training(data, "student"),
        "network": figures.training(data, "network", "part of an epoch"),
        "pretraining": figures.pretraining(data),
    }
    return {name: None if svg is None else Markup(svg) for name, svg in drawn.items()}


def _confusion(data: RunData) -> list[dict[str, Any]] | None:
    """Rows of the confusion matrix with the share of each cell; none where it contradicts the counts."""
    if data.scores is None:
        return None
    matrix, per_class = data.scores.confusion, data.scores.per_class
    if [len(row) for row in matrix] != [len(data.findings)] * len(data.findings):
        return None
    rows: list[dict[str, Any]] = []
    for finding, counts in zip(data.findings, matrix, strict=True):
        total = sum(counts)
        if finding in per_class and per_class[finding].num_positive != total:
            return None
        cells = [
            {"count": n, "share": n / total if total else 0.0, "hit": f == finding, "finding": f}
            for f, n in zip(data.findings, counts, strict=True)
        ]
        rows.append({"finding": finding, "total": total, "right": matrix[len(rows)][len(rows)], "cells": cells})
    return rows


def _timings(data: RunData) -> list[dict[str, Any]]:
    """Seconds and counts of each stage, in the order of a run; a count that is not known is left out."""
    stages: dict[str, dict[str, Any]] = {}
    for row in sorted(data.stages, key=lambda row: row.get("place", 0)):  # a stage that runs again is written last
        if row["name"] == STAGE:  # this page: it would change with every build
            continue
        stage = stages.setdefault(row["name"], {"name": row["name"], "seconds": 0.0, "counts": {}})
        stage["seconds"] += row.get("seconds") or 0.0
        stage["counts"].update({key: value for key, value in (row.get("counts") or {}).items() if value is not None})
    longest = max((stage["seconds"] for stage in stages.values()), default=0.0)
    return [{**stage, "share": stage["seconds"] / longest if longest else 0.0} for stage in stages.values()]
