"""Masked image modelling for any network with a feature map: hidden patches are grey, a light decoder paints them.

The masked autoencoder of He et al. (2022, arXiv:2111.06377) leaves hidden patches out, which only transformers can.
Here they are greyed out instead and one convolution paints them from the last feature map, the loss being the absolute
error on hidden pixels, as in SimMIM (Xie et al. 2022, arXiv:2111.09886). So it fits convolutional networks as well.
"""

from typing import TYPE_CHECKING, Any

from pipeline.contracts.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

# N scans, S side in pixels, G patches along a side, D channels of a feature map of (H, W)

PATCHES = 8
GREY = 0.5


def painter(backbone: Any, mask_share: float, size_px: int) -> tuple[Any, Any]:
    """The decoder and the loss over one view (N, 1, S, S); masks come from torch's own generator.

    Raises:
        InputError: when the network does not show its feature map.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    probe_NDHW = feature_map(backbone, torch.zeros(2, 1, size_px, size_px))
    factor = -(-size_px // probe_NDHW.shape[2])
    decoder = nn.Sequential(nn.Conv2d(probe_NDHW.shape[1], factor**2, 1), nn.PixelShuffle(factor))

    def loss(view_N1SS: "Tensor") -> "Tensor":
        hidden_N1SS = hide(view_N1SS, mask_share)
        painted = decoder(feature_map(backbone, view_N1SS.masked_fill(hidden_N1SS, GREY))).float()
        painted = painted[:, :, :size_px, :size_px]
        return functional.l1_loss(painted[hidden_N1SS], view_N1SS[hidden_N1SS])

    return decoder, loss


def hide(view_N1SS: "Tensor", mask_share: float) -> "Tensor":
    """Which pixels are hidden, (N, 1, S, S): the same number of whole patches of every scan."""
    import torch
    from torch.nn import functional

    num, _, _, size = view_N1SS.shape
    num_hidden = min(max(1, round(mask_share * PATCHES**2)), PATCHES**2 - 1)
    order = torch.rand(num, PATCHES**2).argsort(1)
    mask = (order < num_hidden).float().view(num, 1, PATCHES, PATCHES)
    return functional.interpolate(mask, size=(size, size), mode="nearest").bool().to(view_N1SS.device)


def feature_map(backbone: Any, scan_N1SS: "Tensor") -> "Tensor":
    """The last feature map before pooling, (N, D, H, W); tokens of a transformer are laid out as a map.

    Raises:
        InputError: when the network does not show one.
    """
    body = backbone.body
    if not hasattr(body, "forward_features"):
        raise InputError(
            "mae needs a network that shows its last feature map",
            value=type(body).__name__,
            where="pretrain.method",
            fix="use efficientnet_lite0 or a timm: backbone, or another method",
        )
    out = body.forward_features((scan_N1SS - backbone.mean) / backbone.std)
    if out.ndim == 3:
        out = out[:, getattr(body, "num_prefix_tokens", 0) :].transpose(1, 2)
        side = round(out.shape[2] ** 0.5)
        return out.reshape(*out.shape[:2], side, side)
    if getattr(body, "output_fmt", "NCHW") == "NHWC":
        out = out.permute(0, 3, 1, 2)
    return out
