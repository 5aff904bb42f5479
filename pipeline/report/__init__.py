"""The evidence report of a run: one self-contained page, a model card, and the annotators' contact sheets."""

from pathlib import Path
from typing import Any

from pipeline.context import StageContext


def run(ctx: StageContext) -> dict[str, Any]:
    """Write the report; see `report.page`. matplotlib is imported only here."""
    from pipeline.report import page

    return page.run(ctx)


def build(folder: Path) -> Path:
    """Write the report of the run in `folder` and return the page's path."""
    from pipeline.report import page

    return page.build(folder)
