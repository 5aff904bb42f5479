"""Shards as Ray tasks with bounded retries."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from pipeline.contracts.errors import EngineError
from pipeline.contracts.options.running import EngineConfig
from pipeline.runtime import gpus, ray_cluster, ray_nodes
from pipeline.runtime.processes import ray_remains
from pipeline.runtime.processes.ray_watch import RayWatch, dead_processes, died_error
from pipeline.runtime.ray_nodes import Places
from pipeline.runtime.threads import set_threads

S = TypeVar("S")
R = TypeVar("R")
SENT_SHARE = 0.5  # of all nodes' object stores that shards on their way may take; a store that is full goes to disk


class RayEngine:
    """Ray tasks; starts a quiet local Ray at the first use, or joins the cluster of a job or of `RAY_ADDRESS`.

    Args:
        config: Where and how tasks run.
        places: What every node of a cluster must see.
    """

    def __init__(self, config: EngineConfig, places: Places | None = None) -> None:
        self._config, self._places = config, places or Places()
        self._ray: Any = None
        self._is_ours = False
        self._watch: RayWatch | None = None
        self._marks: ray_remains.RayMarks | None = None

    def _ready(self) -> Any:
        if self._ray is None:
            running = ray_cluster.connect(self._config)
            self._ray, self._is_ours, self._watch = running.ray, running.is_ours, running.watch
            self._marks = running.marks
            if running.is_joined:
                ray_nodes.check(self._ray, self._places)
        if gpus.are_asked_for(self._config):
            gpus.check(self._config, self._ray.cluster_resources().get("GPU", 0.0))
        return self._ray

    def map_shards(
        self, function: Callable[[S], R], shards: Sequence[S], *, on_gpu: bool = False
    ) -> Iterator[tuple[int, R]]:
        """See `Engine`. At most two tasks a slot are in flight, of large ones (`nbytes`) no more than have room."""
        if not shards:
            return
        ray = self._ready()
        remote = ray.remote(
            num_cpus=self._config.threads_per_task,
            num_gpus=self._config.num_gpus_per_task if on_gpu else 0.0,
            max_retries=self._config.max_retries,
        )(_run_with_threads)
        packed = ray.put(function)
        pending: dict[Any, tuple[int, int]] = {}  # index and bytes of each shard in flight
        todo = iter(enumerate(shards))
        limit = 2 * self.num_slots()
        store = ray.cluster_resources().get("object_store_memory", self._config.object_store_mb * 2**20)
        room = int(SENT_SHARE * store)
        following = next(todo, None)
        while True:
            while following is not None and len(pending) < limit:
                index, shard = following
                size = getattr(shard, "nbytes", 0)
                if pending and size + sum(bytes_ for _, bytes_ in pending.values()) > room:
                    break
                pending[remote.remote(packed, shard, self._config.threads_per_task)] = index, size
                following = next(todo, None)
            if not pending:
                return
            done, _ = ray.wait(list(pending), num_returns=1)
            for reference in done:
                index, _ = pending.pop(reference)
                yield index, _result(ray, reference, index)

    def num_slots(self) -> int:
        """CPUs of the cluster over threads a task, at least one."""
        cpus = self._ready().cluster_resources().get("CPU", 1)
        return max(1, int(cpus // self._config.threads_per_task))

    def expect(self, num_scans: int = 0, num_networks: int = 0) -> None:
        """Nothing to choose."""

    def start(self) -> None:
        """Start Ray, if it does not run yet."""
        self._ready()

    def num_gpus(self) -> float:
        """GPUs of the cluster; Ray is started to find out."""
        return float(self._ready().cluster_resources().get("GPU", 0.0))

    def with_a_gpu_each(self) -> "RayEngine":
        """The same Ray, where every task that asks for a GPU has one of its own."""
        return RayEngine(self._config.model_copy(update={"num_gpus_per_task": 1.0}), self._places)

    def close(self) -> None:
        """Stop or leave the Ray this engine started or joined; one that ran before stays."""
        if self._watch is not None:
            self._watch.close()
        try:
            if self._ray is not None and self._is_ours:
                self._ray.shutdown()
        finally:
            if self._marks is not None:
                ray_remains.end(self._marks)
            self._ray = self._marks = None


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
    except ray.exceptions.LocalRayletDiedError as error:
        raise died_error(dead_processes(ray) or "its process raylet is gone") from error
    except (
        ray.exceptions.WorkerCrashedError,
        ray.exceptions.NodeDiedError,
        ray.exceptions.OutOfMemoryError,
    ) as error:
        raise EngineError(
            f"the worker of shard {index} died again after every retry",
            fix="run again with --resume: finished shards are kept; look at the memory of the node",
        ) from error
    except (
        ray.exceptions.ObjectLostError,
        ray.exceptions.ObjectStoreFullError,
        ray.exceptions.OutOfDiskError,
    ) as error:
        what = f"the result of shard {index} was lost or found no room: {' '.join(str(error).split())[:300]}"
        fix = "run again with --resume: finished shards are kept; look at the disks and the object stores of the nodes"
        raise EngineError(what, fix=fix) from error
    except ray.exceptions.RuntimeEnvSetupError as error:
        what = f"a node could not set up what the job sent: {' '.join(str(error).split())[-300:]}"
        raise EngineError(what, fix="submit the same line again: finished shards are kept") from error
