"""Whether the GPUs that are asked for are there."""

from pipeline.contracts.errors import InputError, no_gpu
from pipeline.contracts.options.running import EngineConfig


def are_asked_for(config: EngineConfig) -> bool:
    """Whether the options insist on GPUs."""
    return bool(config.use_gpu) or config.num_gpus_per_task > 0


def check(config: EngineConfig, num_gpus: float) -> None:
    """Refuse options that ask for more GPUs than there are.

    Raises:
        InputError: naming the option.
    """
    if config.use_gpu and num_gpus == 0:
        raise no_gpu()
    if config.num_gpus_per_task > num_gpus:
        raise InputError(
            f"a task asks for {config.num_gpus_per_task:g} GPUs and there are {num_gpus:g}",
            where="engine.num_gpus_per_task",
            fix="set it to 0, or run on a machine with GPUs",
        )


def num_here() -> int:
    """GPUs that torch sees in this process."""
    import torch

    return int(torch.cuda.device_count())


def one_each(config: EngineConfig, num_workers: int, num_gpus: float, where: str) -> bool:
    """Whether every worker that trains a network gets a GPU of its own.

    Args:
        config: The options.
        num_workers: That train one network together.
        num_gpus: Where they train.
        where: The option that gives their number.

    Raises:
        InputError: when they must have one and there are too few.
    """
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
