"""Where a network is trained and how: device, precision, learning rate; shared by pretraining and the classifier."""

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from pipeline.contracts.errors import no_gpu

if TYPE_CHECKING:
    import torch


def pick_device(use_gpu: bool | None) -> "torch.device":
    """The GPU this process may use (Ray hides the others), else the CPU.

    Args:
        use_gpu: `engine.use_gpu`; None takes a GPU where there is one.

    Raises:
        InputError: when a GPU is asked for and there is none.
    """
    import torch

    if use_gpu and not torch.cuda.is_available():
        raise no_gpu()
    return torch.device("cuda" if use_gpu is not False and torch.cuda.is_available() else "cpu")


def autocast(device: "torch.device", precision: str) -> AbstractContextManager[Any]:
    """Mixed precision as asked for: bfloat16 where the device knows it, else float16; `auto` only on a GPU."""
    import torch

    wanted = precision == "amp" or (precision == "auto" and device.type == "cuda")
    context: AbstractContextManager[Any] = torch.autocast(device.type, dtype=half_type(device), enabled=wanted)
    return context


def half_type(device: "torch.device") -> Any:
    """bfloat16 where the device computes in it, else float16."""
    import torch

    if device.type == "cuda" and not torch.cuda.is_bf16_supported():
        return torch.float16
    return torch.bfloat16


def grad_scaler(device: "torch.device", precision: str) -> Any:
    """A gradient scaler; it does something only for float16 on a GPU."""
    import torch

    enabled = device.type == "cuda" and precision != "fp32" and half_type(device) == torch.float16
    return torch.amp.GradScaler(device.type, enabled=enabled)


def warm_cosine(num_steps: int, warmup_share: float) -> Callable[[int], float]:
    """Factor of the learning rate at a step: a linear rise, then half a cosine down to 0."""
    warm = max(1, round(warmup_share * num_steps))

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1, num_steps - warm)))

    return factor


def decayed(named: Iterable[tuple[str, Any]], weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: matrices and filters decay, biases and norms do not."""
    matrices: list[Any] = []
    others: list[Any] = []
    for _, parameter in named:
        if parameter.requires_grad:
            (matrices if parameter.ndim > 1 else others).append(parameter)
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
