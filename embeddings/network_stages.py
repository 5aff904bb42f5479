"""A network as a chain of stages: the early ones run once and are cached, the late ones learn.

Known are the convolutional families whose forward pass is a plain chain: timm's EfficientNets and ResNets,
torchvision's ResNets and those with `features`; and timm's vision transformers, a stage a block (`token_stages`).
Whether the chain gives what the network gives is tried out.
"""

import itertools
from typing import TYPE_CHECKING, Any

from embeddings import backbones, token_stages
from embeddings.backbones import Backbone
from pipeline.contracts.errors import InputError

if TYPE_CHECKING:
    from torch import nn

# N scans, S side in pixels, D dimensions of the embedding

TOLERANCE = 1e-3
PROBE_PX = 96


def stages(backbone: Backbone, size_px: int | None = None) -> "list[nn.Module]":
    """The network as stages in order, each from feature map to feature map; the last one gives the embedding (N, D).

    The maps of a transformer are tokens (N, T, D). The first stage takes grey scans (N, 1, S, S) in [0, 1]; S is
    `size_px`, or None where the network takes any size. Batch norms are folded into the convolutions before them:
    their statistics stay those of the pretraining, which suits small batches, and a sixth of the time is saved.

    Raises:
        InputError: for a network that is no plain chain.
    """
    import torch

    grey = backbones.build(backbone, size_px)
    parts = token_stages.parts(grey.body, backbone.pooling, size_px)
    side = PROBE_PX if parts is None else size_px or int(grey.body.patch_embed.img_size[0])
    probe = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(0))
    parts = parts or _parts(grey.body)
    if parts is not None:
        with torch.inference_mode():
            expected = grey(probe)
        parts = [_first(grey, parts[0]), *parts[1:-1], _last(parts[-1])]
        if _same(parts, probe, expected):
            for stage in parts:
                _fold_norms(stage)
            if _same(parts, probe, expected):
                return parts
    raise InputError(
        "this network cannot be cut into stages",
        value=backbone.name,
        where="backbone.name with train.adapt",
        fix="use train.adapt=head, or an EfficientNet, ResNet, MobileNet, ConvNeXt, VGG or one of timm's transformers",
    )


def _parts(body: Any) -> "list[nn.Module] | None":
    """The families we know, cut into stages; None for the others."""
    from torch import nn

    if hasattr(body, "conv_stem") and hasattr(body, "conv_head"):
        if hasattr(body, "bn2"):
            ends = [body.conv_head, body.bn2, body.global_pool]
        else:  # MobileNetV3 pools first
            ends = [getattr(body, name, nn.Identity()) for name in ("global_pool", "conv_head", "norm_head", "act2")]
        return [nn.Sequential(body.conv_stem, body.bn1), *body.blocks, nn.Sequential(*ends)]
    if all(hasattr(body, name) for name in ("conv1", "maxpool", "layer4")):
        act, pool = getattr(body, "act1", None) or body.relu, getattr(body, "global_pool", None) or body.avgpool
        stem = nn.Sequential(body.conv1, body.bn1, act, body.maxpool)
        return [stem, body.layer1, body.layer2, body.layer3, nn.Sequential(body.layer4, pool)]
    if isinstance(getattr(body, "features", None), nn.Sequential):
        inner = _grouped(list(body.features))
        pool = getattr(body, "avgpool", None) or nn.AdaptiveAvgPool2d(1)
        return [*inner[:-1], nn.Sequential(inner[-1], pool)] if len(inner) > 1 else None
    return None


def _grouped(layers: "list[nn.Module]") -> "list[nn.Module]":
    """Plain layers (VGG) as stages that end with a pooling; a network of blocks has its stages already."""
    from torch import nn

    if not any(isinstance(layer, nn.Conv2d) for layer in layers[1:]):
        return layers
    ends = [i + 1 for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    cuts = itertools.pairwise(sorted({0, *ends, len(layers)}))
    return [nn.Sequential(*layers[start:end]) for start, end in cuts]


def _first(grey: Any, stem: Any) -> "nn.Module":
    from torch import nn

    class Stem(nn.Module):  # type: ignore[misc]
        """Normalise, repeat to three channels, first stage."""

        def __init__(self) -> None:
            super().__init__()
            self.stem = stem
            self.register_buffer("mean", grey.mean)
            self.register_buffer("std", grey.std)

        def forward(self, scan_N1SS: Any) -> Any:
            return self.stem((scan_N1SS - self.mean) / self.std)

    return Stem()


def _last(stage: Any) -> "nn.Module":
    from torch import nn

    return nn.Sequential(stage, nn.Flatten(1))


def _same(chain: "list[nn.Module]", probe: Any, expected: Any) -> bool:
    import torch
    from torch import nn

    try:
        with torch.inference_mode():
            out = nn.Sequential(*chain).eval()(probe)
    except (RuntimeError, TypeError, NotImplementedError):
        return False
    return out.shape == expected.shape and bool(((out - expected).abs() <= TOLERANCE * (1 + expected.abs())).all())


def _fold_norms(stage: Any) -> None:
    """Fold every batch norm that stands right behind a convolution into it; its activation, if it has one, stays."""
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    for parent in list(stage.modules()):
        children = list(parent.named_children())
        for (first, conv), (second, norm) in itertools.pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and norm.track_running_stats:
                setattr(parent, first, fuse_conv_bn_eval(conv.eval(), norm.eval()))
                setattr(parent, second, getattr(norm, "act", None) or nn.Identity())
