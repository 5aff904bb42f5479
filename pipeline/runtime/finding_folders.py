"""Where the parts of a run of independent findings lie: `findings/NAME`, listed in `findings/index.json`."""

import json
import logging
import os
from pathlib import Path
from typing import Any

from pipeline.contracts.errors import InputError, RunDirError
from pipeline.contracts.tables import PREDICTIONS

log = logging.getLogger(__name__)
FOLDER, INDEX = "findings", "index.json"


def known_names(folder: Path) -> dict[str, str]:
    """Every finding this run has ever asked for, with the name of its folder, which is never another's."""
    names: dict[str, str] = _index(folder).get("names", {})
    return names


def parts_in(folder: Path) -> dict[str, Path]:
    """Finding to its folder, of a run that has come to them; empty in a run of classes."""
    rows = _index(folder).get("findings", [])
    return {row["finding"]: folder / FOLDER / row["folder"] for row in rows}


def whole_of(folder: Path) -> Path | None:
    """The run that a finding's folder is part of, also of a finding it asks for no more; None for a run of its own."""
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - without `..`, and links as the user named them
    if folder.parent.name != FOLDER:
        return None
    whole = folder.parent.parent
    names = {part.name for part in parts_in(whole).values()} | {*known_names(whole).values()}
    return whole if folder.name in names else None


def _index(folder: Path) -> dict[str, Any]:
    """What `index.json` holds; empty where there is none, or one of somebody whose own folder is called `findings`.

    Raises:
        RunDirError: it cannot be read.
    """
    path = folder / FOLDER / INDEX
    try:
        content = json.loads(path.read_text("utf-8")) if path.is_file() else None
    except ValueError as error:
        raise RunDirError(f"is not JSON ({error})", where=path, fix="bring it back from a backup") from error
    return content if isinstance(content, dict) and isinstance(content.get("findings"), list) else {}


def refuse_part(folder: Path) -> None:
    """Refuse to work in a finding's folder: its queue, its labels and its rounds are those of the whole run.

    Raises:
        InputError: naming the run.
    """
    whole = whole_of(folder)
    if whole is not None:
        raise InputError(
            "is one finding's part of a run; queue, labels and rounds are the run's",
            value=str(folder),
            where="RUN",
            fix=f"name the run: {whole}",
        )


def has_classifier(finding: str, part: Path) -> bool:
    """Whether a finding's folder holds predictions; one that does not is named in the log."""
    if (part / PREDICTIONS.file).exists():
        return True
    log.warning("%s has no classifier yet and is left out", finding)
    return False
