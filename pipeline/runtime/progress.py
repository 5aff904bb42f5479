"""What a person sees while a run works: bars on a terminal, a line now and then in a log."""

import logging
import os
import sys
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.runtime.watching.progress_file import ProgressFile

from pipeline.runtime.processes import stop_signals
from pipeline.runtime.watching.pace import Pace, words

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
    """Call it with (what, done, total). Bars with rate and time left on a terminal, plain lines elsewhere.

    Args:
        quiet: Show nothing.
        folder: A run to write `activity.json` to, whatever is shown; None: none.
    """

    def __init__(self, *, quiet: bool = False, folder: Path | None = None) -> None:
        self._quiet = quiet
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self._paces: dict[str, Pace] = {}
        self._num_failed: dict[str, int] = {}
        self._last_line: dict[str, float] = {}
        self._file = None if folder is None else _file_in(folder)

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty() and not self._quiet:
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bars

            self._bars = Bars(
                TextColumn("{task.description:<12}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[pace]}"),
                TimeElapsedColumn(),
                console=_console(),
            )
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()
        if self._file is not None:
            with suppress(OSError):  # a full disk is what the user has to hear of, not this
                self._file.close()

    def failed(self, what: str, num: int) -> None:
        """Take in that `num` of what is done have failed so far; shown with the next call."""
        self._num_failed[what] = num

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` are done.

        Raises:
            StopSignal: a signal has come, and what it raised was swallowed.
        """
        stop_signals.check()
        if total == 0:
            return
        now = time.monotonic()
        pace = self._paces.setdefault(what, Pace())
        pace.add(now, done)
        num_failed = self._num_failed.get(what, 0)
        if self._file is not None:
            self._file.tell(what, done, total, num_failed, pace)
        if self._quiet:
            return
        shown = _pace_words(pace, total, num_failed)
        if self._bars is not None:
            if what not in self._tasks:
                self._tasks[what] = self._bars.add_task(what, total=total, pace="")
            self._bars.update(self._tasks[what], completed=done, total=total, pace=shown)
        elif now - self._last_line.setdefault(what, now) >= LINE_EVERY_SECONDS and done < total:
            self._last_line[what] = now
            log.info("%s: %d of %d%s", what, done, total, f" ({shown})" if shown else "")


def _file_in(folder: Path) -> "ProgressFile":
    from pipeline.runtime.watching import progress_file  # with pyarrow, which --help does without

    return progress_file.ProgressFile(folder)


def _pace_words(pace: Pace, total: int, num_failed: int) -> str:
    """`63.1/s, 70 to 90 s left, 2 failed`, as far as it can be said."""
    rate = pace.per_second()
    parts = ("" if rate is None else f"{rate:.1f}/s", words(pace.remaining(total)))
    return ", ".join([*filter(None, parts), *([f"{num_failed} failed"] if num_failed else [])])
