"""Ends what a Ray that was started here leaves behind: its agents wait a minute for a server that has died.

Ray's processes start one another, and who is left may have lost its parent: each is known by a mark in its environment.
"""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil

MARK = "CXR_SSL_RAY_STARTED_AS"
LOOKS = 3  # one that is killed may have started another just before
SECONDS = 10.0  # that the system is given to take a killed process away


@contextlib.contextmanager
def marked() -> Iterator[str]:
    """Every process that is started inside carries a mark, and so does all that it starts; gives the mark."""
    mark = uuid.uuid4().hex
    os.environ[MARK] = mark
    try:
        yield mark
    finally:
        os.environ.pop(MARK, None)


def end(mark: str) -> None:
    """Kill the processes with this mark that are still there, and wait until they are gone."""
    for _ in range(LOOKS):
        left = [process for process in psutil.process_iter() if process.pid != os.getpid() and _has(process, mark)]
        if not left:
            return
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=SECONDS)


def _has(process: psutil.Process, mark: str) -> bool:
    block = Path(f"/proc/{process.pid}/environ")
    try:
        if block.exists():  # Linux: Ray writes a title over its beginning, where psutil's reader stops
            return mark.encode() in block.read_bytes()
        return bool(process.environ().get(MARK) == mark)
    except (psutil.Error, OSError):  # gone by now, or another user's
        return False
