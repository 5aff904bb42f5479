"""Options of pretraining, and of the network, that change what is learnt: the views, the mask, the loss, the decay."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from embeddings import backbones
from embeddings.pretrain import loop, masking, methods
from embeddings.pretrain.task import Worker
from embeddings.scan_cache import ScanCache
from pipeline.contracts.options.learning import NetworkConfig
from pipeline.contracts.options.vectors import AugmentConfig, BackboneConfig
from pipeline.learn.lesson import Lesson
from pipeline.learn.network import training_loop
from pipeline.vectors import pretrain
from tests.support.tiny_pretraining import NAME, S, options, task

AUGMENT = {
    "pretrain.augment.crop": 0.5,
    "pretrain.augment.rotate_degrees": 30.0,
    "pretrain.augment.shift": 0.3,
    "pretrain.augment.stretch": 0.4,
    "pretrain.augment.gamma": 1.5,
    "pretrain.augment.window": 1.5,
    "pretrain.augment.level": 0.4,
    "pretrain.augment.noise": 0.4,
    "pretrain.augment.flip": True,
}
NONE = {name.rpartition(".")[2]: 0.0 for name in AUGMENT} | {"flip": False}


class Views:
    """Just enough of a training to make views: its options and how many of them."""

    device = torch.device("cpu")

    def __init__(self, made_of):
        self.task = SimpleNamespace(options=options(augment=AugmentConfig(**made_of)))
        self.method = SimpleNamespace(num_views=2)


@pytest.mark.parametrize("name", AUGMENT)
def test_every_option_of_the_views_reaches_them(name):
    own = name.rpartition(".")[2]
    scan_N1SS = np.random.default_rng(0).random((12, 1, S, S), dtype=np.float32)
    for value, changes in ((NONE[own], False), (AUGMENT[name], True)):
        views = loop.Training._views(Views(NONE | {own: value}), scan_N1SS, 0)
        assert [torch.equal(view, torch.from_numpy(scan_N1SS)) for view in views] == [not changes] * 2


@pytest.mark.parametrize(("share", "num"), [(0.001, 1), (0.25, 16), (0.75, 48), (0.999, 63)])
def test_pretrain_mask_share_of_the_patches_is_hidden(share, num):
    """One at least, and one at least is left, of 64."""
    size = 4 * masking.PATCHES
    hidden_N1SS = masking.hide(torch.zeros(5, 1, size, size), share)
    assert hidden_N1SS.sum(dim=(1, 2, 3)).tolist() == [num * 16] * 5


def loss_of(method, **changed):
    torch.manual_seed(0)
    network = backbones.build(backbones.untrained(BackboneConfig(name=NAME)))
    made = methods.build(network, options(method=method, **changed), S, 64, 1)
    made.networks.eval()
    generator = torch.Generator().manual_seed(0)
    views = [torch.rand(8, 1, S, S, generator=generator) for _ in range(made.num_views)]
    torch.manual_seed(1)
    with torch.no_grad():
        return float(made.loss(*views))


def test_pretrain_mask_share_and_temperature_reach_the_loss_they_are_for():
    assert loss_of("mae", mask_share=0.2) != loss_of("mae", mask_share=0.8)
    assert loss_of("simclr", mask_share=0.2) == loss_of("simclr", mask_share=0.8)
    for method in ("simclr", "moco"):
        cold, warm = (loss_of(method, temperature=t) for t in (0.05, 5.0))
        assert abs(cold - warm) > 1e-3
    assert loss_of("byol", temperature=0.05) == loss_of("byol", temperature=5.0)


def decays(optimizer):
    return {group["weight_decay"] for group in optimizer.param_groups}


def test_pretrain_weight_decay_is_that_of_its_matrices(tmp_path):
    for decay in (0.0, 0.25):
        training = loop.Training(task(tmp_path / str(decay), weight_decay=decay), Worker())
        assert decays(training.optimizer) == {decay, 0.0}


@pytest.mark.parametrize(("most", "num"), [(50, 50), (70, 70), (2000, 80)])
def test_pretrain_max_probe_scans_bounds_what_is_looked_at(most, num, tmp_path):
    given = task(tmp_path / "task", num=80, max_probe_scans=most)
    names = {"sha256": given.sha256, "image_id": given.sha256, "patient_id": given.sha256}
    config = SimpleNamespace(oracle=True, pool=SimpleNamespace(asks_several=False))
    ctx = SimpleNamespace(config=config, rng=lambda name: np.random.default_rng(0))
    looked = pretrain._with_looks(ctx, given, pa.table(names))
    assert len(looked.look_at) == len(set(looked.look_at)) == num and looked.probe is None


def test_network_weight_decay_shrinks_what_nothing_speaks_for(tmp_path):
    """Black scans give the weights no gradient: the decay alone moves them."""
    names = [str(i) for i in range(6)]
    cache = ScanCache(tmp_path, "toy")
    cache.write(names, np.zeros((6, 1, 3, 1, 1), np.float16))
    lesson = Lesson(cache.rows(names), np.eye(2)[np.arange(6) % 2], np.ones(6), np.zeros(6, bool))
    norms = []
    for decay in (0.0, 0.2, 0.8):
        config = NetworkConfig(weight_decay=decay, epochs=3, lr=0.1, warmup_share=0.0)
        arrays, _ = training_loop.learn_network(black_box, lesson, config, 0, use_gpu=False)
        norms.append(float(np.linalg.norm(arrays["1.weight"])))
    assert norms[0] > 1.05 * norms[1] > 1.05**2 * norms[2]


def black_box():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 2))
