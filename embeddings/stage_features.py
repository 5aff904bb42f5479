"""What a frozen network sees on its way: every stage pooled, of the scan and of its middle.

The last layer of a network trained on photographs has thrown away much that tells chest X-rays apart, and the middle of
a scan holds the lungs. So the features are: the network's own embedding; mean and mean square of each stage's
activations before the last; and the same of the central 80 % of the scan, enlarged to the full side. For
efficientnet_lite0 that is 4,416 numbers a scan instead of 1,280, 9 kB in half precision (9 GB for a million scans).
A network that cannot be cut into stages (a transformer) gives its embedding of the scan and of its middle.
"""

from typing import Any

from embeddings import backbones, network_stages
from embeddings.alterations.grey_levels import MIDDLE
from embeddings.backbones import Backbone
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.vectors import Features

# N scans, S side in pixels, D features

VERSION = 2
MAX_HALF = 6e4  # squares beyond the range of half precision
# Whoever takes the length of a vector in half precision, as numpy does, must not leave its range either: the sum of the
# squares is about a million without this factor, and half precision ends at 65,504. A power of two changes no digit.
SCALE = 1 / 16


def build(backbone: Backbone, size_px: int) -> Any:
    """A module in eval mode: grey scans (N, 1, S, S) in [0, 1] -> (N, D); the network's own embedding comes first.

    Args:
        backbone: The network.
        size_px: S.

    Raises:
        InputError: when the weights belong to another network.
    """
    import torch
    from torch import nn
    from torch.nn.functional import interpolate

    chain = _chain(backbone, size_px)
    rim = round(size_px * (1.0 - MIDDLE) / 2.0)

    class StageFeatures(nn.Module):  # type: ignore[misc]
        """The features of the whole scan, then those of its middle."""

        def __init__(self) -> None:
            super().__init__()
            self.stages = nn.ModuleList(chain)
            self.own_dim = _chain_dim(chain, size_px)  # of the network's embedding, which comes first

        def forward(self, scan_N1SS: Any) -> Any:
            middle = scan_N1SS[:, :, rim : size_px - rim, rim : size_px - rim]
            middle = interpolate(middle, size=(size_px, size_px), mode="bilinear", align_corners=False)
            return torch.cat([*self._view(scan_N1SS), *self._view(middle)], dim=1) * SCALE

        def _view(self, act_NCHW: Any) -> list[Any]:
            pooled = []
            for stage in self.stages[:-1]:
                act_NCHW = stage(act_NCHW)
                pooled += [act_NCHW.mean((2, 3)), act_NCHW.square().mean((2, 3)).clamp(max=MAX_HALF)]
            return [self.stages[-1](act_NCHW), *pooled[2:]]  # the stem sees edges alone

    return StageFeatures().eval()


def of_the_middle(emb_ND: Any, features: Features) -> Any:
    """The part of a vector that is of the scan's middle alone; all of it where a scan's middle is not looked at."""
    return emb_ND[:, emb_ND.shape[1] // 2 :] if features == "stages" else emb_ND


def _chain_dim(chain: list[Any], size_px: int) -> int:
    """Numbers that a chain of stages gives for one scan."""
    import torch
    from torch import nn

    with torch.inference_mode():
        return int(nn.Sequential(*chain).eval()(torch.zeros(1, 1, size_px, size_px)).shape[1])


def _chain(backbone: Backbone, size_px: int) -> list[Any]:
    """The stages of a convolutional network, or another network as its only stage."""
    import torch

    try:
        chain = network_stages.stages(backbone, size_px)
        with torch.inference_mode():
            if chain[0](torch.zeros(1, 1, size_px, size_px)).ndim == 4:  # tokens are no maps
                return list(chain)
    except InputError:
        pass  # no plain chain; what is wrong with the weights is said below
    return [backbones.build(backbone, size_px)]
