"""One network to train: what it learns, the task that trains it, and the files it leaves.

A fit that is finished is found by its fingerprint and not repeated; one that was killed goes on from its last epoch.
"""

import hashlib
import io
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from embeddings.activations import Early
from embeddings.scan_cache import Rows
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.learning import NetworkConfig
from pipeline.contracts.tables import write_bytes, write_text
from pipeline.learn.heads.head import Head, Worker
from pipeline.learn.lesson import Lesson
from pipeline.learn.network import design as network_design
from pipeline.learn.network import low_rank
from pipeline.learn.network.design import Design, Trained
from pipeline.learn.network.low_rank import LowRank
from pipeline.learn.network.training_loop import Curves, learn_network, logits_of
from pipeline.learn.scan_rows import ScanRows
from pipeline.runtime import run_dir

if TYPE_CHECKING:
    from torch import nn

# H scans held out, C findings; of several questions that one network learns, C is all their classes, side by side


@dataclass(frozen=True)
class Fold:
    """What one network starts from, learns, and is judged on.

    Attributes:
        head: On embeddings; its logits are calibrated at balanced classes.
        lesson: Scans to learn from, by id.
        sure_C: Probability, at balanced classes, from which on the network's own answer for an open scan counts; of
            several questions (Q, C).
        held_out: Scans of experts to score when it has learned; it never saw their patients.
    """

    head: Head
    lesson: Lesson[ScanRows]
    sure_C: np.ndarray
    held_out: ScanRows


@dataclass(frozen=True, eq=False)
class Contents:
    """Scans by what is in their files: where the scan cache keeps them.

    Attributes:
        sha256: A `pyarrow.StringArray` of SHA-256, in hex; copies of a scan share theirs.
    """

    sha256: pa.StringArray

    def __len__(self) -> int:
        return len(self.sha256)


@dataclass(frozen=True)
class Job:
    """One network to train: a task. The result is files in `folder`, named `name`.

    Attributes:
        design: The network before it learns.
        early: Its part that does not learn.
        root: Folder of all scan caches.
        lesson, sure_C, held_out: Those of `Fold`, the scans by content.
        seed: Of the order of the scans, the views and mixup.
        use_gpu: See `torch_training.pick_device`.
        num_threads: CPU threads of each worker, where several train it.
        adapters: Learn beside the weights, and are added to them in the end; None: the weights learn.
    """

    folder: Path
    name: str
    design: Design
    early: Early
    root: Path
    lesson: Lesson[Contents]
    sure_C: np.ndarray
    held_out: Contents
    config: NetworkConfig
    seed: int
    use_gpu: bool | None
    num_threads: int
    adapters: LowRank | None = None

    def build(self) -> "nn.Module":
        """The part of the network that learns, with its first weights, and adapters where they are to learn."""
        late = network_design.late(self.design)
        if self.adapters is not None:
            low_rank.adapt(late.get_submodule("body"), self.adapters)
        return late

    def build_plain(self) -> "nn.Module":
        """The same without adapters: what the arrays of a fit belong to."""
        return network_design.late(self.design)

    def cached(self, scans: Contents) -> Rows:
        """Their activations or pixels.

        Raises:
            KeyError: naming the number of scans the cache lacks.
        """
        return self.early.cache(self.root).rows(scans.sha256.to_pylist())


class NetworkFit(NamedTuple):
    """A trained network, its logits (H, C) of the held-out scans, float32, and the curves of its training."""

    trained: Trained
    logit_HC: np.ndarray
    curves: Curves


def fit(job: Job) -> None:
    """Train one network in this process, from its last epoch if there is one; writes its files."""
    checkpoint, job_fingerprint = job.folder / f"{job.name}.pt", fingerprint(job)
    worker = Worker(
        report=lambda epoch, loss, state: _save_state(checkpoint, state | {"fingerprint": job_fingerprint}),
        state=_load_state(checkpoint, job_fingerprint),
    )
    arrays, curves = learn(job, worker)
    write(job, arrays, curves)
    checkpoint.unlink(missing_ok=True)


def learn(job: Job, worker: Worker) -> tuple[network_design.Arrays, Curves]:
    """Train one network, alone or as one of several workers.

    Raises:
        InputError: when the loss is not finite.
    """
    lesson = job.lesson.renamed(job.cached)
    try:
        arrays, curves = learn_network(
            job.build, lesson, job.config, job.seed, sure_C=job.sure_C, use_gpu=job.use_gpu, worker=worker
        )
    except FloatingPointError as error:
        raise InputError(
            f"the network cannot be trained: {error}",
            value=job.config.lr,
            where="network.lr",
            fix=f"choose a smaller one and --resume; the last good epoch is kept in {job.folder}",
        ) from error
    return low_rank.merged(arrays), curves


def write(job: Job, arrays: network_design.Arrays, curves: Curves) -> None:
    """Write what `read` reads: the network, then its held-out logits and curves with the fit's fingerprint."""
    from safetensors.numpy import save

    logit_HC = np.zeros((0, _num_logits(job)), np.float32)
    if len(job.held_out):
        logit_HC = logits_of(job.build_plain, arrays, job.cached(job.held_out), job.config, job.use_gpu)
    (job.folder / f"{job.name}.json").unlink(missing_ok=True)  # it must not vouch for other weights
    write_bytes(job.folder / f"{job.name}.safetensors", save(arrays))
    outcome = {
        "loss": curves.loss,
        "val": curves.val,
        "trace": curves.trace,
        "logit": logit_HC.tolist(),
        "fingerprint": fingerprint(job),
    }
    write_text(job.folder / f"{job.name}.json", json.dumps(outcome))


def finished(job: Job) -> bool:
    """Whether this very fit was done before."""
    path = job.folder / f"{job.name}.json"
    return path.exists() and json.loads(path.read_text("utf-8"))["fingerprint"] == fingerprint(job)


def read(job: Job) -> NetworkFit:
    """Read a finished fit."""
    from safetensors.numpy import load_file

    outcome = json.loads((job.folder / f"{job.name}.json").read_text("utf-8"))
    logit_HC = np.array(outcome["logit"], np.float32).reshape(-1, _num_logits(job))
    arrays = load_file(job.folder / f"{job.name}.safetensors")
    curves = Curves(tuple(outcome["loss"]), tuple(outcome["val"]), tuple(outcome["trace"]))
    return NetworkFit(Trained(job.design, arrays), logit_HC, curves)


def fingerprint(job: Job) -> str:
    """Hash of whatever decides the outcome of a fit."""
    lesson, stop, head = job.lesson, job.lesson.stop, job.design.head
    scans = [lesson.scans, job.held_out, *([stop.scans] if stop else [])]
    arrays = [lesson.target_LC, lesson.weight_L, lesson.open_L, job.sure_C]
    arrays += [stop.target_VC, stop.weight_V] if stop else []
    arrays += [head.arrays[name] for name in sorted(head.arrays)]
    return run_dir.fingerprint(
        {
            "scans": [_digest("".join(part.sha256.to_pylist()).encode()) for part in scans],
            "arrays": _digest(*(array.tobytes() for array in arrays)),
            "config": job.config.model_dump(),
            "seed": job.seed,
            "weights": job.design.backbone.key,
            "early": job.design.num_early,
            "size_px": job.design.size_px,
            "adapters": None if job.adapters is None else asdict(job.adapters),
        }
    )


def _num_logits(job: Job) -> int:
    return math.prod(job.lesson.target_LC.shape[1:])


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _save_state(path: Path, state: dict[str, Any]) -> None:
    import torch

    stream = io.BytesIO()
    torch.save(state, stream)
    write_bytes(path, stream.getvalue())


def _load_state(path: Path, job_fingerprint: str) -> dict[str, Any] | None:
    """State after the last epoch of this very fit; None where there is none."""
    import torch

    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state if state["fingerprint"] == job_fingerprint else None
