"""The head with one hidden layer: AdamW steps, dropout, early stopping."""

import itertools
from typing import Any

import numpy as np

from pipeline.contracts.options.learning import TrainConfig
from pipeline.learn.heads.head import Head, Problem, Worker
from pipeline.vectors.principal_components import RMS_NORM

# N scans, P features, C findings, H hidden units


def fit(problem: Problem, config: TrainConfig, seed: int, worker: Worker) -> Head:
    """Take AdamW steps: the best layers by the validation loss, or by the training loss without a validation set.

    Args:
        problem: Rows to learn from, those of all workers.
        config: Options.
        seed: Of the first weights, the dropout and the batches.
        worker: One of several that train together, and the state to go on from.

    Raises:
        FloatingPointError: when the loss is not finite; the best epoch so far was reported.
    """
    training = _Training(problem, config, seed, worker)
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
        self.optimizer = torch.optim.AdamW(list(self.layers.values()), lr=config.lr, weight_decay=0.0)
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
        mask_NH = _dropout(len(x_NP), self.config, self.generator)
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
        is_still = not self.val_loss and abs(self.best_loss - score) <= 1e-6 * max(abs(score), 1e-6)
        if score < self.best_loss:
            self.best, self.best_loss, self.patience = _copy(self.layers), score, self.config.patience
        else:
            self.patience -= 1
        self.stopped = is_still or self.patience == 0

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


def _tensor(values: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(np.array(values, dtype=np.float32))


def _layers(problem: Problem, config: TrainConfig, generator: Any) -> dict[str, Any]:
    import torch

    num_in, num_out = problem.x_NP.shape[1], problem.target_NC.shape[1]
    layers = {}
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise([num_in, config.hidden, num_out])):
        variance = 2.0 / (RMS_NORM**2 if i == 0 else fan_in)
        start = torch.randn(fan_out, fan_in, generator=generator) * variance**0.5
        layers[f"weight{i}"] = start.requires_grad_()
        layers[f"bias{i}"] = torch.zeros(fan_out).requires_grad_()
    return layers


def _forward(layers: dict[str, Any], x_NP: Any, mask_NH: Any = None) -> Any:
    hidden_NH = (x_NP @ layers["weight0"].T + layers["bias0"]).relu()
    if mask_NH is not None:
        hidden_NH = hidden_NH * mask_NH
    return hidden_NH @ layers["weight1"].T + layers["bias1"]


def _dropout(num_rows: int, config: TrainConfig, generator: Any) -> Any:
    import torch

    if config.dropout == 0.0:
        return None
    keep = 1.0 - config.dropout
    return torch.bernoulli(torch.full((num_rows, config.hidden), keep), generator=generator) / keep


def _batches(problem: Problem, own_rows: int, size: int, config: TrainConfig, generator: Any) -> Any:
    """Row sets of one epoch; every worker has the same number of them, or their sums would wait for each other."""
    import torch

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
