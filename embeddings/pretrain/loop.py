"""The training loop: one for a worker alone and for several that Ray Train started."""

import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from embeddings import augment, backbones, torch_training
from embeddings.pretrain import batch_norms, checkpoint, methods, monitor, pixel_matrix, weights
from embeddings.pretrain.task import Task, Worker
from embeddings.scan_cache import Rows
from pipeline.contracts.errors import CxrSslError
from pipeline.contracts.tables import write_text

if TYPE_CHECKING:
    from torch import Tensor

# N scans of the pool, B of them in a batch, S side in pixels

SIZE_OPTION = "pretrain.size_px"
HISTORY, PROGRESS = "history.jsonl", "progress.json"
PROGRESS_EVERY_SECONDS = 2.0
CLIP = 3.0  # largest norm of a gradient: one odd batch must not undo the weights


def train(task: Task, worker: Worker | None = None) -> dict[str, Any]:
    """Train from the last checkpoint, or from the start; rank 0 writes the backbone and returns its card.

    Raises:
        CxrSslError: when the loss is not finite; the last good checkpoint stays.
        InputError: when the folder holds the checkpoint of another training.
    """
    import torch

    worker = worker or Worker()
    torch.set_num_threads(task.num_threads)
    training = Training(task, worker)
    history = training.resume()
    for epoch in range(len(history), task.options.epochs + 1):
        record = training.epoch(epoch) if epoch else {"epoch": 0}
        last = epoch == task.options.epochs
        if worker.rank == 0:
            if last or epoch % task.options.probe_every == 0:
                record |= training.look()
            history.append(record)
            if last or (epoch and epoch % task.options.checkpoint_every == 0):
                training.save(history)
            write_text(task.folder / HISTORY, "".join(f"{json.dumps(row)}\n" for row in history))
        worker.report(record)
    return training.export(history) if worker.rank == 0 else {}


def rehearse(task: Task) -> None:
    """Build the network and the method, and forget them: what does not fit is found before scans are decoded.

    Raises:
        InputError: the network has no such weights, takes no views of this size, or does not suit the method.
    """
    network = backbones.build(task.backbone, task.options.size_px, size_option=SIZE_OPTION)
    methods.build(network, task.options, task.options.size_px, len(task.sha256), 1)


class Training:
    """Networks, optimiser and pixels of one worker.

    Args:
        task: The training.
        worker: Which of its workers this is.
    """

    def __init__(self, task: Task, worker: Worker) -> None:
        import torch

        options = task.options
        self.task, self.worker = task, worker
        self.device = torch_training.pick_device(task.use_gpu)
        self.rows: Rows = task.cache.rows(task.sha256)
        self.frozen_norms = task.backbone.weights_hash != backbones.UNTRAINED
        torch.manual_seed(_seed(task.seed, "start"))
        network = backbones.build(task.backbone, options.size_px, size_option=SIZE_OPTION)
        self.method = methods.build(network, options, options.size_px, len(self.rows), worker.size)
        self.method.networks.to(self.device, memory_format=torch.channels_last)
        if worker.size > 1 and self.device.type == "cuda":
            batch_norms.share(self.method)
        self.peak_rate = options.lr * options.batch_size * options.accumulate * worker.size / 256
        groups = torch_training.decayed(self.method.networks.named_parameters(), options.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=self.peak_rate)
        self.scaler = torch_training.grad_scaler(self.device, options.precision)
        self.factor = torch_training.warm_cosine(options.epochs * task.num_updates, options.warmup_share)

    def resume(self) -> list[dict[str, Any]]:
        """Go on from the checkpoint; returns the records of the epochs before."""
        state = checkpoint.load(self.task.folder, self.task.settings)
        if state is None:
            return []
        self.method.networks.load_state_dict(state["networks"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        history: list[dict[str, Any]] = state["history"]
        return history

    def save(self, history: list[dict[str, Any]]) -> None:
        """Replace the checkpoint."""
        parts = {"networks": self.method.networks, "optimizer": self.optimizer, "scaler": self.scaler}
        state = {name: part.state_dict() for name, part in parts.items()}
        checkpoint.save(self.task.folder, self.task.settings, {**state, "history": history})

    def epoch(self, epoch: int) -> dict[str, Any]:
        """One pass over the pool; the same at every try, whatever was done before in this process."""
        import torch

        options, task = self.task.options, self.task
        torch.manual_seed(_seed(task.seed, "epoch", epoch, self.worker.rank))
        batch_norms.train_mode(self.method, frozen=self.frozen_norms)
        start = last_report = time.monotonic()
        stream = self._batches(epoch)
        losses, first = [], (epoch - 1) * task.num_updates
        for update in range(task.num_updates):
            num = min(options.accumulate, task.num_batches - update * options.accumulate)
            losses.append(self._update(stream, num, first + update))
            if self.worker.rank == 0 and time.monotonic() - last_report >= PROGRESS_EVERY_SECONDS:
                last_report = time.monotonic()
                self._report_progress(first + update + 1)
        batch_norms.average(self.method, self.worker)
        seconds = time.monotonic() - start
        num_scans = task.num_batches * options.batch_size * self.worker.size
        self._report_progress(first + task.num_updates)
        return {
            "epoch": epoch,
            "loss": round(float(np.mean(losses)), 5),
            "seconds": round(seconds, 1),
            "scans_per_second": round(num_scans / seconds, 1),
            "seconds_left": round(seconds * (options.epochs - epoch)),
        }

    def look(self) -> dict[str, Any]:
        """Signs of collapse, and what the embeddings are worth where labels exist; outside the loss."""
        position_N = np.array(self.task.look_at, np.int64)
        if len(position_N) < 2:
            return {}
        network = self.method.networks[self.method.exported]
        emb_ND = monitor.embed(network, self.rows, position_N, self.device)
        health: dict[str, Any] = monitor.look(emb_ND)
        health["collapse"] = monitor.warning(health)
        return health | (self.task.probe(emb_ND) if self.task.probe else {})

    def export(self, history: list[dict[str, Any]]) -> dict[str, Any]:
        """Write the backbone and its card; the checkpoint has served."""
        options = self.task.options
        facts = {
            "method": options.method,
            "epochs": options.epochs,
            "num_scans": len(self.rows),
            "size_px": options.size_px,
            "settings": self.task.settings,
            "last_epoch": history[-1],
        }
        network = self.method.networks[self.method.exported]
        backbones.write_seen(self.task.folder, self.task.sha256)
        card = weights.write(self.task.folder, network, self.task.backbone, facts)
        (self.task.folder / checkpoint.FILE).unlink(missing_ok=True)
        (self.task.folder / PROGRESS).unlink(missing_ok=True)
        return card

    def _update(self, stream: "Iterator[tuple[Tensor, ...]]", num_batches: int, update: int) -> float:
        """One step of the optimiser over some batches of every worker; returns their mean loss."""
        import torch

        for group in self.optimizer.param_groups:
            group["lr"] = self.peak_rate * self.factor(update)
        self.optimizer.zero_grad()
        total = torch.zeros((), device=self.device)
        for _ in range(num_batches):
            with torch_training.autocast(self.device, self.task.options.precision):
                loss = self.method.loss(*next(stream))
            self.scaler.scale(loss / num_batches).backward()
            total += loss.detach() / num_batches
        value = float(self.worker.mean_(total))
        if not np.isfinite(value):
            raise self._not_finite(value, update)
        learning = [p for p in self.method.networks.parameters() if p.grad is not None]
        if self.worker.size > 1:
            _average_gradients(learning, self.worker)
        self.scaler.unscale_(self.optimizer)
        length = float(torch.nn.utils.clip_grad_norm_(learning, CLIP))
        if not (np.isfinite(length) or self.scaler.is_enabled()):  # the scaler leaves such a step out by itself
            raise self._not_finite(length, update)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.method.follow((update + 1) / (self.task.options.epochs * self.task.num_updates))
        return value

    def _batches(self, epoch: int) -> "Iterator[tuple[Tensor, ...]]":
        """This worker's share of an epoch as views; the next pixels are read while the network works."""
        import torch

        task, batch_size = self.task, self.task.options.batch_size
        generator = torch.Generator().manual_seed(_seed(task.seed, "order", epoch))
        order_N = torch.randperm(len(self.rows), generator=generator).numpy()
        shape = (task.num_batches, self.worker.size, batch_size)
        own_B = order_N[: task.num_batches * self.worker.size * batch_size].reshape(shape)[:, self.worker.rank]
        with ThreadPoolExecutor(1) as reader:
            following = reader.submit(pixel_matrix.take, self.rows, own_B[0])
            for i in range(len(own_B)):
                scan_B1SS = following.result()
                if i + 1 < len(own_B):
                    following = reader.submit(pixel_matrix.take, self.rows, own_B[i + 1])
                yield self._views(scan_B1SS, _seed(task.seed, "views", epoch, i, self.worker.rank))

    def _views(self, scan_B1SS: np.ndarray, seed: int) -> "tuple[Tensor, ...]":
        import torch

        generator = torch.Generator().manual_seed(seed)
        scan = torch.from_numpy(scan_B1SS).to(self.device, non_blocking=True)
        made = [augment.views(scan, self.task.options.augment, generator) for _ in range(self.method.num_views)]
        return tuple(view.contiguous(memory_format=torch.channels_last) for view in made)

    def _report_progress(self, num_updates: int) -> None:
        if self.worker.rank == 0:
            total = self.task.options.epochs * self.task.num_updates
            num_scans = self.task.num_batches * self.task.options.batch_size * self.worker.size
            per_update = num_scans / self.task.num_updates
            text = json.dumps({"done": round(num_updates * per_update), "total": round(total * per_update)})
            write_text(self.task.folder / PROGRESS, text)

    def _not_finite(self, value: float, update: int) -> CxrSslError:
        """A loss or a gradient that would spoil the weights."""
        epoch = update // self.task.num_updates + 1
        return CxrSslError(
            f"the loss or its gradient is {value} in epoch {epoch}; the checkpoint of the last good epoch is kept",
            where=self.task.folder,
            fix="lower pretrain.lr, or set pretrain.precision=fp32, and start anew",
        )


def _average_gradients(parameters: list[Any], worker: Worker) -> None:
    """One message for all gradients."""
    import torch

    grads = [parameter.grad for parameter in parameters]
    flat = worker.mean_(torch.cat([grad.flatten() for grad in grads]))
    for grad, part in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(part.view_as(grad))


def _seed(*parts: object) -> int:
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
