"""Batch norms: a network that starts from pretrained weights keeps their statistics, one from scratch needs its own.

Held, they let the network train as it is used: no view depends on who else is in its batch, several workers agree, and
strong views do not replace the statistics of plain scans. On the Kermany pool the statistics of batches of 64 made
ImageNet weights worse than they came, held ones made them better (`tests/bench/results/pretrain.md`).
"""

from typing import Any

from embeddings.pretrain.methods import Method
from embeddings.pretrain.task import Worker


def train_mode(method: Method, *, frozen: bool) -> None:
    """Everything learns; with `frozen` the statistics of the backbones stay, those of the heads follow the batch."""
    method.networks.train()
    for name in ("backbone", "slow_backbone"):
        if frozen and name in method.networks:
            for norm in _norms(method.networks[name]):
                norm.eval()


def share(method: Method) -> None:
    """On GPUs the batch norms of all workers see one batch."""
    from timm.layers import convert_sync_batchnorm

    for name, network in method.networks.items():
        method.networks[name] = convert_sync_batchnorm(network)


def average(method: Method, worker: Worker) -> None:
    """Every worker goes on with the mean of all workers' running statistics."""
    if worker.size > 1:
        for norm in _norms(method.networks):
            worker.mean_(norm.running_mean)
            worker.mean_(norm.running_var)


def _norms(network: Any) -> list[Any]:
    from torch.nn.modules.batchnorm import _BatchNorm

    return [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
