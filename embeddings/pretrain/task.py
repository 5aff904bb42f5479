"""A training as it is sent to its workers, and what a worker is."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embeddings.backbones import Backbone
from embeddings.pretrain.monitor import Probe
from embeddings.scan_cache import ScanCache
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.vectors import PretrainConfig

if TYPE_CHECKING:
    from torch import Tensor

_NOT_OF_THE_RESULT = {"probe_every", "max_probe_scans", "checkpoint_every"}


@dataclass(frozen=True)
class Task:
    """A training.

    Attributes:
        cache: The pixels.
        sha256: The scans, in a fixed order.
        backbone: Architecture and initial weights.
        options: The section `pretrain`.
        seed: Root of its randomness.
        folder: Where checkpoint, history and the backbone go; shared by all workers.
        use_gpu: `engine.use_gpu`.
        num_threads: CPU threads of a worker.
        look_at: Positions of the scans that are looked at for collapse.
        probe: What the embeddings of those scans are worth, where labels exist.
    """

    cache: ScanCache
    sha256: tuple[str, ...]
    backbone: Backbone
    options: PretrainConfig
    seed: int
    folder: Path
    use_gpu: bool | None = None
    num_threads: int = 1
    look_at: tuple[int, ...] = ()
    probe: Probe | None = None

    @property
    def num_batches(self) -> int:
        """Batches of an epoch and worker; scans that do not fill one for every worker wait for another epoch."""
        return len(self.sha256) // (self.options.batch_size * self.options.num_workers)

    @property
    def num_updates(self) -> int:
        """Updates of the weights in an epoch; the last one may add up fewer batches."""
        return -(-self.num_batches // self.options.accumulate)

    @property
    def data_hash(self) -> str:
        """SHA-256 over the scans' content, 16 hex digits."""
        return hashlib.sha256("".join(sorted(self.sha256)).encode()).hexdigest()[:16]

    @property
    def settings(self) -> dict[str, Any]:
        """Everything the trained weights depend on, as plain values."""
        return {
            "architecture": self.backbone.name,
            "initial_weights": self.backbone.weights_hash,
            "scans": self.data_hash,
            "seed": self.seed,
            **self.options.model_dump(mode="json", exclude=_NOT_OF_THE_RESULT),
        }

    def check(self) -> None:
        """Refuse what cannot be trained, before any work.

        Raises:
            InputError: when the pool is smaller than one step of all workers.
        """
        options = self.options
        if self.num_batches == 0:
            raise InputError(
                f"the pool has {len(self.sha256)} different scans to learn from, fewer than the "
                f"{options.batch_size * options.num_workers} of one step of all workers",
                value=options.batch_size,
                where="pretrain.batch_size",
                fix="set it lower, or give more scans",
            )


@dataclass
class Worker:
    """One of the processes that train together; alone unless Ray Train started it.

    Attributes:
        rank: Of this worker.
        size: Number of workers.
        mean_: Averages a tensor over the workers, in place.
        report: Called after each epoch with its record.
    """

    rank: int = 0
    size: int = 1
    mean_: "Callable[[Tensor], Tensor]" = field(default=lambda tensor: tensor)
    report: Callable[[dict[str, Any]], None] = field(default=lambda record: None)
