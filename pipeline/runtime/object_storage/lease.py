"""The lock of a run at a URL: an object that one process creates, renews while it works, and hands back.

No clock of a node is trusted: how old a lock is, the storage says, by when it wrote the lock and when it writes
something now. A process that died leaves a lock that nobody renews; on its own machine it is known to be dead at once.
"""

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from pipeline.contracts.errors import CxrSslError, InputError, RunBusy, RunDirError
from pipeline.contracts.object_store import CAN_CREATE_ONCE, ObjectStore, scheme_of
from pipeline.runtime.object_storage import layout
from pipeline.runtime.processes import alive, stop_signals

log = logging.getLogger(__name__)
RENEWED_SECONDS = 20.0
EXPIRED_SECONDS = 120.0  # several missed renewals: a pause of the node or the network is no death
ASK_AGAIN_SECONDS = 1.0
Facts = Callable[[], dict[str, Any]]


class Lease:
    """A lock that this process holds; renewed by a thread of its own until `release`.

    Args:
        store: The run.
        number: Of the lock's object.
        facts: What others may read in the lock, asked for at every renewal.
    """

    def __init__(self, store: ObjectStore, number: int, token: str, facts: Facts) -> None:
        self._store, self._number, self._token, self._facts = store, number, token, facts
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Refuse to go on when another has taken the lock over, which it does when this process was silent for long.

        Raises:
            RunBusy: naming who has it.
        """
        newer = layout.latest(self._store, layout.LOCKS)
        if newer > self._number:
            raise _lost(self._store, _read(self._store, newer))

    def release(self) -> None:
        """Hand the lock back; the object stays, so that its number is not taken again."""
        self._ended.set()
        self._thread.join()
        try:
            if layout.latest(self._store, layout.LOCKS) == self._number:
                self._write({"released": True})
        except CxrSslError as error:
            log.warning("the lock of %s stays until it expires: %s", self._store.url, error)

    def _renew(self) -> None:
        while not self._ended.wait(RENEWED_SECONDS):
            try:
                self.check()
                self._write(self._facts())
            except RunBusy as lost:
                stop_signals.interrupt(lost)
                return
            except Exception as error:  # noqa: BLE001 - storage that fails now may answer before the lock expires
                log.warning("the lock of %s could not be renewed: %s", self._store.url, error)

    def _write(self, more: dict[str, Any]) -> None:
        self._store.write(layout.numbered(layout.LOCKS, self._number), _content(self._token, more))


def acquire(store: ObjectStore, patience_seconds: float, facts: Facts) -> Lease:
    """The lock of a run.

    Args:
        store: The run.
        patience_seconds: How long to wait for whoever has it.
        facts: See `Lease`.

    Raises:
        RunBusy: somebody else works on the run; says who and since when.
        InputError: the storage cannot create an object on the condition that there is none.
    """
    if scheme_of(store.url) not in CAN_CREATE_ONCE:
        fix = f"use {', '.join(f'{scheme}://' for scheme in CAN_CREATE_ONCE)}, or a folder that all nodes share"
        raise InputError("two jobs could not be told apart on this kind of storage", where=store.url, fix=fix)
    deadline = time.monotonic() + patience_seconds
    token = uuid.uuid4().hex
    while True:
        number = layout.latest(store, layout.LOCKS)
        holder = _read(store, number) if number else None
        if holder is None or _is_free(store, number, holder):
            name = layout.numbered(layout.LOCKS, number + 1)
            if store.create(name, _content(token, facts())):
                _refuse_overwriting(store, name)
                _forget(store, number)
                return Lease(store, number + 1, token, facts)
        elif time.monotonic() >= deadline:
            raise _busy(store, number, holder)
        time.sleep(ASK_AGAIN_SECONDS)


def holder_of(store: ObjectStore) -> dict[str, Any] | None:
    """What stands in a run's lock: {"process", "status", "activity", "age_seconds"}; None when nobody has it.

    `age_seconds` since its last renewal is by this machine's clock, for people alone.
    """
    number = layout.latest(store, layout.LOCKS)
    holder = _read(store, number) if number else None
    if holder is None or holder.get("released"):
        return None
    written = store.modified(layout.numbered(layout.LOCKS, number)).timestamp()
    return holder | {"age_seconds": max(0.0, time.time() - written)}


def _content(token: str, more: dict[str, Any]) -> bytes:
    return json.dumps({"token": token, "process": alive.this_process()} | more).encode()


def _read(store: ObjectStore, number: int) -> dict[str, Any]:
    """A lock as it was written; one that is gone meanwhile is free."""
    try:
        content: dict[str, Any] = json.loads(store.read(layout.numbered(layout.LOCKS, number)))
    except (FileNotFoundError, ValueError):
        return {"released": True}
    return content


def _is_free(store: ObjectStore, number: int, holder: dict[str, Any]) -> bool:
    """Whether a lock was handed back, or whoever held it is dead."""
    if holder.get("released"):
        return True
    is_alive = alive.lives(holder["process"])
    if is_alive is not None:
        return not is_alive
    return _age_seconds(store, number) > EXPIRED_SECONDS


def _age_seconds(store: ObjectStore, number: int) -> float:
    """Seconds since a lock was renewed, by the clock of the storage."""
    asked = f"{layout.LOCKS}/asked-{uuid.uuid4().hex}"
    store.write(asked, b"")
    try:
        now, written = store.modified(asked), store.modified(layout.numbered(layout.LOCKS, number))
    except FileNotFoundError:
        return 0.0  # somebody else has just taken it
    finally:
        store.remove([asked])
    return (now - written).total_seconds()


def _refuse_overwriting(store: ObjectStore, name: str) -> None:
    """Refuse storage that creates an object twice: it does not look at the condition, so its locks hold nothing.

    Raises:
        RunDirError: it does.
    """
    if store.create(name, json.dumps({"released": True, "token": uuid.uuid4().hex}).encode()):
        raise RunDirError(
            "this storage does not look whether an object is there before it creates it (If-None-Match), so two jobs "
            "on one run could not be told apart",
            where=store.url,
            fix="use a newer server, or a folder that all nodes share",
        )


def _forget(store: ObjectStore, number: int) -> None:
    """Remove the locks before one; it stays itself until the next, since its holder may still look for it."""
    store.remove([name for name in store.names(layout.LOCKS) if 0 < layout.number_of(name) < number])


def _busy(store: ObjectStore, number: int, holder: dict[str, Any]) -> RunBusy:
    process = holder["process"]
    fix = "wait for it, or name another --out"
    if alive.lives(process) is None:
        age = _age_seconds(store, number)
        fix += f"; it was heard of {age:.0f} s ago, and the lock of one that died is free after {EXPIRED_SECONDS:.0f} s"
    who = f"process {process['pid']} on {process['host']}"
    return RunBusy(f"another process is working in this run ({who})", where=store.url, fix=fix)


def _lost(store: ObjectStore, holder: dict[str, Any]) -> RunBusy:
    process = holder.get("process", {})
    who = f"process {process.get('pid')} on {process.get('host')}"
    what = f"this process was silent for long, and another has taken the run over ({who})"
    return RunBusy(what, where=store.url, fix="let that one go on; what this one has published is kept")
