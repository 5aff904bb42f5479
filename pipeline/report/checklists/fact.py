"""What a machine can say to an item of a checklist, and where the reader can see it."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

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


def lies_in(run: RunData, address: str) -> bool:
    """Whether what a link names is there: a file of the run, or a page that is made together with this one."""
    name = address.partition("#")[0]
    if name in (REPORT, CARD):
        return True
    if name == AUDIT:
        return run.audit is not None
    return Path(os.path.normpath(run.folder / PurePosixPath(run_files.REPORT).parent / name)).exists()


def settings(run: RunData) -> tuple[str, str]:
    """A link to the run's options."""
    return file(run, run_files.RESOLVED)


def see_check(run: RunData, check_id: str) -> tuple[tuple[str, str], ...]:
    """A link to a check of the audit, where it was made."""
    check = run.audit.check(check_id) if run.audit else None
    if check is None or not check.checked:
        return ()
    return ((f"audit: {check_id}", f"{AUDIT}#check-{check_id}"),)


def audit_words(run: RunData, *check_ids: str) -> str:
    """The messages of those checks that were made; one that lacked what it needs has measured nothing."""
    checks = [run.audit.check(check_id) for check_id in check_ids] if run.audit else []
    return " ".join(check.message for check in checks if check is not None and check.checked and check.message)
