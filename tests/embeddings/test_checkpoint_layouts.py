"""Weights drawn at random, saved under the names of each publisher, give the embeddings of the network they are of."""

import argparse
import re

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision import models

from embeddings import backbones
from pipeline.contracts.options.vectors import BackboneConfig
from tests.support import tiny_published as tiny

D = 24


def network(name):
    return tiny.drawn(timm.create_model(name, num_classes=0))


def save(path, content):
    if path.suffix == ".safetensors":
        save_file({key: value.clone().contiguous() for key, value in content.items()}, path)
    else:
        torch.save(content, path)
    return path


def built(name, path, **options):
    return backbones.build(backbones.resolve(BackboneConfig(name=name, weights=str(path), **options)))


def scans(size_px, num=2):
    return torch.rand(num, 1, size_px, size_px, generator=torch.Generator().manual_seed(7))


def same(grey, body, size_px, mean=tiny.MEAN, std=tiny.STD):
    """Whether the backbone gives what the network itself gives for normalised scans of three channels."""
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (mean, std))
    x = scans(size_px)
    with torch.inference_mode():
        expected = body((x.repeat(1, mean.shape[1], 1, 1) - mean) / std).flatten(1)
        torch.testing.assert_close(grey(x), expected, rtol=1e-4, atol=1e-5)
    assert expected.std() > 1e-3  # random weights tell these scans apart from nothing
    return True


def under_another_model(state):
    return tiny.under("dinov2.", tiny.as_hf_dinov2(state))


def with_registers(state):
    return tiny.as_hf_dinov2(state, registers=True)


def vit_classifier(state):
    return tiny.under("vit.", tiny.as_hf_vit(state))


def open_clip(state):
    return tiny.under("visual.trunk.", state) | {"visual.head.proj.weight": torch.ones(8, D)}


def deepspeed(state):
    return tiny.under("module.", tiny.as_eva02(state))


CASES = {
    "Hugging Face DINOv2 (RAD-DINO)": ("tiny_dinov2", 56, tiny.as_hf_dinov2),
    "Hugging Face DINOv2 under another model": ("tiny_dinov2", 56, under_another_model),
    "Hugging Face DINOv2 with registers": ("tiny_dinov2_reg4", 56, with_registers),
    "Hugging Face DINOv2 giant": ("tiny_dinov2_swiglu", 56, tiny.as_hf_swiglu),
    "Hugging Face ViT": ("tiny_vit", 48, tiny.as_hf_vit),
    "Hugging Face ViT classifier": ("tiny_vit", 48, vit_classifier),
    "Hugging Face DINOv3": ("tiny_dinov3_qkvb", 48, tiny.as_hf_dinov3),
    "Hugging Face DINOv3 plus": ("tiny_dinov3_plus", 48, tiny.as_hf_dinov3),
    "Hugging Face SigLIP (MedSigLIP)": ("tiny_siglip", 48, tiny.as_hf_siglip),
    "DINOv3": ("tiny_dinov3_qkvb", 48, tiny.as_dinov3),
    "DINOv3 plus": ("tiny_dinov3_plus", 48, tiny.as_dinov3),
    "open_clip (BiomedCLIP)": ("tiny_vit", 48, open_clip),
    "EVA-02 small": ("tiny_eva02", 56, tiny.as_eva02),
    "EVA-02 base": ("tiny_eva02_base", 56, tiny.as_eva02),
    "EVA-02 in a DeepSpeed bundle": ("tiny_eva02_base", 56, deepspeed),
    "as timm saves it": ("tiny_swin", 64, dict),
}


@pytest.mark.parametrize("layout", CASES)
@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_the_vectors_are_those_of_the_network(layout, ending, tmp_path):
    name, size_px, publish = CASES[layout]
    body = network(name)
    path = save(tmp_path / f"w.{ending}", publish(body.state_dict()))
    assert same(built(f"timm:{name}", path), body, size_px)


def zeroed(state):
    return {key: torch.zeros_like(value) for key, value in state.items()}


def head():
    return {"head.mlp.0.weight": torch.ones(4, D), "head.last_layer.weight_g": torch.ones(4, 1)}


def dino(state):
    student = tiny.under("module.backbone.", zeroed(state))
    return {"student": student, "teacher": tiny.under("backbone.", state) | head()}


def dinov2(state):
    chunked = {re.sub(r"^blocks\.(\d)\.", r"blocks.0.\1.", key): value for key, value in state.items()}
    return {"teacher": tiny.under("backbone.", chunked) | {"dino_head.last_layer.weight": torch.ones(2)}}


def mae(state):
    decoder = {"decoder_blocks.0.norm1.weight": torch.ones(D), "decoder_pos_embed": torch.ones(1, 3, D)}
    return {"model": state | {"mask_token": torch.zeros(1, 1, D)} | decoder}


def whole_training(state):
    optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}}
    args = argparse.Namespace(lr=0.1, at=np.float64(2.0))
    return {"state_dict": tiny.under("module.", state), "optimizer": optimizer, "epoch": 3, "args": args}


def moving_average(state):
    return {"model": zeroed(state), "model_ema": state}


def moco_v3(state):
    slow = tiny.under("module.momentum_encoder.", zeroed(state))
    quick = tiny.under("module.base_encoder.", state)
    return {"state_dict": quick | slow | {"module.predictor.0.weight": torch.ones(2)}}


def lightning(state):
    return {"state_dict": tiny.under("model.encoder.", state) | {"model.classifier.weight": torch.ones(2, D)}}


TRAININGS = (dino, dinov2, mae, whole_training, moving_average, moco_v3, lightning)


@pytest.mark.parametrize("training", TRAININGS)
def test_a_network_is_found_in_what_a_training_saved(training, tmp_path):
    name, size_px = ("tiny_dinov2", 56) if training is dinov2 else ("tiny_vit", 48)
    body = network(name)
    path = save(tmp_path / "checkpoint.pth", training(body.state_dict()))
    assert same(built(f"timm:{name}", path), body, size_px)


def test_of_two_that_fit_the_one_taken_is_named(tmp_path, caplog):
    state = network("tiny_vit").state_dict()
    path = save(tmp_path / "two.pth", {"student": zeroed(state), "teacher": state})
    built("timm:tiny_vit", path)
    assert "more than once: 'teacher.' is taken, not ['student.']" in caplog.text


def test_torchvision_networks_of_all_ages(tmp_path):
    """CheXNet's DenseNet has the names of before 2017, in a DataParallel, with a head of its own."""
    body = tiny.drawn(models.densenet121(weights=None))
    state = {key: value for key, value in body.state_dict().items() if not key.startswith("classifier")}
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): value for key, value in state.items()}
    published = tiny.under("module.densenet121.", old | {"classifier.0.weight": torch.ones(14, 1024)})
    body.classifier = torch.nn.Identity()
    for family in ("torchvision", "timm"):
        grey = built(f"{family}:densenet121", save(tmp_path / "chexnet.pth", {"state_dict": published}))
        for key, value in grey.body.state_dict().items():
            assert torch.equal(value, state[key]), key


@pytest.mark.parametrize("family", ["torchvision", "timm"])
def test_a_resnet_in_order(family, tmp_path):
    """RadImageNet publishes the children of a ResNet, numbered."""
    body = tiny.drawn(models.resnet18(weights=None))
    number = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    published = {
        f"backbone.{number[key.partition('.')[0]]}.{key.partition('.')[2]}": value
        for key, value in body.state_dict().items()
        if not key.startswith("fc.")
    }
    grey = built(f"{family}:resnet18", save(tmp_path / "r.pth", published))
    for key, value in grey.body.state_dict().items():
        assert torch.equal(value, body.state_dict()[key]), key


def test_a_swin_of_before_timm_09(tmp_path):
    """Ark: reductions stand at the end of a stage, tables of indices are saved, and there are heads for six sets."""
    body = network("tiny_swin")
    state = body.state_dict()
    old = {
        re.sub(r"layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", k): v
        for k, v in state.items()
    }
    old |= {"layers.0.blocks.0.attn.relative_position_index": torch.zeros(16, 16, dtype=torch.long)}
    old |= {"omni_heads.0.weight": torch.ones(14, 24), "projector.weight": torch.ones(3, 24)}
    assert old.keys() != state.keys()
    assert same(built("timm:tiny_swin", save(tmp_path / "ark.pth", {"teacher": old})), body, 64)


def test_torchvision_s_own_transformer(tmp_path):
    body = tiny.drawn(models.VisionTransformer(32, 16, 2, 2, D, 32))
    path = save(tmp_path / "v.pth", body.state_dict())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "get_model", lambda name, weights, **given: small_transformer(**given))
        grey = built("torchvision:vit_b_16", path)
        body.heads = torch.nn.Identity()
        assert same(grey, body, 32, *IMAGENET)
        pooled = built("torchvision:vit_b_16", path, pooling="cls+mean")
        with torch.inference_mode():
            assert pooled(scans(32)).shape == (2, 2 * D)
            torch.testing.assert_close(pooled(scans(32))[:, :D], grey(scans(32)))
        larger = backbones.build(backbones.resolve(BackboneConfig(name="torchvision:vit_b_16", weights=str(path))), 64)
        assert larger.body.encoder.pos_embedding.shape == (1, 17, D)


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def small_transformer(image_size=32, **given):
    return models.VisionTransformer(image_size, 16, 2, 2, D, 32, **given)
