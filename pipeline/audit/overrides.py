"""Overrides: somebody's written word that the work goes on although a check blocks."""

import datetime as dt
import difflib
import json
from pathlib import Path

from pipeline.audit.check import TITLES, Override
from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import write_text
from pipeline.runtime import run_files

ALL = "all"
MIN_WORDS = 2  # of a reason: one word says that somebody wanted it, not why


def parse(accept: list[str] | None, because: str | None) -> list[Override]:
    """Overrides of a command line.

    Raises:
        InputError: an unknown check, a reason that is missing or of fewer than `MIN_WORDS` words, or one for no check.
    """
    if not accept:
        if because is not None:
            raise InputError(
                "a reason is given and no check that it is for",
                value=because,
                where="--because",
                fix="name the check with --accept",
            )
        return []
    known = (ALL, *TITLES)
    for name in accept:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise InputError("no such check", value=name, where="--accept", fix=hint)
    reason = _reason(because)
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    return [Override(name, reason, now) for name in accept]


def _reason(because: str | None) -> str:
    """The reason with its blanks made single, refused where it is none."""
    if because is None:
        raise InputError(
            "an override must be written down, and no reason is given",
            where="--accept",
            fix=f'say why with --because "…", in {MIN_WORDS} words or more; it is printed in every report',
        )
    words = because.split()
    if len(words) < MIN_WORDS:
        raise InputError(
            f"a reason needs at least {MIN_WORDS} words with a blank between them, and this has {len(words)}",
            value=because,
            where="--because",
            fix="say what you know that the audit does not; it is printed in every report",
        )
    return " ".join(words)


def add(folder: Path, new: list[Override]) -> None:
    """Append to the run's overrides; an earlier word is never taken back."""
    if new:
        rows = [vars(override) for override in (*read(folder), *new)]
        write_text(run_files.path(folder, run_files.OVERRIDES), json.dumps(rows, indent=1, ensure_ascii=False))


def read(folder: Path) -> list[Override]:
    """All overrides of a run, oldest first."""
    path = run_files.path(folder, run_files.OVERRIDES)
    if not path.exists():
        return []
    return [Override(**row) for row in json.loads(path.read_text("utf-8"))]
