"""Files of a run that only grow, and that several processes add to: at a URL each addition is an object of its own.

The file here is what these objects hold, one after the other. An addition is on storage before it is in the file, so
what an annotator hears is saved outlives this machine. Nothing happens for a run of this machine.
"""

import errno
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from pipeline.contracts.errors import CxrSslError
from pipeline.contracts.tables import write_text
from pipeline.runtime.object_storage import layout
from pipeline.runtime.object_storage.working_copy import WorkingCopy

NOTE, LOCK, ASIDE = "logs.json", ".logs.lock", ".unpublished"
LOOK_AGAIN_SECONDS = 2.0  # who only reads asks the storage no more often
log = logging.getLogger(__name__)
_mutex = threading.RLock()
_looked: dict[Path, float] = {}


def catch_up(path: Path, *, at_once: bool = False) -> None:
    """Add to a file here what others have added to it.

    Args:
        path: Of the file; nothing happens where its run is one of this machine.
        at_once: Ask the storage even if that was done a moment ago: who is about to add must know all. Who only reads
            goes on with what is here where the storage fails.

    Raises:
        OSError: the storage fails, and all is asked for.
    """
    if not at_once and time.monotonic() - _looked.get(path, -LOOK_AGAIN_SECONDS) < LOOK_AGAIN_SECONDS:
        return
    copy = WorkingCopy.of(path.parent)
    if copy is None:
        return
    try:
        with _noted(copy) as note:
            _catch_up(copy, path, note)
    except CxrSslError as error:
        if at_once:
            raise OSError(errno.EIO, error.what, str(error.where)) from error
        _looked[path] = time.monotonic()
        log.warning("what others add to %s is not seen for the moment: %s", path.name, error)


def fetch_all(copy: WorkingCopy) -> None:
    """Bring every growing file of a run to what the storage holds."""
    start = len(layout.LOGS) + 1
    names = {name[start:].rpartition("/")[0] for name in copy.store.names(layout.LOGS) if layout.is_own(name)}
    with _noted(copy) as note:
        for name in sorted(names):
            _catch_up(copy, copy.folder / name, note)


def add(path: Path, data: bytes) -> None:
    """Have the storage keep what is about to be written at the end of a file. Call it after `catch_up(at_once=True)`.

    Raises:
        OSError: it was not kept: storage fails, or somebody else has added at the same moment.
    """
    copy = WorkingCopy.of(path.parent)
    if copy is None:
        return
    name = _name(copy, path)
    try:
        with _noted(copy) as note:
            number, num_bytes = note.get(name, [0, 0])
            if not copy.store.create(_piece(name, number + 1), data):
                raise OSError(errno.EAGAIN, "something was added from elsewhere at the same moment; do it again", name)
            note[name] = [number + 1, num_bytes + len(data)]
    except CxrSslError as error:
        raise OSError(errno.EIO, error.what, str(error.where)) from error


def append(path: Path, data: bytes) -> None:
    """Add whole lines to a file, durably, here and where its run lies; whatever others add meanwhile.

    Raises:
        OSError: they could not be written.
    """
    while True:
        catch_up(path, at_once=True)
        try:
            add(path, data)
        except BlockingIOError:  # EAGAIN: another was faster
            continue
        break
    with path.open("ab") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def forget(copy: WorkingCopy) -> None:
    """Take all growing files of a run away, there and here: it starts again."""
    with _noted(copy) as note:
        copy.store.remove([name for name in copy.store.names(layout.LOGS) if layout.is_own(name)])
        for name in note:
            (copy.folder / name).unlink(missing_ok=True)
        note.clear()


def _catch_up(copy: WorkingCopy, path: Path, note: dict[str, list[int]]) -> None:
    name = _name(copy, path)
    number, num_bytes = note.get(name, [0, 0])
    size = path.stat().st_size if path.exists() else 0
    if size < num_bytes:  # written on storage, and this machine went down before it was written here
        number, num_bytes = 0, 0
    pieces = sorted(piece for piece in copy.store.names(f"{layout.LOGS}/{name}") if layout.number_of(piece) > number)
    if pieces or size > num_bytes:
        fresh = b"".join(copy.store.read(piece) for piece in pieces)
        _keep_others(path, num_bytes, fresh)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("r+b" if path.exists() else "wb") as stream:
            stream.truncate(num_bytes)
            stream.seek(num_bytes)
            stream.write(fresh)
            stream.flush()
            os.fsync(stream.fileno())
        number = layout.number_of(pieces[-1]) if pieces else number
        note[name] = [number, num_bytes + len(fresh)]
    _looked[path] = time.monotonic()


def _keep_others(path: Path, num_bytes: int, fresh: bytes) -> None:
    """Put lines aside that stand behind the known ones and that the storage lacks; half a line is none."""
    behind = path.read_bytes()[num_bytes:] if path.exists() else b""
    lines = behind[: behind.rfind(b"\n") + 1]
    if lines and not fresh.startswith(lines):
        kept = path.with_name(path.name + ASIDE)
        with kept.open("ab") as stream:
            stream.write(lines)
        log.warning("%s held lines that were never published; they are kept in %s", path.name, kept)


def _name(copy: WorkingCopy, path: Path) -> str:
    return path.absolute().relative_to(copy.folder).as_posix()


def _piece(name: str, number: int) -> str:
    return layout.numbered(f"{layout.LOGS}/{name}", number)


@contextmanager
def _noted(copy: WorkingCopy) -> Iterator[dict[str, list[int]]]:
    """How far each growing file has come here: the number of its last piece, and its bytes. Kept when it ends well."""
    place = copy.folder.parent / NOTE
    with _mutex, FileLock(copy.folder.parent / LOCK):
        note: dict[str, Any] = json.loads(place.read_text("utf-8")) if place.exists() else {}
        before = json.dumps(note)
        yield note
        if json.dumps(note) != before:
            write_text(place, json.dumps(note))
