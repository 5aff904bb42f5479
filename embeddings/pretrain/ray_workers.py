"""The loop on several workers, through Ray Train: gradients are averaged, what scans are compared with is gathered.

The epochs' checkpoint is the loop's own file in the shared folder, as for one worker: a worker group that is started
again goes on from it.
"""

import json
import os
from typing import Any

from embeddings.pretrain import loop
from embeddings.pretrain.task import Task, Worker
from pipeline.contracts.errors import CxrSslError, EngineError, InputError
from pipeline.contracts.tables import write_text

FAILURE = "failure.json"
MAX_FAILURES = 2


def train(task: Task) -> None:
    """Train on `pretrain.num_workers` workers; a worker that dies is started again, from the last checkpoint.

    Raises:
        CxrSslError: what the loop raised.
    """
    import ray
    from ray import train as ray_train
    from ray.train.torch import TorchTrainer

    (task.folder / FAILURE).unlink(missing_ok=True)
    trainer = TorchTrainer(
        work,
        train_loop_config={"task": ray.put(task)},
        scaling_config=ray_train.ScalingConfig(num_workers=task.options.num_workers, use_gpu=bool(task.use_gpu)),
        run_config=ray_train.RunConfig(
            name=f"try-{os.getpid()}",  # ours is the only checkpoint: a new driver needs nothing of the one before
            storage_path=str(task.folder / "ray"),
            failure_config=ray_train.FailureConfig(max_failures=MAX_FAILURES),
        ),
    )
    try:
        trainer.fit()
    except ray_train.TrainingFailedError as error:
        raise EngineError(
            "the workers failed again after every retry",
            fix="run again with --resume: the last checkpoint is kept; look at the memory of the nodes",
        ) from error
    failure = task.folder / FAILURE
    if failure.exists():
        failed = json.loads(failure.read_text("utf-8"))
        kind = InputError if failed["input"] else CxrSslError
        raise kind(failed["message"])


def work(settings: dict[str, Any]) -> None:
    """One worker."""
    import ray
    import torch
    from ray import train as ray_train
    from ray.train.torch import get_device
    from torch import distributed

    task: Task = ray.get(settings["task"])
    context = ray_train.get_context()
    worker = Worker(context.get_world_rank(), context.get_world_size(), report=lambda record: ray_train.report(record))

    def mean_(tensor: Any) -> Any:
        distributed.all_reduce(tensor)
        return tensor.div_(worker.size)

    worker.mean_ = mean_
    if task.use_gpu:
        torch.cuda.set_device(get_device())  # a node's workers see all of its GPUs
    try:
        loop.train(task, worker)
    except CxrSslError as error:  # another try would fail alike: all workers stop, and the driver hears why
        if worker.rank == 0:
            report = {"message": str(error), "input": isinstance(error, InputError)}
            write_text(task.folder / FAILURE, json.dumps(report))
