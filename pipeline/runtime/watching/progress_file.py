"""`activity.json`: what a run does at the moment, for `cxr-ssl status` in another process or on another machine."""

import datetime as dt
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

from pipeline.contracts import tables
from pipeline.runtime import run_files
from pipeline.runtime.watching.pace import Pace

WRITE_EVERY_SECONDS = 5.0


class ProgressFile:
    """Writes what is done to a run's folder now and then; gone when the work is.

    Args:
        folder: Run directory, whose lock this process holds.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / run_files.PROGRESS
        self._last: tuple[str, float] = ("", 0.0)

    def tell(self, what: str, done: int, total: int, num_failed: int, pace: Pace) -> None:
        """Write, unless the same piece of work was written a moment ago and is not done."""
        now = time.monotonic()
        if self._last[0] == what and now - self._last[1] < WRITE_EVERY_SECONDS and done < total:
            return
        self._last = (what, now)
        rate, remaining = pace.per_second(), pace.remaining(total)
        entry = {
            "what": what,
            "done": done,
            "total": total,
            "num_failed": num_failed,
            "per_second": None if rate is None else round(rate, 2),
            "seconds_left": None if remaining is None else [round(seconds, 1) for seconds in remaining],
            "host": socket.gethostname(),
            "process": os.getpid(),
            "updated": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        }
        tables.write_text(self._path, json.dumps(entry))

    def close(self) -> None:
        """Nothing goes on any more."""
        self._path.unlink(missing_ok=True)


def read(folder: Path) -> dict[str, Any] | None:
    """What the run said last; None where nothing goes on, or what is there cannot be read."""
    try:
        entry: dict[str, Any] = json.loads((run_files.home(folder) / run_files.PROGRESS).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return entry
