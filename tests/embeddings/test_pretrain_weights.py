"""The folder that pretraining writes is a backbone; what is not one is refused."""

import json

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torchvision import models

from embeddings import backbones
from embeddings.pretrain import loop
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.vectors import BackboneConfig
from tests.support.tiny_pretraining import NAME, S, shas, task


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pre") / "out"
    loop.train(task(folder, epochs=1))
    return folder


@pytest.fixture
def copy(trained, tmp_path):
    for name in (backbones.CARD, backbones.WEIGHTS):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    return tmp_path


def resolve(folder, **given):
    return backbones.resolve(BackboneConfig(name=str(folder), **given))


def change_card(folder, **changed):
    card = json.loads((folder / backbones.CARD).read_text()) | changed
    (folder / backbones.CARD).write_text(json.dumps(card))


def test_the_card_says_what_it_is(trained):
    card = json.loads((trained / backbones.CARD).read_text())
    assert (card["architecture"], card["method"], card["epochs"], card["num_scans"]) == (NAME, "simclr", 1, 24)
    assert card["settings"]["scans"] == task(trained).data_hash and len(card["settings"]["scans"]) == 16
    assert card["initial_weights"] == {"hash": "untrained", "origin": "random weights", "licence": "none"}
    assert card["weights_hash"] == backbones.file_hash(trained / backbones.WEIGHTS)
    assert [len(card["normalisation"][name]) for name in ("mean", "std")] == [3, 3]
    assert card["size_px"] == S and card["last_epoch"]["epoch"] == 1
    assert not any(sha in json.dumps(card) for sha in shas(24))


def test_the_folder_is_a_backbone_by_name(trained):
    backbone = resolve(trained)
    assert (backbone.name, backbone.weights_file) == (NAME, trained / backbones.WEIGHTS)
    assert "simclr, 1 epoch" in backbone.origin and "random weights" in backbone.origin
    network = backbones.build(backbone)
    kept = load_file(trained / backbones.WEIGHTS)
    for key, value in network.body.state_dict().items():
        torch.testing.assert_close(value, kept[key], rtol=0, atol=0)
    assert not network.training


def test_a_run_with_such_a_folder_is_one_too(trained, tmp_path):
    (tmp_path / backbones.PRETRAINED).symlink_to(trained)
    assert resolve(tmp_path).weights_hash == resolve(trained).weights_hash


def test_it_is_exported_with_its_own_normalisation(copy, tmp_path):
    import onnxruntime as ort

    change_card(copy, normalisation={"mean": [0.2, 0.3, 0.4], "std": [1.0, 2.0, 3.0]})
    backbone = resolve(copy)
    network = backbones.build(backbone)
    assert network.mean.flatten().tolist() == pytest.approx([0.2, 0.3, 0.4])
    path = backbones.export_onnx(backbone, S, tmp_path / "onnx")
    scan = np.random.default_rng(0).random((2, 1, S, S), dtype=np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(scan)).numpy()
    found = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(["emb"], {"scan": scan})[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_offline_backbone_goes_round(tmp_path):
    """Its weights come without their classifier."""
    network = backbones.build(backbones.resolve(BackboneConfig()))
    from embeddings.pretrain import weights

    facts = {"method": "byol", "epochs": 2, "num_scans": 3, "settings": {"scans": "0" * 16}}
    weights.write(tmp_path, network, backbones.resolve(BackboneConfig()), facts)
    backbone = resolve(tmp_path)
    assert backbone.licence.startswith("that of the initial weights (Apache-2.0)")
    again = backbones.build(backbone)
    scan = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(again(scan), network(scan))


def test_weights_that_are_not_those_of_the_card_are_refused(copy):
    state = load_file(copy / backbones.WEIGHTS)
    next(iter(state.values())).add_(1)
    save_file(state, copy / backbones.WEIGHTS)
    with pytest.raises(InputError, match=r"not those of the card: hash [0-9a-f]{16}.*pretrain again"):
        resolve(copy)
    (copy / backbones.WEIGHTS).unlink()
    with pytest.raises(InputError, match="hash absent"):
        resolve(copy)


def test_a_card_of_another_network_is_refused(copy):
    for name in ("timm:test_convnext.r160_in1k", "efficientnet_lite0"):
        change_card(copy, architecture=name)
        with pytest.raises(InputError, match=f"belong to another network than {name}"):
            backbones.build(resolve(copy))
    change_card(copy, architecture="hub:resnet18")
    with pytest.raises(InputError, match="unknown backbone"):
        resolve(copy)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"architecture": "x"}'])
def test_a_card_that_cannot_be_read(copy, text):
    (copy / backbones.CARD).write_text(text)
    with pytest.raises(InputError, match="the card cannot be read"):
        resolve(copy)


def test_a_path_that_is_no_backbone(tmp_path):
    with pytest.raises(InputError, match="no pretrained backbone is in this folder"):
        resolve(tmp_path)
    with pytest.raises(InputError, match="no such folder") as caught:
        resolve(tmp_path / "gone")
    assert caught.value.where == "backbone.name" and caught.value.exit_code == 2


def test_a_pretrained_folder_brings_its_weights(trained):
    with pytest.raises(InputError, match="brings its weights"):
        resolve(trained, weights="other.safetensors")


def test_random_weights_come_from_the_seed_and_need_no_file():
    backbone = backbones.untrained(BackboneConfig())
    torch.manual_seed(3)
    one = backbones.build(backbone).state_dict()
    torch.manual_seed(3)
    same = backbones.build(backbone).state_dict()
    other = backbones.build(backbone).state_dict()
    key = "body.conv_stem.weight"
    assert torch.equal(one[key], same[key]) and not torch.equal(one[key], other[key])
    with pytest.raises(InputError, match="unknown backbone"):
        backbones.untrained(BackboneConfig(name="resnet18"))


def test_weights_of_other_channels_are_refused(tmp_path):
    state = timm.create_model(NAME.removeprefix("timm:"), pretrained=False, in_chans=2).state_dict()
    save_file(state, tmp_path / "grey.safetensors")
    with pytest.raises(InputError, match=r"takes 2 channels; scans are grey, as one channel or repeated") as caught:
        backbones.build(backbones.resolve(BackboneConfig(name=NAME, weights=str(tmp_path / "grey.safetensors"))))
    assert caught.value.where == "backbone.weights"


def test_a_network_of_other_channels_is_refused(monkeypatch):
    original = timm.create_model

    def four(name, **given):
        network = original(name, **given)
        network.default_cfg = {**network.default_cfg, "input_size": (4, 160, 160)}
        return network

    monkeypatch.setattr(timm, "create_model", four)
    with pytest.raises(InputError, match="takes 4 channels") as caught:
        backbones.build(backbones.untrained(BackboneConfig(name=NAME)))
    assert caught.value.where == "backbone.name"


def offline(*args, **given):
    raise OSError("no route to host")


def test_without_a_network_the_file_to_fetch_is_named(monkeypatch):
    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(InputError, match=r"no route to host.*model\.safetensors of timm/resnet18\..*backbone\.weights"):
        backbones.resolve(BackboneConfig(name="timm:resnet18"))
    monkeypatch.setattr(models, "get_model", offline)
    with pytest.raises(InputError, match=r"Download https://.*resnet18-.*\.pth elsewhere.*backbone\.weights"):
        backbones.resolve(BackboneConfig(name="torchvision:resnet18"))
    with pytest.raises(InputError, match="Download the weights elsewhere"):
        backbones.resolve(BackboneConfig(name="torchvision:resnet5O"))
