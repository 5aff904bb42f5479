"""A vision transformer of timm as a chain of stages: patches to tokens, block after block, tokens to a vector."""

import copy
from typing import TYPE_CHECKING, Any

from embeddings import pooling

if TYPE_CHECKING:
    from torch import nn

# N scans, S side in pixels, T tokens, D dimensions

_OF_STEM = ("patch_embed", "pos_drop", "patch_drop", "norm_pre", "rope")
_OF_TAIL = ("norm", "fc_norm", "attn_pool", "head", "head_drop")


def parts(body: Any, pooled: str, size_px: int | None) -> "list[nn.Module] | None":
    """Stem, blocks and tail of a transformer that is built for `size_px`; None for any other network.

    Args:
        body: The network, without its head.
        pooled: As in `backbone.pooling`.
        size_px: S; None: the size it is built for.
    """
    if not all(
        hasattr(body, name) for name in ("patch_embed", "blocks", "num_prefix_tokens", "_pos_embed", "norm_pre", "norm")
    ):
        return None
    from torch import nn

    class Stem(nn.Module):  # type: ignore[misc]
        """Patches to tokens (N, T, D)."""

        def __init__(self) -> None:
            super().__init__()
            self.body = _with(body, _OF_STEM, parameters=True)

        def forward(self, x_NCSS: Any) -> Any:
            return self.body.norm_pre(_positioned(self.body, x_NCSS)[0])

    class Block(nn.Module):  # type: ignore[misc]
        """One block; what it needs to know of rotary positions is a constant."""

        def __init__(self, block: nn.Module, rope: Any) -> None:
            super().__init__()
            self.block = block
            self.register_buffer("rope", rope, persistent=False)

        def forward(self, token_NTD: Any) -> Any:
            return self.block(token_NTD) if self.rope is None else self.block(token_NTD, rope=self.rope)

    class Tail(nn.Module):  # type: ignore[misc]
        """Last norm and pooling."""

        def __init__(self) -> None:
            super().__init__()
            self.body = _with(body, _OF_TAIL, parameters=False)

        def forward(self, token_NTD: Any) -> Any:
            return pooling.of_tokens(self.body, pooled, self.body.norm(token_NTD))

    rope = _rope(body, size_px)
    blocks = [Block(block, rope) for block in body.blocks]
    return [Stem(), *blocks[:-1], nn.Sequential(blocks[-1], Tail())]


def _positioned(body: Any, x_NCSS: Any) -> tuple[Any, Any]:
    """Tokens with their positions, and the table of rotary positions where there is one."""
    out = body._pos_embed(body.patch_embed(x_NCSS))  # timm has no such method in public
    return out if isinstance(out, tuple) else (out, None)


def _rope(body: Any, size_px: int | None) -> Any:
    import torch

    side = size_px or int(body.patch_embed.img_size[0])
    channels = body.patch_embed.proj.weight.shape[1]
    with torch.no_grad():
        table = _positioned(body, torch.zeros(1, channels, side, side))[1]
    return None if table is None else table.detach().clone()


def _with(body: Any, names: tuple[str, ...], *, parameters: bool) -> Any:
    """A copy of the network that shares, and holds, these modules alone: its methods work, its blocks are not there."""
    twin = copy.copy(body)
    twin._modules = {name: module for name, module in body._modules.items() if name in names}
    twin._parameters = dict(body._parameters) if parameters else {}
    return twin
