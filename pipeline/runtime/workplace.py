"""What a command works with: its engine, the threads of its own arithmetic, and a record of both in the run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from pipeline.contracts.cache import cache_folder
from pipeline.contracts.config import Config
from pipeline.contracts.object_store import is_url, local_path
from pipeline.runtime import run_dir
from pipeline.runtime.engine import Choice, Engine, make_engine, say_choice
from pipeline.runtime.object_storage.working_copy import WorkingCopy
from pipeline.runtime.processes import stop_signals
from pipeline.runtime.ray_nodes import Places
from pipeline.runtime.threads import limited

GENERATED = ("phantom", "medmnist")  # pools that are written to the cache


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
    """What every node that works for a run must see, of what lies on disks.

    A run and a store at URLs are seen by all, and the cache is then each machine's own. Only where networks learn do
    tasks write to the run's folder and to the cache, and `phantom:` and `medmnist:` pools are written to the cache.
    """
    store, uri = config.embed.store, config.pool.uri
    is_at_url = WorkingCopy.of(folder) is not None
    trains = config.pretrain.epochs > 0 or config.train.adapt != "head"
    folders = [folder] if trains or not is_at_url else []
    folders += [local_path(store)] if store and not is_url(store) else []
    if trains or store is None or not is_at_url or uri.partition(":")[0] in GENERATED:
        folders.append(cache_folder())
    pool = None if is_url(uri) else local_path(uri)
    return Places(tuple(folders), pool.absolute() if pool is not None and pool.exists() else None)
