"""What a network learns from unlabelled scans: seven objectives over one interface.

Losses, heads and the momentum update are lightly's. Where several workers train together, the losses gather what they
compare scans with from all of them.

| method | idea | source |
| --- | --- | --- |
| simclr | two views of a scan are alike, other scans of the batch are not | Chen et al. 2020, arXiv:2002.05709 |
| moco | the same against a queue of what a slow network said | He et al. 2020, arXiv:1911.05722, v2 2003.04297 |
| byol | predict what a slow network says of the other view | Grill et al. 2020, arXiv:2006.07733 |
| vicreg | alike, each dimension in use, no two dimensions alike | Bardes et al. 2022, arXiv:2105.04906 |
| barlowtwins | the views' cross-correlation is the identity | Zbontar et al. 2021, arXiv:2103.03230 |
| dino | the same soft prototypes as a slow, centred teacher | Caron et al. 2021, arXiv:2104.14294 |
| mae | paint hidden patches | He et al. 2022, arXiv:2111.06377, in the form of SimMIM |
"""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from embeddings.pretrain.masking import painter
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.vectors import PretrainConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

# N scans, S side in pixels, D dimensions of the embedding, P of the projection

QUEUE_SCANS = 4096  # moco: answers of the slow network that are kept, at most half of the pool
PROTOTYPES = 8  # dino: prototypes for each dimension of the projection


@dataclass
class Method:
    """One objective, ready to be trained.

    Attributes:
        networks: Everything with weights or state, by name; `backbone` learns.
        num_views: Views of a scan that `loss` takes.
        loss: Views (N, 1, S, S) each -> scalar.
        pairs: (learning, slow) networks; the slow one follows after every update.
        exported: Name of the network that is kept.
        momentum: Of the slow networks at a share of the training in [0, 1].
    """

    networks: "nn.ModuleDict"
    num_views: int
    loss: "Callable[..., Tensor]"
    pairs: tuple[tuple[str, str], ...] = ()
    exported: str = "backbone"
    momentum: Callable[[float], float] = field(default=lambda share: 0.0)

    def follow(self, share: float) -> None:
        """The slow networks take a step towards those that learn."""
        from lightly.models.utils import update_momentum

        for learning, slow in self.pairs:
            update_momentum(self.networks[learning], self.networks[slow], self.momentum(share))


def build(backbone: "nn.Module", options: PretrainConfig, size_px: int, num_scans: int, num_workers: int) -> Method:
    """The method that `options` names, around this backbone.

    Args:
        backbone: (N, 1, S, S) -> (N, D); becomes part of the method.
        options: Method, temperature, dimensions, momentum.
        size_px: S.
        num_scans: Of the pool; bounds the queue of moco.
        num_workers: With several, the losses gather.

    Raises:
        InputError: when the network takes no views of this size, or does not suit the method.
    """
    makers = {
        "simclr": _simclr,
        "moco": _moco,
        "byol": _byol,
        "vicreg": _vicreg,
        "barlowtwins": _barlow,
        "dino": _dino,
        "mae": _mae,
    }
    setting = _Setting(_dim(backbone, size_px), size_px, num_scans, num_workers > 1)
    return makers[options.method](backbone, options, setting)


@dataclass(frozen=True)
class _Setting:
    dim: int
    size_px: int
    num_scans: int
    gather: bool


def _dim(backbone: Any, size_px: int) -> int:
    import torch

    try:
        with torch.no_grad():
            return int(backbone.eval()(torch.zeros(2, 1, size_px, size_px)).shape[1])
    except (RuntimeError, AssertionError, ValueError) as error:  # a transformer of a fixed side, or too deep a network
        raise InputError(
            f"this network takes no views of {size_px} pixels: {str(error).splitlines()[0]}",
            value=size_px,
            where="pretrain.size_px",
            fix="use the side the network was made for, or a convolutional network",
        ) from error


def _simclr(backbone: Any, options: PretrainConfig, setting: _Setting) -> Method:
    from lightly.loss import NTXentLoss
    from lightly.models.modules.heads import SimCLRProjectionHead
    from torch import nn

    head = SimCLRProjectionHead(setting.dim, options.hidden_dim, options.projection_dim)
    criterion = NTXentLoss(options.temperature, gather_distributed=setting.gather)
    networks = nn.ModuleDict({"backbone": backbone, "head": head})
    return Method(networks, 2, _compare(backbone, head, criterion))


def _vicreg(backbone: Any, options: PretrainConfig, setting: _Setting) -> Method:
    from lightly.loss import VICRegLoss
    from lightly.models.modules.heads import VICRegProjectionHead
    from torch import nn

    head = VICRegProjectionHead(setting.dim, options.hidden_dim, options.projection_dim, num_layers=2)
    networks = nn.ModuleDict({"backbone": backbone, "head": head})
    return Method(networks, 2, _compare(backbone, head, VICRegLoss(gather_distributed=setting.gather)))


def _barlow(backbone: Any, options: PretrainConfig, setting: _Setting) -> Method:
    from lightly.loss import BarlowTwinsLoss
    from lightly.models.modules.heads import BarlowTwinsProjectionHead
    from torch import nn

    head = BarlowTwinsProjectionHead(setting.dim, options.hidden_dim, options.projection_dim)
    networks = nn.ModuleDict({"backbone": backbone, "head": head})
    return Method(networks, 2, _compare(backbone, head, BarlowTwinsLoss(gather_distributed=setting.gather)))


def _moco(backbone: Any, options: PretrainConfig, setting: _Setting) -> Method:
    from lightly.loss import NTXentLoss
    from lightly.models.modules.heads import MoCoProjectionHead
    from torch import nn

    head = MoCoProjectionHead(setting.dim, options.hidden_dim, options.projection_dim)
    num_kept = min(QUEUE_SCANS, max(setting.num_scans // 2, 1))
    criterion = NTXentLoss(options.temperature, (num_kept, options.projection_dim), gather_distributed=setting.gather)
    bank = criterion.memory_bank
    for name in ("bank", "bank_ptr"):  # lightly leaves them out of checkpoints
        bank.register_buffer(name, getattr(bank, name), persistent=True)
    networks = _with_slow({"backbone": backbone, "head": head}) | {"criterion": criterion}
    slow = nn.Sequential(networks["slow_backbone"], networks["slow_head"])

    def loss(view: "Tensor", other: "Tensor") -> "Tensor":
        return criterion(head(backbone(view)).float(), _untracked(slow, other))

    return Method(nn.ModuleDict(networks), 2, loss, _pairs(networks), momentum=lambda share: options.momentum)


def _byol(backbone: Any, options: PretrainConfig, setting: _Setting) -> Method:
    import torch
    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead
    from torch import nn

    head = BYOLProjectionHead(setting.dim, options.hidden_dim, options.projection_dim)
    networks = _with_slow({"backbone": backbone, "head": head})
    predictor = BYOLPredictionHead(options.projection_dim, options.hidden_dim, options.projection_dim)
    slow = nn.Sequential(networks["slow_backbone"], networks["slow_head"])
    criterion = NegativeCosineSimilarity()

    def loss(view: "Tensor", other: "Tensor") -> "Tensor":
        predicted = predictor(head(backbone(torch.cat([view, other])))).float()
        return criterion(predicted, _untracked(slow, torch.cat([other, view])))

    pairs = _pairs(networks)
    return Method(nn.ModuleDict(networks | {"predictor": predictor}), 2, loss, pairs, momentum=_rising(options))


def _dino(backbone: Any, options: PretrainConfig, setting: _Setting) -> Method:
    import torch
    from lightly.loss import DINOLoss
    from lightly.models.modules.heads import DINOProjectionHead
    from lightly.models.utils import deactivate_requires_grad
    from torch import nn

    num_prototypes = PROTOTYPES * options.projection_dim

    def make_head() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # lightly's head uses torch's older weight norm
            return DINOProjectionHead(
                setting.dim, options.hidden_dim, options.projection_dim, num_prototypes, batch_norm=True
            )

    head, slow_head = make_head(), make_head()
    slow_head.load_state_dict(head.state_dict())
    deactivate_requires_grad(slow_head)
    networks = {"backbone": backbone, "head": head, "slow_backbone": _slow_copy(backbone), "slow_head": slow_head}
    criterion = DINOLoss(num_prototypes)
    slow = nn.Sequential(networks["slow_backbone"], slow_head)

    def loss(view: "Tensor", other: "Tensor") -> "Tensor":
        both = torch.cat([view, other])
        taught, predicted = _untracked(slow, both).chunk(2), head(backbone(both)).float().chunk(2)
        return criterion(list(taught), list(predicted))

    return Method(
        nn.ModuleDict(networks | {"criterion": criterion}), 2, loss, _pairs(networks), "slow_backbone", _rising(options)
    )


def _mae(backbone: Any, options: PretrainConfig, setting: _Setting) -> Method:
    from torch import nn

    decoder, loss = painter(backbone, options.mask_share, setting.size_px)
    return Method(nn.ModuleDict({"backbone": backbone, "decoder": decoder}), 1, loss)


def _compare(backbone: Any, head: Any, criterion: Any) -> "Callable[[Tensor, Tensor], Tensor]":
    """Both views go through the network in one batch, so that its batch norms see one distribution."""
    import torch

    def loss(view: "Tensor", other: "Tensor") -> "Tensor":
        return criterion(*head(backbone(torch.cat([view, other]))).float().chunk(2))

    return loss


def _with_slow(networks: dict[str, Any]) -> dict[str, Any]:
    return networks | {f"slow_{name}": _slow_copy(module) for name, module in networks.items()}


def _slow_copy(module: Any) -> Any:
    from lightly.models.utils import deactivate_requires_grad

    slow = copy.deepcopy(module)
    deactivate_requires_grad(slow)
    return slow


def _untracked(network: Any, views: "Tensor") -> "Tensor":
    import torch

    with torch.no_grad():
        out: torch.Tensor = network(views).float()
        return out


def _pairs(networks: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((name, f"slow_{name}") for name in networks if f"slow_{name}" in networks)


def _rising(options: PretrainConfig) -> Callable[[float], float]:
    """From `momentum` to 1 along half a cosine, as in BYOL and DINO."""
    from lightly.utils.scheduler import cosine_schedule

    return lambda share: float(cosine_schedule(round(1000 * share), 1000, options.momentum, 1.0))
