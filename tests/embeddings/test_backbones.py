import json

import numpy as np
import onnxruntime as ort
import pytest
import timm
import torch
from safetensors.torch import save_file

from embeddings import backbones
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.vectors import BackboneConfig

SMALL = "timm:test_resnet.r160_in1k"


@pytest.fixture(scope="module")
def small_weights(tmp_path_factory):
    """Random weights of timm's smallest ResNet in a file."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_file(timm.create_model(SMALL.removeprefix("timm:"), pretrained=False).state_dict(), path)
    return path


def scans(num=3, size_px=64, seed=0):
    return np.random.default_rng(seed).random((num, 1, size_px, size_px), dtype=np.float32)


def embed_torch(backbone, scan_N1SS):
    with torch.inference_mode():
        return backbones.build(backbone)(torch.from_numpy(scan_N1SS)).numpy()


def embed_onnx(path, scan_N1SS):
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(["emb"], {"scan": scan_N1SS})[0]


def test_the_offline_backbone_is_known_without_building_it():
    backbone = backbones.resolve(BackboneConfig())
    assert (backbone.name, backbone.licence) == ("efficientnet_lite0", "Apache-2.0")
    assert len(backbone.weights_hash) == 16 and "ImageNet" in backbone.origin


def test_onnx_equals_torch(tmp_path):
    backbone = backbones.resolve(BackboneConfig())
    path = backbones.export_onnx(backbone, 64, tmp_path)
    ours = embed_torch(backbone, scans())
    assert ours.shape == (3, 1280)
    np.testing.assert_allclose(embed_onnx(path, scans()), ours, atol=1e-4)
    assert np.abs(ours[0] - ours[1]).max() > 0.1  # scans are told apart
    card = json.loads(path.with_suffix(".json").read_text())
    assert (card["dim"], card["size_px"], card["weights_hash"]) == (1280, 64, backbone.weights_hash)
    assert card["weights_file"] is None  # no path of this machine
    written = path.stat().st_mtime_ns
    assert backbones.export_onnx(backbone, 64, tmp_path) == path
    assert path.stat().st_mtime_ns == written


def test_lite0_is_the_network_of_timm_with_the_weights_of_the_package():
    """Tensors are matched by order, so check against the pretrained classifier's behaviour: features are not noise."""
    backbone = backbones.resolve(BackboneConfig())
    module = backbones.build(backbone)
    given = list(torch.load(backbone.weights_file, map_location="cpu", weights_only=True).values())
    kept = list(module.body.state_dict().values())
    for ours, theirs in zip(kept, given, strict=False):
        torch.testing.assert_close(ours, theirs)
    assert len(given) - len(kept) == 2  # the classifier's weight and bias


def test_the_scan_is_normalised_and_repeated(small_weights):
    backbone = backbones.resolve(BackboneConfig(name=SMALL, weights=str(small_weights)))
    module = backbones.build(backbone)
    body = timm.create_model(SMALL.removeprefix("timm:"), pretrained=False, num_classes=0)
    body.load_state_dict({k: v for k, v in timm_state(small_weights).items() if k in body.state_dict()})
    scan = torch.from_numpy(scans())
    mean, std = (torch.tensor(body.default_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        expected = body.eval()((scan.repeat(1, 3, 1, 1) - mean) / std)
        torch.testing.assert_close(module(scan), expected)


def timm_state(path):
    from safetensors.torch import load_file

    return load_file(path)


def test_a_timm_network_from_a_local_file(small_weights, tmp_path):
    backbone = backbones.resolve(BackboneConfig(name=SMALL, weights=str(small_weights)))
    assert backbone.origin == "a local file"
    path = backbones.export_onnx(backbone, 64, tmp_path)
    np.testing.assert_allclose(embed_onnx(path, scans()), embed_torch(backbone, scans()), atol=1e-4)
    other = small_weights.with_name("other.safetensors")
    state = timm_state(small_weights)
    key = next(k for k, v in state.items() if v.is_floating_point())
    state[key] += 1.0
    save_file(state, other)
    changed = backbones.resolve(BackboneConfig(name=SMALL, weights=str(other)))
    assert changed.weights_hash != backbone.weights_hash  # and so another store


def test_a_torch_file_is_read_without_pickle(small_weights, tmp_path):
    path = tmp_path / "small.pth"
    torch.save({"state_dict": timm_state(small_weights)}, path)
    backbone = backbones.resolve(BackboneConfig(name=SMALL, weights=str(path)))
    same = backbones.resolve(BackboneConfig(name=SMALL, weights=str(small_weights)))
    np.testing.assert_array_equal(embed_torch(backbone, scans()), embed_torch(same, scans()))

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "pwned"), "w"))

    torch.save({"x": Evil()}, path)
    with pytest.raises(InputError, match=r"cannot be read: the file holds more than tensors.*\.safetensors"):
        backbones.build(backbones.resolve(BackboneConfig(name=SMALL, weights=str(path))))
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("name", ["resnet50", "hub:resnet50", "efficientnet-lite0", ""])
def test_an_unknown_backbone_lists_what_can_be_used(name):
    with pytest.raises(InputError, match="efficientnet_lite0, timm:NAME or torchvision:NAME") as caught:
        backbones.resolve(BackboneConfig(name=name))
    assert caught.value.where == "backbone.name"


@pytest.mark.parametrize("name", ["timm:resnet5O", "torchvision:resnet5O"])
def test_an_unknown_network_of_a_library(name, small_weights):
    backbone = backbones.resolve(BackboneConfig(name=name, weights=str(small_weights)))
    with pytest.raises(InputError, match=r"cannot be had here.*list_models") as caught:
        backbones.build(backbone)
    assert caught.value.value == name


def test_a_missing_file_has_a_way_out(tmp_path):
    with pytest.raises(InputError, match="no such weights file") as caught:
        backbones.resolve(BackboneConfig(weights=str(tmp_path / "absent.safetensors")))
    assert caught.value.fix and caught.value.where == "backbone.weights"


def test_weights_of_another_network(small_weights):
    for name in ("efficientnet_lite0", "timm:test_vit.r160_in1k"):
        backbone = backbones.resolve(BackboneConfig(name=name, weights=str(small_weights)))
        with pytest.raises(InputError, match=f"belong to another network than {name}.*backbone.name"):
            backbones.build(backbone)


def test_a_file_that_holds_no_weights(tmp_path):
    path = tmp_path / "notes.safetensors"
    path.write_text("not weights")
    with pytest.raises(InputError, match="cannot be read") as caught:
        backbones.build(backbones.resolve(BackboneConfig(name=SMALL, weights=str(path))))
    assert caught.value.fix


def test_pretrained_weights_that_cannot_be_downloaded(monkeypatch):
    def offline(*args, **kwargs):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(InputError, match=r"no route to host.*backbone.weights"):
        backbones.resolve(BackboneConfig(name="timm:resnet18"))
