import os

import pytest
import torch

from pipeline.commands import doctor
from tests.support.tiny import call


def row(name):
    return {found["check"]: found for found in doctor.examine()}[name]


def test_training_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert row("training")["found"] == (
        "on the CPU in float32 (bfloat16 with network.precision=amp); 6 tasks at a time, train.num_workers=1 a network"
    )


@pytest.mark.parametrize(("knows", "precision"), [(True, "bfloat16"), (False, "float16")])
def test_training_with_a_gpu(knows, precision, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "a GPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: knows)
    assert row("training")["found"].startswith(f"on the GPU in {precision} mixed precision")
    assert row("GPU")["found"].startswith("a GPU")


def test_the_command_tells_it():
    answer = call("doctor", "--json")
    assert [check["check"] for check in answer.json["checks"]].count("training") == 1
    assert "training" in call("doctor").err + call("doctor").out
