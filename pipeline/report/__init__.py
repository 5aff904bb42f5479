"""The evidence report of a run: self-contained pages and a model card.

In: the folder of a run. Out: `report/`: `index.html` is the report, `audit.html` the audit's own page (also without a
run), `checklists.html` what the reporting checklists of the field ask for.
"""

from pathlib import Path
from typing import Any

from pipeline.runtime.context import StageContext


def run(ctx: StageContext) -> dict[str, Any]:
    """Write the report; see `report.stage`. matplotlib is imported only here."""
    from pipeline.report import stage

    return stage.run(ctx)


def build(folder: Path) -> Path:
    """Write the report of the run in `folder`, with all its pages, and return the path of `index.html`."""
    from pipeline.report import stage

    return stage.build(folder)
