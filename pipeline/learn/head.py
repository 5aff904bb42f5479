"""The head on features: one training loop, run by a plain Ray task on one worker and by Ray Train on several.

The objective is that of scikit-learn's LogisticRegression with soft targets and sample weights,
`0.5 * l2 * |W|^2 + sum_i w_i * CE(target_i, softmax(W x_i + b))`, the bias unpenalised. The linear head is convex and
is fitted to convergence with L-BFGS on all rows; the MLP takes AdamW steps and stops early on a validation set.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pipeline.contracts.config import TrainConfig
from pipeline.vectors.principal_components import RMS_NORM

# N scans, P features, C findings, H hidden units

ROWS_AT_ONCE = 16_384


@dataclass(frozen=True)
class Head:
    """A fitted head; plain arrays, so that it moves between processes and into a file without torch.

    Attributes:
        arrays: The layers `weight0`, `bias0` (and `weight1`, `bias1` of an MLP), float32.
        loss: Training loss after each epoch, per unit of weight.
        val_loss: Validation loss after each epoch; empty without a validation set.
    """

    arrays: dict[str, np.ndarray]
    loss: tuple[float, ...] = ()
    val_loss: tuple[float, ...] = ()

    def logits(self, x_NP: np.ndarray) -> np.ndarray:
        """Unnormalised log-probabilities (N, C), float32, added up in double precision, a block of rows at a time."""
        blocks = [
            self._logits(np.asarray(x_NP[start : start + ROWS_AT_ONCE], dtype=np.float32))
            for start in range(0, max(len(x_NP), 1), ROWS_AT_ONCE)
        ]
        return np.concatenate(blocks)

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


def train_loop(problem: Problem, config: TrainConfig, seed: int, worker: Worker | None = None) -> Head:
    """Fit one head: its best layers by the validation loss, or by the training loss without a validation set.

    Args:
        problem: Rows to learn from, those of all workers.
        config: Options.
        seed: Of an MLP's first weights, its dropout and its batches.
        worker: One of several that train together, or the state to go on from; None: alone, from the start.

    Raises:
        FloatingPointError: when the loss is not finite; the best epoch so far was reported.
    """
    training = _Training(problem, config, seed, worker or Worker())
    while not training.finished:
        training.epoch()
    arrays = {name: tensor.numpy().copy() for name, tensor in training.best.items()}
    return Head(arrays, tuple(training.loss), tuple(training.val_loss))


class _Training:
    """The state of one head's training."""

    def __init__(self, problem: Problem, config: TrainConfig, seed: int, worker: Worker) -> None:
        import torch

        self.problem, self.config, self.worker = problem, config, worker
        own = slice(worker.rank, None, worker.size)
        self.x_NP = _tensor(problem.x_NP[own])
        self.target_NC, self.weight_N = _tensor(problem.target_NC[own]), _tensor(problem.weight_N[own])
        self.total_weight = float(problem.weight_N.sum())
        self.generator = torch.Generator().manual_seed(seed)
        self.layers = _layers(problem, config, self.generator)
        self.optimizer = _optimizer(self.layers, config, self.total_weight)
        self.best, self.best_loss, self.patience = _copy(self.layers), float("inf"), config.patience
        self.loss: list[float] = []
        self.val_loss: list[float] = []
        self.stopped = False
        if worker.state is not None:
            self._restore(worker.state)

    @property
    def finished(self) -> bool:
        return self.stopped or len(self.loss) >= self.config.max_epochs

    def epoch(self) -> None:
        """One pass over the rows; reports the state."""
        index, loss = len(self.loss), 0.0
        for rows in _batches(self.problem, len(self.x_NP), self.worker.size, self.config, self.generator):
            loss += self._step(rows)
        if not np.isfinite(loss):
            raise FloatingPointError(f"the training loss is {loss} in epoch {index}")
        self.loss.append(loss / self.total_weight)
        if self.problem.val is not None:
            self.val_loss.append(_val_loss(self.problem, self.layers))
        self._keep_best()
        self.worker.report(index, self.loss[-1], self._state())

    def _step(self, rows: Any) -> float:
        """One step of the optimiser on a batch of this worker's rows; the loss is the sum over all workers."""
        x_NP, target_NC, weight_N = self.x_NP[rows], self.target_NC[rows], self.weight_N[rows]
        mask_NH = _dropout(self.layers, len(x_NP), self.config, self.generator)
        share = len(x_NP) / max(len(self.x_NP), 1)

        def closure() -> Any:
            self.optimizer.zero_grad()
            objective = _cross_entropy(_forward(self.layers, x_NP, mask_NH), target_NC, weight_N)
            objective = objective + share / self.worker.size * 0.5 * self.problem.l2 * _norm2(self.layers)
            objective.backward()
            for parameter in self.layers.values():
                parameter.grad = self.worker.sum_(parameter.grad)
            return self.worker.sum_(objective.detach())

        return float(self.optimizer.step(closure))

    def _keep_best(self) -> None:
        """Keep the best layers; stop when the training loss stands still or the validation loss has long not fallen."""
        score = self.val_loss[-1] if self.val_loss else self.loss[-1]
        converged = not self.val_loss and abs(self.best_loss - score) <= 1e-6 * max(abs(score), 1e-6)
        if score < self.best_loss:
            self.best, self.best_loss, self.patience = _copy(self.layers), score, self.config.patience
        else:
            self.patience -= 1
        self.stopped = converged or self.patience == 0

    def _state(self) -> dict[str, Any]:
        return {
            "layers": _copy(self.layers),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "loss": list(self.loss),
            "val": list(self.val_loss),
            "best": self.best,
            "best_loss": self.best_loss,
            "patience": self.patience,
            "finished": self.stopped,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        for name, tensor in state["layers"].items():
            self.layers[name].data.copy_(tensor)
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.loss, self.val_loss = list(state["loss"]), list(state["val"])
        self.best, self.best_loss = state["best"], state["best_loss"]
        self.patience, self.stopped = state["patience"], state["finished"]


def _optimizer(layers: dict[str, Any], config: TrainConfig, total_weight: float) -> Any:
    """L-BFGS to convergence for the linear head, AdamW for the MLP."""
    import torch

    if config.head == "mlp":
        return torch.optim.AdamW(list(layers.values()), lr=config.lr, weight_decay=0.0)
    return torch.optim.LBFGS(
        list(layers.values()),
        max_iter=20,
        history_size=20,
        tolerance_grad=1e-5 * total_weight,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )


def _tensor(values: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(np.array(values, dtype=np.float32))


def _layers(problem: Problem, config: TrainConfig, generator: Any) -> dict[str, Any]:
    import torch

    num_in, num_out = problem.x_NP.shape[1], problem.target_NC.shape[1]
    widths = [num_in, num_out] if config.head == "linear" else [num_in, config.hidden, num_out]
    layers = {}
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
        start = torch.zeros(fan_out, fan_in)
        if config.head == "mlp":
            start = (
                torch.randn(fan_out, fan_in, generator=generator) * (2.0 / (RMS_NORM**2 if i == 0 else fan_in)) ** 0.5
            )
        layers[f"weight{i}"] = start.requires_grad_()
        layers[f"bias{i}"] = torch.zeros(fan_out).requires_grad_()
    return layers


def _forward(layers: dict[str, Any], x_NP: Any, mask_NH: Any = None) -> Any:
    out = x_NP @ layers["weight0"].T + layers["bias0"]
    if "weight1" in layers:
        hidden = out.relu() if mask_NH is None else out.relu() * mask_NH
        out = hidden @ layers["weight1"].T + layers["bias1"]
    return out


def _dropout(layers: dict[str, Any], num_rows: int, config: TrainConfig, generator: Any) -> Any:
    import torch

    if "weight1" not in layers or config.dropout == 0.0:
        return None
    keep = 1.0 - config.dropout
    return torch.bernoulli(torch.full((num_rows, config.hidden), keep), generator=generator) / keep


def _batches(problem: Problem, own_rows: int, size: int, config: TrainConfig, generator: Any) -> Any:
    """Row sets of one epoch; every worker has the same number of them, or their sums would wait for each other."""
    import torch

    if config.head == "linear":
        return [slice(None)]
    most_rows = -(-len(problem.weight_N) // size)
    order = torch.randperm(own_rows, generator=generator)
    return torch.tensor_split(order, -(-most_rows // config.batch_size))


def _cross_entropy(logit_NC: Any, target_NC: Any, weight_N: Any) -> Any:
    return -((target_NC * logit_NC.log_softmax(1)).sum(1) * weight_N).sum()


def _norm2(layers: dict[str, Any]) -> Any:
    return sum((tensor**2).sum() for name, tensor in layers.items() if name.startswith("weight"))


def _val_loss(problem: Problem, layers: dict[str, Any]) -> float:
    import torch

    assert problem.val is not None
    x_NP, target_NC, weight_N = (_tensor(part) for part in problem.val)
    with torch.no_grad():
        return float(_cross_entropy(_forward(layers, x_NP), target_NC, weight_N)) / float(weight_N.sum())


def _copy(layers: dict[str, Any]) -> dict[str, Any]:
    return {name: tensor.detach().clone() for name, tensor in layers.items()}
