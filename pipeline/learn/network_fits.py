"""One network to train: what it learns, the task that trains it, and the files it leaves.

A fit that is finished is found by its fingerprint and not repeated; one that was killed goes on from its last epoch.
"""

import hashlib
import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from embeddings.activations import Early
from pipeline.contracts.config import NetworkConfig
from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import write_bytes, write_text
from pipeline.learn import network
from pipeline.learn.head import Head, Worker
from pipeline.learn.network import Design, Trained
from pipeline.learn.network_loop import Curves, Lesson, learn_network, logits_of
from pipeline.runtime import run_dir

# L scans to learn from, H held out, C findings


@dataclass(frozen=True)
class Fold:
    """What one network learns from; positions are rows of the run's feature matrix.

    Attributes:
        head: The head it starts from, on features; logits at temperature 1, bias included.
        row_L: Scans to learn from.
        target_LC: Their class probabilities at balanced classes.
        open_L: Whether neither an expert nor an admitted pseudo-label stands behind the target.
        sure_C: Probability, at balanced classes, from which on an open scan's own answer counts.
        held_out: Scans of experts to score when it has learned.
        val: Optional (positions, targets, weights) of other patients to stop by.
    """

    head: Head
    row_L: np.ndarray
    target_LC: np.ndarray
    open_L: np.ndarray
    sure_C: np.ndarray
    held_out: np.ndarray
    val: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None


@dataclass(frozen=True)
class Job:
    """One network to train: a task. The result is files in `folder`, named `name`."""

    folder: Path
    name: str
    design: Design
    sha256: tuple[str, ...]
    early: Early
    root: Path
    fold: Fold
    config: NetworkConfig
    seed: int
    use_gpu: bool | None
    num_threads: int


def fit(job: Job) -> None:
    """Train one network in this process, from its last epoch if there is one; writes its files."""
    checkpoint = job.folder / f"{job.name}.pt"
    mine = fingerprint(job)
    worker = Worker(
        report=lambda epoch, loss, state: _save_state(checkpoint, state | {"fingerprint": mine}),
        state=_load_state(checkpoint, mine),
    )
    arrays, curves = learn(job, worker)
    write(job, arrays, curves)
    checkpoint.unlink(missing_ok=True)


def learn(job: Job, worker: Worker) -> tuple[network.Arrays, Curves]:
    """Train one network, alone or as one of several workers.

    Raises:
        InputError: when the loss is not finite.
    """
    scans = job.early.cache(job.root).rows(job.sha256)
    fold = job.fold
    lesson = Lesson(scans, fold.row_L, fold.target_LC, np.ones(len(fold.row_L)), fold.open_L, fold.sure_C, fold.val)
    try:
        return learn_network(
            lambda: network.late(job.design), lesson, job.config, job.seed, use_gpu=job.use_gpu, worker=worker
        )
    except FloatingPointError as error:
        raise InputError(
            f"the network cannot be trained: {error}",
            value=job.config.lr,
            where="network.lr",
            fix=f"choose a smaller one and --resume; the last good epoch is kept in {job.folder}",
        ) from error


def write(job: Job, arrays: network.Arrays, curves: Curves) -> None:
    """Write what a fit gave: the network, its logits of the held-out scans, its curves (last: now it counts)."""
    from safetensors.numpy import save

    logit_HC = np.zeros((0, job.fold.target_LC.shape[1]), np.float32)
    if len(job.fold.held_out):
        scans = job.early.cache(job.root).rows(job.sha256)
        build = lambda: network.late(job.design)  # noqa: E731
        logit_HC = logits_of(build, arrays, scans, job.fold.held_out, job.config, job.use_gpu)
    (job.folder / f"{job.name}.json").unlink(missing_ok=True)  # it must not vouch for other weights
    write_bytes(job.folder / f"{job.name}.safetensors", save(arrays))
    found = {
        "loss": curves.loss,
        "val": curves.val,
        "trace": curves.trace,
        "logit": logit_HC.tolist(),
        "fingerprint": fingerprint(job),
    }
    write_text(job.folder / f"{job.name}.json", json.dumps(found))


def finished(job: Job) -> bool:
    """Whether this very fit was done before."""
    path = job.folder / f"{job.name}.json"
    return path.exists() and json.loads(path.read_text("utf-8"))["fingerprint"] == fingerprint(job)


def read(job: Job) -> tuple[Trained, np.ndarray, Curves]:
    """What `write` wrote."""
    from safetensors.numpy import load_file

    found = json.loads((job.folder / f"{job.name}.json").read_text("utf-8"))
    logit_HC = np.array(found["logit"], np.float32).reshape(-1, job.fold.target_LC.shape[1])
    arrays = load_file(job.folder / f"{job.name}.safetensors")
    return (
        Trained(job.design, arrays),
        logit_HC,
        Curves(tuple(found["loss"]), tuple(found["val"]), tuple(found["trace"])),
    )


def _digest(*arrays: bytes) -> str:
    return hashlib.sha256(b"".join(arrays)).hexdigest()


def fingerprint(job: Job) -> str:
    """What decides the outcome of a fit."""
    fold = job.fold
    return run_dir.fingerprint(
        {
            "scans": _digest("".join(job.sha256).encode()),
            "arrays": _digest(
                fold.row_L.tobytes(),
                fold.target_LC.tobytes(),
                fold.open_L.tobytes(),
                fold.sure_C.tobytes(),
                fold.held_out.tobytes(),
                *(part.tobytes() for part in fold.val or ()),
                *(fold.head.arrays[name].tobytes() for name in sorted(fold.head.arrays)),
            ),
            "config": job.config.model_dump(),
            "seed": job.seed,
            "weights": job.design.backbone.weights_hash,
            "early": job.design.num_early,
            "size_px": job.design.size_px,
        }
    )


def moved(fold: Fold, at: dict[int, int]) -> Fold:
    """The fold with positions among the scans of its job."""

    def move(rows: np.ndarray) -> np.ndarray:
        return np.array([at[int(row)] for row in rows], np.int64)

    val = None if fold.val is None else (move(fold.val[0]), *fold.val[1:])
    return replace(fold, row_L=move(fold.row_L), held_out=move(fold.held_out), val=val)


def _save_state(path: Path, state: dict[str, Any]) -> None:
    import torch

    stream = io.BytesIO()
    torch.save(state, stream)
    write_bytes(path, stream.getvalue())


def _load_state(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """The last epoch of this very fit; None where there is none."""
    import torch

    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state if state["fingerprint"] == fingerprint else None
