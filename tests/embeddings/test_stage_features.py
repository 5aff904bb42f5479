"""Pooled stages, of the scan and of its middle: what they hold, and where the network's own embedding lies."""

import numpy as np
import pytest
import torch

from embeddings import backbones, network_stages, stage_features
from tests.support import tiny_backbone

S = 64


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return tiny_backbone.backbone(tmp_path_factory.mktemp("weights"))


def scans(num=2, seed=0):
    return torch.rand(num, 1, S, S, generator=torch.Generator().manual_seed(seed))


def features(module, scan_N1SS):
    with torch.inference_mode():
        return module(scan_N1SS).numpy()


def unscaled(module, scan_N1SS):
    return features(module, scan_N1SS) / stage_features.SCALE


def test_own_embedding_then_mean_and_mean_square_of_each_stage(backbone):
    module = stage_features.build(backbone, S)
    emb_ND = unscaled(module, scans())
    own_ND = features(backbones.build(backbone), scans())
    assert module.own_dim == own_ND.shape[1]
    np.testing.assert_allclose(emb_ND[:, : module.own_dim], own_ND, rtol=1e-3, atol=1e-4)
    parts, act = [], scans()
    with torch.inference_mode():
        for stage in network_stages.stages(backbone)[:-1]:
            act = stage(act)
            parts.append(np.concatenate([act.mean((2, 3)).numpy(), (act**2).mean((2, 3)).numpy()], axis=1))
    expected_ND = np.concatenate(parts[1:], axis=1)
    half = emb_ND.shape[1] // 2
    assert module.own_dim + expected_ND.shape[1] == half
    np.testing.assert_allclose(emb_ND[:, module.own_dim : half], expected_ND, rtol=1e-3, atol=1e-4)


def test_the_second_half_sees_the_middle_alone(backbone):
    module = stage_features.build(backbone, S)
    plain = scans()
    framed = plain.clone()
    framed[:, :, :5], framed[..., -5:] = 1.0, 0.0  # in the outer tenth
    before_ND, after_ND = unscaled(module, plain), unscaled(module, framed)
    half = before_ND.shape[1] // 2
    np.testing.assert_array_equal(before_ND[:, half:], after_ND[:, half:])
    assert np.abs(before_ND[:, :half] - after_ND[:, :half]).max() > 1e-3


def test_a_network_without_stages_gives_its_embedding_of_both():
    backbone = backbones.untrained(backbones.BackboneConfig(name="timm:test_vit.r160_in1k"))
    torch.manual_seed(0)
    module = stage_features.build(backbone, 160)
    emb_ND = features(module, torch.rand(1, 1, 160, 160))
    assert emb_ND.shape[1] == 2 * module.own_dim


def test_the_length_of_a_vector_is_a_number_in_half_precision(backbone):
    emb_ND = features(stage_features.build(backbone, S), scans(8)).astype(np.float16)
    assert np.isfinite(np.linalg.norm(emb_ND, axis=1)).all()
    assert np.log2(stage_features.SCALE) % 1 == 0  # a power of two: no digit is lost
