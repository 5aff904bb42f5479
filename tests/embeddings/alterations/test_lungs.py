"""The region that hides the lungs: it covers them, whatever is in them, and tells nothing itself."""

import csv
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embeddings import decode, extract
from embeddings.alterations import lungs
from embeddings.backbones import Backbone
from embeddings.store import EmbeddingStore
from pipeline.contracts import config_file
from pipeline.pool.phantoms import PhantomSpec, lung_mask, plan, render

SIZE_PX = 224


def picture_of(scan, spec):
    return decode.resize((render(scan, spec) / 255).astype(np.float32), SIZE_PX)


def lung_of(scan, spec):
    return decode.resize(lung_mask(scan, spec).astype(np.float32), SIZE_PX) > 0.5


@pytest.fixture(scope="module")
def chests():
    """(scan, spec, picture, lung) of 24 films, both views and severities, most of them ill."""
    found = []
    for severity in (1.0, 1.5):
        spec = PhantomSpec(num_patients=80, severity=severity, seed=7)
        scans = [scan for scan in plan(spec) if scan.duplicate_of is None]
        for view in ("PA", "AP"):
            chosen = [scan for scan in scans if scan.true_view == view and scan.opacities][:6]
            assert len(chosen) == 6
            found += [(scan, spec, picture_of(scan, spec), lung_of(scan, spec)) for scan in chosen]
    return found


def covered(region, lung_SS):
    return region.mask_SS[lung_SS].mean()


def test_lungs_are_covered_and_a_third_of_the_picture_is_kept(chests):
    regions = [lungs.lung_region(picture) for _, _, picture, _ in chests]
    share = [covered(region, lung) for region, (_, _, _, lung) in zip(regions, chests, strict=True)]
    assert np.mean(share) >= 0.98 and np.quantile(share, 0.05) >= 0.95
    assert np.mean([1 - region.mask_SS.mean() for region in regions]) >= 0.35
    assert min(region.quality for region in regions) > 0.3


def test_opacities_do_not_move_the_region(chests):
    changed = []
    for scan, spec, picture, _ in chests:
        healthy = picture_of(replace(scan, opacities=()), spec)
        assert np.abs(healthy - picture).max() > 0.1
        changed.append((lungs.lung_region(picture).mask_SS ^ lungs.lung_region(healthy).mask_SS).mean())
    assert np.mean(changed) < 0.005 and max(changed) < 0.05


def test_a_white_lung_is_covered_like_a_clear_one(chests):
    for _, _, picture, lung in chests[::4]:
        white = picture.copy()
        left_SS = lung & (np.arange(SIZE_PX) < SIZE_PX / 2)
        white[left_SS] = 0.85
        assert covered(lungs.lung_region(white), lung) > 0.97


def test_a_negative_has_the_same_region(chests):
    _, _, picture, _ = chests[0]
    np.testing.assert_array_equal(lungs.lung_region(1 - picture).mask_SS, lungs.lung_region(picture).mask_SS)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_borders_are_taken_off_before_looking(chests, level):
    _, _, picture, lung = chests[1]
    shifted = np.full_like(picture, level)
    shifted[40:214, 45:219] = decode.resize(picture, 174)
    place = np.zeros_like(lung)
    place[40:214, 45:219] = decode.resize(lung.astype(np.float32), 174) > 0.5
    region = lungs.lung_region(shifted)
    assert lungs.inner_box(shifted) == (40, 214, 45, 219)
    assert covered(region, place) > 0.97
    assert region.quality == pytest.approx(lungs.lung_region(picture).quality, abs=0.1)
    shifted[:80] = level  # over a quarter of the side: not a border but a part of the picture
    assert lungs.inner_box(shifted) == (0, 214, 45, 219)


@pytest.mark.parametrize("axis", [0, 1])
def test_wide_and_narrow_films_are_covered(chests, axis):
    for _, _, picture, lung in chests[::5]:
        pad = [(0, 0), (0, 0)]
        pad[axis] = (20, 20)
        film = decode.resize(np.pad(picture, pad, mode="edge"), SIZE_PX)
        where = decode.resize(np.pad(lung, pad).astype(np.float32), SIZE_PX) > 0.5
        assert covered(lungs.lung_region(film), where) > 0.97


def test_where_no_chest_is_found_the_middle_is_erased():
    black = np.zeros((SIZE_PX, SIZE_PX), np.float32)
    for picture in (black, 1 - black):
        region = lungs.lung_region(picture)
        assert region.quality == 0.0
        assert region.mask_SS[60:200, 40:184].all()
        assert not region.mask_SS[[0, 0, -1, -1], [0, -1, 0, -1]].any()


def test_the_region_follows_the_size_of_the_square(chests):
    _, _, picture, lung = chests[0]
    region = lungs.lung_region(decode.resize(picture, 96))
    assert region.mask_SS.shape == (96, 96)
    assert covered(region, decode.resize(lung.astype(np.float32), 96) > 0.5) > 0.98


def test_erasing_leaves_nothing_of_the_lungs_and_all_of_the_rest(chests):
    _, _, picture, _ = chests[0]
    before, region = picture.copy(), lungs.lung_region(picture)
    other = picture.copy()
    other[region.mask_SS] = np.random.default_rng(0).random(int(region.mask_SS.sum()))
    erased = lungs.erase(picture, region)
    np.testing.assert_array_equal(erased, lungs.erase(other, region))
    np.testing.assert_array_equal(erased[~region.mask_SS], picture[~region.mask_SS])
    assert len(np.unique(erased[region.mask_SS])) == 1
    assert erased.dtype == np.float32
    np.testing.assert_array_equal(picture, before)


def test_erased_scans_have_an_address_of_their_own(tmp_path):
    options = {"preprocess.size_px": 96, "embed.shard_size": 2, "embed.features": "pooled"}
    config = config_file.load(None, options)
    backbone = Backbone("efficientnet_lite0", None, "0" * 16, "", "")
    stages = config_file.load(None, options | {"embed.features": "stages"})
    plain = extract.open_store(config, backbone, tmp_path)
    assert plain.folder == EmbeddingStore(tmp_path, "0" * 16, "squash-bilinear-96-grey01-v2").folder
    erased = extract.open_store(config, backbone, tmp_path, alteration="lungs-erased")
    assert erased.folder != plain.folder != extract.open_store(stages, backbone, tmp_path).folder
    scans = [("a", "a.png"), ("b", "b.png"), ("c", "c.png")]
    assert {shard.alteration for shard in extract.plan(config, backbone, None, plain, scans)} == {"none"}
    plain.write(["a"], np.zeros((1, 4)))
    shards = extract.plan(config, backbone, None, erased, scans, alteration="lungs-erased")
    assert [shard.sha256 for shard in shards] == [("a", "b"), ("c",)]
    assert all(shard.alteration == "lungs-erased" and shard.store is erased for shard in shards)


@pytest.mark.real
@pytest.mark.parametrize("pool", ["kermany", "covid3"])
def test_a_chest_is_found_on_real_scans(pool):
    manifest = Path(os.environ["CXR_SSL_DATA"]) / pool / "manifest.csv"
    with manifest.open() as stream:
        paths = [manifest.parent / row["image_path"] for row in csv.DictReader(stream)][::40]
    pictures = [decode.load_square(path.read_bytes(), SIZE_PX, 10**9)[0] for path in paths]
    regions = [lungs.lung_region(picture) for picture in pictures]
    assert np.mean([region.quality > 0 for region in regions]) > 0.97
    assert np.mean([1 - region.mask_SS.mean() for region in regions]) > 0.3
    assert np.mean([region.mask_SS[90:190, 35:190].mean() for region in regions]) > 0.99
