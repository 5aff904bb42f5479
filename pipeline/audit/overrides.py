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


def parse(accept: list[str] | None, because: str | None) -> list[Override]:
    """Overrides of a command line.

    Raises:
        InputError: an unknown check, or a reason that is missing or says nothing.
    """
    if not accept:
        if because is not None:
            raise InputError("it has nothing to speak of", where="--because", fix="name a check with --accept")
        return []
    known = (ALL, *TITLES)
    for name in accept:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise InputError("no such check", value=name, where="--accept", fix=hint)
    words = " ".join((because or "").split())
    if len(words.split()) < 2:
        raise InputError(
            "an override must be written down",
            where="--accept",
            fix='say why with --because "…"; it is printed in every report',
        )
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    return [Override(name, words, now) for name in accept]


def add(folder: Path, new: list[Override]) -> None:
    """Append to the run's overrides; an earlier word is never taken back."""
    if new:
        rows = [vars(one) for one in (*read(folder), *new)]
        write_text(run_files.path(folder, run_files.OVERRIDES), json.dumps(rows, indent=1, ensure_ascii=False))


def read(folder: Path) -> list[Override]:
    """All overrides of a run, oldest first."""
    path = run_files.path(folder, run_files.OVERRIDES)
    if not path.exists():
        return []
    return [Override(**row) for row in json.loads(path.read_text("utf-8"))]
