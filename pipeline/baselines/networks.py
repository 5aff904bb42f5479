"""The networks of the baselines, and one task that trains one of them and scores its test scans."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embeddings.activations import Early
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.learning import NetworkConfig
from pipeline.learn.heads.head import Head
from pipeline.learn.lesson import Lesson, StoppingSet
from pipeline.learn.network import design as network_design
from pipeline.learn.network.design import Design
from pipeline.learn.network.training_loop import Curves, learn_network, logits_of

if TYPE_CHECKING:
    from torch import nn

# N scans, B of a batch, S side in pixels, D dimensions, C classes, T test scans

WIDTHS = (16, 32, 64)
HIDDEN, DROPOUT = 64, 0.3


@dataclass(frozen=True)
class Plain:
    """A small ConvNet with random first weights.

    Attributes:
        num_classes: C.
    """

    num_classes: int


@dataclass(frozen=True)
class Fit:
    """One network to train: a task.

    Attributes:
        design: A plain ConvNet, or stages of a backbone with a new head.
        early: What its input is.
        root: Folder of all caches.
        sha256: Scans by content; positions below are theirs.
        target_LC: Class probabilities of `train`.
        val: Positions and class probabilities to stop by.
    """

    design: Plain | Design
    early: Early
    root: Path
    sha256: tuple[str, ...]
    train: np.ndarray
    target_LC: np.ndarray
    val: tuple[np.ndarray, np.ndarray]
    test: np.ndarray
    config: NetworkConfig
    seed: int
    use_gpu: bool | None


def conv_net(num_classes: int) -> "nn.Module":
    """Three convolutions with pooling and one hidden layer: grey scans (N, 1, S, S) in [0, 1] -> logits (N, C)."""
    from torch import nn

    class Centred(nn.Module):  # type: ignore[misc]
        """Grey values around 0."""

        def forward(self, scan_N1SS: Any) -> Any:
            return (scan_N1SS - 0.5) / 0.25

    layers: list[nn.Module] = [Centred()]
    for num_in, num_out in zip((1, *WIDTHS), WIDTHS, strict=False):
        layers += [nn.Conv2d(num_in, num_out, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [
        nn.AdaptiveAvgPool2d(6),
        nn.Flatten(),
        nn.Linear(WIDTHS[-1] * 36, HIDDEN),
        nn.ReLU(),
        nn.Dropout(DROPOUT),
        nn.Linear(HIDDEN, num_classes),
    ]
    return nn.Sequential(*layers)


def new_head(dim: int, num_classes: int) -> Head:
    """A head that knows nothing yet: every class is as likely."""
    return Head({"weight0": np.zeros((num_classes, dim), np.float32), "bias0": np.zeros(num_classes, np.float32)})


def fit(job: Fit) -> tuple[np.ndarray, Curves, float]:
    """Train one network: logits (T, C) of its test scans by its best state, curves, seconds.

    Raises:
        InputError: when the loss is not finite.
    """
    start = time.perf_counter()
    scans = job.early.cache(job.root).rows(job.sha256)
    num_scans, num_classes = job.target_LC.shape
    val, target_VC = job.val
    weight_C = target_VC.sum(0)  # every class counts alike, as in the loss that learns
    weight_V = target_VC @ np.divide(1.0, weight_C, out=np.zeros(num_classes), where=weight_C > 0)
    lesson = Lesson(
        scans.chosen(job.train),
        job.target_LC,
        np.ones(num_scans),
        np.zeros(num_scans, np.bool_),
        StoppingSet(scans.chosen(val), target_VC, weight_V) if len(val) else None,
    )

    def build() -> "nn.Module":
        return conv_net(job.design.num_classes) if isinstance(job.design, Plain) else network_design.late(job.design)

    try:
        arrays, curves = learn_network(build, lesson, job.config, job.seed, use_gpu=job.use_gpu)
    except FloatingPointError as error:
        raise InputError(
            str(error), value=str(job.config.lr), where="network.lr", fix="choose a smaller one"
        ) from error
    logit_TC = logits_of(build, arrays, scans.chosen(job.test), job.config, job.use_gpu)
    return logit_TC, curves, time.perf_counter() - start
