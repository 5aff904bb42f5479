"""The same training loops on several workers, through Ray Train.

Rows are dealt out to the workers and gradients summed, so the objective is that of one worker. Ray Train costs some
twenty seconds a fit on a laptop: it pays for networks, and for heads of many rows, not for a few thousand rows.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.contracts.errors import CxrSslError, EngineError, InputError
from pipeline.contracts.options.learning import TrainConfig
from pipeline.contracts.tables import write_text
from pipeline.learn.heads.head import Head, Problem, Worker
from pipeline.learn.heads.training import train_loop
from pipeline.learn.network import fits
from pipeline.learn.network.fits import Job, fingerprint
from pipeline.runtime.threads import set_threads

CHECKPOINT, HEAD = "state.pt", "head.safetensors"


def fit(problem: Problem, config: TrainConfig, seed: int, storage: Path, name: str) -> Head:
    """Fit one head on `config.num_workers` workers; a worker that dies resumes from the last epoch.

    Args:
        problem: Rows to learn from; goes to every worker, which keeps its share.
        config: Options.
        seed: Of the initial weights and the dropout.
        storage: Folder that all workers share; holds the epochs' checkpoints.
        name: Of this fit; the same name resumes.
    """
    import ray

    settings = {"problem": ray.put(problem), "config": config, "seed": seed}
    checkpoint = _run(_loop, settings, config.num_workers, storage, name, use_gpu=False)
    with checkpoint.as_directory() as folder:
        return _read_head(Path(folder))


def fit_network(job: Job, num_workers: int) -> None:
    """Train one network on several workers; its files are those of `network.fits.fit`.

    Raises:
        InputError: when the loss is not finite.
    """
    import ray

    use_gpu = job.use_gpu is not False and ray.cluster_resources().get("GPU", 0.0) > 0
    settings = {"job": ray.put(job), "threads": job.num_threads}
    storage, name = job.folder / "ray_train", f"{job.name}-{fingerprint(job)}"
    failure = _failure(job)
    failure.unlink(missing_ok=True)
    _run(network_loop, settings, num_workers, storage, name, use_gpu=use_gpu)
    if failure.exists():
        raise InputError(failure.read_text("utf-8"))
    shutil.rmtree(storage / name, ignore_errors=True)


def _failure(job: Job) -> Path:
    """File that names what the user has to mend, where a fit failed for that."""
    return job.folder / f"{job.name}.failure.txt"


def _run(
    loop: Callable[[dict[str, Any]], None],
    settings: dict[str, Any],
    num_workers: int,
    storage: Path,
    name: str,
    *,
    use_gpu: bool,
) -> Any:
    """Run a loop on every worker; a worker that dies starts all again from the last checkpoint, which is returned.

    Raises:
        CxrSslError: what the loop raised on a worker; EngineError for anything else that no retry got over.
    """
    from ray import train
    from ray.train.torch import TorchTrainer

    trainer = TorchTrainer(
        loop,
        train_loop_config=settings,
        scaling_config=train.ScalingConfig(num_workers=num_workers, use_gpu=use_gpu),
        run_config=train.RunConfig(
            name=name,
            storage_path=str(storage.absolute()),
            failure_config=train.FailureConfig(max_failures=2),
            checkpoint_config=train.CheckpointConfig(num_to_keep=1),
        ),
    )
    try:
        return trainer.fit().checkpoint
    except train.WorkerGroupError as error:
        failures = error.worker_failures.values()
        causes = [getattr(failure, "_base_exc", failure) for failure in failures]  # as raised, or in Ray's envelope
        for cause in causes:
            if isinstance(cause, CxrSslError):
                raise cause from error
        raise EngineError(
            f"the workers of {name.rpartition('-')[0]} failed again after every retry: {type(causes[0]).__name__}",
            fix="run again with --resume: the last epoch is kept; look at the memory of the nodes",
        ) from error


def _loop(settings: dict[str, Any]) -> None:
    import ray
    from ray import train

    with _last_state() as (folder, state):
        if folder is not None and (folder / HEAD).exists():
            return  # the fit was finished; only its caller died
    worker = _worker(state)
    problem: Problem = ray.get(settings["problem"])
    head = train_loop(problem, settings["config"], settings["seed"], worker)
    with tempfile.TemporaryDirectory() as temporary:
        _write_head(Path(temporary), head)
        last = train.Checkpoint.from_directory(temporary) if worker.rank == 0 else None
        train.report({"epoch": len(head.loss), "loss": head.loss[-1] if head.loss else 0.0}, checkpoint=last)


def network_loop(settings: dict[str, Any]) -> None:
    """Loop of each worker of `fit_network`; the first of them writes the files."""
    import ray
    from ray import train

    set_threads(settings["threads"])
    with _last_state() as (_, state):
        pass
    worker = _worker(state)
    job: Job = ray.get(settings["job"])
    try:
        arrays, curves = fits.learn(job, worker)
    except CxrSslError as error:  # the user's to mend: the same again would fail again
        if worker.rank == 0:
            write_text(_failure(job), str(error))
        return
    if worker.rank == 0:
        fits.write(job, arrays, curves)
    train.report({"epoch": len(curves.loss), "loss": curves.loss[-1]})


@contextmanager
def _last_state() -> Iterator[tuple[Path | None, dict[str, Any] | None]]:
    """Folder of the last checkpoint while it is open, and the loop's state in it."""
    import torch
    from ray import train

    checkpoint = train.get_checkpoint()
    if checkpoint is None:
        yield None, None
        return
    with checkpoint.as_directory() as name:
        path = Path(name) / CHECKPOINT
        state = torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None
        yield Path(name), state


def _worker(state: dict[str, Any] | None) -> Worker:
    """This process as one of several."""
    import torch
    from ray import train
    from torch import distributed

    def add_up(tensor: Any) -> Any:
        distributed.all_reduce(tensor)
        return tensor

    context = train.get_context()
    rank = context.get_world_rank()

    def report(epoch: int, loss: float, saved: dict[str, Any]) -> None:
        if rank != 0:
            train.report({"epoch": epoch, "loss": loss})
            return
        with tempfile.TemporaryDirectory() as folder:
            torch.save(saved, Path(folder) / CHECKPOINT)
            train.report({"epoch": epoch, "loss": loss}, checkpoint=train.Checkpoint.from_directory(folder))

    return Worker(rank=rank, size=context.get_world_size(), sum_=add_up, report=report, state=state)


def _write_head(folder: Path, head: Head) -> None:
    from safetensors.numpy import save_file

    curves = {"loss": np.array(head.loss), "val_loss": np.array(head.val_loss)}
    save_file({**head.arrays, **{f"curve.{name}": value for name, value in curves.items()}}, folder / HEAD)


def _read_head(folder: Path) -> Head:
    from safetensors.numpy import load_file

    arrays = load_file(folder / HEAD)
    loss, val_loss = arrays.pop("curve.loss"), arrays.pop("curve.val_loss")
    return Head(arrays, tuple(loss.tolist()), tuple(val_loss.tolist()))
