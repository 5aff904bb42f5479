"""Tables that this process read a moment ago: a round reads the same few files dozens of times.

A file is known again by its number on the disk, its size and its times. One that was written just now is read anew the
next time: a disk's clock may not tell two writes apart that follow at once.
"""

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

MAX_BYTES, MAX_TABLES = 64 * 2**20, 256
YOUNG_SECONDS = 0.1
_State = tuple[int, ...]


@dataclass(frozen=True)
class _Kept:
    """A table, the state of its file, and who read it: as long as that is kept, no other has its `id`."""

    state: _State
    table: pa.Table
    reader: object
    num_bytes: int


_Key = tuple[str, int, tuple[str, ...] | None]
_kept: OrderedDict[_Key, _Kept] = OrderedDict()  # the latest comes last
_lock = threading.Lock()


def read(
    path: Path, make: Callable[[], pa.Table], reader: object = None, columns: tuple[str, ...] | None = None
) -> pa.Table:
    """What `make` makes of a file, or made of it before, if the file is the same.

    Args:
        path: Of the file.
        make: Reads it.
        reader: Who reads; others may make another table of the same file.
        columns: Which part of the file it reads; None: all.

    Raises:
        OSError: there is no such file, or it cannot be opened; and what `make` raises.
    """
    key, before = (str(path.absolute()), id(reader), columns), _state(path)
    with _lock:
        kept = _kept.get(key)
        if kept is not None and kept.state == before:
            _kept.move_to_end(key)
            return kept.table
    table = make()
    if _is_settled(before) and _state(path) == before:
        num_bytes = table.get_total_buffer_size()
        if num_bytes <= MAX_BYTES:
            _keep(key, _Kept(before, table, reader, num_bytes))
    return table


def _state(path: Path) -> _State:
    """What changes with the file; it is opened for it, since a shared disk looks at its server only then."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        stat = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _is_settled(state: _State) -> bool:
    """Whether another write would show in the times; a clock of whole seconds shows too little."""
    written_ns = max(state[-2:])
    return time.time_ns() - written_ns > YOUNG_SECONDS * 1e9 and written_ns % 10**9 != 0


def _keep(key: _Key, kept: _Kept) -> None:
    with _lock:
        _kept.pop(key, None)
        _kept[key] = kept
        excess = sum(other.num_bytes for other in _kept.values()) - MAX_BYTES
        while excess > 0 or len(_kept) > MAX_TABLES:
            excess -= _kept.popitem(last=False)[1].num_bytes
