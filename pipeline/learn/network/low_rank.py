"""Adapters of low rank (LoRA, Hu et al. 2021, arXiv 2106.09685, section 4.1).

A weight W (D, E) learns as W + alpha / r * U V, with U (D, r) zeros and V (r, E) drawn at random; W itself stays. A
convolution's filters are one such matrix, with a row for each channel that comes out. When the network has learned,
the product is added to W: what is kept, and what is exported, is a network as it was before, with other numbers.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import nn

# D channels out, E inputs of one of them, r rank

_ORIGINAL, _UP, _DOWN, _SCALE = "original", "0.up_DR", "0.down_RE", "0.scale"
_MARK = ".parametrizations.weight."


@dataclass(frozen=True)
class LowRank:
    """How large adapters are.

    Attributes:
        rank: r; a smaller matrix has that of its smaller side.
        alpha: The product counts alpha / r times.
    """

    rank: int
    alpha: float


def adapt(module: "nn.Module", size: LowRank) -> int:
    """Freeze a module, and give every linear layer and every ungrouped convolution of it an adapter.

    V is drawn from torch's own generator. Returns the number of adapters.
    """
    import torch
    from torch import nn
    from torch.nn.utils import parametrize

    class Product(nn.Module):  # type: ignore[misc]
        """W -> W + alpha / r * U V."""

        def __init__(self, weight: torch.Tensor) -> None:
            super().__init__()
            num_out, num_in = weight.shape[0], weight[0].numel()
            rank = min(size.rank, num_out, num_in)
            self.up_DR = nn.Parameter(torch.zeros(num_out, rank))
            self.down_RE = nn.Parameter(torch.empty(rank, num_in))
            nn.init.kaiming_uniform_(self.down_RE, a=math.sqrt(5))
            self.register_buffer("scale", torch.tensor(size.alpha / rank))

        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight + (self.scale * (self.up_DR @ self.down_RE)).view_as(weight)

    module.requires_grad_(False)
    layers = [layer for layer in module.modules() if _has_adapter(layer)]
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", Product(layer.weight))
    return len(layers)


def merged(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The state of a module with adapters as that of the module without them: U V is added to W."""
    out: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        layer, mark, kind = name.partition(_MARK)
        if not mark:
            out[name] = array
        elif kind == _ORIGINAL:
            up_DR, down_RE, scale = (arrays[f"{layer}{_MARK}{part}"] for part in (_UP, _DOWN, _SCALE))
            out[f"{layer}.weight"] = (array + (scale * (up_DR @ down_RE)).reshape(array.shape)).astype(array.dtype)
    return out


def _has_adapter(layer: Any) -> bool:
    from torch import nn

    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)
