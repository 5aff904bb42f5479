"""What the shortcut checks get from pixels: facts of files and rims, the network on erased lungs, kept by content."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from embeddings import backbones, decode, extract, stage_features
from embeddings.alterations import lungs
from pipeline.audit import off_lung_features
from pipeline.contracts import config_file
from pipeline.contracts.tables import MANIFEST
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine

NAME = "test_resnet.r160_in1k"
FILES = ("framed.png", "grey.jpg", "deep.tif", "copy.png", "noise.png")


class CountingEngine(SerialEngine):
    """Counts scans looked at and scans embedded; runs shards backwards, on which nobody may depend."""

    def __init__(self):
        self.looked, self.embedded = 0, 0

    def map_shards(self, function, shards, *, on_gpu=False):
        if function is off_lung_features.look:
            self.looked += sum(len(shard.uris) for shard in shards)
        if function is extract.embed_shard:
            assert all(shard.alteration == "lungs-erased" for shard in shards)
            self.embedded += sum(len(shard.sha256) for shard in shards)
        found = list(super().map_shards(function, shards))
        return iter(found[::-1])


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Random weights and five files, one a copy of another, one broken."""
    folder = tmp_path_factory.mktemp("shared")
    torch.manual_seed(0)
    save_file(timm.create_model(NAME, pretrained=False).state_dict(), folder / "w.safetensors")
    rng = np.random.default_rng(0)
    framed = np.zeros((100, 80), np.uint8)  # 10 px of black, grey inside, white in the corner below right
    framed[10:-10, 10:-10] = 102
    framed[80:90, 60:70] = 255
    Image.fromarray(framed).save(folder / "framed.png")
    Image.fromarray(rng.integers(90, 110, (60, 120), dtype=np.uint8)).save(folder / "grey.jpg")
    Image.fromarray(rng.integers(0, 65536, (50, 50)).astype(np.uint16)).save(folder / "deep.tif")
    Image.fromarray(rng.integers(0, 256, (64, 48), dtype=np.uint8)).save(folder / "noise.png")
    (folder / "copy.png").write_bytes((folder / "framed.png").read_bytes())
    (folder / "broken.png").write_bytes((folder / "noise.png").read_bytes()[:300])
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Where the network's ONNX file lies for all stores."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def audit(shared, models, tmp_path):
    """Measures the files named in a folder that stays; returns the facts and the context."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / extract.MODELS).symlink_to(models)

    def run(*files, folder="run", where=shared, **overrides):
        (tmp_path / folder).mkdir(exist_ok=True)
        given = {
            "backbone.name": f"timm:{NAME}",
            "backbone.weights": str(shared / "w.safetensors"),
            "preprocess.size_px": 64,
            "embed.shard_size": 2,
            "engine.backend": "serial",
            "embed.store": str(tmp_path / "store"),
        }
        seen = []
        ctx = StageContext(
            config_file.load(None, given | overrides),
            tmp_path / folder,
            CountingEngine(),
            lambda *step: seen.append(step),
        )
        facts = off_lung_features.measure(
            ctx, rows_of([where / name for name in files], [shared / name for name in files])
        )
        assert {what for what, _, _ in seen} == {"audit"}
        assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
        assert {total for _, _, total in seen} == {seen[-1][1]}
        return facts, ctx

    return run


def rows_of(paths, contents):
    columns = {name: [None] * len(paths) for name in MANIFEST.schema.names} | {
        "image_id": [hashlib.sha256(path.name.encode()).hexdigest()[:16] for path in paths],
        "uri": [str(path) for path in paths],
        "path": [path.name for path in paths],
        "sha256": [hashlib.sha256(path.read_bytes()).hexdigest() for path in contents],
        "view": ["unknown"] * len(paths),
        "status": ["ok"] * len(paths),
    }
    return pa.table(columns, schema=MANIFEST.schema)


def same(left, right):
    np.testing.assert_array_equal(left.meta_NM, right.meta_NM)
    np.testing.assert_array_equal(left.masked_emb_ND, right.masked_emb_ND)
    np.testing.assert_array_equal(left.quality_N, right.quality_N)
    np.testing.assert_array_equal(left.ok_N, right.ok_N)
    return left.image_ids == right.image_ids and left.names == right.names


def test_facts_of_a_known_picture(audit, shared):
    facts, _ = audit("framed.png")
    found = dict(zip(facts.names, facts.meta_NM[0].tolist(), strict=True))
    inside, white = 80 * 60 / 8000, 100 / 8000
    grey = (inside - white) * 102 / 255 + white
    assert found == pytest.approx(
        {
            "width_px": 80,
            "height_px": 100,
            "aspect": 0.8,
            "megapixels": 0.008,
            "bit_depth": 8,
            "is_png": 1,
            "is_jpeg": 0,
            "is_tiff": 0,
            "bytes_per_pixel": (shared / "framed.png").stat().st_size / 8000,
            "grey_mean": grey,
            "grey_sd": ((inside - white) * 0.16 + white - grey**2) ** 0.5,
            "grey_p01": 0,
            "grey_p50": 0.4,
            "grey_p99": 1,
            "black_share": 1 - inside,
            "white_share": white,
            "rim_mean": 0,
            "border_px": 10,
            "corner_top_left": 0,
            "corner_top_right": 0,
            "corner_bottom_left": 0,
            "corner_bottom_right": 0,
        },
        rel=1e-4,
    )


def test_formats_depths_and_corners(audit, shared, tmp_path):
    Image.fromarray(np.tile(np.linspace(0, 255, 224, dtype=np.uint8), (224, 1))).save(tmp_path / "ramp.png")
    files = (tmp_path / "ramp.png", shared / "deep.tif", shared / "grey.jpg")
    hashes = tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)
    shard = off_lung_features.Shard(hashes, tuple(map(str, files)), 10**6, 64)
    fact_NM, reasons = off_lung_features.look(shard)
    assert reasons == (None, None, None)
    ramp, deep, grey = (dict(zip(off_lung_features.NAMES, row.tolist(), strict=False)) for row in fact_NM)
    assert (ramp["corner_top_left"], ramp["corner_bottom_left"]) == pytest.approx((3.5 / 223,) * 2, abs=3e-3)
    assert (ramp["corner_top_right"], ramp["corner_bottom_right"]) == pytest.approx((1 - 3.5 / 223,) * 2, abs=3e-3)
    assert ramp["rim_mean"] == pytest.approx(0.5, abs=3e-3)
    assert ramp["border_px"] == pytest.approx(9 / 4, abs=0.5)  # one dark side of four
    assert (deep["bit_depth"], deep["is_tiff"], deep["is_png"]) == (16, 1, 0)
    assert (grey["bit_depth"], grey["is_jpeg"], grey["aspect"]) == (8, 1, 2)


def test_the_network_sees_the_scan_without_its_lungs(audit, shared):
    facts, ctx = audit(*FILES)
    assert facts.ok_N.all() and np.isfinite(facts.meta_NM).all()
    module = backbones.build(backbones.resolve(ctx.config.backbone))
    for row, name in enumerate(FILES):
        scan = decode.load_square((shared / name).read_bytes(), 64, max_pixels=10**6)[0].copy()
        region = lungs.lung_region(scan)
        with torch.inference_mode():
            expected = module(torch.from_numpy(lungs.erase(scan, region)[None, None]))[0].numpy()
            whole = module(torch.from_numpy(scan[None, None]))[0].numpy()
        own_D = facts.masked_emb_ND[row, : len(expected)] / stage_features.SCALE
        np.testing.assert_allclose(own_D, expected, rtol=2e-3, atol=2e-3)
        assert np.abs(whole - expected).max() > 1e-2
        assert facts.quality_N[row] == pytest.approx(region.quality)


def test_a_scan_that_cannot_be_read_is_reported_and_the_others_are_as_ever(audit, caplog):
    facts, _ = audit("noise.png", "broken.png", "grey.jpg")
    assert facts.ok_N.tolist() == [True, False, True]
    assert np.isnan(facts.meta_NM[1]).all() and np.isnan(facts.masked_emb_ND[1]).all() and np.isnan(facts.quality_N[1])
    assert "1 scans could not be read" in caplog.text and "DecodeError" in caplog.text
    alone, _ = audit("noise.png", "grey.jpg", folder="other")
    np.testing.assert_array_equal(facts.meta_NM[[0, 2]], alone.meta_NM)
    np.testing.assert_array_equal(facts.masked_emb_ND[[0, 2]], alone.masked_emb_ND)


def test_a_scan_whose_file_is_gone_is_not_ok_even_if_its_vector_is_kept(audit, tmp_path, caplog):
    audit("noise.png", "grey.jpg")
    facts, ctx = audit("noise.png", "grey.jpg", folder="other", where=tmp_path / "gone")
    assert ctx.engine.embedded == 0 and not facts.ok_N.any()
    assert "2 scans could not be read" in caplog.text and "the file is missing" in caplog.text


def test_when_nothing_can_be_read_there_is_nothing_to_tell(audit):
    facts, _ = audit("broken.png")
    assert not facts.ok_N.any() and facts.masked_emb_ND.shape == (1, 0) and len(facts.image_ids) == 1


def test_a_second_audit_reads_no_file(audit, tmp_path):
    first, ctx = audit(*FILES)
    assert (ctx.engine.looked, ctx.engine.embedded) == (4, 4)  # a copy is looked at once
    again, ctx = audit(*FILES, where=tmp_path / "gone")
    assert (ctx.engine.looked, ctx.engine.embedded) == (0, 0)
    assert same(first, again)
    assert sorted(path.name for path in ctx.folder.iterdir()) == [run_files.PIXELS]


def test_what_is_new_is_looked_at_and_the_rest_kept(audit):
    audit(*FILES[:2])
    grown, ctx = audit(*FILES)
    assert (ctx.engine.looked, ctx.engine.embedded) == (2, 2)
    whole, other = audit(*FILES, folder="other")
    assert same(grown, whole)
    assert (ctx.folder / run_files.PIXELS).read_bytes() == (other.folder / run_files.PIXELS).read_bytes()
    part, ctx = audit(FILES[4], FILES[0])
    np.testing.assert_array_equal(part.meta_NM, whole.meta_NM[[4, 0]])
    assert ctx.engine.looked == 0


def test_shards_do_not_matter(audit, monkeypatch, tmp_path):
    whole, _ = audit(*FILES)
    monkeypatch.setattr(off_lung_features, "_SHARD_SIZE", 1)
    parts, _ = audit(*FILES, folder="other", **{"embed.shard_size": 1, "embed.store": str(tmp_path / "new")})
    assert same(whole, parts)


@pytest.mark.parametrize("harm", ["size", "version", "truncated"])
def test_facts_made_in_another_way_are_made_again(audit, harm, monkeypatch):
    first, ctx = audit(*FILES)
    overrides = {"preprocess.size_px": 96} if harm == "size" else {}
    if harm == "version":
        monkeypatch.setattr(off_lung_features, "_VERSION", 99)
    if harm == "truncated":
        path = ctx.folder / run_files.PIXELS
        path.write_bytes(path.read_bytes()[:200])
    again, ctx = audit(*FILES, **overrides)
    assert ctx.engine.looked == 4
    np.testing.assert_array_equal(first.meta_NM, again.meta_NM)
