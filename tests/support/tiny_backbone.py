"""A backbone of 0.3 million random weights in a file of its own: real architecture, no download, milliseconds."""

import functools

from embeddings import backbones
from pipeline.contracts.options.vectors import BackboneConfig

NAME = "timm:test_efficientnet"


def path_in(folder, name=NAME, seed=0):
    """Where `weights` puts its file."""
    return folder / f"{name.replace(':', '-')}-{seed}.safetensors"


def weights(folder, name=NAME, seed=0):
    """Options of the configuration for this backbone with weights drawn from `seed`."""
    path = path_in(folder, name, seed)
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_file(name, seed))
    return {"backbone.name": name, "backbone.weights": str(path)}


@functools.cache
def _file(name, seed):
    """The bytes of the file; to warm the network up takes the better part of a second."""
    import torch
    from safetensors.torch import save

    torch.manual_seed(seed)
    grey = backbones.build(backbones.untrained(BackboneConfig(name=name)))
    _warm_up(grey)
    return save({key: tensor.contiguous() for key, tensor in grey.body.state_dict().items()})


def _warm_up(grey):
    """Statistics for the batch norms: without them a deep random network gives all scans nearly the same vector."""
    import torch
    from torch.nn import functional

    coarse = torch.rand(32, 1, 8, 8)
    scans = functional.interpolate(coarse, size=32, mode="bilinear") + 0.2 * torch.randn(32, 1, 32, 32)
    with torch.no_grad():
        for _ in range(30):
            grey.train()(scans.clamp(0, 1))
    grey.eval()


def backbone(folder, name=NAME, seed=0):
    """The same as a `Backbone`."""
    options = weights(folder, name, seed)
    return backbones.resolve(BackboneConfig(name=options["backbone.name"], weights=options["backbone.weights"]))
