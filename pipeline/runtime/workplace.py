"""What a command works with: its engine, the threads of its own arithmetic, and a record of both in the run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.contracts.cache import cache_folder
from pipeline.contracts.config import Config
from pipeline.runtime import run_dir
from pipeline.runtime.engine import Choice, Engine, make_engine, say_choice
from pipeline.runtime.processes import stop_signals
from pipeline.runtime.ray_nodes import Places
from pipeline.runtime.threads import limited


class Workplace:
    """Where a command works.

    Attributes:
        engine: Where its tasks run.
    """

    engine: Engine

    def __init__(self, config: Config, folder: Path) -> None:
        self._folder = folder
        self._threads = {"driver_threads": config.engine.driver_threads, "task_threads": config.engine.threads_per_task}
        self._choice: Choice | None = None
        self._is_recorded = False
        self.engine = make_engine(config.engine, places_of(config, folder), self._note)

    def record(self) -> None:
        """Write to the run where its tasks run, now and whenever that changes: its folder is this command's."""
        self._is_recorded = True
        self._write()

    def _note(self, choice: Choice) -> None:
        say_choice(choice)
        self._choice = choice
        self._write()

    def _write(self) -> None:
        if self._is_recorded and self._choice is not None:
            run_dir.add_to_environment(self._folder, {"engine": asdict(self._choice) | self._threads})


@contextmanager
def workplace(config: Config, folder: Path) -> Iterator[Workplace]:
    """The workplace of a command, closed in the end, also by a signal.

    Raises:
        InputError: see `make_engine`.
    """
    with stop_signals.handled(), limited(config.engine.driver_threads):
        place = Workplace(config, folder)
        try:
            with stop_signals.as_it_was():
                yield place
        finally:
            place.engine.close()


def places_of(config: Config, folder: Path) -> Places:
    """What every node that works for a run must see: its folder, the caches, its pool where that is a path."""
    store: Any = [Path(config.embed.store)] if config.embed.store else []
    pool = Path(config.pool.uri)
    return Places((folder, *store, cache_folder()), pool.absolute() if pool.exists() else None)
