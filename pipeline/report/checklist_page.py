"""`report/checklists.html`: three reporting checklists, filled from the run's files as far as a machine can."""

from pipeline.report import checklists
from pipeline.report.gather import RunData
from pipeline.report.page_env import environment


def html(run: RunData) -> str:
    """The page as text."""
    return (
        environment()
        .get_template("checklists.html.j2")
        .render(run=run, name=run.folder.resolve().name, checklists=checklists.fill(run))
    )
