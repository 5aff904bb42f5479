"""Where shards of work run: in this process, or as Ray tasks with bounded retries.

A shard's function publishes its own result (atomically, on shared storage) or returns something small; nothing
collects the pool on the driver.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from pipeline.contracts.config import EngineConfig
from pipeline.contracts.errors import EngineError, InputError, no_gpu

S = TypeVar("S")
R = TypeVar("R")


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

    def start(self) -> None:
        """Start what Ray Train needs."""
        ...

    def close(self) -> None:
        """Give back what was started here."""
        ...


class SerialEngine:
    """Everything in this process, one shard after the other."""

    def map_shards(
        self, function: Callable[[S], R], shards: Sequence[S], *, on_gpu: bool = False
    ) -> Iterator[tuple[int, R]]:
        """See `Engine`."""
        for index, shard in enumerate(shards):
            yield index, function(shard)

    def num_slots(self) -> int:
        """One."""
        return 1

    def start(self) -> None:
        """Refuse: several workers need Ray."""
        raise InputError("several training workers need Ray", where="train.num_workers", fix="set engine.backend=ray")

    def close(self) -> None:
        """Nothing to give back."""


class RayEngine:
    """Ray tasks; starts a quiet local Ray at the first use, or joins the cluster of a job or of `RAY_ADDRESS`."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._ray: Any = None
        self._started_here = False

    def _ready(self) -> Any:
        if self._ray is None:
            try:
                self._ray, self._started_here = _start_ray(self._config)
            except Exception as error:  # Ray raises a plain Exception when its start takes too long
                raise EngineError(
                    f"Ray did not start: {' '.join(str(error).split())[:300]}",
                    fix="set engine.backend=serial to run without Ray, or see `cxr-ssl doctor`",
                ) from error
        if _asks_for_gpu(self._config):
            _check_gpus(self._config, self._ray.cluster_resources().get("GPU", 0.0))
        return self._ray

    def map_shards(
        self, function: Callable[[S], R], shards: Sequence[S], *, on_gpu: bool = False
    ) -> Iterator[tuple[int, R]]:
        """See `Engine`. At most two tasks a slot are in flight, so memory stays bounded."""
        if not shards:
            return
        ray = self._ready()
        remote = ray.remote(
            num_cpus=self._config.threads_per_task,
            num_gpus=self._config.num_gpus_per_task if on_gpu else 0.0,
            max_retries=self._config.max_retries,
        )(_run_with_threads)
        packed = ray.put(function)
        pending: dict[Any, int] = {}
        todo = iter(enumerate(shards))
        limit = 2 * self.num_slots()
        while True:
            while len(pending) < limit and (following := next(todo, None)) is not None:
                index, shard = following
                pending[remote.remote(packed, shard, self._config.threads_per_task)] = index
            if not pending:
                return
            done, _ = ray.wait(list(pending), num_returns=1)
            for reference in done:
                index = pending.pop(reference)
                yield index, _result(ray, reference, index)

    def num_slots(self) -> int:
        """CPUs of the cluster over threads a task, at least one."""
        cpus = self._ready().cluster_resources().get("CPU", 1)
        return max(1, int(cpus // self._config.threads_per_task))

    def start(self) -> None:
        """Start Ray, if it does not run yet."""
        self._ready()

    def close(self) -> None:
        """Stop or leave the Ray this engine started or joined; one that ran before stays."""
        if self._ray is not None and self._started_here:
            self._ray.shutdown()
        self._ray = None


def make_engine(config: EngineConfig) -> Engine:
    """The engine that `engine.backend` names.

    Raises:
        InputError: when it asks for GPUs that are not there; Ray is started at once to find that out.
    """
    if config.backend == "ray":
        engine = RayEngine(config)
        if _asks_for_gpu(config):
            try:
                engine.start()
            except InputError:
                engine.close()
                raise
        return engine
    if _asks_for_gpu(config):
        import torch

        _check_gpus(config, float(torch.cuda.device_count()))
    return SerialEngine()


def uses_gpu(engine: Engine, config: EngineConfig, num_workers: int, where: str) -> bool:
    """Whether every worker that trains a network gets a GPU of its own.

    Args:
        engine: Where it runs; Ray is started.
        config: Its options.
        num_workers: That train one network together.
        where: The option that gives their number.

    Raises:
        InputError: when they must have one and there are too few, or several workers lack Ray.
    """
    if isinstance(engine, RayEngine):
        engine.start()
        import ray

        num_gpus = ray.cluster_resources().get("GPU", 0.0)
    else:
        if num_workers > 1:
            raise InputError("several workers need Ray", value=num_workers, where=where, fix="set engine.backend=ray")
        import torch

        num_gpus = torch.cuda.device_count()
    if config.use_gpu and num_gpus == 0:
        raise no_gpu()
    if config.use_gpu and num_gpus < num_workers:
        raise InputError(
            f"every worker is to have a GPU of its own (engine.use_gpu: true), and there are {num_gpus:g}",
            value=num_workers,
            where=where,
            fix="set it to their number or less, or leave engine.use_gpu out to train without",
        )
    return config.use_gpu is not False and num_gpus >= num_workers


def trainer_of(engine: Engine, config: EngineConfig, on_gpu: bool) -> Engine:
    """Where networks are trained one a task: with a GPU each, where `uses_gpu`."""
    if not (on_gpu and isinstance(engine, RayEngine)):
        return engine
    return RayEngine(config.model_copy(update={"num_gpus_per_task": 1.0}))


def set_threads(num_threads: int) -> None:
    """Set the thread count of what is already imported here; later imports read the environment."""
    import sys

    os.environ["OMP_NUM_THREADS"] = str(num_threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(num_threads)
    if "faiss" in sys.modules:
        sys.modules["faiss"].omp_set_num_threads(num_threads)


def _run_with_threads(function: Callable[[S], R], shard: S, num_threads: int) -> R:
    set_threads(num_threads)
    return function(shard)


def _result(ray: Any, reference: Any, index: int) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if not isinstance(error.cause, Exception):
            raise
        raise error.cause from error  # the user's own exception; the worker's traceback is its cause
    except (
        ray.exceptions.WorkerCrashedError,
        ray.exceptions.NodeDiedError,
        ray.exceptions.OutOfMemoryError,
    ) as error:
        raise EngineError(
            f"the worker of shard {index} died again after every retry",
            fix="run again with --resume: finished shards are kept; look at the memory of the node",
        ) from error


def _start_ray(config: EngineConfig) -> tuple[Any, bool]:
    """Ray, and whether it was started or joined here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        return ray, False
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    if os.environ.get("RAY_ADDRESS") or os.environ.get("RAY_JOB_ID"):
        ray.init(**quiet)  # inside a job, or told where the cluster is: never pass resources here
        return ray, True
    ray.init(
        address="local",
        num_cpus=config.num_cpus or os.cpu_count() or 1,
        include_dashboard=False,
        object_store_memory=config.object_store_mb * 2**20,
        **quiet,
    )
    return ray, True


def _asks_for_gpu(config: EngineConfig) -> bool:
    return bool(config.use_gpu) or config.num_gpus_per_task > 0


def _check_gpus(config: EngineConfig, num_gpus: float) -> None:
    if config.use_gpu and num_gpus == 0:
        raise no_gpu()
    if config.num_gpus_per_task > num_gpus:
        raise InputError(
            f"a task asks for {config.num_gpus_per_task:g} GPUs and there are {num_gpus:g}",
            where="engine.num_gpus_per_task",
            fix="set it to 0, or run on a machine with GPUs",
        )
