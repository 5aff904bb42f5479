"""What is no whole network of the name given is refused in one error that says what it looks like and what to do."""

import json

import pytest
import timm
import torch
from safetensors.torch import save_file

from embeddings import backbones
from embeddings.checkpoints import looks, weight_files
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.vectors import BackboneConfig
from tests.support import tiny_published as tiny


def state_of(name, **given):
    return timm.create_model(name, num_classes=0, **given).state_dict()


def build(name, content, folder, size_px=None):
    path = folder / "w.pth"
    torch.save(content, path)
    return backbones.build(backbones.resolve(BackboneConfig(name=f"timm:{name}", weights=str(path))), size_px)


def refusal(name, content, folder, **given):
    with pytest.raises(InputError) as caught:
        build(name, content, folder, **given)
    return caught.value


def test_one_tensor_short_is_refused(tmp_path):
    """However large the share that fits: a partly random network gives vectors too."""
    state = state_of("tiny_vit")
    del state["blocks.1.mlp.fc2.weight"]
    error = refusal("tiny_vit", state, tmp_path)
    assert error.where == "backbone.weights" and error.value == "w.pth" and error.exit_code == 2
    assert f"1 of its {len(state) + 1} tensors are missing, first blocks.1.mlp.fc2.weight" in str(error)


def test_one_tensor_too_many_is_refused(tmp_path):
    """Layer scale left out of the network would change every vector."""
    error = refusal("tiny_vit", state_of("tiny_vit") | {"blocks.0.ls1.gamma": torch.ones(24)}, tmp_path)
    assert "1 are left over, first blocks.0.ls1.gamma" in str(error) and "missing" not in str(error)


@pytest.mark.parametrize("extra", ["blocks.0.se.fc.0.weight", "blocks.1.head.weight", "fc_norm.weight", "encoder.x"])
def test_what_only_sounds_like_a_head_is_none(extra, tmp_path):
    error = refusal("tiny_vit", state_of("tiny_vit") | {extra: torch.ones(3)}, tmp_path)
    assert f"1 are left over, first {extra}" in str(error)


@pytest.mark.parametrize(
    "extra", ["head.weight", "fc.bias", "mask_token", "projector.0.weight", "decoder.x", "omni_heads.0.bias"]
)
def test_a_head_may_be_left_over(extra, tmp_path):
    assert build("tiny_vit", state_of("tiny_vit") | {extra: torch.ones(3)}, tmp_path) is not None


def test_another_width_and_another_depth(tmp_path):
    wider = refusal("tiny_vit", state_of("tiny_vit", embed_dim=32), tmp_path)
    assert "have another shape, first" in str(wider) and "32 wide" in str(wider)
    deeper = refusal("tiny_vit", tiny.as_hf_vit(state_of("tiny_vit", depth=3)), tmp_path)
    assert "left over, first blocks.2." in str(deeper) and "a vision transformer of 3 blocks" in str(deeper)


def test_the_other_half_of_a_checkpoint(tmp_path):
    text = {"text_model.encoder.layers.0.layer_norm1.weight": torch.ones(24), "logit_scale": torch.ones(1)}
    assert "tensors are missing" in str(refusal("tiny_siglip", text, tmp_path))


def test_dinov3_with_biases_needs_the_network_that_has_them(tmp_path):
    biased = tiny.as_hf_dinov3(tiny.drawn(timm.create_model("tiny_dinov3_qkvb")).state_dict())
    assert "left over, first blocks.0.attn.qkv.bias" in str(refusal("tiny_dinov3", biased, tmp_path))
    zero = {
        key: torch.zeros_like(v) if key.endswith("_proj.bias") and "o_proj" not in key and "mlp" not in key else v
        for key, v in biased.items()
    }
    assert build("tiny_dinov3", zero, tmp_path) is not None  # biases of zeros are no biases


def test_a_table_of_positions_that_makes_no_square(tmp_path):
    state = state_of("tiny_vit") | {"pos_embed": torch.ones(1, 1 + 12, 24)}
    assert "pos_embed (1, 13, 24), the network has (1, 10, 24)" in str(refusal("tiny_vit", state, tmp_path))


def test_a_network_of_four_channels(tmp_path):
    error = refusal("tiny_vit", state_of("tiny_vit", in_chans=4), tmp_path)
    assert "takes 4 channels" in str(error) and error.where == "backbone.weights"


@pytest.mark.parametrize("size_px", [50, 8])
def test_a_size_that_cuts_patches(size_px, tmp_path):
    error = refusal("tiny_vit", state_of("tiny_vit"), tmp_path, size_px=size_px)
    assert error.where == "preprocess.size_px" and "patches of 16 pixels" in str(error)
    assert ("use 48 or 64" if size_px == 50 else "use 16") in error.fix


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("vit_small_patch14_dinov2", "timm:vit_small_patch14_dinov2"),
        ("vit_small_patch14_reg4_dinov2", "timm:vit_small_patch14_reg4_dinov2"),
        ("vit_small_patch16_224", "timm:vit_small_patch16_224"),
        ("vit_small_patch16_dinov3", "timm:vit_small_patch16_dinov3"),
        ("eva02_tiny_patch14_224", "timm:eva02_tiny_patch14_224"),
        ("swin_tiny_patch4_window7_224", "timm:swin_tiny_patch4_window7_224"),
        ("resnet50", "torchvision:resnet50"),
        ("densenet121", "torchvision:densenet121"),
    ],
)
def test_the_network_that_a_file_looks_like_is_named(name, like, tmp_path):
    shapes = {key: (tensor.shape, tensor.dtype) for key, tensor in state_of(name).items()}
    state = {key: torch.ones((), dtype=dtype).expand(shape) for key, (shape, dtype) in shapes.items()}  # kilobytes
    assert like in looks.look(state).names
    error = refusal("tiny_vit", tiny.under("module.", state), tmp_path)
    assert f"try backbone.name={like}" in error.fix.lower() and "The file looks like a" in str(error)


def test_nothing_is_guessed_of_what_is_not_known(tmp_path):
    assert looks.look({"a.weight": torch.ones(2), "b": torch.ones(1)}).names == ()
    assert "looks like" not in str(refusal("tiny_vit", {"a.weight": torch.ones(2)}, tmp_path))


class Code:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return (open, (str(self.folder / "ran"), "w"))


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_file_that_needs_code_is_refused_and_not_run(wrapped, tmp_path):
    """torchxrayvision publishes whole pickled networks: their tensors have to be saved alone, once."""
    code = Code(tmp_path)
    error = refusal("tiny_vit", {"state_dict": state_of("tiny_vit"), "x": code} if wrapped else code, tmp_path)
    assert "would run its code" in str(error) and "model.state_dict()" in error.fix
    assert not (tmp_path / "ran").exists()
    assert "weights_only=False" not in str(error)


@pytest.mark.parametrize("content", [{}, [1, 2], {"epoch": 3}, {"optimizer": {"m": torch.ones(2)}}])
def test_a_file_without_tensors(content, tmp_path):
    assert "holds no tensors" in str(refusal("tiny_vit", content, tmp_path))


def test_a_file_that_is_cut_off(tmp_path):
    for name in ("w.pth", "w.safetensors"):
        (save_file if "safe" in name else torch.save)({"a": torch.ones(1000)}, tmp_path / name)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:900])
        with pytest.raises(InputError, match="the weights cannot be read"):
            weight_files.read(tmp_path / name)


def test_a_folder_without_weights_or_with_too_many(tmp_path):
    with pytest.raises(InputError, match="holds no files of weights"):
        weight_files.find(tmp_path)
    for name in ("a.safetensors", "b.safetensors"):
        save_file({"a": torch.ones(1)}, tmp_path / name)
    with pytest.raises(InputError, match=r"holds 2 files of weights.*Name the file itself"):
        weight_files.find(tmp_path)
    (tmp_path / "b.safetensors").unlink()
    assert weight_files.find(tmp_path).name == "a.safetensors"


def test_weights_in_several_files(tmp_path):
    state = dict(sorted(state_of("tiny_vit").items()))
    names = list(state)
    shards = {"one.safetensors": names[:9], "two.safetensors": names[9:]}
    for name, keys in shards.items():
        save_file({key: state[key] for key in keys}, tmp_path / name)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {key: name for name, keys in shards.items() for key in keys}}))
    assert weight_files.find(tmp_path) == index
    assert weight_files.read(index).keys() == state.keys()
    before = weight_files.file_hash(index)
    save_file({key: state[key] + 1 for key in shards["two.safetensors"]}, tmp_path / "two.safetensors")
    assert weight_files.file_hash(index) != before  # the index alone says nothing of the weights
    (tmp_path / "two.safetensors").unlink()
    with pytest.raises(InputError, match=r"1 of its 2 parts are missing, first two\.safetensors"):
        weight_files.read(index)
    index.write_text("{}")
    with pytest.raises(InputError, match="index of its parts"):
        weight_files.read(index)
