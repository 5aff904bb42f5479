"""Ends what a Ray that was started here leaves behind: its agents wait a minute for a server that has died.

Ray's processes start one another, and who is left may have lost its parent: each is known by a mark in its environment
or by the files of the session that it holds open. Either alone may miss one: Ray writes titles over the beginning of an
environment, whose order is random, and `RAY_LOG_TO_STDERR` leaves no files.
"""

import contextlib
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

MARK = "CXR_SSL_RAY_STARTED_AS"
LOOKS = 6  # one that is killed may have started another just before
CLEAN_LOOKS, PAUSE_SECONDS = 2, 0.1  # in a row: a process that is just being started shows no environment yet
SECONDS = 10.0  # that the system is given to take a killed process away


@dataclass
class RayMarks:
    """What the processes of one Ray are known by.

    Attributes:
        environment: The value of `MARK` in their environment.
        session: Ray's folder of this session; None until Ray has told it.
    """

    environment: str
    session: Path | None = None


@contextlib.contextmanager
def marked() -> Iterator[RayMarks]:
    """Every process that is started inside carries a mark, and so does all that it starts; gives the marks."""
    marks = RayMarks(uuid.uuid4().hex)
    os.environ[MARK] = marks.environment
    try:
        yield marks
    except BaseException:  # a Ray that did not start whole
        end(marks)
        raise
    finally:
        os.environ.pop(MARK, None)


def end(marks: RayMarks) -> None:
    """Kill the processes with these marks that are still there, and wait until they are gone."""
    num_clean = 0
    for _ in range(LOOKS):
        left = [process for process in psutil.process_iter() if process.pid != os.getpid() and _has(process, marks)]
        num_clean = 0 if left else num_clean + 1
        if num_clean == CLEAN_LOOKS:
            return
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=SECONDS)
        time.sleep(PAUSE_SECONDS)


def _has(process: psutil.Process, marks: RayMarks) -> bool:
    try:
        return _has_environment(process, marks.environment) or _has_open(process, marks.session)
    except (psutil.Error, OSError):  # gone by now, or another user's
        return False


def _has_environment(process: psutil.Process, value: str) -> bool:
    block = Path(f"/proc/{process.pid}/environ")
    if block.exists():  # Linux: psutil's reader stops at the end of a title
        return value.encode() in block.read_bytes()
    return bool(process.environ().get(MARK) == value)


def _has_open(process: psutil.Process, folder: Path | None) -> bool:
    return folder is not None and any(folder in Path(file.path).parents for file in process.open_files())
