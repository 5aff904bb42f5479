"""A network that learns: late stages of a backbone and a head; as a torch module, as plain arrays, as ONNX."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embeddings import extract, network_stages, onnx_file
from embeddings.backbones import Backbone
from pipeline.contracts.options.vectors import Features
from pipeline.learn.heads.head import Head

if TYPE_CHECKING:
    from torch import nn

# N scans, S side in pixels, D dimensions of the embedding, C findings, Q questions that a network learned at once

Arrays = dict[str, np.ndarray]
RIDGES_PER_SCAN = (0.03, 0.1, 0.3, 1.0, 3.0)  # penalties of a first head, in units of standardised embeddings
OUTPUTS = ("scan", "logit", "probability")  # input and outputs of an exported network


@dataclass(frozen=True)
class Design:
    """A network before it learned.

    Attributes:
        backbone: Its stages and their first weights.
        num_early: Number of stages, from the first, that do not learn.
        size_px: S.
        head: First head, on the embedding: `weight0` (C, D) or (H, D) and so on, see `head.Head`.
    """

    backbone: Backbone
    num_early: int
    size_px: int
    head: Head


@dataclass(frozen=True)
class Frozen:
    """A head on the embedding of the network before it learned, whose logits are added to those of what it became.

    Attributes:
        head: On the embedding as the run keeps it, of all pooled stages where it has them.
        features: What that embedding is, see `EmbedConfig.features`.
    """

    head: Head
    features: Features


@dataclass(frozen=True)
class Trained:
    """A network that learned; plain arrays, so that it moves between processes and into a file without torch.

    Attributes:
        design: The network before it learned.
        arrays: State of the part that learned, see `late`, by name.
        frozen: A head whose logits are added to its own; None: it answers alone.
    """

    design: Design
    arrays: Arrays
    frozen: Frozen | None = None

    def with_head(self, scale: float, head: Head, features: Features) -> "Trained":
        """The sum of this network's logits, scaled, and those of a head on the embedding before it learned."""
        last = {name: (self.arrays[name] * scale).astype(np.float32) for name in _last_layer(self.arrays)}
        return Trained(self.design, self.arrays | last, Frozen(head, features))

    def shifted(self, bias_C: np.ndarray) -> "Trained":
        """The same network with `bias_C` (C,) added to its logits."""
        moved = (last_bias(self.arrays) + bias_C).astype(np.float32)
        return replace(self, arrays=self.arrays | {_last_bias_name(self.arrays): moved})

    def of_question(self, question: int, num_classes: int) -> "Trained":
        """The network of one of several questions that share it: their linear heads stand one below the other.

        Args:
            question: Which, from 0.
            num_classes: C of each of them.
        """
        rows = slice(question * num_classes, (question + 1) * num_classes)
        own = {name: self.arrays[name][rows].copy() for name in self.arrays if name.startswith("head.")}
        head = Head({name: array[rows].copy() for name, array in self.design.head.arrays.items()})
        return Trained(replace(self.design, head=head), self.arrays | own)


def late(design: Design) -> "nn.Module":
    """The part that learns: activations of stage `num_early` (or grey scans) -> logits (N, C)."""
    from torch import nn

    class Late(nn.Module):  # type: ignore[misc]
        """Stages, embedding, head; norms keep the statistics of the pretraining."""

        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(*network_stages.stages(design.backbone, design.size_px)[design.num_early :])
            self.head = head_module(design.head)

        def forward(self, act_NCHW: Any) -> Any:
            return self.head(self.body(act_NCHW))

        def train(self, mode: bool = True) -> "Late":
            super().train(mode)
            for module in self.body.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
            return self

    return Late()


def whole(trained: Trained) -> "nn.Module":
    """The whole network: scan (N, 1, S, S) in [0, 1] -> logits (N, C)."""
    learned = late(trained.design)
    put(learned, trained.arrays)
    return around(learned, trained.design, trained.frozen)


def around(learned: "nn.Module", design: Design, frozen: Frozen | None) -> "nn.Module":
    """The early stages before the part that learned, and the frozen head beside it where there is one.

    Embeddings are rounded to half precision on the way to that head, as the run keeps those it learned from.
    """
    import torch
    from torch import nn

    early = network_stages.stages(design.backbone, design.size_px)[: design.num_early]
    network = nn.Sequential(*early, learned).eval()
    if frozen is None:
        return network
    embedder, head = extract.build(design.backbone, frozen.features, design.size_px), head_module(frozen.head)

    class WithFrozen(nn.Module):  # type: ignore[misc]
        """The sum of two logits: of the network, and of a head on what it was before."""

        def __init__(self) -> None:
            super().__init__()
            self.network, self.embedder, self.frozen = network, embedder, nn.ModuleDict({"head": head})

        def forward(self, scan_N1SS: Any) -> Any:
            emb_ND = self.embedder(scan_N1SS).to(torch.float16).to(torch.float32)
            return self.network(scan_N1SS) + self.frozen["head"](emb_ND)

    return WithFrozen().eval()


def calibrated(module: "nn.Module", temperature: float, prevalence_C: np.ndarray) -> "nn.Module":
    """A network with two outputs: its logits, and probabilities (N, C) at the pool's prevalence."""
    import torch
    from torch import nn

    class Calibrated(nn.Module):  # type: ignore[misc]
        """Temperature, then the prior; the logits are for balanced classes."""

        def __init__(self) -> None:
            super().__init__()
            self.whole = module
            self.register_buffer("log_prior", torch.from_numpy(np.log(np.maximum(prevalence_C, 1e-12))).float())

        def forward(self, scan_N1SS: Any) -> Any:
            logit_NC = self.whole(scan_N1SS)
            return logit_NC, (logit_NC / temperature + self.log_prior).softmax(1)

    return Calibrated().eval()


def export(
    trained: Trained, path: Path, temperature: float, prevalence_C: np.ndarray, findings: Sequence[str] = ()
) -> None:
    """Write a network that learned as ONNX, see `write`."""
    write(calibrated(whole(trained), temperature, prevalence_C), trained.design.size_px, path, findings)


def write(module: "nn.Module", size_px: int, path: Path, findings: Sequence[str] = ()) -> None:
    """Write a module of two outputs as ONNX: scan (N, 1, S, S) -> `logit` (N, C), `probability` (N, C)."""
    import torch

    properties = {"findings": json.dumps(list(findings))}
    onnx_file.write(module, torch.zeros(2, 1, size_px, size_px), path, OUTPUTS, properties)


def put(module: "nn.Module", arrays: Arrays) -> None:
    """Load plain arrays into a module of the same shape."""
    import torch

    module.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})


def take(module: "nn.Module") -> Arrays:
    """The module's state as plain arrays."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in module.state_dict().items()}


def last_bias(arrays: Arrays) -> np.ndarray:
    """Bias of the logits (C,)."""
    return arrays[_last_bias_name(arrays)]


def _last_bias_name(arrays: Arrays) -> str:
    return max(name for name in arrays if name.startswith("head.") and name.endswith("bias"))


def _last_layer(arrays: Arrays) -> tuple[str, str]:
    """Names of the last weight and bias of the head."""
    bias = _last_bias_name(arrays)
    return f"{bias.removesuffix('bias')}weight", bias


def first_head(head: Head, mean_D: np.ndarray, basis_DP: np.ndarray, temperature: float) -> Head:
    """A head on features as one on embeddings, with calibrated logits: where a network starts from."""
    arrays = dict(head.arrays)
    arrays["weight0"] = (arrays["weight0"] @ basis_DP.T).astype(np.float32)
    arrays["bias0"] = (arrays["bias0"] - arrays["weight0"] @ mean_D).astype(np.float32)
    last = "1" if "weight1" in arrays else "0"
    for name in (f"weight{last}", f"bias{last}"):
        arrays[name] = (arrays[name] / temperature).astype(np.float32)
    return Head(arrays)


def imitating_head(emb_TD: np.ndarray, logit_TC: np.ndarray) -> Head:
    """The linear head on embeddings that comes nearest to these logits on scans it has not seen: ridge regression.

    Its penalty is the one of `RIDGES_PER_SCAN` with the smallest squared error where each scan is left out in turn: one
    that suits thousands of scans fits a few hundred of them by heart.
    """
    mean_D, sd_D = emb_TD.mean(0), np.maximum(emb_TD.std(0), 1e-6)
    x_TD, y_TC = (emb_TD - mean_D) / sd_D, logit_TC - logit_TC.mean(0)
    value_D, axes_DD = np.linalg.eigh((x_TD.T @ x_TD).astype(np.float64))
    u_TD = x_TD @ axes_DD.astype(np.float32)
    along_DC = u_TD.T @ y_TC
    best_DC, least = along_DC, np.inf
    for penalty in RIDGES_PER_SCAN:
        shrink_D = 1.0 / (np.maximum(value_D, 0.0) + penalty * len(x_TD))
        weight_DC = shrink_D[:, None] * along_DC
        own_T = np.square(u_TD) @ shrink_D + 1.0 / len(x_TD)  # how far each scan's fit is its own doing
        error = float(np.square((y_TC - u_TD @ weight_DC) / np.maximum(1.0 - own_T, 1e-6)[:, None]).mean())
        if error < least:
            best_DC, least = weight_DC, error
    weight_CD = ((axes_DD @ best_DC).T / sd_D).astype(np.float32)
    return Head({"weight0": weight_CD, "bias0": (logit_TC.mean(0) - weight_CD @ mean_D).astype(np.float32)})


def side_by_side(heads: Sequence[Head]) -> Head:
    """Linear heads of Q questions as one head with all their logits, see `Trained.of_question`."""
    assert all(set(head.arrays) == {"weight0", "bias0"} for head in heads), "linear heads"
    return Head({name: np.concatenate([head.arrays[name] for head in heads]) for name in ("weight0", "bias0")})


def head_module(head: Head) -> "nn.Module":
    """A head on embeddings as a torch module: (N, D) -> (N, C)."""
    import torch
    from torch import nn

    layers: list[nn.Module] = []
    for i in range(len(head.arrays) // 2):
        weight, bias = (torch.from_numpy(np.array(head.arrays[f"{kind}{i}"])) for kind in ("weight", "bias"))
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        linear.weight.data, linear.bias.data = weight, bias
        layers += [nn.ReLU(), linear] if i else [linear]
    return nn.Sequential(*layers)
