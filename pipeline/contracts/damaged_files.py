"""What can be made again and cannot be read is moved out of the way, and said; nothing is deleted."""

import logging
from pathlib import Path

_log = logging.getLogger(__name__)

ENDING = ".damaged"


def set_aside(path: Path, why: object) -> None:
    """Rename a damaged file to NAME.damaged; another run that shares the folder may have done so already.

    Args:
        path: Of the file.
        why: What is wrong with it, for the log.
    """
    lines = str(why).splitlines() or [""]
    try:
        path.replace(path.with_name(path.name + ENDING))
    except FileNotFoundError:
        return
    _log.warning("%s is damaged, is kept as %s and made again: %s", path, path.name + ENDING, lines[0][:200])
