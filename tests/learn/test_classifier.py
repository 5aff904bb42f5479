import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from safetensors.torch import load_file
from scipy.special import softmax

from pipeline.learn.classifier import Classifier
from pipeline.learn.heads.head import Head
from pipeline.learn.network import design as network_design
from pipeline.learn.network.design import Design, Trained
from tests.support import tiny_backbone

FINDINGS = ("normal", "pneumonia", "covid")


def classifier(kind, seed=0):
    rng = np.random.default_rng(seed)
    sizes = {"linear": [(3, 5)], "mlp": [(7, 5), (3, 7)]}[kind]
    arrays = {}
    for i, (out, into) in enumerate(sizes):
        arrays[f"weight{i}"] = rng.normal(size=(out, into)).astype(np.float32)
        arrays[f"bias{i}"] = rng.normal(size=out).astype(np.float32)
    prevalence_C = np.array([0.7, 0.2, 0.1])
    basis = rng.normal(size=9).astype(np.float32), rng.normal(size=(9, 5)).astype(np.float32)
    return Classifier(Head(arrays), FINDINGS, 1.7, prevalence_C, prevalence_C, prevalence_C), basis


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_onnx_equals_the_probabilities(kind, tmp_path):
    model, (mean_D, basis_DP) = classifier(kind)
    model.save(tmp_path, {}, (mean_D, basis_DP))
    session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    for num in (1, 40):
        emb_ND = np.random.default_rng(num).normal(size=(num, 9)).astype(np.float32)
        ours_NC = model.probabilities(model.head.logits((emb_ND - mean_D) @ basis_DP))
        np.testing.assert_allclose(session.run(["probability"], {"emb": emb_ND})[0], ours_NC, atol=1e-5)
    properties = onnx.load(tmp_path / "model.onnx").metadata_props
    assert {p.key: json.loads(p.value) for p in properties}["findings"] == list(FINDINGS)


def test_probabilities_are_calibrated_at_the_prevalence():
    model, _ = classifier("linear")
    logit_NC = np.random.default_rng(0).normal(size=(6, 3))
    expected = softmax(logit_NC / 1.7 + np.log(model.prevalence_C), axis=1)
    np.testing.assert_allclose(model.probabilities(logit_NC), expected, rtol=1e-6)
    np.testing.assert_allclose(model.probabilities(np.zeros((1, 3))), [model.prevalence_C])


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_round_trip(kind, tmp_path):
    model, basis = classifier(kind)
    model.save(tmp_path, {"round": 3, "temperature": "not this"}, basis)
    found = Classifier.load(tmp_path)
    assert found.findings == FINDINGS and found.temperature == 1.7
    np.testing.assert_array_equal(found.prevalence_C, model.prevalence_C)
    np.testing.assert_array_equal(found.weights_C, model.weights_C)
    assert set(found.head.arrays) == set(model.head.arrays)
    x_NP = np.random.default_rng(1).normal(size=(4, 5))
    np.testing.assert_array_equal(found.head.logits(x_NP), model.head.logits(x_NP))
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["round"] == 3 and card["temperature"] == 1.7


@pytest.mark.parametrize("with_frozen_head", [False, True])
def test_a_network_is_saved_as_what_takes_scans(with_frozen_head, tmp_path):
    rng = np.random.default_rng(0)
    head = Head({"weight0": rng.normal(size=(3, 256)).astype(np.float32), "bias0": np.zeros(3, np.float32)})
    design = Design(tiny_backbone.backbone(tmp_path), 4, 32, head)
    trained = Trained(design, network_design.take(network_design.late(design)))
    if with_frozen_head:
        trained = trained.with_head(0.5, Head({name: array * 0.3 for name, array in head.arrays.items()}), "pooled")
    prevalence_C = np.array([0.7, 0.2, 0.1])
    model = Classifier(trained, FINDINGS, 1.7, prevalence_C, prevalence_C, prevalence_C)
    folder = tmp_path / "model"
    model.save(folder, {"round": 2}, (np.zeros(256), np.eye(256)))
    found = Classifier.load(folder)
    assert found.model == folder / "model.onnx" and found.findings == FINDINGS and found.temperature == 1.7
    card = json.loads((folder / "card.json").read_text())
    assert card["input"] == "scan" and card["round"] == 2
    shapes = {"weight0": [3, 256], "bias0": [3]}
    frozen = {"frozen": {"features": "pooled", "head": shapes}} if with_frozen_head else {}
    assert card["network"] == {"num_early": 4, "size_px": 32, "head": shapes} | frozen
    scan = rng.random((5, 1, 32, 32), np.float32)
    session = ort.InferenceSession(str(found.model), providers=["CPUExecutionProvider"])
    logit_NC, prob_NC = session.run(["logit", "probability"], {"scan": scan})
    np.testing.assert_allclose(prob_NC, found.probabilities(logit_NC), atol=1e-5)
    whole = network_design.whole(trained)
    for parameter in whole.parameters():
        parameter.data.zero_()
    whole.load_state_dict(load_file(folder / "model.safetensors"))  # nothing is missing in the file
    with torch.inference_mode():
        np.testing.assert_allclose(whole(torch.from_numpy(scan)).numpy(), logit_NC, atol=1e-3)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_head_is_saved_as_what_takes_embeddings(kind, tmp_path):
    model, basis = classifier(kind)
    model.save(tmp_path, {}, basis)
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["input"] == "embedding" and "network" not in card
    assert Classifier.load(tmp_path).head.arrays.keys() == model.head.arrays.keys()
