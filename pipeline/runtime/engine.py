"""Where shards of work run: in this process, or as Ray tasks; `auto` chooses by how much work there is.

A shard's function publishes its own result (atomically, on shared storage) or returns something small; nothing
collects the pool on the driver.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from pipeline.contracts.errors import EngineError, InputError
from pipeline.contracts.options.running import EngineConfig
from pipeline.runtime import gpus, ray_cluster
from pipeline.runtime.ray_engine import RayEngine
from pipeline.runtime.ray_nodes import Places
from pipeline.runtime.threads import limited

log = logging.getLogger(__name__)

S = TypeVar("S")
R = TypeVar("R")
MIN_NETWORKS = 2  # each trains for a minute or more: side by side they pay for Ray's start


class Engine(Protocol):
    """Runs `function(shard)` for every shard and yields `(index, result)` as they finish."""

    def map_shards(
        self, function: Callable[[S], R], shards: Sequence[S], *, on_gpu: bool = False
    ) -> Iterator[tuple[int, R]]:
        """Yield in order of completion, on which the caller must not depend; `on_gpu` tasks may claim GPUs."""
        ...

    def num_slots(self) -> int:
        """How many tasks run at the same time."""
        ...

    def expect(self, num_scans: int = 0, num_networks: int = 0) -> None:
        """Say what is to be read or embedded, or trained one a task, before its shards come: `auto` chooses by it."""
        ...

    def start(self) -> None:
        """Start what Ray Train needs."""
        ...

    def num_gpus(self) -> float:
        """GPUs there are where tasks run."""
        ...

    def with_a_gpu_each(self) -> "Engine":
        """The same, where every task that asks for a GPU has one of its own."""
        ...

    def close(self) -> None:
        """Give back what was started here."""
        ...


class LazyShards(Sequence[S]):
    """Shards that are made when a task is about to take them: of large ones few are held at a time.

    Args:
        make: Makes the shard of an index.
        num: How many there are.
    """

    def __init__(self, make: Callable[[int], S], num: int) -> None:
        self._make, self._num = make, num

    def __len__(self) -> int:
        return self._num

    def __getitem__(self, index: Any) -> Any:
        return self._make(range(self._num)[index])


class SerialEngine:
    """Everything in this process, one shard after the other, on the threads of a task."""

    _num_threads: int | None = None  # those of the driver

    def __init__(self, config: EngineConfig | None = None) -> None:
        if config is not None and config.threads_per_task != config.driver_threads:
            self._num_threads = config.threads_per_task

    def map_shards(
        self, function: Callable[[S], R], shards: Sequence[S], *, on_gpu: bool = False
    ) -> Iterator[tuple[int, R]]:
        """See `Engine`."""
        for index, shard in enumerate(shards):
            if self._num_threads is None:
                yield index, function(shard)
                continue
            with limited(self._num_threads):
                result = function(shard)
            yield index, result

    def num_slots(self) -> int:
        """One."""
        return 1

    def expect(self, num_scans: int = 0, num_networks: int = 0) -> None:
        """Nothing to choose."""

    def start(self) -> None:
        """Refuse: several workers need Ray."""
        raise InputError("several training workers need Ray", where="train.num_workers", fix="set engine.backend=ray")

    def num_gpus(self) -> float:
        """Those that torch sees."""
        return gpus.num_here()

    def with_a_gpu_each(self) -> "SerialEngine":
        """Itself: one task at a time has them all."""
        return self

    def close(self) -> None:
        """Nothing to give back."""


@dataclass(frozen=True)
class Choice:
    """Where the tasks of a command run.

    Attributes:
        backend: `serial`: in this process.
        why: Half a sentence.
    """

    backend: Literal["serial", "ray"]
    why: str


Note = Callable[[Choice], None]


class AutoEngine:
    """This process, until more is to be done than Ray's start costs; then Ray, for the rest of the command.

    Args:
        config: Options.
        places: What every node of a cluster must see.
        note: Told of each choice: the first, and one that replaces it.
    """

    def __init__(self, config: EngineConfig, places: Places, note: Note) -> None:
        self._config, self._note = config, note
        self._serial, self._ray = SerialEngine(config), RayEngine(config, places)
        self._choice: Choice | None = None
        self._must_start = ray_cluster.is_named()
        self._has_failed = False
        if self._must_start:
            self._choose("ray", "a cluster is named, by RAY_ADDRESS or by the job that this is")

    def expect(self, num_scans: int = 0, num_networks: int = 0) -> None:
        """See `Engine`; goes over to Ray where it pays, and never back."""
        if self._has_failed or (self._choice is not None and self._choice.backend == "ray"):
            return
        limit = self._config.ray_from_scans
        slots = (self._config.num_cpus or os.cpu_count() or 1) // self._config.threads_per_task
        if slots < 2:
            self._choose("serial", "one task at a time is all that fits this machine")
        elif num_networks >= MIN_NETWORKS:
            self._choose("ray", f"{num_networks} networks are trained side by side")
        elif num_scans >= limit:
            self._choose("ray", f"{num_scans} scans, and engine.ray_from_scans is {limit}")
        else:
            self._choose("serial", f"Ray's start would cost more than it saves below {limit} scans")

    def _choose(self, backend: Literal["serial", "ray"], why: str) -> None:
        if self._choice is None or self._choice.backend != backend:
            self._choice = Choice(backend, why)
            self._note(self._choice)

    def _engine(self) -> Engine:
        """The one chosen; where nobody said what to expect, the tasks are long ones, and Ray runs them."""
        if self._choice is None:
            self._choose("ray", "tasks of unknown length")
        if self._choice is not None and self._choice.backend == "serial":
            return self._serial
        try:
            self._ray.start()
        except EngineError as error:
            if self._must_start:
                raise
            log.warning("%s This run goes on without Ray, one task at a time.", error)
            self._has_failed = True
            self._choose("serial", f"Ray did not start: {error.what}")
            return self._serial
        return self._ray

    def map_shards(
        self, function: Callable[[S], R], shards: Sequence[S], *, on_gpu: bool = False
    ) -> Iterator[tuple[int, R]]:
        """See `Engine`."""
        if shards:
            yield from self._engine().map_shards(function, shards, on_gpu=on_gpu)

    def num_slots(self) -> int:
        """Those of the engine chosen."""
        return self._engine().num_slots()

    def start(self) -> None:
        """Go over to Ray, which several workers need, or say why it does not start."""
        self._choose("ray", "several workers train together")
        self._must_start = True
        self._ray.start()

    def num_gpus(self) -> float:
        """Those of the engine chosen."""
        return self._engine().num_gpus()

    def with_a_gpu_each(self) -> Engine:
        """That of the engine chosen."""
        return self._engine().with_a_gpu_each()

    def close(self) -> None:
        """Leave Ray, where it was started."""
        self._ray.close()


def say_choice(choice: Choice) -> None:
    """One line in the log."""
    where = "in this process" if choice.backend == "serial" else "on Ray"
    log.info("tasks run %s: %s", where, choice.why)


def make_engine(config: EngineConfig, places: Places | None = None, note: Note = say_choice) -> Engine:
    """The engine that `engine.backend` names.

    Args:
        config: Options.
        places: What every node of a cluster must see.
        note: Told where tasks run and why, as soon as it is known.

    Raises:
        InputError: when it asks for GPUs that are not there; Ray is started at once to find that out.
        EngineError: when a cluster is named and does not answer.
    """
    places = places or Places()
    if config.backend != "serial":
        ray_cluster.refuse_dead()
    asked = gpus.are_asked_for(config)
    if config.backend == "ray" or (asked and config.backend == "auto" and ray_cluster.is_named()):
        engine = RayEngine(config, places)
        note(Choice("ray", "engine.backend asks for it" if config.backend == "ray" else "a cluster is named"))
        if asked:
            try:
                engine.start()
            except InputError:
                engine.close()
                raise
        return engine
    if asked:
        gpus.check(config, gpus.num_here())
    if config.backend == "auto":
        return AutoEngine(config, places, note)
    note(Choice("serial", "engine.backend asks for it"))
    return SerialEngine(config)


def uses_gpu(engine: Engine, config: EngineConfig, num_workers: int, where: str) -> bool:
    """Whether every worker that trains a network gets a GPU of its own.

    Args:
        engine: Where it runs; Ray is started for several workers.
        config: Its options.
        num_workers: That train one network together.
        where: The option that gives their number.

    Raises:
        InputError: when they must have one and there are too few, or several workers lack Ray.
    """
    if num_workers > 1:
        if isinstance(engine, SerialEngine):
            raise InputError("several workers need Ray", value=num_workers, where=where, fix="set engine.backend=ray")
        engine.start()
    return gpus.one_each(config, num_workers, engine.num_gpus(), where)


def trainer_of(engine: Engine, on_gpu: bool) -> Engine:
    """Where networks are trained one a task: with a GPU each, where `uses_gpu`."""
    return engine.with_a_gpu_each() if on_gpu else engine
