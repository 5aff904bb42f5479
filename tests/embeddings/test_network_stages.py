import onnxruntime as ort
import pytest
import timm
import torch
from torch import nn

from embeddings import backbones, network_stages, onnx_file
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.vectors import BackboneConfig
from tests.support import tiny_backbone, tiny_published

FAMILIES = [
    "timm:test_efficientnet",
    "timm:mobilenetv3_small_050",
    "timm:mobilenetv2_050",
    "timm:resnet18",
    "timm:test_resnet",
    "torchvision:resnet18",
    "torchvision:mobilenet_v2",
    "torchvision:mobilenet_v3_small",
    "torchvision:efficientnet_b0",
    "torchvision:convnext_tiny",
]
NORMS = nn.modules.batchnorm._BatchNorm


def untrained(name):
    return backbones.untrained(BackboneConfig(name=name))


def scans(num=2, size_px=64):
    return torch.rand(num, 1, size_px, size_px, generator=torch.Generator().manual_seed(1))


def shaken(grey):
    """Batch norms as training leaves them: with untouched statistics and weights folding them could not go wrong."""
    generator = torch.Generator().manual_seed(2)
    for module in grey.modules():
        if isinstance(module, NORMS):
            for tensor in (module.running_mean, module.bias.data):
                tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
            for tensor in (module.running_var, module.weight.data):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return grey


def both(name, monkeypatch):
    """Stages, and the network as `build` gives it, of the same weights."""
    import copy

    torch.manual_seed(0)
    grey = shaken(backbones.build(untrained(name)))
    monkeypatch.setattr(network_stages.backbones, "build", lambda backbone, size_px: copy.deepcopy(grey))
    return network_stages.stages(untrained(name)), grey


def num_norms(module):
    return sum(isinstance(inner, NORMS) for inner in module.modules())


@pytest.mark.parametrize("name", FAMILIES)
def test_the_chain_gives_what_the_network_gives_without_its_batch_norms(name, monkeypatch):
    found, grey = both(name, monkeypatch)
    assert len(found) >= 5
    with torch.inference_mode():
        expected = grey(scans())
        torch.testing.assert_close(nn.Sequential(*found).eval()(scans()), expected, rtol=1e-3, atol=1e-3)
    assert expected.std() > 1e-3  # there is something to compare
    left = sum(num_norms(stage) for stage in found)
    assert left == (1 if name == "timm:test_resnet" else 0)  # its stem hides the convolution in a module of its own
    assert num_norms(grey) > left or "convnext" in name  # which never had any


def test_the_chain_of_the_offline_backbone_has_its_weights():
    backbone = backbones.resolve(BackboneConfig())
    found = network_stages.stages(backbone)
    assert len(found) == 9
    with torch.inference_mode():
        expected = backbones.build(backbone)(scans())
        torch.testing.assert_close(nn.Sequential(*found)(scans()), expected, rtol=1e-3, atol=1e-3)
    assert sum(num_norms(stage) for stage in found) == 0


@pytest.mark.parametrize("name", ["torchvision:vgg11_bn", "torchvision:alexnet"])
def test_plain_layers_are_cut_behind_poolings(name, monkeypatch):
    found, grey = both(name, monkeypatch)
    assert len(found) == {"torchvision:vgg11_bn": 5, "torchvision:alexnet": 3}[name]
    assert all(any(isinstance(inner, nn.Conv2d) for inner in stage.modules()) for stage in found)
    assert sum(num_norms(stage) for stage in found) == 0
    with torch.inference_mode():
        torch.testing.assert_close(nn.Sequential(*found).eval()(scans()), grey(scans()), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("cut", [1, 3, 6])
def test_early_and_late_stages_compose(cut, monkeypatch):
    found, grey = both("timm:test_efficientnet", monkeypatch)
    with torch.inference_mode():
        act_NCHW = nn.Sequential(*found[:cut])(scans())
        assert act_NCHW.ndim == 4
        out_ND = nn.Sequential(*found[cut:])(act_NCHW)
        torch.testing.assert_close(out_ND, grey(scans()), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "name",
    ["torchvision:densenet121", "torchvision:vit_b_16", "torchvision:shufflenet_v2_x0_5", "timm:resnetv2_50"],
)
def test_what_is_no_chain_is_refused(name):
    with pytest.raises(InputError, match="cannot be cut into stages") as caught:
        network_stages.stages(untrained(name))
    assert caught.value.value == name
    assert "train.adapt=head" in str(caught.value)


def test_a_network_that_looks_like_a_chain_but_is_none_is_refused(monkeypatch):
    """Only trying it out tells: the attributes are those of a ResNet, the forward pass takes a detour."""
    grey = backbones.build(untrained("timm:test_resnet"))
    forward = grey.body.forward
    grey.body.forward = lambda x: forward(x) + x.mean()
    monkeypatch.setattr(network_stages.backbones, "build", lambda backbone, size_px: grey)
    with pytest.raises(InputError, match="cannot be cut into stages"):
        network_stages.stages(untrained("timm:test_resnet"))


def test_stages_are_made_afresh_each_time(tmp_path):
    backbone = tiny_backbone.backbone(tmp_path)
    one, other = network_stages.stages(backbone), network_stages.stages(backbone)
    with torch.no_grad():
        for parameter in one[-1].parameters():
            parameter.zero_()
        assert nn.Sequential(*other)(scans()).abs().max() > 1e-3


def test_the_exported_file_takes_any_number_of_scans(tmp_path):
    found = nn.Sequential(*network_stages.stages(tiny_backbone.backbone(tmp_path))[:3])
    path = tmp_path / "deep" / "early.onnx"
    onnx_file.write(found, torch.zeros(2, 1, 64, 64), path, ("scan", "act"))
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for num in (1, 5):
        with torch.inference_mode():
            expected = found(scans(num)).numpy()
        act = session.run(["act"], {"scan": scans(num).numpy()})[0]
        torch.testing.assert_close(torch.from_numpy(act), torch.from_numpy(expected), rtol=1e-3, atol=1e-4)
    assert [file.name for file in path.parent.iterdir()] == ["early.onnx"]


def test_an_export_that_fails_leaves_no_file(tmp_path):
    class Breaks(nn.Module):
        def forward(self, x):
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        onnx_file.write(Breaks(), torch.zeros(2, 1, 8, 8), tmp_path / "model.onnx", ("scan", "act"))
    assert not (tmp_path / "model.onnx").exists()


TRANSFORMERS = ("tiny_vit", "tiny_vit_avg", "tiny_dinov2_reg4", "tiny_siglip", "tiny_eva02", "tiny_dinov3_qkvb")


@pytest.mark.parametrize("name", TRANSFORMERS)
@pytest.mark.parametrize("larger", [False, True])
def test_a_transformer_is_a_stage_a_block(name, larger, tmp_path):
    patch_px = 14 if name in ("tiny_dinov2_reg4", "tiny_eva02") else 16
    size_px = (4 if patch_px == 14 else 3) * patch_px + larger * 2 * patch_px
    path = tmp_path / "w.pth"
    torch.save(tiny_published.drawn(timm.create_model(name)).state_dict(), path)
    backbone = backbones.resolve(BackboneConfig(name=f"timm:{name}", weights=str(path)))
    found = network_stages.stages(backbone, size_px)
    assert len(found) == 3  # stem, first block, last block with norm and pooling
    with torch.inference_mode():
        token_NTD = nn.Sequential(*found[:2])(scans(2, size_px))
        assert token_NTD.ndim == 3 and token_NTD.shape[2] == 24
        torch.testing.assert_close(found[2](token_NTD), backbones.build(backbone, size_px)(scans(2, size_px)))
    names = [name for stage in found for name, _ in stage.named_parameters()]
    assert len(names) == len(list(timm.create_model(name).parameters()))  # none twice, none lost


def test_the_stages_of_a_transformer_pool_as_asked():
    backbone = backbones.untrained(BackboneConfig(name="timm:tiny_vit", pooling="cls+mean"))
    with torch.inference_mode():
        assert nn.Sequential(*network_stages.stages(backbone, 64))(scans(2, 64)).shape == (2, 48)
