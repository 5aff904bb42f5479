import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from embeddings import activations, augment, decode, network_stages
from embeddings.activations import Early
from pipeline.contracts import config_file
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.vectors import AugmentConfig
from tests.support import tiny_backbone
from tests.support.tiny import picture

SIZE_PX = 32


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """(sha256, uri) of ten scans."""
    folder = tmp_path_factory.mktemp("pool")
    found = []
    for i in range(10):
        path = folder / f"{i}.png"
        picture(i, size=40).save(path)
        found.append((hashlib.sha256(path.read_bytes()).hexdigest(), str(path)))
    return found


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return tiny_backbone.backbone(tmp_path_factory.mktemp("weights"))


def early(backbone, num_stages=3, num_views=3):
    return Early(backbone, num_stages, SIZE_PX, num_views if num_stages else 1, AugmentConfig())


def config(shard_size=4):
    return config_file.load(None, {"embed.shard_size": shard_size, "preprocess.size_px": SIZE_PX})


def filled(root, pool, what, shard_size=4, model=None):
    for shard in activations.plan(config(shard_size), what, model, root, pool):
        activations.fill_shard(shard)
    return what.cache(root).rows([sha for sha, _ in pool])


def everything(rows):
    num = len(rows)
    return np.stack([rows.take(np.arange(num), np.full(num, view)) for view in range(rows.num_views)], 1)


def loaded(uri):
    return decode.load_square(decode.read_bytes(uri), SIZE_PX, max_pixels=10**6)


def test_the_first_view_is_the_plain_scan_through_the_early_stages(pool, backbone, tmp_path):
    rows = filled(tmp_path, pool, early(backbone))
    early_stages = nn.Sequential(*network_stages.stages(backbone)[:3])
    with torch.inference_mode():
        expected = early_stages(torch.from_numpy(np.stack([loaded(uri) for _, uri in pool]))).numpy()
    np.testing.assert_allclose(everything(rows)[:, 0], expected, rtol=2e-3, atol=2e-3)  # kept in half precision
    assert rows.num_views == 3


def test_other_views_are_of_the_scan_and_differ(pool, backbone, tmp_path):
    act = everything(filled(tmp_path, pool, early(backbone)))
    flat = act.reshape(len(pool), 3, -1)
    assert np.abs(flat[:, 0] - flat[:, 1]).max(1).min() > 0.01 and np.abs(flat[:, 1] - flat[:, 2]).max(1).min() > 0.01
    sha, uri = pool[3]
    generator = torch.Generator().manual_seed(augment.seed_of(sha, 2))
    view = augment.views(torch.from_numpy(loaded(uri)[None]), AugmentConfig(), generator)
    with torch.inference_mode():
        expected = nn.Sequential(*network_stages.stages(backbone)[:3])(view).numpy()[0]
    np.testing.assert_allclose(act[3, 2], expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("num_stages", [0, 3])
def test_views_do_not_depend_on_how_the_pool_is_cut(num_stages, pool, backbone, tmp_path):
    what = early(backbone, num_stages)
    together = everything(filled(tmp_path / "one", pool, what, shard_size=100))
    apart = everything(filled(tmp_path / "other", pool[::-1], what, shard_size=3))[::-1]
    np.testing.assert_array_equal(together, apart)


def test_the_exported_early_stages_give_the_same(pool, backbone, tmp_path):
    what = early(backbone)
    path = tmp_path / "early.onnx"
    for _ in range(2):
        assert activations.export_early((what, path)) == str(path)
    through_onnx = everything(filled(tmp_path / "onnx", pool, what, model=path))
    through_torch = everything(filled(tmp_path / "torch", pool, what))
    np.testing.assert_allclose(through_onnx, through_torch, rtol=2e-3, atol=5e-3)


def test_without_early_stages_the_pixels_are_kept(pool, backbone, tmp_path):
    rows = filled(tmp_path, pool, early(backbone, 0))
    assert rows.are_pixels and rows.num_views == 1
    expected = np.stack([loaded(uri) for _, uri in pool])
    np.testing.assert_allclose(everything(rows)[:, 0], expected, atol=0.5 / 255 + 1e-6)
    assert everything(rows)[:, 0].shape == (10, 1, SIZE_PX, SIZE_PX)


def test_only_what_is_lacking_is_computed(pool, backbone, tmp_path):
    what = early(backbone)
    filled(tmp_path, pool[:6], what)
    shards = activations.plan(config(100), what, None, tmp_path, pool)
    assert sorted(sha for shard in shards for sha in shard.sha256) == sorted(sha for sha, _ in pool[6:])
    filled(tmp_path, pool, what)
    assert activations.plan(config(), what, None, tmp_path, pool) == []


def test_a_scan_of_two_files_is_computed_once(pool, backbone, tmp_path):
    shards = activations.plan(config(100), early(backbone), None, tmp_path, [*pool, (pool[0][0], "a copy.png")])
    assert len(shards) == 1 and len(shards[0].sha256) == 10
    assert dict(zip(shards[0].sha256, shards[0].uris, strict=True)) == dict(pool)


def test_everything_that_changes_the_arrays_has_a_cache_of_its_own(backbone, tmp_path):
    what = early(backbone)
    other = tiny_backbone.backbone(tmp_path, seed=1)
    variants = [
        what,
        replace(what, num_stages=4),
        replace(what, size_px=64),
        replace(what, num_views=2),
        replace(what, augment=AugmentConfig(flip=False)),
        replace(what, backbone=other),
        replace(what, num_stages=0),
    ]
    assert len({variant.cache(tmp_path).folder for variant in variants}) == len(variants)
    pixels = replace(what, num_stages=0, num_views=1)
    assert pixels.cache(tmp_path).folder == replace(pixels, backbone=other).cache(tmp_path).folder  # any network's


def test_options_decide(backbone):
    options = config_file.load(None, {"network.num_views": 5, "preprocess.size_px": 64, "network.augment.flip": False})
    found = activations.early_of(backbone, options, 4)
    assert (found.num_stages, found.num_views, found.size_px, found.augment.flip) == (4, 5, 64, False)
    assert activations.early_of(backbone, options, 0).num_views == 1  # views of pixels are made while training


def test_a_scan_that_cannot_be_read_any_more_is_named_and_nothing_is_published(pool, backbone, tmp_path):
    broken = tmp_path / "gone-bad.png"
    Image.new("L", (40, 40)).save(broken)
    broken.write_bytes(broken.read_bytes()[:40])
    what = early(backbone, 0)
    shards = activations.plan(config(100), what, None, tmp_path, [*pool, ("f" * 64, str(broken))])
    with pytest.raises(InputError, match=r"gone-bad\.png: the scan could be read before"):
        activations.fill_shard(shards[0])
    assert what.cache(tmp_path).known() == set()
