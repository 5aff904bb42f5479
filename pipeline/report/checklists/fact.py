"""What a machine can say to an item of a checklist, and where the reader can see it."""

from dataclasses import dataclass
from pathlib import PurePosixPath

from pipeline.report.gather import RunData
from pipeline.runtime import run_files

REPORT, AUDIT, CARD = (
    PurePosixPath(page).name for page in (run_files.REPORT, run_files.AUDIT_PAGE, run_files.MODEL_CARD)
)


@dataclass(frozen=True)
class Fact:
    """One or two sentences and the places they come from.

    Attributes:
        text: What the run's files say.
        links: (words, address relative to the report's folder).
        applies: False where the item has nothing to ask of this run.
    """

    text: str
    links: tuple[tuple[str, str], ...] = ()
    applies: bool = True


def see(section: str, words: str) -> tuple[str, str]:
    """A link to a section of the report."""
    return words, f"{REPORT}#{section}"


def file(run: RunData, name: str) -> tuple[str, str]:
    """A link to a file of the run."""
    return name, run_files.href(run.folder, name)


def settings(run: RunData) -> tuple[str, str]:
    """A link to the run's options."""
    return file(run, run_files.RESOLVED)


def see_check(run: RunData, check_id: str) -> tuple[tuple[str, str], ...]:
    """A link to a check of the audit, where it was made."""
    if run.audit is None or run.audit.check(check_id) is None:
        return ()
    return ((f"audit: {check_id}", f"{AUDIT}#check-{check_id}"),)


def audit_words(run: RunData, *check_ids: str) -> str:
    """The messages of those checks that were made."""
    checks = [run.audit.check(check_id) for check_id in check_ids] if run.audit else []
    return " ".join(check.message for check in checks if check is not None and check.message)
