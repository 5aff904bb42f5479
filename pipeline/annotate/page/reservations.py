"""Which scans are on whose screen, so that annotators who work at once do not read the same scan by accident.

Kept in the run as well: a page that was killed and started again still knows it. No answer hangs on it, so it is
replaced without waiting for the disk, and one that cannot be written or read costs a scan read twice at most.
"""

import contextlib
import json
import time
from collections.abc import Collection, Sequence
from pathlib import Path

RESERVED_SECONDS = 120.0  # renewed whenever her page asks for more


class Reservations:
    """Scans reserved by annotators, for a while; whoever uses it holds a lock.

    Args:
        path: Where they are kept.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._since = self._read()  # scan to who has it on her screen, and since when, in seconds of the epoch

    def hold(self, image_ids: Collection[str], annotator: str) -> None:
        """Reserve scans, or renew what she has."""
        if not image_ids:
            return
        moment = time.time()
        self._since = {
            image_id: fresh
            for image_id, holders in self._since.items()
            if (fresh := {name: at for name, at in holders.items() if _is_fresh(at, moment)})
        }
        for image_id in image_ids:
            self._since.setdefault(image_id, {})[annotator] = moment
        self._write()

    def holders(self, image_id: str) -> Sequence[str]:
        """Who has a scan on her screen now."""
        moment = time.time()
        return [name for name, at in self._since.get(image_id, {}).items() if _is_fresh(at, moment)]

    def _read(self) -> dict[str, dict[str, float]]:
        try:
            content = json.loads(self._path.read_bytes())
            return {
                str(image_id): {str(name): float(at) for name, at in holders.items()}
                for image_id, holders in content.items()
            }
        except (OSError, ValueError, OverflowError, TypeError, AttributeError, RecursionError):
            return {}

    def _write(self) -> None:
        part = self._path.with_name(f"{self._path.name}.part")
        with contextlib.suppress(OSError):
            part.write_text(json.dumps(self._since, ensure_ascii=False), "utf-8")
            part.replace(self._path)


def _is_fresh(since: float, moment: float) -> bool:
    return abs(moment - since) < RESERVED_SECONDS  # a clock set back makes none last for ever
