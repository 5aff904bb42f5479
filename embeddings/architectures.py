"""Networks of timm and torchvision by name, without their classifiers: how they are made, sized and normalised."""

from typing import Any

from pipeline.contracts.errors import InputError

OFFLINE = "efficientnet_lite0"
LITE0 = "tf_efficientnet_lite0"  # its name in timm
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF_MEAN, HALF_STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


def family_of(name: str) -> str:
    """timm, torchvision, or the empty word for the offline network.

    Raises:
        InputError: for any other name.
    """
    family, _, model = name.rpartition(":")
    if family not in ("", "timm", "torchvision") or (not family and model != OFFLINE):
        raise InputError(
            "unknown backbone",
            value=name,
            where="backbone.name",
            fix=f"use {OFFLINE}, timm:NAME or torchvision:NAME, or the folder that `cxr-ssl pretrain` wrote",
        )
    return family


def create(name: str, *, pretrained: bool = False, **options: Any) -> Any:
    """The network without its classifier.

    Args:
        name: As in `backbone.name`.
        pretrained: With the library's own weights.
        options: Of the architecture, as a file of weights has them: see `fitting`.

    Raises:
        InputError: the library has no such network, or cannot fetch its weights here.
        TypeError: the architecture has no such option.
    """
    family, _, model = name.rpartition(":")
    try:
        if family == "torchvision":
            return _of_torchvision(model, pretrained, **options)
        return _of_timm(model if family else LITE0, pretrained, **options)
    except (OSError, RuntimeError, ValueError) as error:
        if options:
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{'the pretrained weights of ' if pretrained else ''}this backbone cannot be had here: {reason}",
            value=name,
            where="backbone.name",
            fix=f"download {_download(family, model)} elsewhere and name the file in backbone.weights"
            if pretrained
            else f"list names with timm.list_models() or torchvision.models.list_models(), or use {OFFLINE}",
        ) from error


def normalisation_of(name: str, body: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel that the library states for a network, of values in [0, 1]."""
    if name == OFFLINE:
        return HALF_MEAN, HALF_STD
    config = getattr(body, "default_cfg", {}) or {}
    return tuple(config.get("mean", IMAGENET_MEAN)), tuple(config.get("std", IMAGENET_STD))


def size_of(name: str) -> int | None:
    """Side in pixels of the input that the library states for a network; None where it states none."""
    family, _, model = name.rpartition(":")
    if family == "timm":
        import timm

        config = timm.get_pretrained_cfg(model)
        return int(config.input_size[-1]) if config is not None else None
    if family == "torchvision":
        from torchvision import models

        weights = models.get_model_weights(model).DEFAULT if model in models.list_models() else None
        return int(weights.transforms().crop_size[0]) if weights is not None else None
    return None


def _of_timm(model: str, pretrained: bool, **options: Any) -> Any:
    import timm

    return timm.create_model(model, pretrained=pretrained, num_classes=0, **options)


def _of_torchvision(
    model: str, pretrained: bool, *, in_chans: int = 3, img_size: int | None = None, **options: Any
) -> Any:
    from torch import nn
    from torchvision import models

    if img_size is not None:
        options["image_size"] = img_size
    body = models.get_model(model, weights="DEFAULT" if pretrained else None, **options)
    for head in ("fc", "classifier", "heads", "head"):
        if hasattr(body, head):
            setattr(body, head, nn.Identity())
            break
    else:
        raise ValueError(f"{model} has no head that can be taken off")
    if in_chans != 3:
        _take_channels(body, in_chans)
    return body


def _take_channels(body: Any, num: int) -> None:
    """Put a first convolution of another number of channels in the place of the first."""
    from torch import nn

    name, conv = next((name, module) for name, module in body.named_modules() if isinstance(module, nn.Conv2d))
    options: dict[str, Any] = {key: getattr(conv, key) for key in ("stride", "padding", "dilation", "groups")}
    parent, _, last = name.rpartition(".")
    kernel: Any = conv.kernel_size
    setattr(
        body.get_submodule(parent),
        last,
        nn.Conv2d(num, conv.out_channels, kernel, bias=conv.bias is not None, **options),
    )


def _download(family: str, model: str) -> str:
    """What to fetch for a network of a library, for people without a network here."""
    if family == "timm":
        import timm

        pretrained_config = timm.get_pretrained_cfg(model)
        if pretrained_config is not None and pretrained_config.hf_hub_id:
            return f"model.safetensors of {pretrained_config.hf_hub_id} (Hugging Face)"
        return str(pretrained_config.url) if pretrained_config is not None and pretrained_config.url else "the weights"
    from torchvision import models

    known = model in models.list_models()
    return str(models.get_model_weights(model).DEFAULT.url) if known else "the weights"
