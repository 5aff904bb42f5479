"""From what a network makes of a scan to one vector: its own way, its class token, the mean of its patches, or both."""

from typing import Any

from pipeline.contracts.errors import InputError

# N scans, T tokens, P of them before the patches (class, registers), D dimensions

AUTO, CLS, MEAN, BOTH = "auto", "cls", "mean", "cls+mean"


def check(body: Any, pooling: str, name: str) -> None:
    """Refuse a pooling that a network cannot do.

    Raises:
        InputError: naming those it can.
    """
    possible = _possible(body)
    if pooling not in possible:
        raise InputError(
            f"{name} cannot be pooled so: it has {'no class token' if _has_tokens(body) else 'no tokens'}",
            value=pooling,
            where="backbone.pooling",
            fix=f"use {' or '.join(possible)}",
        )


def pool(body: Any, pooling: str, x_NCHW: Any) -> Any:
    """Vectors (N, D), or (N, 2 D) of class token and mean."""
    if pooling == AUTO or not _has_tokens(body):
        return body(x_NCHW).flatten(1)
    return of_tokens(body, pooling, _tokens(body, x_NCHW))


def of_tokens(body: Any, pooling: str, token_NTD: Any) -> Any:
    """The same of the tokens that come out of a transformer's last norm."""
    import torch

    if pooling == AUTO:
        return body.forward_head(token_NTD, pre_logits=True)
    num_prefix = int(getattr(body, "num_prefix_tokens", 1))
    after = getattr(body, "fc_norm", None) or torch.nn.Identity()
    parts = []
    if pooling in (CLS, BOTH):
        parts.append(after(token_NTD[:, 0]))
    if pooling in (MEAN, BOTH):
        parts.append(after(token_NTD[:, num_prefix:].mean(1)))
    return torch.cat(parts, 1)


def _possible(body: Any) -> tuple[str, ...]:
    if not _has_tokens(body):
        averages = "avg" in str(getattr(body, "global_pool", "avg")).lower()
        return (AUTO, MEAN) if averages else (AUTO,)
    has_class_token = getattr(body, "cls_token", getattr(body, "class_token", None)) is not None
    return (AUTO, CLS, MEAN, BOTH) if has_class_token else (AUTO, MEAN)


def _has_tokens(body: Any) -> bool:
    return hasattr(body, "num_prefix_tokens") or hasattr(body, "class_token")


def _tokens(body: Any, x_NCHW: Any) -> Any:
    """Tokens after the last norm (N, T, D)."""
    import torch

    if not hasattr(body, "class_token"):
        return body.forward_features(x_NCHW)
    patch_NTD = body._process_input(x_NCHW)  # torchvision's transformer has no such method in public
    first_N1D = body.class_token.expand(len(patch_NTD), -1, -1)
    return body.encoder(torch.cat([first_N1D, patch_NTD], dim=1))
