"""Adapters of low rank: they start as nothing, they alone learn, and in the end they are part of the weights."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import timm
import torch
from torch import nn

from embeddings import backbones
from pipeline.contracts.options.vectors import BackboneConfig
from pipeline.learn.heads.head import Head
from pipeline.learn.network import design as network_design
from pipeline.learn.network import fits, low_rank
from pipeline.learn.network.design import Design, Trained
from pipeline.learn.network.low_rank import LowRank
from pipeline.rounds import loop
from tests.learn.network.test_adapter import job_in
from tests.support import tiny_backbone, tiny_published
from tests.support.picture_run import picture_run

SIZE = LowRank(2, 4.0)
NETWORKS = {"timm:tiny_vit": 48, "timm:tiny_dinov3_qkvb": 48, tiny_backbone.NAME: 32}  # and the side of their scans


def module():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.Conv2d(6, 6, 3, padding=1, groups=6),
        nn.Conv2d(6, 4, 1),
        nn.Flatten(),
        nn.Linear(4 * 25, 3),
    )


def scans():
    return torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(1))


def state(net):
    return {name: tensor.detach().numpy().copy() for name, tensor in net.state_dict().items()}


def test_at_first_nothing_changes():
    net = module()
    before = net(scans())
    assert low_rank.adapt(net, SIZE) == 3  # not the grouped convolution
    torch.testing.assert_close(net(scans()), before)


def test_adapters_alone_learn():
    net = module()
    low_rank.adapt(net, SIZE)
    learning = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert len(learning) == 6 and all("up_DR" in name or "down_RE" in name for name in learning)
    shapes = {tuple(p.shape) for name, p in net.named_parameters() if name.startswith("0.") and name in learning}
    assert shapes == {(6, 2), (2, 27)}


def test_the_rank_is_at_most_that_of_the_matrix():
    net = nn.Linear(5, 3)
    low_rank.adapt(net, LowRank(64, 4.0))
    assert net.parametrizations.weight[0].up_DR.shape == (3, 3)


def test_merged_weights_give_what_the_adapters_gave():
    net = module()
    plain = state(net)
    low_rank.adapt(net, SIZE)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if "up_DR" in name:
                parameter.normal_()
    merged = low_rank.merged(state(net))
    assert merged.keys() == plain.keys()
    for name, array in merged.items():
        assert array.dtype == plain[name].dtype
        if name in ("0.weight", "2.weight", "4.weight"):
            change = (array - plain[name]).reshape(len(array), -1)
            assert np.linalg.matrix_rank(change, tol=1e-4) == 2
        else:
            np.testing.assert_array_equal(array, plain[name])
    again = module()
    network_design.put(again, merged)
    torch.testing.assert_close(again(scans()), net(scans()), rtol=1e-4, atol=1e-5)


def test_a_state_without_adapters_stays():
    assert low_rank.merged(plain := state(module())).keys() == plain.keys()


@pytest.fixture
def job(tmp_path):
    return replace(job_in(tmp_path), adapters=SIZE)


def test_a_fit_with_adapters_leaves_a_plain_network(job):
    fits.fit(job)
    assert fits.finished(job) and not fits.finished(replace(job, adapters=None))  # another fit than without
    assert not fits.finished(replace(job, adapters=LowRank(3, 4.0)))
    trained = fits.read(job).trained
    plain = network_design.take(job.build_plain())
    assert trained.arrays.keys() == plain.keys()
    changed = {name for name in plain if not np.array_equal(plain[name], trained.arrays[name])}
    adapted = {name for name in changed if not name.startswith("head.")}
    assert adapted and {name for name in changed if name.startswith("head.")}
    for name in adapted:
        change = (trained.arrays[name] - plain[name]).reshape(len(plain[name]), -1)
        assert name.endswith("weight") and np.linalg.matrix_rank(change, tol=1e-6) <= SIZE.rank


def test_the_same_job_gives_the_same_network(job, tmp_path):
    other = replace(job, folder=tmp_path / "other")
    fits.fit(job)
    fits.fit(other)
    one, same = fits.read(job), fits.read(other)
    for name, array in one.trained.arrays.items():
        np.testing.assert_array_equal(array, same.trained.arrays[name])
    np.testing.assert_array_equal(one.logit_HC, same.logit_HC)


@pytest.mark.parametrize("name", NETWORKS)
def test_transformers_and_convolutions_learn_and_are_exported_as_they_were(name, tmp_path):
    """One step changes the logits; the exported graph has the steps of one that never had an adapter."""
    size_px = NETWORKS[name]
    torch.manual_seed(0)
    path = tmp_path / "w.pth"
    torch.save(
        tiny_published.drawn(backbones.build(backbones.untrained(BackboneConfig(name=name))).body).state_dict(), path
    )
    backbone = backbones.resolve(BackboneConfig(name=name, weights=str(path)))
    x = torch.rand(4, 1, size_px, size_px)
    with torch.inference_mode():
        dim = backbones.build(backbone, size_px)(x).shape[1]
    head = Head(
        {"weight0": np.random.default_rng(0).normal(size=(2, dim)).astype(np.float32), "bias0": np.zeros(2, np.float32)}
    )
    design = Design(backbone, 2, size_px, head)
    early = nn.Sequential(*network_design.network_stages.stages(backbone, size_px)[:2]).eval()
    late = network_design.late(design)
    assert low_rank.adapt(late.body, SIZE) > 0
    with torch.no_grad():
        act = early(x)
    before = late(act).detach()
    optimizer = torch.optim.AdamW([p for p in late.parameters() if p.requires_grad], lr=0.05)
    for _ in range(2):
        nn.functional.cross_entropy(late(act), torch.tensor([0, 1, 0, 1])).backward()
        optimizer.step()
    after = late.eval()(act).detach()
    assert (after - before).abs().max() > 1e-3
    trained = Trained(design, low_rank.merged(network_design.take(late)))
    with torch.inference_mode():
        torch.testing.assert_close(network_design.whole(trained)(x), after, rtol=1e-3, atol=1e-3)
    untouched = Trained(design, network_design.take(network_design.late(design)))
    steps = []
    for number, network in enumerate((trained, untouched)):
        network_design.export(network, tmp_path / f"{number}.onnx", 1.0, np.full(2, 0.5))
        steps.append([node.op_type for node in onnx.load(tmp_path / f"{number}.onnx").graph.node])
    assert steps[0] == steps[1]


@pytest.mark.parametrize("name", [tiny_backbone.NAME, "timm:tiny_vit"])
def test_a_round_with_adapters(name, tmp_path):
    """From scans to predictions: cached activations (feature maps or tokens), adapters, a plain exported network."""
    adapters = {"train__adapt": "adapter", "network__adapter_rank": 4, "network__adapter_alpha": 8.0}
    weights = {}
    if name != tiny_backbone.NAME:  # scans of 32 pixels: its table of positions is resampled as well
        torch.save(tiny_published.drawn(timm.create_model(name.removeprefix("timm:"))).state_dict(), tmp_path / "w.pth")
        weights = {"backbone__name": name, "backbone__weights": str(tmp_path / "w.pth")}
    ctx = picture_run(tmp_path, network__last_stages=1, **adapters, **weights)
    loop.run(ctx)
    card = json.loads((ctx.round_folder(1) / "model" / "card.json").read_text())
    assert card["input"] == "scan"
    early = list((tmp_path / "cache" / "scans").glob("*/*.npy"))
    assert early and np.load(early[0], mmap_mode="r").ndim in (4, 5)  # scans, views, tokens or maps
    names = [tensor.name for tensor in onnx.load(ctx.round_folder(1) / "model" / "model.onnx").graph.initializer]
    assert names and not any("parametrizations" in name for name in names)
