"""The network that is exported: from scan to logit, probability, and the features that tell what is outside.

Embeddings are rounded to half precision on the way, because a run keeps its vectors so and its head has learned from
them: the exported model then gives the probabilities of the run.

Legend: N scans, S side in pixels, D dimensions of the embedding, P features, C classes.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embeddings import onnx_file

if TYPE_CHECKING:
    from torch import nn

OUTPUTS = ("scan", "logit", "probability", "features")  # input and outputs
Basis = tuple[np.ndarray, np.ndarray]


def of_head(
    embedder: "nn.Module", basis: Basis, own_basis: Basis, head: "nn.Module", temperature: float, prior_C: np.ndarray
) -> "nn.Module":
    """A head on a frozen network.

    Args:
        embedder: Scan (N, 1, S, S) -> embedding (N, D).
        basis: Mean (D,) and basis (D, P) of the run's features, which distances are measured in.
        own_basis: Those the head learned with; of a round before the pool has grown they may be other ones.
        head: Features (N, P) -> logits (N, C), for balanced classes.
        temperature: Of the logits.
        prior_C: Class shares of the pool.
    """
    import torch
    from torch import nn

    project, is_same = _projection(basis), all(np.array_equal(*pair) for pair in zip(basis, own_basis, strict=True))
    own_project = project if is_same else _projection(own_basis)
    calibrate = _calibration(temperature, prior_C)

    class OfHead(nn.Module):  # type: ignore[misc]
        """Embed, round, project, classify."""

        def __init__(self) -> None:
            super().__init__()
            self.embedder, self.project, self.own_project = embedder, project, own_project
            self.head, self.calibrate = head, calibrate

        def forward(self, scan_N1SS: Any) -> Any:
            emb_ND = self.embedder(scan_N1SS).to(torch.float16).to(torch.float32)
            x_NP = self.project(emb_ND)
            logit_NC = self.head(x_NP if is_same else self.own_project(emb_ND))
            return logit_NC, self.calibrate(logit_NC), x_NP

    return OfHead().eval()


def of_network(
    embedder: "nn.Module", basis: Basis, network: "nn.Module", temperature: float, prior_C: np.ndarray
) -> "nn.Module":
    """An adapted network beside the frozen one, in whose features distances are measured.

    Args:
        embedder: Scan (N, 1, S, S) -> embedding (N, D), of the frozen one.
        basis: Mean (D,) and basis (D, P) of the run's features.
        network: Scan -> logits (N, C), for balanced classes.
        temperature: Of the logits.
        prior_C: Class shares of the pool.
    """
    import torch
    from torch import nn

    project, calibrate = _projection(basis), _calibration(temperature, prior_C)

    class OfNetwork(nn.Module):  # type: ignore[misc]
        """Classify; embed, round, project."""

        def __init__(self) -> None:
            super().__init__()
            self.embedder, self.project, self.network, self.calibrate = embedder, project, network, calibrate

        def forward(self, scan_N1SS: Any) -> Any:
            logit_NC = self.network(scan_N1SS)
            x_NP = self.project(self.embedder(scan_N1SS).to(torch.float16).to(torch.float32))
            return logit_NC, self.calibrate(logit_NC), x_NP

    return OfNetwork().eval()


def _projection(basis: Basis) -> "nn.Module":
    import torch
    from torch import nn

    class Projection(nn.Module):  # type: ignore[misc]
        """`(embedding - mean) @ basis`."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.from_numpy(basis[0].astype(np.float32)))
            self.register_buffer("basis", torch.from_numpy(np.array(basis[1], np.float32)))

        def forward(self, emb_ND: Any) -> Any:
            return (emb_ND - self.mean) @ self.basis

    return Projection()


def _calibration(temperature: float, prior_C: np.ndarray) -> "nn.Module":
    import torch
    from torch import nn

    class Calibration(nn.Module):  # type: ignore[misc]
        """Temperature, then the prior: probabilities at the pool's class shares."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("log_prior", torch.from_numpy(np.log(np.maximum(prior_C, 1e-12))).float())

        def forward(self, logit_NC: Any) -> Any:
            return (logit_NC / temperature + self.log_prior).softmax(1)

    return Calibration()


def write(module: "nn.Module", size_px: int, path: Path, findings: Sequence[str]) -> None:
    """Write a module as ONNX: scan (N, 1, S, S) -> `logit` (N, C), `probability` (N, C), `features` (N, P)."""
    import torch

    properties = {"findings": json.dumps(list(findings))}
    onnx_file.write(module, torch.zeros(2, 1, size_px, size_px), path, OUTPUTS, properties)
