"""What a person sees while a run works: bars on a terminal, a line now and then in a log."""

import logging
import os
import sys
import time
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger(__name__)
LINE_EVERY_SECONDS = 10.0


@cache
def _console() -> "Console":
    """The one that messages and bars share: a message is then written above the bars, not into them."""
    from rich.console import Console

    return Console(stderr=True)


def configure_logging(*, quiet: bool, verbose: bool) -> None:
    """Messages go to standard error; standard output stays free for results."""
    from rich.logging import RichHandler

    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    handler: logging.Handler
    if sys.stderr.isatty():
        handler = RichHandler(
            console=_console(),
            show_path=False,
            show_level=False,
            markup=False,
            log_time_format="%H:%M:%S",
        )
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("pipeline", "embeddings", "jobs"):
        logging.getLogger(name).setLevel(level)
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # without a network it would warn twice of each retry


class Progress:
    """Call it with (what, done, total). Bars with rate and time left on a terminal, plain lines elsewhere."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self._last_line: dict[str, tuple[float, float]] = {}

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty() and not self._quiet:
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )
            from rich.progress import Progress as Bars

            self._bars = Bars(
                TextColumn("{task.description:<12}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=_console(),
            )
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` are done."""
        if self._quiet or total == 0:
            return
        now = time.monotonic()
        start, last_line = self._last_line.setdefault(what, (now, now))
        rate = f"{done / (now - start):.1f}/s" if done and now > start else ""
        if self._bars is not None:
            if what not in self._tasks:
                self._tasks[what] = self._bars.add_task(what, total=total, rate="")
            self._bars.update(self._tasks[what], completed=done, total=total, rate=rate)
        elif now - last_line >= LINE_EVERY_SECONDS and done < total:
            self._last_line[what] = (start, now)
            left = (total - done) * (now - start) / max(done, 1)
            log.info("%s: %d of %d (%s, about %d s left)", what, done, total, rate, left)
