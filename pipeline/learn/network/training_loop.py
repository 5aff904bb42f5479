"""The loop that trains a network, for one worker and for several.

Every worker knows the batches of all and computes its share of each; gradients are added up. So several workers take
the steps that one would take, up to rounding. After each epoch the whole state is reported: who resumes from it goes
on as if nothing had happened.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embeddings import augment
from embeddings.scan_cache import Rows
from embeddings.torch_training import autocast, decayed, grad_scaler, pick_device, warm_cosine
from pipeline.contracts.options.learning import NetworkConfig
from pipeline.learn.heads.head import Worker
from pipeline.learn.lesson import Lesson
from pipeline.learn.network import losses
from pipeline.learn.network.design import Arrays, put, take

if TYPE_CHECKING:
    from torch import Tensor, nn

# N scans, L of a lesson, V to stop by, B of a batch, Q questions, C classes of each

TENTHS = 10


@dataclass(frozen=True)
class Curves:
    """Losses of a training.

    Attributes:
        loss: Mean loss of each epoch.
        val: Loss after each epoch on the scans to stop by; empty without them.
        trace: Mean loss of each tenth of an epoch.
    """

    loss: tuple[float, ...]
    val: tuple[float, ...]
    trace: tuple[float, ...] = ()


def learn_network(
    build: Callable[[], "nn.Module"],
    lesson: Lesson[Rows],
    config: NetworkConfig,
    seed: int,
    *,
    sure_C: np.ndarray | None = None,
    use_gpu: bool | None = None,
    worker: Worker | None = None,
) -> tuple[Arrays, Curves]:
    """Train one network.

    Args:
        build: Makes it, (B, …) -> (B, C), with its first weights; of several questions (B, Q * C).
        lesson: Activations or pixels of the scans to learn from, their targets and weights; of several questions as
            `Lesson.of_questions` has them.
        config: Options.
        seed: Of the order, the views and mixup.
        sure_C: Probability from which on the network's own answer for an open scan counts, per class (FixMatch), of
            several questions (Q, C); None: it never does.
        use_gpu: See `torch_training.pick_device`.
        worker: Which of several this is.

    Returns:
        The best state (the last without scans to stop by) and the curves.

    Raises:
        FloatingPointError: when the loss is not finite; the last epoch's state was reported.
    """
    run = _Run(build, lesson, sure_C, config, seed, pick_device(use_gpu), worker or Worker())
    while not run.finished:
        run.epoch()
    return run.best, Curves(tuple(run.loss), tuple(run.val), tuple(run.trace))


class _Run:
    """The state of one training."""

    def __init__(
        self,
        build: Callable[[], "nn.Module"],
        lesson: Lesson[Rows],
        sure_C: np.ndarray | None,
        config: NetworkConfig,
        seed: int,
        device: Any,
        worker: Worker,
    ) -> None:
        import torch

        torch.manual_seed(seed)
        self.lesson = lesson.of_questions()
        self.sure_QC = None if sure_C is None else np.reshape(sure_C, (-1, np.shape(sure_C)[-1]))
        self.config, self.seed, self.device, self.worker = config, seed, device, worker
        self.net = build().to(device, memory_format=torch.channels_last)
        self.average: Any = _copy(self.net) if config.ema else None
        self.target_LQC = losses.smoothed(self.lesson.target_LC, config.label_smoothing)
        self.draw_L, self.weight_LQ = _draw_and_weights(self.lesson, config.balance)
        self.steps_an_epoch = max(1, math.ceil(len(lesson.scans) / config.batch_size))
        self.optimizer = torch.optim.AdamW(decayed(self.net.named_parameters(), config.weight_decay), lr=config.lr)
        factor = warm_cosine(config.epochs * self.steps_an_epoch, config.warmup_share)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)
        self.scaler = grad_scaler(device, config.precision)
        self.loss: list[float] = []
        self.val: list[float] = []
        self.trace: list[float] = []
        self.best, self.best_val, self.patience = take(self.net), float("inf"), config.patience
        if worker.state is not None:
            self._restore(worker.state)

    @property
    def finished(self) -> bool:
        stopped = self.lesson.stop is not None and self.config.patience > 0 and self.patience <= 0
        return stopped or len(self.loss) >= self.config.epochs

    def epoch(self) -> None:
        """One pass over the scans; reports the state."""
        import torch

        index = len(self.loss)
        rng = np.random.default_rng([self.seed, index])
        torch.manual_seed(self.seed + index)  # dropout and stochastic depth go on after a resume as they would have
        order_L = self._order(rng)
        self.net.train()
        total, losses_of_steps = 0.0, []
        for batch_B in np.array_split(order_L, self.steps_an_epoch):
            loss = self._step(batch_B, rng)
            if not math.isfinite(loss):
                raise FloatingPointError(f"the loss is {loss} in epoch {index + 1}; try a smaller network.lr")
            total += loss * len(batch_B)
            losses_of_steps.append(loss)
        if not all(bool(parameter.isfinite().all()) for parameter in self.net.parameters()):
            raise FloatingPointError(f"weights are not finite after epoch {index + 1}; try a smaller network.lr")
        self.loss.append(total / len(order_L))
        tenths = np.array_split(np.array(losses_of_steps), min(TENTHS, len(losses_of_steps)))
        self.trace += [float(part.mean()) for part in tenths]
        self._look()
        self.worker.report(index, self.loss[-1], self._state())

    def _order(self, rng: np.random.Generator) -> np.ndarray:
        """Positions in the lesson in the order of this epoch; every worker draws the same."""
        num = len(self.lesson.scans)
        return rng.permutation(num) if self.draw_L is None else rng.choice(num, num, p=self.draw_L)

    def _step(self, batch_B: np.ndarray, rng: np.random.Generator) -> float:
        """One update; the loss is the batch's mean over all workers."""
        other_B, mix = rng.permutation(batch_B), 1.0
        if self.config.mixup > 0.0:
            mix = float(rng.beta(self.config.mixup, self.config.mixup))
        seed_B = rng.integers(2**62, size=len(batch_B))
        own = np.arange(len(batch_B))[self.worker.rank :: self.worker.size]
        self.optimizer.zero_grad(set_to_none=False)
        loss = self._zero()
        for part in np.array_split(own, self.config.accumulate):
            if len(part):
                loss = loss + self._backward(batch_B[part], other_B[part], mix, seed_B[part], len(batch_B))
        for parameter in filter(lambda tensor: tensor.requires_grad, self.net.parameters()):
            parameter.grad = self.worker.sum_(self._grad(parameter))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        if self.average is not None:
            self._follow()
        return float(self.worker.sum_(loss))

    def _backward(self, part: np.ndarray, other: np.ndarray, mix: float, seed: np.ndarray, num: int) -> "Tensor":
        x, target, weight = self._views(part, seed), self._tensor(self.target_LQC[part]), self._weight(part)
        if self.config.consistency > 0.0:
            target, weight = self._own_answers(part, target, weight)
        with autocast(self.device, self.config.precision):
            if mix < 1.0:
                x = mix * x + (1.0 - mix) * self._views(other, seed + 1)
                logit = self._logits(x)
                first = losses.cross_entropy(logit, target, self.config.focal_gamma) * weight
                second = losses.cross_entropy(logit, self._tensor(self.target_LQC[other]), self.config.focal_gamma)
                loss = (mix * first + (1.0 - mix) * second * self._weight(other)).sum() / num
            else:
                loss = (losses.cross_entropy(self._logits(x), target, self.config.focal_gamma) * weight).sum() / num
        self.scaler.scale(loss).backward()
        return loss.detach()

    def _logits(self, x: "Tensor") -> "Tensor":
        """Logits (B, Q, C) of the network that learns."""
        return self.net(x).float().unflatten(1, self.target_LQC.shape[1:])

    def _own_answers(self, part: np.ndarray, target: "Tensor", weight: "Tensor") -> tuple["Tensor", "Tensor"]:
        """For open scans the class the network is sure of on the plain view, else their target (FixMatch)."""
        import torch

        open_BQ = torch.from_numpy(self.lesson.open_L[part]).to(self.device)
        if self.sure_QC is None or not bool(open_BQ.any()):
            return target, weight
        with torch.no_grad(), autocast(self.device, self.config.precision):
            prob_BQC = self._logits(self._plain(part)).softmax(-1)
        class_BQ = prob_BQC.argmax(-1)
        sure_BQ = open_BQ & (prob_BQC >= self._tensor(self.sure_QC)).gather(-1, class_BQ[..., None])[..., 0]
        answer_BQC = torch.nn.functional.one_hot(class_BQ, prob_BQC.shape[-1]).float()
        weight = torch.where(sure_BQ, weight * self.config.consistency, weight)
        return torch.where(sure_BQ[..., None], answer_BQC, target), weight

    def _views(self, part: np.ndarray, seed: np.ndarray) -> "Tensor":
        """A random view of each scan: a cached one of activations, a fresh one of pixels."""
        import torch

        scans = self.lesson.scans
        if not scans.are_pixels:
            return self._input(scans.take(part, seed % scans.num_views))
        x_B1SS = torch.from_numpy(scans.plain(part))
        made = [
            augment.views(scan_1SS[None], self.config.augment, torch.Generator().manual_seed(int(s)))
            for scan_1SS, s in zip(x_B1SS, seed, strict=True)
        ]
        return self._input(torch.cat(made).numpy())

    def _plain(self, part: np.ndarray) -> "Tensor":
        return self._input(self.lesson.scans.plain(part))

    def _input(self, array: np.ndarray) -> "Tensor":
        """Feature maps (B, C, H, W), or tokens (B, T, D), on the device."""
        import torch

        return _channels_last(torch.from_numpy(array).to(self.device, non_blocking=True))

    def _tensor(self, values: np.ndarray) -> "Tensor":
        import torch

        return torch.from_numpy(np.asarray(values, np.float32)).to(self.device)

    def _weight(self, part: np.ndarray) -> "Tensor":
        return self._tensor(self.weight_LQ[part])

    def _look(self) -> None:
        """Keep the best state; without scans to stop by, the last one."""
        net = self.net if self.average is None else self.average
        if self.lesson.stop is None:
            self.best = take(net)
            return
        stop = self.lesson.stop
        logit_VQC = logits(net, stop.scans, self.device, self.config).reshape(stop.target_VC.shape)
        loss_VQ = losses.cross_entropy(self._tensor(logit_VQC), self._tensor(stop.target_VC)).cpu().numpy()
        self.val.append(float((loss_VQ * stop.weight_V).sum() / stop.weight_V.sum()))
        if self.val[-1] < self.best_val:
            self.best, self.best_val, self.patience = take(net), self.val[-1], self.config.patience
        else:
            self.patience -= 1

    def _follow(self) -> None:
        import torch

        decay = min(self.config.ema, (self.schedule.last_epoch + 1) / (self.schedule.last_epoch + 10))
        with torch.no_grad():
            for slow, quick in zip(self.average.parameters(), self.net.parameters(), strict=True):
                slow.lerp_(quick, 1.0 - decay)
            for slow, quick in zip(self.average.buffers(), self.net.buffers(), strict=True):
                slow.copy_(quick)  # running statistics, where a network keeps them

    def _zero(self) -> "Tensor":
        import torch

        return torch.zeros((), device=self.device)

    def _grad(self, parameter: Any) -> "Tensor":
        import torch

        return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad

    def _state(self) -> dict[str, Any]:
        return {
            "net": self.net.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "loss": list(self.loss),
            "val": list(self.val),
            "trace": list(self.trace),
            "best": _tensors(self.best),
            "best_val": self.best_val,
            "patience": self.patience,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        self.loss, self.val, self.trace = list(state["loss"]), list(state["val"]), list(state["trace"])
        self.best = {name: tensor.numpy() for name, tensor in state["best"].items()}
        self.best_val, self.patience = state["best_val"], state["patience"]


def _draw_and_weights(lesson: Lesson[Rows], balance: str) -> tuple[np.ndarray | None, np.ndarray]:
    """How often each scan is drawn (L,), None: once an epoch; and the weight of its answers in the loss (L, Q).

    All answers of a question that are known weigh 1 on average, whatever the number of them; and the loss of a batch
    is a mean over its known answers. Classes of equal weight are each question's own, so a scan may be drawn too often
    for one question and too seldom for another: the weights make up for it.
    """
    weight_LQ, num_questions = lesson.weight_L, lesson.weight_L.shape[1]
    if balance != "none":
        columns = zip(np.moveaxis(lesson.target_LC, 1, 0), weight_LQ.T, strict=True)
        weight_LQ = np.column_stack([losses.balanced(target_LC, weight_L) for target_LC, weight_L in columns])
    if balance == "sampling":
        share_LQ = weight_LQ / _not_zero(weight_LQ.sum(0))
        total_L = share_LQ.sum(1)
        weight_LQ = share_LQ / _not_zero(total_L)[:, None]
        return total_L / total_L.sum(), weight_LQ
    known_LQ = lesson.weight_L > 0.0
    weight_LQ = weight_LQ / _not_zero(weight_LQ.sum(0) / np.maximum(known_LQ.sum(0), 1))
    return None, weight_LQ / (known_LQ.mean() * num_questions)


def _not_zero(total: np.ndarray) -> np.ndarray:
    """Divisors of weights that add up to these; where they are all zero, they stay so."""
    return np.where(total > 0.0, total, 1.0)


def logits(net: "nn.Module", scans: Rows, device: Any, config: NetworkConfig) -> np.ndarray:
    """Logits (N, C) of the plain view of each scan, float32."""
    import torch

    net.eval()
    out = []
    with torch.inference_mode(), autocast(device, config.precision):
        for start in range(0, len(scans), config.batch_size):
            position_B = np.arange(start, min(start + config.batch_size, len(scans)))
            x = _channels_last(torch.from_numpy(scans.plain(position_B)).to(device))
            out.append(net(x).float().cpu().numpy())
    net.train()
    return np.concatenate(out)


def logits_of(
    build: Callable[[], "nn.Module"],
    arrays: Arrays,
    scans: Rows,
    config: NetworkConfig,
    use_gpu: bool | None,
) -> np.ndarray:
    """Logits (N, C) of the plain view of each scan, float32, by a network that learned."""
    net, device = build(), pick_device(use_gpu)
    put(net, arrays)
    return logits(net.to(device), scans, device, config)


def _channels_last(x: "Tensor") -> "Tensor":
    """Feature maps in the order that convolutions are quick in; tokens as they are."""
    import torch

    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def _copy(net: "nn.Module") -> Any:
    import copy

    return copy.deepcopy(net).requires_grad_(False)


def _tensors(arrays: Arrays) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
