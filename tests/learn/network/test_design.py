import numpy as np
import onnxruntime as ort
import pytest
import torch
from scipy.special import softmax
from sklearn.linear_model import RidgeCV
from torch import nn

from embeddings import backbones, extract, network_stages
from pipeline.learn.heads.head import Head
from pipeline.learn.network import design as network_design
from pipeline.learn.network.design import Design, Trained
from tests.support import tiny_backbone

SIZE_PX, NUM_EARLY, NUM_CLASSES, DIM = 32, 4, 3, 256


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return tiny_backbone.backbone(tmp_path_factory.mktemp("weights"))


def head_of(kind="linear", dim=DIM, seed=0):
    rng = np.random.default_rng(seed)
    sizes = {"linear": [(NUM_CLASSES, dim)], "mlp": [(7, dim), (NUM_CLASSES, 7)]}[kind]
    arrays = {}
    for i, (out, into) in enumerate(sizes):
        arrays[f"weight{i}"] = (rng.normal(size=(out, into)) / np.sqrt(into)).astype(np.float32)
        arrays[f"bias{i}"] = rng.normal(size=out).astype(np.float32)
    return Head(arrays)


def trained(backbone, kind="linear", num_early=NUM_EARLY):
    """A network whose weights are not those it started from."""
    design = Design(backbone, num_early, SIZE_PX, head_of(kind))
    arrays = network_design.take(network_design.late(design))
    rng = np.random.default_rng(1)
    moved = {name: (a + 0.02 * rng.normal(size=a.shape)).astype(a.dtype) if a.ndim else a for name, a in arrays.items()}
    return Trained(design, moved)


def scans(num=3):
    return torch.rand(num, 1, SIZE_PX, SIZE_PX, generator=torch.Generator().manual_seed(3))


def embeddings(backbone):
    with torch.inference_mode():
        return backbones.build(backbone)(scans()).numpy()


@pytest.mark.parametrize("kind", ["linear", "mlp"])
@pytest.mark.parametrize("num_early", [0, NUM_EARLY])
def test_before_it_learns_a_network_is_the_backbone_and_the_head(kind, num_early, backbone):
    design = Design(backbone, num_early, SIZE_PX, head_of(kind))
    late = network_design.late(design)
    early = nn.Sequential(*network_stages.stages(backbone)[:num_early])
    with torch.inference_mode():
        found_NC = late.eval()(early(scans())).numpy()
    np.testing.assert_allclose(found_NC, head_of(kind).logits(embeddings(backbone)), atol=2e-3)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_head_on_features_becomes_one_on_embeddings(kind):
    rng = np.random.default_rng(0)
    emb_ND, mean_D, basis_DP = rng.normal(size=(9, 20)), rng.normal(size=20), rng.normal(size=(20, 5))
    head = head_of(kind, dim=5)
    expected_NC = head.logits((emb_ND - mean_D) @ basis_DP) / 1.7
    found = network_design.first_head(head, mean_D, basis_DP, 1.7)
    np.testing.assert_allclose(found.logits(emb_ND), expected_NC, atol=1e-4)
    same(head.arrays, head_of(kind, dim=5).arrays)  # the one it was made of stays as it was


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_the_whole_network_is_early_stages_and_what_learned(backbone):
    found = trained(backbone)
    late = network_design.late(found.design)
    network_design.put(late, found.arrays)
    with torch.inference_mode():
        expected = late.eval()(nn.Sequential(*network_stages.stages(backbone)[:NUM_EARLY])(scans()))
        torch.testing.assert_close(network_design.whole(found)(scans()), expected)
        before = network_design.late(found.design).eval()(
            nn.Sequential(*network_stages.stages(backbone)[:NUM_EARLY])(scans())
        )
    assert (expected - before).abs().max() > 0.01


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_bias_is_added_to_the_logits(kind, backbone):
    found = trained(backbone, kind)
    bias_C = np.array([0.5, -1.0, 2.0])
    with torch.inference_mode():
        before, after = (network_design.whole(t)(scans()).numpy() for t in (found, found.shifted(bias_C)))
    np.testing.assert_allclose(after, before + bias_C, atol=1e-5)
    np.testing.assert_allclose(
        network_design.last_bias(found.shifted(bias_C).arrays), network_design.last_bias(found.arrays) + bias_C
    )


def on_embedding(backbone, features, kind="linear"):
    """A head on the embedding of the frozen network, and that embedding as a run keeps it."""
    with torch.inference_mode():
        emb_ND = extract.build(backbone, features, SIZE_PX)(scans()).numpy().astype(np.float16).astype(np.float32)
    return head_of(kind, dim=emb_ND.shape[1], seed=2), emb_ND


@pytest.mark.parametrize("kind", ["linear", "mlp"])
@pytest.mark.parametrize("features", ["pooled", "stages"])
def test_with_a_frozen_head_logits_add_up(features, kind, backbone, tmp_path):
    alone = trained(backbone, kind)
    head, emb_ND = on_embedding(backbone, features, kind)
    both = alone.with_head(0.4, head, features).shifted(np.array([0.0, 0.5, -2.0], np.float32))
    with torch.inference_mode():
        own_NC = network_design.whole(alone)(scans()).numpy()
        found_NC = network_design.whole(both)(scans()).numpy()
    np.testing.assert_allclose(found_NC, 0.4 * own_NC + head.logits(emb_ND) + [0.0, 0.5, -2.0], atol=2e-3)
    network_design.export(both, tmp_path / "model.onnx", 1.0, np.full(NUM_CLASSES, 1 / NUM_CLASSES))
    session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    for num in (1, 3):
        logit = session.run(["logit"], {"scan": scans().numpy()[:num]})[0]
        np.testing.assert_allclose(logit, found_NC[:num], atol=1e-3)
    np.testing.assert_allclose(network_design.whole(alone)(scans()).detach().numpy(), own_NC)  # it stays as it was


@pytest.mark.parametrize(("num", "dim"), [(60, 100), (300, 40)])
@pytest.mark.parametrize("noise", [0.1, 10.0])
def test_the_penalty_of_an_imitating_head_is_that_of_scans_left_out(noise, num, dim):
    rng = np.random.default_rng(0)
    emb_TD = (rng.normal(size=(num, dim)) * rng.uniform(0.1, 3.0, dim) + 1.0).astype(np.float32)
    logit_TC = (emb_TD @ rng.normal(size=(dim, 2)) / 10 + noise * rng.normal(size=(num, 2))).astype(np.float32)
    standard_TD = (emb_TD - emb_TD.mean(0)) / emb_TD.std(0)
    expected = RidgeCV([share * num for share in network_design.RIDGES_PER_SCAN]).fit(standard_TD, logit_TC)
    found = network_design.imitating_head(emb_TD, logit_TC)
    np.testing.assert_allclose(found.logits(emb_TD), expected.predict(standard_TD), atol=1e-3)


def test_arrays_and_module_share_no_memory(backbone):
    design = Design(backbone, NUM_EARLY, SIZE_PX, head_of())
    module = network_design.late(design)
    arrays = network_design.take(module)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
    assert not np.allclose(arrays["head.0.bias"], network_design.take(module)["head.0.bias"])
    network_design.put(module, arrays)
    same(network_design.take(module), arrays)
    same(design.head.arrays, head_of().arrays)  # nor with the head it started from


def test_arrays_of_another_network_are_refused(backbone):
    arrays = trained(backbone).arrays
    with pytest.raises(RuntimeError, match="Missing key"):
        network_design.put(network_design.late(Design(backbone, NUM_EARLY - 1, SIZE_PX, head_of())), arrays)


def test_norms_keep_the_statistics_of_the_pretraining(tmp_path):
    """The stem of this network keeps its batch norm; training must not touch it, and the head trains as ever."""
    backbone = tiny_backbone.backbone(tmp_path, "timm:test_resnet")
    dim = embeddings(backbone).shape[1]
    late = network_design.late(Design(backbone, 0, SIZE_PX, head_of(dim=dim))).train()
    norms = [m for m in late.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and late.training and late.head.training and not any(m.training for m in norms)
    before = norms[0].running_mean.clone()
    late(scans())
    torch.testing.assert_close(norms[0].running_mean, before)


@pytest.mark.parametrize("num_early", [0, NUM_EARLY])
def test_the_exported_network_takes_scans_and_gives_calibrated_probabilities(num_early, backbone, tmp_path):
    found, prevalence_C = trained(backbone, num_early=num_early), np.array([0.7, 0.25, 0.05])
    network_design.export(found, tmp_path / "model.onnx", 1.6, prevalence_C)
    session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected_NC = network_design.whole(found)(scans()).numpy()
    for num in (1, 3):
        logit, probability = session.run(["logit", "probability"], {"scan": scans().numpy()[:num]})
        np.testing.assert_allclose(logit, expected_NC[:num], atol=1e-4)
        np.testing.assert_allclose(probability, softmax(logit / 1.6 + np.log(prevalence_C), axis=1), atol=1e-5)


def test_a_class_nobody_has_seen_in_the_pool_has_no_probability(backbone, tmp_path):
    network_design.export(trained(backbone), tmp_path / "model.onnx", 1.0, np.array([0.5, 0.5, 0.0]))
    session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    probability = session.run(["probability"], {"scan": scans().numpy()})[0]
    assert np.isfinite(probability).all() and probability[:, 2].max() < 1e-6
