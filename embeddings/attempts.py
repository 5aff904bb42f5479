"""Which scans a task was at work on when its process died; one that it died of twice is left out, by name.

A decoder or a network that crashes takes its process along, and whoever tries again crashes again. So a task writes
down which scans it begins before it touches them. The next try finds them: it embeds each of these alone, and leaves
out the one that is found a second time.
"""

import contextlib
import hashlib
import json
import threading
from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

MAX_DEATHS = 2


class Attempts:
    """The marks of one shard, in a file beside the parts of its store; gone when its task ends, well or not.

    Marks that another process is still writing, of a run that shares the store, say nothing of deaths: who holds their
    lock lives, and this task works without marks.

    Args:
        folder: Of the store, which all nodes see.
        scans: SHA-256 of the shard's scans, which names the file.
    """

    def __init__(self, folder: Path, scans: Sequence[str]) -> None:
        self._path = folder / f"begun-{hashlib.sha256(''.join(scans).encode()).hexdigest()[:24]}.json"
        self._threads = threading.Lock()  # one thread decodes while another embeds
        self._held = FileLock(self._path.with_suffix(".lock"), timeout=0, thread_local=False)
        self._begun: dict[str, None] = {}
        self._deaths: dict[str, int] = {}

    def __enter__(self) -> "Attempts":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(Timeout):
            self._held.acquire()
            self._deaths = self._left_by_the_dead()
            self._write()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._held.is_locked:
            self._path.unlink(missing_ok=True)
            Path(self._held.lock_file).unlink(missing_ok=True)
            self._held.release()

    def deaths(self, scan: str) -> int:
        """How often a process died while it was at work on a scan."""
        return self._deaths.get(scan, 0)

    def begin(self, scans: Collection[str]) -> None:
        """Mark scans before they are touched."""
        with self._threads:
            self._begun |= dict.fromkeys(scans)
            self._write()

    def end(self, scans: Collection[str]) -> None:
        """Scans that did no harm; written down with the next that begin."""
        with self._threads:
            for scan in scans:
                self._begun.pop(scan, None)
                self._deaths.pop(scan, None)

    def _left_by_the_dead(self) -> dict[str, int]:
        try:
            left = json.loads(self._path.read_text("utf-8"))
            deaths: dict[str, int] = left["deaths"]
            for scan in left["begun"]:
                deaths[scan] = deaths.get(scan, 0) + 1
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return deaths

    def _write(self) -> None:
        """In one step, but not synced: what a crash of the whole machine forgets is one try."""
        if not self._held.is_locked:
            return
        partial = self._path.with_suffix(".part")
        partial.write_text(json.dumps({"begun": list(self._begun), "deaths": self._deaths}), "utf-8")
        partial.replace(self._path)
