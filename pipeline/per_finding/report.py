"""The report of a run of independent findings: every finding's own pages, and the overview that leads to them."""

from pathlib import Path
from typing import Any

from pipeline import report
from pipeline.contracts.errors import RunDirError
from pipeline.contracts.tables import write_text
from pipeline.labels.holdout import log_read
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.finding_folders import parts_in


def run(ctx: StageContext) -> dict[str, Any]:
    """Write the reports of the run in `ctx.folder`; each finding's page shows its holdout, so each read is logged."""
    folders = parts_in(ctx.folder)
    for folder in (ctx.folder, *folders.values()):
        log_read(folder, "report", None, None)
    for done, folder in enumerate(folders.values()):
        ctx.progress("report", done, len(folders))
        report.build(folder)
    ctx.progress("report", len(folders), len(folders))
    return {"bytes": _overview(ctx.folder).stat().st_size, "num_findings": len(folders)}


def build(folder: Path) -> Path:
    """Write the report of every finding, then the overview, from the run directory alone.

    `report/index.html`, `report/model_card.md`, and `report/audit.html` where there is an audit. The checklists are
    those of each finding.

    Returns:
        The path of the overview.

    Raises:
        RunDirError: `folder` holds no run that has come to its findings.
    """
    folder = Path(folder)
    for part in parts_in(folder).values():
        report.build(part)
    return _overview(folder)


def _overview(folder: Path) -> Path:
    """The pages of the whole run; matplotlib is imported only here."""
    from pipeline.audit import page as audit_page
    from pipeline.pages.thumbnails import MAX_PIXELS
    from pipeline.report.overview import gather, model_card
    from pipeline.report.overview import page as overview_page

    folders = parts_in(folder)
    if not folders:
        raise RunDirError(
            "the findings of this run have no folders yet",
            where=folder,
            fix="go on with `cxr-ssl run --out RUN --resume`",
        )
    overview = gather.read(folder, folders)
    page = folder / run_files.REPORT
    write_text(folder / run_files.MODEL_CARD, model_card.card(overview))
    write_text(page, overview_page.html(overview))
    if overview.audit is not None:  # again: it has a page to lead back to now
        audit_page.build(folder, max_pixels=(overview.config.get("pool") or {}).get("max_pixels") or MAX_PIXELS)
    return page
