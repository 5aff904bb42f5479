"""A network at another size of input: tables of positions are resampled, as their authors do it.

timm's networks know how (bicubic, antialiased); for torchvision's transformers it is torchvision's own rule. Networks
of convolutions take any size as they are.
"""

import logging
from collections.abc import Callable
from typing import Any

from pipeline.contracts.errors import InputError

log = logging.getLogger(__name__)


def fit(body: Any, size_px: int, name: str, create: Callable[..., Any], option: str) -> Any:
    """The network for squares of `size_px` pixels.

    Args:
        body: The network with its weights.
        size_px: S.
        name: As in `backbone.name`.
        create: Builds the network without weights, for those that are built for one size.
        option: That asks for the size.

    Raises:
        InputError: the network does not take this size.
    """
    if isinstance(getattr(body, "image_size", None), int):
        return _fit_torchvision(body, size_px, name, create, option)
    patches: Any = getattr(body, "patch_embed", None)
    if hasattr(body, "set_input_size") and getattr(patches, "img_size", None) is not None:
        own_px = int(patches.img_size[0])
        _refuse_cut_patches(size_px, int(patches.patch_size[0]), name, option)
        if own_px != size_px:
            try:
                body.set_input_size(img_size=(size_px, size_px))
            except (AssertionError, RuntimeError, ValueError, TypeError) as error:
                raise refusal(name, size_px, error, option) from error
            if getattr(body, "pos_embed", None) is not None:
                _tell(own_px, size_px, int(patches.patch_size[0]))
    return body


def check(network: Any, size_px: int, name: str, option: str) -> int:
    """Dimensions of what the network gives for one scan of this size; a network that takes no such scan is refused."""
    import torch

    try:
        with torch.inference_mode():
            return int(network(torch.zeros(1, 1, size_px, size_px)).shape[1])
    except (AssertionError, RuntimeError, ValueError, IndexError) as error:
        raise refusal(name, size_px, error, option) from error


def refusal(name: str, size_px: int, error: Exception, option: str) -> InputError:
    """The error of a network that takes no input of this size."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(
        f"{name} takes no scans of {size_px} pixels: {reason}",
        value=size_px,
        where=option,
        fix="use the size the network was made for; left out, it is taken from the backbone where it is known",
    )


def _fit_torchvision(body: Any, size_px: int, name: str, create: Callable[..., Any], option: str) -> Any:
    from torchvision.models.vision_transformer import interpolate_embeddings

    _refuse_cut_patches(size_px, body.patch_size, name, option)
    if body.image_size == size_px:
        return body
    resized = create(image_size=size_px)
    resized.load_state_dict(interpolate_embeddings(size_px, body.patch_size, body.state_dict()))
    _tell(body.image_size, size_px, body.patch_size)
    return resized


def _refuse_cut_patches(size_px: int, patch_px: int, name: str, option: str) -> None:
    if size_px % patch_px:
        lower = size_px // patch_px * patch_px
        raise InputError(
            f"{name} sees patches of {patch_px} pixels, and the side is no multiple of that",
            value=size_px,
            where=option,
            fix=f"use {lower} or {lower + patch_px}" if lower else f"use {patch_px}",
        )


def _tell(own_px: int, size_px: int, patch_px: int) -> None:
    own, new = own_px // patch_px, size_px // patch_px
    log.info(
        "the table of positions is resampled from %d x %d patches (%d pixels) to %d x %d (%d pixels)",
        own,
        own,
        own_px,
        new,
        new,
        size_px,
    )
