"""Ends a command whose Ray has died: Ray waits on for ever, or ends the program a minute later without a word."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.contracts.errors import EngineError
from pipeline.runtime.processes import stop_signals

EVERY_SECONDS, HEAD_EVERY_SECONDS = 1.0, 10.0
ANSWERS_MISSED = 3  # of a head: one that restarts is back soon
VITAL = ("gcs_server", "raylet")  # without one of them no task runs; Ray starts none of them again


class RayWatch:
    """A thread that looks whether Ray's processes live, until it is closed.

    Args:
        dead: What has died, in words; None while all is well.
        every_seconds: How often it is asked.
    """

    def __init__(self, dead: Callable[[], str | None], every_seconds: float = EVERY_SECONDS) -> None:
        self._dead, self._every_seconds = dead, every_seconds
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="ray-watch", daemon=True).start()

    def close(self) -> None:
        """Look no more: Ray is about to be stopped."""
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(self._every_seconds):
            died = self._dead()
            if died is not None and not self._closed.is_set():
                stop_signals.interrupt(died_error(died))
                return


def died_error(what: str) -> EngineError:
    """The error that tells of it."""
    return EngineError(f"Ray has died: {what}", fix="go on with --resume: finished shards are kept; look at the memory")


def dead_processes(ray: Any) -> str | None:
    """What of the vital processes that Ray started here and that are gone; None where all live."""
    node = ray._private.worker._global_node  # Ray has no public way to ask
    gone = [] if node is None else [name for name, _ in node.dead_processes() if name in VITAL]
    return f"its process {gone[0]} is gone" if gone else None


def session_folder(ray: Any) -> Path:
    """Where the Ray that was started here keeps its logs and sockets."""
    return Path(ray._private.worker._global_node.get_session_dir_path()).resolve()  # Ray has no public way to ask


class HeadLooks:
    """What has died of a cluster that was joined: its head, once it has not answered several times in a row.

    Args:
        ask: Returns where the head answers, and raises EngineError where it does not.
    """

    def __init__(self, ask: Callable[[], Any]) -> None:
        self._ask = ask
        self._num_missed = 0

    def __call__(self) -> str | None:
        """Half a sentence, or None while all is well."""
        try:
            self._ask()
        except EngineError as error:
            self._num_missed += 1
            return f"{error.what} at {error.value}" if self._num_missed >= ANSWERS_MISSED else None
        self._num_missed = 0
        return None
