"""What a head on features is, what it learns from, and which process it learns in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pipeline.vectors.row_blocks import row_blocks

# N scans, P features, C findings, H hidden units


@dataclass(frozen=True)
class Head:
    """A fitted head; plain arrays, so that it moves between processes and into a file without torch.

    Attributes:
        arrays: The layers `weight0`, `bias0` (and `weight1`, `bias1` of an MLP), float32.
        loss: Training loss per unit of weight: of an MLP after each epoch, of a linear head after each iteration.
        val_loss: Validation loss after each epoch; empty without a validation set.
    """

    arrays: dict[str, np.ndarray]
    loss: tuple[float, ...] = ()
    val_loss: tuple[float, ...] = ()

    def logits(self, x_NP: np.ndarray) -> np.ndarray:
        """Unnormalised log-probabilities (N, C), float32, added up in double precision, a block of rows at a time."""
        return np.concatenate([self._logits(np.asarray(x_NP[rows], np.float32)) for rows in row_blocks(len(x_NP))])

    def shifted(self, bias_C: np.ndarray) -> "Head":
        """The same head with `bias_C` (C,) added to its logits."""
        last = "bias1" if "bias1" in self.arrays else "bias0"
        moved = (self.arrays[last] + bias_C).astype(np.float32)
        return replace(self, arrays=self.arrays | {last: moved})

    def _logits(self, x_NP: np.ndarray) -> np.ndarray:
        a = {name: values.astype(np.float64) for name, values in self.arrays.items()}
        out: np.ndarray = x_NP.astype(np.float64) @ a["weight0"].T + a["bias0"]
        if "weight1" in a:
            out = np.maximum(out, 0.0) @ a["weight1"].T + a["bias1"]
        return out.astype(np.float32)


def weighted_sum(heads: Sequence[Head], weights: Sequence[float]) -> Head:
    """One head whose logits are the weighted sum of several heads' logits.

    Linear layers add up; hidden layers stand beside each other, for one MLP whose hidden units are those of all.

    Args:
        heads: Of the same kind.
        weights: One a head.
    """
    if "weight1" not in heads[0].arrays:
        last = [
            sum(weight * head.arrays[name] for head, weight in zip(heads, weights, strict=True))
            for name in ("weight0", "bias0")
        ]
        return Head(
            {name: np.asarray(value, np.float32) for name, value in zip(("weight0", "bias0"), last, strict=True)}
        )
    hidden = {name: np.concatenate([head.arrays[name] for head in heads]) for name in ("weight0", "bias0")}
    pairs = list(zip(heads, weights, strict=True))
    weight1 = np.concatenate([weight * head.arrays["weight1"] for head, weight in pairs], axis=1)
    bias1 = sum(weight * head.arrays["bias1"] for head, weight in pairs)
    return Head(hidden | {"weight1": weight1.astype(np.float32), "bias1": np.asarray(bias1, np.float32)})


@dataclass(frozen=True)
class Problem:
    """Rows to learn from; `Lesson` with the features in place of the scans.

    Attributes:
        x_NP: Features, float32 (see `principal_components`).
        target_NC: Class probabilities of each row; rows sum to 1.
        weight_N: Weight of each row, >= 0.
        l2: Penalty of the weights.
        val: Optional (features, targets, weights) for early stopping, of other patients.
    """

    x_NP: np.ndarray
    target_NC: np.ndarray
    weight_N: np.ndarray
    l2: float
    val: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None


@dataclass
class Worker:
    """One of the processes that train together; alone unless Ray Train started it.

    Attributes:
        rank: Of this worker, from 0.
        size: Number of workers.
        sum_: Adds a tensor up over the workers, in place.
        report: Called after each epoch with (epoch, loss, state).
        state: What an interrupted loop saved last; None at a fresh start.
    """

    rank: int = 0
    size: int = 1
    sum_: Callable[[Any], Any] = field(default=lambda tensor: tensor)
    report: Callable[[int, float, dict[str, Any]], None] = field(default=lambda epoch, loss, state: None)
    state: dict[str, Any] | None = None
