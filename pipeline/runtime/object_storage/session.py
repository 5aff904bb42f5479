"""What a command does with a run at a URL: look at it, or hold it, work on it, and publish what came of it."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline.contracts.errors import CxrSslError, RunBusy
from pipeline.contracts.object_store import ObjectStore, is_url, local_path
from pipeline.runtime import run_files
from pipeline.runtime.object_storage import addresses, layout, lease, shared_logs
from pipeline.runtime.object_storage.lease import Lease
from pipeline.runtime.object_storage.working_copy import Wanted, WorkingCopy, everything
from pipeline.runtime.processes import alive, stop_signals

log = logging.getLogger(__name__)
PUBLISH_EVERY_SECONDS = 600.0  # inside a stage of hours
AGAIN_SECONDS = 60.0  # after storage failed there
MOMENT_SECONDS = 10.0  # who brings a few answers into the label table, there and back, has the lock no longer


@dataclass
class _Session:
    """A run at a URL that this process holds."""

    copy: WorkingCopy
    lease: Lease
    published: float = field(default_factory=time.monotonic)
    failed: float | None = None

    def is_due(self) -> bool:
        """Whether a stage that goes on for long is to be published."""
        now = time.monotonic()
        if self.failed is not None:
            return now - self.failed > AGAIN_SECONDS
        return now - self.published > PUBLISH_EVERY_SECONDS

    def publish_or_later(self) -> None:
        """Publish; where the storage fails, say so once, and leave it to a later call: the stage goes on.

        Raises:
            RunBusy: the lock was lost.
        """
        try:
            self.publish()
        except RunBusy:
            raise
        except (CxrSslError, OSError) as error:
            if self.failed is None:
                words = "%s; what is done meanwhile stays here, and is tried again every %.0f s"
                log.warning(words, error, AGAIN_SECONDS)
            self.failed = time.monotonic()

    def publish(self) -> None:
        self.lease.check()
        self.copy.publish()
        self.published, self.failed = time.monotonic(), None


_sessions: dict[Path, _Session] = {}
_wanted: dict[Path, Wanted] = {}  # what of each run the command of this process looks at


def folder_of(place: str | Path, wanted: Wanted = everything) -> Path:
    """The folder of a run, wherever it lies; one at a URL is fetched, without its lock. The one door of all commands.

    Args:
        place: A folder, or a URL.
        wanted: Which of its files the command may look at.

    Raises:
        InputError: the URL cannot be read, or something else lies there.
    """
    if isinstance(place, Path) or not is_url(place):
        return local_path(place)
    copy = WorkingCopy.of_url(place)
    _wanted[copy.folder] = wanted
    addresses.remember(copy.folder, copy.url)
    try:
        with FileLock(copy.folder / run_files.LOCK, timeout=0):
            copy.fetch(wanted)
            shared_logs.fetch_all(copy)
            _show_holder(copy)
    except Timeout:
        pass  # a process of this machine works on it, and the folder is ahead of what is published
    return copy.folder


def holds_run(url: str) -> bool:
    """Whether a run was published at a URL."""
    return layout.latest(ObjectStore(url), layout.PUBLISHED) > 0


@contextmanager
def held(folder: Path, patience_seconds: float) -> Iterator[None]:
    """Hold a run: its lock at its URL, its latest files here, and whatever happens inside published in the end.

    Nothing is done for a run of this machine, or one that this process holds already.

    Args:
        folder: The run, or one finding's part of it.
        patience_seconds: How long to wait for whoever has it; more here, unless it is 0: requests take their time.

    Raises:
        RunBusy: another process works on it.
    """
    copy = WorkingCopy.of(folder)
    if copy is None or copy.folder in _sessions:
        yield
        return
    patience = max(patience_seconds, MOMENT_SECONDS) if patience_seconds else 0.0
    held_lease = lease.acquire(copy.store, patience, lambda: _facts(copy.folder))
    session = _sessions[copy.folder] = _Session(copy, held_lease)
    try:
        copy.fetch(_wanted.get(copy.folder, everything))
        shared_logs.fetch_all(copy)
        yield from _publishing(session)
    finally:
        del _sessions[copy.folder]
        with stop_signals.held_back():
            held_lease.release()


def _publishing(session: _Session) -> Iterator[None]:
    """Publish in the end; an error inside is what the user has to hear of, before one of the storage."""
    try:
        yield
    except BaseException:
        with stop_signals.held_back():
            try:
                session.publish()
            except (CxrSslError, OSError) as error:
                log.warning("what was done since %s was last published stays here: %s", session.copy.url, error)
        raise
    with stop_signals.held_back():
        session.publish()
        session.copy.clean()


def publish(folder: Path) -> None:
    """Make what was written so far the run's, where this process holds it at a URL.

    Raises:
        RunBusy: the lock was lost.
        StorageError: storage fails and goes on failing.
    """
    session = _sessions.get(run_files.home(folder).absolute())
    if session is not None:
        session.publish()


def publishing(folder: Path, progress: Callable[[str, int, int], None]) -> Callable[[str, int, int], None]:
    """The same progress; a stage that goes on for long is published now and then, as it would resume after a crash."""
    session = _sessions.get(folder)
    if session is None:
        return progress

    def tell(what: str, done: int, total: int) -> None:
        progress(what, done, total)
        if session.is_due():
            session.publish_or_later()

    return tell


def _facts(folder: Path) -> dict[str, Any]:
    """What others see of a run in its lock."""
    facts: dict[str, Any] = {}
    for name, file in (("status", run_files.STATUS), ("activity", run_files.PROGRESS)):
        try:
            facts[name] = json.loads((folder / file).read_text("utf-8"))
        except (OSError, ValueError):
            continue
    return facts


def _show_holder(copy: WorkingCopy) -> None:
    """Have the folder tell what whoever holds the run does at the moment, or that it died."""
    holder = lease.holder_of(copy.store)
    status = (holder or {}).get("status")
    if holder is None or status is None or status.get("state") != "running":
        copy.show(run_files.PROGRESS, None)
        return
    is_alive = alive.lives(holder["process"])
    if is_alive is None:
        is_alive = holder["age_seconds"] <= lease.EXPIRED_SECONDS
    if not is_alive:
        words = f"its process {holder['process']['pid']} on {holder['process']['host']} was last heard of"
        ago = f"{holder['age_seconds']:.0f} s ago"
        status |= {"state": "died", "message": f"{words} {ago}: killed, or its machine went down; go on with --resume"}
    copy.show(run_files.STATUS, json.dumps(status | {"process": None}))
    activity = holder.get("activity") if is_alive else None
    copy.show(run_files.PROGRESS, None if activity is None else json.dumps(activity))
