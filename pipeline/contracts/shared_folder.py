"""A folder of files that are written once and never changed, which machines share: on a disk, or at a URL.

At a URL every machine has a copy in its cache, and works with that. No disk is shared: who needs what another wrote
asks for it, and who writes sends it off.
"""

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from pipeline.contracts.cache import cache_folder
from pipeline.contracts.object_store import ObjectStore, is_url, local_path

T = TypeVar("T")
COPIES = "stores"  # folder of the cache
AT_ONCE = 8  # files that travel at the same time


class SharedFolder:
    """The folder; it may be sent to other machines, where `here` is another path.

    Args:
        place: A path, or a URL.
    """

    def __init__(self, place: Path | str) -> None:
        self._path = None if is_url(str(place)) else local_path(place)
        self.url = str(place).rstrip("/") if self._path is None else None

    @property
    def here(self) -> Path:
        """Where its files lie on this machine."""
        if self._path is not None:
            return self._path
        return cache_folder() / COPIES / hashlib.sha256(str(self.url).encode()).hexdigest()[:16]

    def receive(self, below: str, wanted: Callable[[str], bool]) -> None:
        """Bring what others have written to a folder in it here; nothing to do where they share the disk.

        Args:
            below: The folder, inside this one.
            wanted: Of a file's name, whether to.
        """
        if self.url is None:
            return
        store = ObjectStore(self.url)
        there = [name for name in store.names(below) if wanted(name.rpartition("/")[2])]
        lacking = [name for name in there if not (self.here / name).exists()]
        at_once(partial(store.fetch, name, self.here / name) for name in lacking)
        own = sorted((self.here / below).glob("*")) if (self.here / below).is_dir() else []
        self.give(*(path for path in own if wanted(path.name) and f"{below}/{path.name}" not in there))

    def give(self, *paths: Path) -> None:
        """Send off what was written here."""
        if self.url is not None and paths:
            store = ObjectStore(self.url)
            at_once(partial(store.send, path, path.relative_to(self.here).as_posix()) for path in paths)


def at_once(steps: Iterable[Callable[[], T]]) -> list[T]:
    """Do several steps that wait for the network side by side; what each returned, in their order.

    Raises:
        Exception: what the first of them raised.
    """
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return [done.result() for done in [threads.submit(step) for step in steps]]
