"""The embed stage and its shards, from PNG files to the run's matrix."""

import hashlib
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from embeddings import backbones, extract, stage_features
from pipeline.contracts import config_file
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.vectors import BackboneConfig
from pipeline.contracts.tables import MANIFEST
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from pipeline.vectors import embed
from pipeline.vectors.matrix import Vectors

NAME = "test_resnet.r160_in1k"


class CountingEngine(SerialEngine):
    """Counts the scans of every embedding shard."""

    def __init__(self):
        self.sizes = []

    def map_shards(self, function, shards, *, on_gpu=False):
        if function is extract.embed_shard:
            self.sizes += [len(shard.sha256) for shard in shards]
        return super().map_shards(function, shards)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Random weights and nine PNG scans; the last is a copy of the first."""
    folder = tmp_path_factory.mktemp("shared")
    torch.manual_seed(0)
    save_file(timm.create_model(NAME, pretrained=False).state_dict(), folder / "w.safetensors")
    rng = np.random.default_rng(0)
    for i in range(8):
        Image.fromarray(rng.integers(0, 256, (40 + i, 50), dtype=np.uint8)).save(folder / f"{i}.png")
    (folder / "8.png").write_bytes((folder / "0.png").read_bytes())
    (folder / "bad.png").write_bytes((folder / "1.png").read_bytes()[:60])
    return folder


def make_run(folder, shared, files, **overrides):
    folder.mkdir(exist_ok=True)
    paths = [shared / name for name in files]
    columns = {name: [None] * len(files) for name in MANIFEST.schema.names} | {
        "image_id": [hashlib.sha256(p.name.encode()).hexdigest()[:16] for p in paths],
        "uri": [str(p) for p in paths],
        "path": [p.name for p in paths],
        "sha256": [hashlib.sha256(p.read_bytes()).hexdigest() for p in paths],
        "view": ["unknown"] * len(files),
        "status": ["ok"] * len(files),
    }
    MANIFEST.write(folder, pa.table(columns, schema=MANIFEST.schema))
    given = {
        "backbone.name": f"timm:{NAME}",
        "backbone.weights": str(shared / "w.safetensors"),
        "preprocess.size_px": 64,
        "embed.shard_size": 3,
        "embed.batch_size": 2,
        "engine.backend": "serial",
    }
    return StageContext(config_file.load(None, given | overrides), folder, CountingEngine())


@pytest.fixture(scope="module")
def models(tmp_path_factory, shared):
    """The network's ONNX files for scans of 64 px, which every store would else write anew."""
    folder = tmp_path_factory.mktemp("models")
    weights = str(shared / "w.safetensors")
    backbone = backbones.resolve(BackboneConfig(name=f"timm:{NAME}", weights=weights))
    for features in ("pooled", "stages"):
        extract.export_onnx(backbone, features, 64, folder)
    return folder


@pytest.fixture
def store(tmp_path, models):
    """An empty one, but for those."""
    shutil.copytree(models, tmp_path / "store" / extract.MODELS)
    return {"embed.store": str(tmp_path / "store")}


PNGS = [f"{i}.png" for i in range(9)]


def test_every_scan_gets_its_row_and_copies_are_embedded_once(tmp_path, shared, store):
    ctx = make_run(tmp_path / "run", shared, PNGS, **store)
    counts = embed.run(ctx)
    assert sum(ctx.engine.sizes) == 8 and max(ctx.engine.sizes) == 3
    assert counts["num_embedded"] == 8 and counts["num_failed"] == 0
    vectors = Vectors.open(ctx.folder)
    assert vectors.ids.to_pylist() == MANIFEST.read(ctx.folder)["image_id"].to_pylist()
    np.testing.assert_array_equal(vectors.emb_ND[0], vectors.emb_ND[8])
    assert len(np.unique(vectors.emb_ND, axis=0)) == 8
    card = json.loads((ctx.folder / "backbone.json").read_text())
    assert (card["dim"], card["weights_file"]) == (vectors.emb_ND.shape[1], "w.safetensors")


def test_a_grown_pool_embeds_only_what_is_new(tmp_path, shared, store):
    first = make_run(tmp_path / "one", shared, PNGS[:5], **store)
    embed.run(first)
    grown = make_run(tmp_path / "two", shared, PNGS, **store)
    counts = embed.run(grown)
    assert sum(grown.engine.sizes) == 3
    assert (counts["num_embedded"], counts["num_reused"]) == (3, 6)
    again = make_run(tmp_path / "two", shared, PNGS, **store)
    assert embed.run(again)["num_embedded"] == 0
    assert again.engine.sizes == []
    np.testing.assert_array_equal(Vectors.open(tmp_path / "two").emb_ND[:5], Vectors.open(tmp_path / "one").emb_ND)


def test_another_size_is_not_reused(tmp_path, shared, store):
    embed.run(make_run(tmp_path / "one", shared, PNGS[:3], **store))
    larger = make_run(tmp_path / "two", shared, PNGS[:3], **store, **{"preprocess.size_px": 96})
    assert embed.run(larger)["num_embedded"] == 3


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_the_stage_embeds_what_the_network_says(tmp_path, shared, store, runtime):
    from embeddings import decode

    for features in ("pooled", "stages"):
        options = {"embed.runtime": runtime, "embed.features": features}
        ctx = make_run(tmp_path / features, shared, PNGS[:3], **store, **options)
        embed.run(ctx)
        vectors, module = Vectors.open(ctx.folder), backbones.build(backbones.resolve(ctx.config.backbone))
        for row, name in enumerate(PNGS[:3]):
            scan = decode.load_square((shared / name).read_bytes(), 64, max_pixels=10**6)
            with torch.inference_mode():
                expected = module(torch.from_numpy(scan[None]))[0].numpy()
            assert vectors.own_dim == len(expected)
            scale = stage_features.SCALE if features == "stages" else 1.0
            np.testing.assert_allclose(vectors.own_ND[row] / scale, expected, rtol=2e-3, atol=2e-3)
        assert (vectors.emb_ND.shape[1] > 2 * vectors.own_dim) == (features == "stages")


def test_a_broken_scan_is_reported_and_left_out(tmp_path, shared, store, caplog):
    ctx = make_run(tmp_path / "run", shared, ["0.png", "bad.png", "2.png"], **store)
    counts = embed.run(ctx)
    assert (counts["num_embedded"], counts["num_failed"]) == (2, 1)
    ids = MANIFEST.read(ctx.folder)["image_id"].to_pylist()
    assert Vectors.open(ctx.folder).ids.to_pylist() == [ids[0], ids[2]]
    reasons = pq.read_table(ctx.folder / run_files.NOT_EMBEDDED).to_pylist()
    assert [r["sha256"] for r in reasons] == [MANIFEST.read(ctx.folder)["sha256"][1].as_py()]
    assert "DecodeError" in reasons[0]["reason"]
    assert "1 scans could not be embedded" in caplog.text


def test_a_file_that_vanished_is_a_broken_scan(tmp_path, shared, store):
    ctx = make_run(tmp_path / "run", shared, PNGS[:3], **store)
    table = MANIFEST.read(ctx.folder).to_pydict()
    table["uri"][1] = str(tmp_path / "gone.png")
    MANIFEST.write(ctx.folder, pa.table(table, schema=MANIFEST.schema))
    assert embed.run(ctx)["num_failed"] == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])  # the last one is beyond half precision
def test_a_scan_whose_embedding_is_not_finite_is_reported_and_left_out(tmp_path, shared, store, monkeypatch, value):
    real, broken = extract.forward_of, []

    def forward(*arguments):
        embed_batch, own_dim = real(*arguments)

        def of_batch(scan_N1SS):
            emb_ND = np.array(embed_batch(scan_N1SS))
            if not broken:
                emb_ND[0, 3] = value
                broken.append(True)
            return emb_ND

        return of_batch, own_dim

    monkeypatch.setattr(extract, "forward_of", forward)
    run = make_run(tmp_path / "run", shared, ["0.png", "1.png", "2.png"], **store)
    counts = embed.run(run)
    assert counts["num_failed"] == 1
    assert len(Vectors.open(run.folder).ids) == 2
    failed = pq.read_table(run.folder / run_files.NOT_EMBEDDED).to_pylist()
    assert [row["reason"] for row in failed] == [extract.NOT_FINITE]
    assert np.isfinite(np.asarray(Vectors.open(run.folder).emb_ND, np.float32)).all()


def test_a_file_replaced_after_it_was_listed_is_not_stored_under_the_old_hash(tmp_path, shared, store):
    files = tmp_path / "files"
    files.mkdir()
    for name in PNGS[:3]:
        (files / name).write_bytes((shared / name).read_bytes())
    weights = {"backbone.weights": str(shared / "w.safetensors")}
    ctx = make_run(tmp_path / "run", files, PNGS[:3], **store, **weights)
    (files / PNGS[1]).write_bytes((shared / PNGS[4]).read_bytes())
    counts = embed.run(ctx)
    assert (counts["num_embedded"], counts["num_failed"]) == (2, 1)
    old = MANIFEST.read(ctx.folder)["sha256"].to_pylist()
    assert embed.prepare(ctx, []).store.known() == {old[0], old[2]}  # nothing under the hash that is gone
    assert "has changed" in pq.read_table(ctx.folder / run_files.NOT_EMBEDDED)["reason"][0].as_py()


def harm_truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def harm_flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [harm_truncate, harm_flip])
@pytest.mark.parametrize("pattern", ["*/part-*.parquet", "backbones/*.onnx", "*/layout.json"])
def test_a_damaged_store_is_set_aside_and_filled_again(tmp_path, shared, caplog, store, harm, pattern):
    options = store | {"embed.features": "stages"}
    embed.run(make_run(tmp_path / "one", shared, PNGS[:5], **options))
    expected = Vectors.open(tmp_path / "one").emb_ND.copy()
    damaged = sorted((tmp_path / "store").glob(pattern))[0]
    harm(damaged)
    extract.forward_of.cache_clear()
    again = make_run(tmp_path / "two", shared, PNGS[:5], **options)
    embed.run(again)
    vectors = Vectors.open(again.folder)
    np.testing.assert_array_equal(vectors.emb_ND, expected)
    assert vectors.own_dim < expected.shape[1]
    assert damaged.with_name(damaged.name + ".damaged").exists()
    assert f"{damaged} is damaged" in caplog.text


def test_no_scan_at_all_is_an_error(tmp_path, shared, store):
    ctx = make_run(tmp_path / "run", shared, ["bad.png"], **store)
    with pytest.raises(InputError, match="no scan could be embedded"):
        embed.run(ctx)


def test_a_resumed_plan_has_the_shards_of_the_first(tmp_path, shared, store):
    ctx = make_run(tmp_path / "run", shared, PNGS, **store)
    backbone = backbones.resolve(ctx.config.backbone)
    target = extract.open_store(ctx.config, backbone, tmp_path / "store")
    manifest = MANIFEST.read(ctx.folder)
    scans = list(zip(manifest["sha256"].to_pylist(), manifest["uri"].to_pylist(), strict=True))

    def plan():
        return extract.plan(ctx.config, backbone, None, target, scans)

    first = plan()
    assert [len(shard.sha256) for shard in first] == [3, 3, 2]
    extract.embed_shard(first[1])  # then the run was killed
    assert [s.sha256 for s in plan()] == [first[0].sha256, first[2].sha256]
    assert [s.uris for s in plan()] == [first[0].uris, first[2].uris]
    assert str(shared / "8.png") not in [uri for shard in first for uri in shard.uris]  # the first uri of a content
