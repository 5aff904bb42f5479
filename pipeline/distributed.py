"""The same training loop on several workers, through Ray Train.

Rows are dealt out to the workers and gradients summed, so the objective is that of one worker. Ray Train costs some
twenty seconds a fit on a laptop: it pays when rows or heads are large, not for a few thousand rows.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import TrainConfig
from pipeline.train import Head, Problem, Worker, train_loop

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
    from ray import train
    from ray.train.torch import TorchTrainer

    trainer = TorchTrainer(
        _loop,
        train_loop_config={"problem": ray.put(problem), "config": config, "seed": seed},
        scaling_config=train.ScalingConfig(num_workers=config.num_workers, use_gpu=False),
        run_config=train.RunConfig(
            name=name,
            storage_path=str(storage),
            failure_config=train.FailureConfig(max_failures=2),
            checkpoint_config=train.CheckpointConfig(num_to_keep=1),
        ),
    )
    result = trainer.fit()
    with result.checkpoint.as_directory() as folder:
        return _read_head(Path(folder))


def _loop(settings: dict[str, Any]) -> None:
    import ray
    import torch
    from ray import train
    from torch import distributed

    def add_up(tensor: Any) -> Any:
        distributed.all_reduce(tensor)
        return tensor

    context = train.get_context()
    rank = context.get_world_rank()
    checkpoint = train.get_checkpoint()
    state = None
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            if (Path(folder) / HEAD).exists():
                return  # the fit was finished; only its caller died
            state = torch.load(Path(folder) / CHECKPOINT, weights_only=True)

    def report(epoch: int, loss: float, saved: dict[str, Any]) -> None:
        if rank != 0:
            train.report({"epoch": epoch, "loss": loss})
            return
        with tempfile.TemporaryDirectory() as folder:
            torch.save(saved, Path(folder) / CHECKPOINT)
            train.report({"epoch": epoch, "loss": loss}, checkpoint=train.Checkpoint.from_directory(folder))

    worker = Worker(rank=rank, size=context.get_world_size(), sum_=add_up, report=report, state=state)
    problem: Problem = ray.get(settings["problem"])
    head = train_loop(problem, settings["config"], settings["seed"], worker)
    with tempfile.TemporaryDirectory() as folder:
        _write_head(Path(folder), head)
        last = train.Checkpoint.from_directory(folder) if rank == 0 else None
        train.report({"epoch": len(head.loss), "loss": head.loss[-1] if head.loss else 0.0}, checkpoint=last)


def _write_head(folder: Path, head: Head) -> None:
    from safetensors.numpy import save_file

    curves = {"loss": np.array(head.loss), "val_loss": np.array(head.val_loss)}
    save_file({**head.arrays, **{f"curve.{name}": value for name, value in curves.items()}}, folder / HEAD)


def _read_head(folder: Path) -> Head:
    from safetensors.numpy import load_file

    found = load_file(folder / HEAD)
    loss, val_loss = found.pop("curve.loss"), found.pop("curve.val_loss")
    return Head(found, tuple(loss.tolist()), tuple(val_loss.tolist()))
