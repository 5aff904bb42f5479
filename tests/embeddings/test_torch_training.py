import math

import numpy as np
import pytest
import torch
from torch import nn

from embeddings import torch_training
from pipeline.contracts.errors import InputError

CPU = torch.device("cpu")


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert torch_training.pick_device(None) == torch_training.pick_device(False) == CPU
    with pytest.raises(InputError, match="a GPU is asked for and there is none") as caught:
        torch_training.pick_device(True)
    assert caught.value.where == "engine.use_gpu" and "doctor" in str(caught.value)


def test_a_gpu_is_taken_where_there_is_one_unless_forbidden(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert torch_training.pick_device(None).type == torch_training.pick_device(True).type == "cuda"
    assert torch_training.pick_device(False) == CPU


@pytest.mark.parametrize(("precision", "expected"), [("fp32", torch.float32), ("auto", torch.float32)])
def test_the_cpu_computes_in_full_precision_unless_asked(precision, expected):
    with torch_training.autocast(CPU, precision):
        assert nn.Linear(3, 2)(torch.zeros(1, 3)).dtype == expected


def test_mixed_precision_on_the_cpu_is_bfloat16():
    with torch_training.autocast(CPU, "amp"):
        assert nn.Linear(3, 2)(torch.zeros(1, 3)).dtype == torch.bfloat16


def test_half_precision_of_an_older_gpu_is_float16_and_needs_scaling(monkeypatch):
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert torch_training.half_type(gpu) == torch.float16
    assert (
        torch_training.grad_scaler(gpu, "auto").is_enabled()
        and not torch_training.grad_scaler(gpu, "fp32").is_enabled()
    )
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert torch_training.half_type(gpu) == torch.bfloat16
    assert not torch_training.grad_scaler(gpu, "auto").is_enabled()


@pytest.mark.parametrize("precision", ["fp32", "auto", "amp"])
def test_nothing_is_scaled_on_the_cpu(precision):
    assert not torch_training.grad_scaler(CPU, precision).is_enabled()


@pytest.mark.parametrize(("num_steps", "share"), [(100, 0.1), (7, 0.5), (10, 0.0), (5, 1.0), (1, 0.1)])
def test_the_learning_rate_rises_to_its_highest_and_falls_to_zero(num_steps, share):
    factor = [torch_training.warm_cosine(num_steps, share)(step) for step in range(num_steps + 1)]
    warm = max(1, round(share * num_steps))
    np.testing.assert_allclose(factor[:warm], [(step + 1) / warm for step in range(warm)])
    assert max(factor) == 1.0 and min(factor[:num_steps]) > 0.0  # every step teaches something
    assert all(a >= b for a, b in zip(factor[warm:], factor[warm + 1 :], strict=False))
    if warm < num_steps:
        assert factor[num_steps] == pytest.approx(0.0)
        middle = (warm + num_steps) / 2
        assert torch_training.warm_cosine(num_steps, share)(middle) == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))


def test_filters_and_matrices_decay_and_nothing_else():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))
    net[3].weight.requires_grad_(False)
    decays, rest = torch_training.decayed(net.named_parameters(), 0.3)
    assert (decays["weight_decay"], rest["weight_decay"]) == (0.3, 0.0)
    assert [parameter is net[0].weight for parameter in decays["params"]] == [True]  # what is frozen is in neither
    assert {id(p) for p in rest["params"]} == {id(p) for p in (net[0].bias, net[1].weight, net[1].bias, net[3].bias)}
