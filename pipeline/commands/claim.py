"""Make a run directory ours, or refuse; answers of people are moved aside, never deleted."""

import datetime as dt
import logging
import shutil
from pathlib import Path

from pipeline.contracts.errors import CxrSslError, RunDirError
from pipeline.contracts.tables import LABELS, MANIFEST
from pipeline.runtime import run_files
from pipeline.runtime.object_storage import shared_logs
from pipeline.runtime.object_storage.working_copy import WorkingCopy
from pipeline.runtime.run_dir import names_inside, read_status, refuse_foreign, stage_records

log = logging.getLogger(__name__)


def claim(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Make the folder ours, or refuse.

    Raises:
        RunDirError: when it holds something else, or a run and neither `resume` nor `overwrite` is set.
    """
    if not names_inside(folder):
        return
    refuse_foreign(folder)
    if overwrite or (not resume and not _has_begun(folder)):
        _set_aside(folder)
    elif not resume:
        state = read_status(folder).get("state", "unknown")
        raise RunDirError(
            f"holds a run already (state: {state})",
            where=folder,
            fix="add --resume to go on with it, or --overwrite",
        )


def _has_begun(folder: Path) -> bool:
    """Whether a stage has left anything: a run that failed before, for a mistyped pool say, is simply started again."""
    left = any((folder / table.file).exists() for table in (MANIFEST, LABELS))  # also where stages.json is damaged
    return left or bool(stage_records(folder)) or run_files.has_rounds(folder)


def _may_hold_human_answers(folder: Path) -> bool:
    from pipeline.annotate import queue_csv
    from pipeline.labels import label_table, verdicts
    from pipeline.labels.journal import Journal

    try:
        if (
            (folder / run_files.NOTES).exists()
            or Journal.open(folder).entries
            or verdicts.human_answers(label_table.read(folder)) > 0
        ):
            return True
        queues = run_files.filled_tables(folder)
        return any(queue_csv.is_filled(path.name, path.read_text("utf-8-sig", errors="replace")) for path in queues)
    except (CxrSslError, OSError):
        return True  # unreadable: who knows what somebody could still save from it


def _set_aside(folder: Path) -> None:
    """Empty the folder; a run with answers of people is moved, not deleted.

    Raises:
        RunDirError: it has answers, and lies at a URL, where nothing is moved.
    """
    copy = WorkingCopy.of(folder)
    if copy is not None:
        if _may_hold_human_answers(folder):
            fix = "name another URL with --out, or --resume"
            raise RunDirError("holds answers of people, which are not written over", where=copy.url, fix=fix)
        shared_logs.forget(copy)
    elif _may_hold_human_answers(folder):
        stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%S")
        kept = folder.with_name(f"{folder.name}.before-{stamp}")
        kept.mkdir()
        for path in [p for p in folder.iterdir() if p.name != run_files.LOCK]:
            path.rename(kept / path.name)
        log.warning("answers of people in %s were moved to %s", folder, kept)
        return
    for path in [p for p in folder.iterdir() if p.name != run_files.LOCK]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
