"""The seven objectives: they learn, slow networks follow, and what does not fit is refused."""

import lightly.loss
import numpy as np
import pytest
import timm
import torch

from embeddings import backbones
from embeddings.pretrain import batch_norms, masking, methods
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.vectors import BackboneConfig
from tests.support.tiny_pretraining import NAME, S, options

METHODS = ("simclr", "moco", "byol", "vicreg", "barlowtwins", "dino", "mae")
SLOW = {"moco", "byol", "dino"}


def built(name, num_workers=1, **changed):
    torch.manual_seed(0)
    network = backbones.build(backbones.untrained(BackboneConfig(name=NAME)))
    return methods.build(network, options(method=name, **changed), S, 64, num_workers)


def views(method, seed=0, num=8):
    """Two noisy copies of the same scans."""
    generator = torch.Generator().manual_seed(seed)
    scan = torch.rand(num, 1, 8, 8, generator=generator).repeat_interleave(4, 2).repeat_interleave(4, 3)
    return [(scan + 0.05 * torch.randn(scan.shape, generator=generator)).clamp(0, 1) for _ in range(method.num_views)]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_learns_the_scans_it_sees(name):
    method = built(name)
    learning = [p for p in method.networks.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=3e-3)
    batch_norms.train_mode(method, frozen=False)
    losses = []
    for step in range(20):
        torch.manual_seed(step % 2)  # of the masks
        optimizer.zero_grad()
        loss = method.loss(*views(method, step % 2))
        loss.backward()
        if step == 0:
            own = list(method.networks["backbone"].parameters())  # some branches of a fresh ResNet start at zero
            assert sum(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in own) > 0.5 * len(own)
        optimizer.step()
        method.follow(step / 20)
        losses.append(float(loss.detach()))
    assert np.isfinite(losses).all()
    assert np.mean(losses[-4:]) < np.mean(losses[4:8])  # by the fourth step the queue of moco holds answers alone


@pytest.mark.parametrize("name", METHODS)
def test_a_slow_network_follows_and_never_learns_itself(name):
    method = built(name, momentum=0.5)
    assert bool(method.pairs) == (name in SLOW)
    method.loss(*views(method)).backward()
    for learning, slow in method.pairs:
        fast, behind = (list(method.networks[key].parameters()) for key in (learning, slow))
        assert all(p.grad is None and not p.requires_grad for p in behind)
        with torch.no_grad():
            for p in fast:
                p.add_(1.0)
        before = [p.clone() for p in behind]
        method.follow(0.0)
        for now, was, goal in zip(behind, before, fast, strict=True):
            torch.testing.assert_close(now, (was + goal) / 2)


def test_the_momentum_of_byol_and_dino_rises_to_one():
    for name in ("byol", "dino"):
        momentum = built(name, momentum=0.9).momentum
        assert momentum(0.0) == pytest.approx(0.9) and momentum(1.0) == pytest.approx(1.0)
        assert momentum(0.2) < momentum(0.7)
    assert built("moco", momentum=0.9).momentum(1.0) == 0.9


def test_dino_keeps_its_teacher_the_others_their_student():
    assert {name: built(name).exported for name in METHODS} == dict.fromkeys(METHODS, "backbone") | {
        "dino": "slow_backbone"
    }


def test_the_queue_of_moco_is_part_of_its_state():
    method, other = built("moco"), built("moco")
    batch_norms.train_mode(method, frozen=False)
    method.loss(*views(method))
    queue = method.networks.state_dict()["criterion.memory_bank.bank"]
    assert queue.shape == (32, 16)  # half of the pool
    other.networks.load_state_dict(method.networks.state_dict())
    torch.testing.assert_close(other.networks.state_dict()["criterion.memory_bank.bank"], queue, rtol=0, atol=0)
    assert int(other.networks.state_dict()["criterion.memory_bank.bank_ptr"]) == 8


@pytest.mark.parametrize(
    ("name", "loss"),
    [("simclr", "NTXentLoss"), ("moco", "NTXentLoss"), ("vicreg", "VICRegLoss"), ("barlowtwins", "BarlowTwinsLoss")],
)
@pytest.mark.parametrize("num_workers", [1, 2])
def test_several_workers_gather_what_scans_are_compared_with(name, loss, num_workers, monkeypatch):
    given = []
    original = getattr(lightly.loss, loss)

    def spy(*args, **kwargs):
        given.append(kwargs["gather_distributed"])
        return original(*args, **kwargs)

    monkeypatch.setattr(lightly.loss, loss, spy)
    built(name, num_workers)
    assert given == [num_workers > 1]


@pytest.mark.parametrize("share", [0.01, 0.5, 0.75, 0.99])
def test_whole_patches_are_hidden(share):
    torch.manual_seed(0)
    hidden = masking.hide(torch.zeros(5, 1, 64, 64), share)
    patch = hidden.view(5, 8, 8, 8, 8).float().mean((2, 4))
    assert set(patch.unique().tolist()) <= {0.0, 1.0}
    expected = min(max(1, round(share * 64)), 63)
    assert (patch.sum((1, 2)) == expected).all()
    assert not hidden[0].equal(hidden[1])


def test_mae_sees_nothing_of_what_it_paints():
    """Two scans that differ in hidden patches alone give the same painting, and only those patches count."""
    method = built("mae")
    seen = []
    method.networks["decoder"].register_forward_hook(lambda module, args, out: seen.append(out.detach()))
    (scan,) = views(method)
    torch.manual_seed(1)
    hidden = masking.hide(scan, 0.75)
    method.networks.eval()
    losses = []
    for view in (scan, torch.where(hidden, 1.0 - scan, scan), torch.where(hidden, scan, scan)):
        torch.manual_seed(1)
        losses.append(float(method.loss(view).detach()))
    torch.testing.assert_close(seen[0], seen[1], rtol=0, atol=0)
    assert losses[0] != losses[1] and losses[0] == losses[2]


def test_tokens_become_a_map():
    body = timm.create_model("test_vit.r160_in1k", pretrained=False, num_classes=0)
    network = backbones.build(backbones.untrained(BackboneConfig(name="timm:test_vit.r160_in1k")))
    found = masking.feature_map(network, torch.rand(2, 1, 160, 160))
    side = 160 // body.patch_embed.patch_size[0]
    assert found.shape == (2, body.num_features, side, side)


def test_mae_needs_a_feature_map():
    network = backbones.build(backbones.untrained(BackboneConfig(name="torchvision:resnet18")))
    with pytest.raises(InputError, match=r"mae needs a network that shows.*ResNet.*another method"):
        methods.build(network, options(method="mae"), S, 64, 1)


def test_a_network_of_a_fixed_side_is_refused():
    network = backbones.build(backbones.untrained(BackboneConfig(name="timm:vit_tiny_patch16_224")))
    with pytest.raises(InputError, match="takes no views of 32 pixels") as caught:
        methods.build(network, options(), S, 64, 1)
    assert caught.value.where == "pretrain.size_px"
