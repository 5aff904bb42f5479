"""Normalisation, channels, size, pooling, licence: what is asked for, what a folder says, what is the default."""

import json

import numpy as np
import onnxruntime as ort
import pytest
import timm
import torch
from safetensors.torch import save_file

from embeddings import backbones, extract
from embeddings.checkpoints import folder_facts
from pipeline import stages
from pipeline.commands import request
from pipeline.contracts import config_file
from pipeline.contracts.errors import ConfigError, InputError
from pipeline.contracts.options.vectors import BackboneConfig
from tests.support import tiny_published as tiny

SIZE_PX = 56


def scans(size_px=SIZE_PX, num=2):
    return torch.rand(num, 1, size_px, size_px, generator=torch.Generator().manual_seed(7))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("w") / "w.safetensors"
    save_file(tiny.drawn(timm.create_model("tiny_dinov2")).state_dict(), path)
    return path


def resolve(weights, name="tiny_dinov2", **options):
    return backbones.resolve(BackboneConfig(name=f"timm:{name}", weights=str(weights), **options))


def embed(backbone, x, size_px=None):
    with torch.inference_mode():
        return backbones.build(backbone, size_px)(x)


def tokens(weights, x, mean=tiny.MEAN, std=tiny.STD):
    """Class token and mean of the patches, by the network itself."""
    body = tiny.drawn(timm.create_model("tiny_dinov2"))
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (mean, std))
    with torch.inference_mode():
        token_NTD = body.forward_features((x.repeat(1, 3, 1, 1) - mean) / std)
    return token_NTD[:, 0], token_NTD[:, 1:].mean(1)


def test_the_pooling_that_is_asked_for(weights, tmp_path):
    cls, mean = tokens(weights, scans())
    both = torch.cat([cls, mean], 1)
    for pooling, expected in (("auto", cls), ("cls", cls), ("mean", mean), ("cls+mean", both)):
        backbone = resolve(weights, pooling=pooling)
        torch.testing.assert_close(embed(backbone, scans()), expected)
        onnx = backbones.export_onnx(backbone, SIZE_PX, tmp_path)
        session = ort.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(session.run(["emb"], {"scan": scans(num=3).numpy()})[0][:2], expected, atol=1e-4)
    assert len(list(tmp_path.glob("*.onnx"))) == 4  # no pooling takes another's file


@pytest.mark.parametrize(
    ("name", "pooling", "reason"),
    [
        ("tiny_siglip", "cls", "no class token"),
        ("test_resnet", "cls+mean", "no tokens"),
        ("tiny_swin", "cls", "no tokens"),
    ],
)
def test_a_pooling_that_a_network_cannot_do(name, pooling, reason):
    backbone = backbones.untrained(BackboneConfig(name=f"timm:{name}", pooling=pooling))
    with pytest.raises(InputError, match=f"{reason}.*Use auto or mean") as caught:
        backbones.build(backbone)
    assert caught.value.where == "backbone.pooling"
    assert backbones.build(backbones.untrained(BackboneConfig(name=f"timm:{name}", pooling="mean"))) is not None


def test_mean_and_std_that_are_asked_for(weights):
    given = {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7)}
    torch.testing.assert_close(embed(resolve(weights, **given), scans()), tokens(weights, scans(), **given)[0])
    one = embed(resolve(weights, mean=(0.3,), std=(0.5,)), scans())
    torch.testing.assert_close(one, tokens(weights, scans(), (0.3,) * 3, (0.5,) * 3)[0])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"backbone.mean": [0.5]}, "mean and std go together"),
        ({"backbone.mean": [0.5, 0.5], "backbone.std": [1.0, 1.0]}, "1 number, or 3"),
        ({"backbone.mean": [0.5], "backbone.std": [0.0]}, "above 0, not 0.0"),
        ({"backbone.mean": [], "backbone.std": [1.0]}, "at least 1 item"),
        ({"backbone.mean": 0.5, "backbone.std": [1.0]}, "backbone.mean"),
        ({"backbone.pooling": "max"}, "'auto', 'cls', 'mean' or 'cls\\+mean'"),
    ],
)
def test_options_that_make_no_sense(given, reason):
    with pytest.raises(ConfigError, match=reason):
        config_file.load(None, given)


@pytest.mark.parametrize(
    "name", ["timm:test_resnet", "torchvision:resnet18", "torchvision:densenet121", "timm:tiny_vit"]
)
def test_a_network_of_one_channel_sees_one(name, tmp_path):
    """torchxrayvision's networks take one channel, of values from -1024 to 1024."""
    body = tiny.drawn(backbones.architectures.create(name, in_chans=1))
    save_file(body.state_dict(), tmp_path / "grey.safetensors")
    range_1024 = {"mean": (0.5,), "std": (1 / 2048,)}
    config = BackboneConfig(name=name, weights=str(tmp_path / "grey.safetensors"), **range_1024)
    grey = backbones.build(backbones.resolve(config))
    x = scans(48)
    with torch.inference_mode():
        torch.testing.assert_close(grey(x), body(2048 * (x - 0.5)).flatten(1), rtol=1e-3, atol=1e-3)
        default = backbones.build(backbones.resolve(BackboneConfig(name=name, weights=config.weights)))
    assert default.mean.shape == (1, 1, 1, 1)


def test_all_that_decides_a_vector_is_in_its_address(weights, tmp_path):
    def folder(**options):
        return extract.open_store(config_file.load(), resolve(weights, **options), tmp_path).folder

    changed = (
        {},
        {"pooling": "mean"},
        {"pooling": "cls"},
        {"mean": (0.5,), "std": (0.5,)},
        {"mean": (0.5,), "std": (0.2,)},
    )
    addresses = [folder(**options) for options in changed]
    assert len(set(addresses)) == len(addresses)
    assert folder(licence="CC0-1.0") == folder() and folder(name="tiny_dinov2_reg4") != folder()


def test_the_offline_network_keeps_its_address():
    backbone = backbones.resolve(BackboneConfig())
    assert backbone.key == backbone.weights_hash
    assert backbones.resolve(BackboneConfig(pooling="mean")).key != backbone.key


def test_a_licence_is_what_the_user_or_the_folder_says(weights):
    assert resolve(weights).licence == "as its owner states"
    assert resolve(weights, licence="MSRLA").licence == "MSRLA"


# The size of the input


def test_positions_are_resampled_as_timm_does_it(weights, caplog):
    caplog.set_level("INFO")
    body = tiny.drawn(timm.create_model("tiny_dinov2"))
    body.set_input_size(img_size=(84, 84))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (tiny.MEAN, tiny.STD))
    with torch.inference_mode():
        expected = body((scans(84) - mean) / std)
    torch.testing.assert_close(embed(resolve(weights), scans(84), 84), expected)
    assert "resampled from 4 x 4 patches (56 pixels) to 6 x 6 (84 pixels)" in caplog.text


def test_a_file_of_another_size_than_its_architecture(tmp_path):
    body = tiny.drawn(timm.create_model("tiny_dinov2", img_size=98))
    save_file(body.state_dict(), tmp_path / "w.safetensors")
    grey = backbones.build(resolve(tmp_path / "w.safetensors"))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (tiny.MEAN, tiny.STD))
    with torch.inference_mode():
        torch.testing.assert_close(grey(scans(98)), body((scans(98) - mean) / std))


def test_a_file_of_other_patches_than_its_architecture(tmp_path):
    """EVA-X has patches of 16 pixels where EVA-02 has 14, and counts its rotary positions in its own grid."""
    body = tiny.drawn(timm.create_model("tiny_eva_x", num_classes=0))
    save_file(body.state_dict(), tmp_path / "w.safetensors")
    grey = backbones.build(resolve(tmp_path / "w.safetensors", "tiny_eva02"))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (tiny.MEAN, tiny.STD))
    with torch.inference_mode():
        torch.testing.assert_close(grey(scans(48)), body((scans(48) - mean) / std))


def test_a_norm_before_the_pooling_stays_before_it(tmp_path):
    state = tiny.drawn(timm.create_model("tiny_vit")).state_dict()
    save_file(state, tmp_path / "w.safetensors")
    body = timm.create_model("tiny_vit_avg", fc_norm=False)
    body.load_state_dict(state)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (tiny.MEAN, tiny.STD))
    with torch.inference_mode():
        expected = body.eval()((scans(48) - mean) / std)
    torch.testing.assert_close(embed(resolve(tmp_path / "w.safetensors", "tiny_vit_avg"), scans(48)), expected)


def test_a_norm_behind_the_pooling_stays_behind_it(tmp_path):
    """A fine-tuned MAE: its file has the norm of a network that averages its patches."""
    body = tiny.drawn(timm.create_model("tiny_vit_avg"))
    save_file(body.state_dict(), tmp_path / "w.safetensors")
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (tiny.MEAN, tiny.STD))
    with torch.inference_mode():
        expected = body((scans(48) - mean) / std)
    torch.testing.assert_close(embed(resolve(tmp_path / "w.safetensors", "tiny_vit"), scans(48)), expected)


def load(given, path):
    return request.load_config(request.Request(overrides={"pool.uri": "phantom:"} | given), path)


def test_left_out_the_size_is_the_backbone_s(weights, tmp_path, caplog):
    caplog.set_level("INFO")
    dinov2 = {"backbone.name": "timm:vit_small_patch14_dinov2", "backbone.weights": str(weights)}
    config = load(dinov2, tmp_path)
    assert (
        config.preprocess.size_px == 518
        and "518 pixels, which timm:vit_small_patch14_dinov2 was made for" in caplog.text
    )
    assert "size_px: 518" in config_file.dump(config)  # a run keeps what it resolved to
    assert load(dinov2 | {"preprocess.size_px": 224}, tmp_path).preprocess.size_px == 224  # what is asked for stays
    assert load({}, tmp_path).preprocess.size_px == 224
    assert backbones.size_px(BackboneConfig(name="torchvision:vit_h_14")) == 518
    assert backbones.size_px(BackboneConfig(name="timm:no_such_network")) is None


# A folder as Hugging Face publishes it


@pytest.fixture
def folder(tmp_path):
    """RAD-DINO's files, small."""
    state = tiny.drawn(timm.create_model("tiny_dinov2")).state_dict()
    save_file(tiny.as_hf_dinov2(state), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "dinov2", "image_size": 224}))
    processor = {"image_mean": [0.5307] * 3, "image_std": [0.2583] * 3, "rescale_factor": 1 / 255}
    processor |= {"crop_size": {"height": 56, "width": 56}, "size": {"shortest_edge": 64}, "do_center_crop": True}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    (tmp_path / "README.md").write_text(
        "---\nlicense: other\nlicense_name: mit\nlibrary_name: transformers\n---\n# Card"
    )
    return tmp_path


def test_a_folder_brings_its_facts(folder):
    backbone = resolve(folder)
    assert (backbone.licence, backbone.size_px) == ("mit", 56)
    assert backbone.weights_file == folder / "model.safetensors"
    cls, _ = tokens(folder, scans(), (0.5307,) * 3, (0.2583,) * 3)
    torch.testing.assert_close(embed(backbone, scans(), 56), cls)
    assert load({"backbone.name": "timm:tiny_dinov2", "backbone.weights": str(folder)}, folder).preprocess.size_px == 56


def test_what_is_asked_for_comes_before_what_a_folder_says(folder):
    backbone = resolve(folder, mean=(0.1,), std=(0.2,), licence="ours", pooling="mean")
    assert (backbone.normalisation, backbone.licence, backbone.pooling) == (((0.1,), (0.2,)), "ours", "mean")


def test_facts_that_change_are_another_backbone(folder):
    config = config_file.load(None, {"backbone.name": "timm:tiny_dinov2", "backbone.weights": str(folder)})
    before = resolve(folder).key, stages._weights_hash(config)
    path = folder / "preprocessor_config.json"
    path.write_text(path.read_text().replace("0.5307", "0.5308"))
    after = resolve(folder).key, stages._weights_hash(config)
    assert all(one != other for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, folder_facts.Facts()),
        ({"config.json": {"image_size": [3, 320]}}, folder_facts.Facts(size_px=320)),
        (
            {
                "config.json": {
                    "architecture": "x",
                    "pretrained_cfg": {"mean": [0.5], "std": [0.25], "input_size": [3, 96, 96]},
                }
            },
            folder_facts.Facts(((0.5,), (0.25,)), 96),
        ),
        (
            {"open_clip_config.json": {"preprocess_cfg": {"mean": [0.1], "std": [0.2]}}},
            folder_facts.Facts(((0.1,), (0.2,))),
        ),
        (
            {"preprocessor_config.json": {"do_normalize": False, "do_rescale": False, "size": 64}},
            folder_facts.Facts(((0.0,), (1 / 255,)), 64),
        ),
        (
            {
                "preprocessor_config.json": {
                    "image_mean": [0.5],
                    "image_std": [0.5],
                    "size": {"height": 48, "width": 48},
                }
            },
            folder_facts.Facts(((0.5,), (0.5,)), 48),
        ),
    ],
)
def test_what_lies_beside_weights(files, expected, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    facts = folder_facts.read(tmp_path)
    assert facts.size_px == expected.size_px
    if expected.normalisation is None:
        assert facts.normalisation is None
    else:
        np.testing.assert_allclose(facts.normalisation, expected.normalisation)


@pytest.mark.parametrize("text", ["{", "[1]", '{"image_mean": "x", "image_std": [1]}'])
def test_facts_that_cannot_be_read(text, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(InputError, match="beside the weights cannot be read"):
        folder_facts.read(tmp_path)
