"""Scans are decoded once, into 8 bits; one bad file is a reason, not an end."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from embeddings import activations, backbones, decode
from embeddings.activations import Early
from embeddings.pretrain import pixel_matrix
from pipeline.contracts.config import Config
from pipeline.contracts.options.vectors import AugmentConfig, BackboneConfig

S = 32


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(5):
        Image.fromarray(rng.integers(0, 256, (50 + i, 40), dtype=np.uint8)).save(folder / f"{i}.png")
    deep = rng.integers(0, 65536, (40, 60)).astype(np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    (folder / "bad.png").write_bytes((folder / "0.png").read_bytes()[:80])
    return folder


def pairs(folder, *names):
    return [(hashlib.sha256((folder / name).read_bytes()).hexdigest(), str(folder / name)) for name in names]


def fill(cache, scans, shard_size=2):
    shards = pixel_matrix.plan(cache, scans, S, 10**6, shard_size)
    return shards, [row for shard in shards for row in pixel_matrix.decode_shard(shard)]


def test_pixels_are_those_of_the_decoder(files, tmp_path):
    cache = pixel_matrix.open_cache(tmp_path / "cache", S)
    scans = pairs(files, "0.png", "3.png", "deep.png")
    fill(cache, scans)
    found = pixel_matrix.take(cache.rows([sha for sha, _ in scans]), np.array([2, 0, 1]))
    assert found.shape == (3, 1, S, S) and found.dtype == np.float32
    for row, name in zip(found, ("deep.png", "0.png", "3.png"), strict=True):
        expected = decode.load_square((files / name).read_bytes(), S, 10**6)
        np.testing.assert_allclose(row, expected, atol=0.51 / 255)


def test_a_content_is_decoded_once_and_a_grown_pool_only_where_it_grew(files, tmp_path, monkeypatch):
    cache = pixel_matrix.open_cache(tmp_path / "cache", S)
    read = []
    original = decode.read_unchanged
    monkeypatch.setattr(decode, "read_unchanged", lambda uri, key: (read.append(uri), original(uri, key))[1])
    (files / "copy.png").write_bytes((files / "0.png").read_bytes())
    first = pairs(files, "0.png", "1.png", "2.png", "copy.png")
    shards, broken = fill(cache, first)
    assert [len(shard.sha256) for shard in shards] == [2, 1] and broken == []
    assert sorted(read) == sorted(str(files / f"{i}.png") for i in range(3))
    read.clear()
    fill(cache, first + pairs(files, "4.png"))
    assert read == [str(files / "4.png")]
    assert fill(cache, first)[0] == []


def test_a_bad_scan_is_reported_and_left_out(files, tmp_path):
    cache = pixel_matrix.open_cache(tmp_path / "cache", S)
    gone = ("f" * 64, str(files / "gone.png"))
    bad = pairs(files, "bad.png")[0]
    scans = [*pairs(files, "0.png", "1.png"), bad, gone]
    _, broken = fill(cache, scans)
    assert {sha for sha, _ in broken} == {bad[0], gone[0]}
    assert all("DecodeError" in reason for _, reason in broken)
    assert cache.known() == {sha for sha, _ in scans[:2]}
    with pytest.raises(KeyError, match="2 of 4 scans"):
        cache.rows([sha for sha, _ in scans])


def test_another_size_is_another_cache(tmp_path):
    assert pixel_matrix.open_cache(tmp_path, 32).folder != pixel_matrix.open_cache(tmp_path, 64).folder


def test_the_classifier_keeps_its_pixels_in_the_same_cache(files, tmp_path):
    early = Early(backbones.untrained(BackboneConfig()), 0, S, 1, AugmentConfig())
    (shard,) = activations.plan(Config(), early, None, tmp_path, pairs(files, "0.png", "3.png"))
    activations.fill_shard(shard)
    cache = pixel_matrix.open_cache(tmp_path, S)
    assert cache.folder == early.cache(tmp_path).folder
    assert pixel_matrix.plan(cache, pairs(files, "0.png", "3.png"), S, 10**6, 2) == []
    theirs = pixel_matrix.take(cache.rows(list(shard.sha256)), np.array([0, 1]))
    other = pixel_matrix.open_cache(tmp_path / "other", S)
    fill(other, pairs(files, "0.png", "3.png"))
    np.testing.assert_array_equal(pixel_matrix.take(other.rows(list(shard.sha256)), np.array([0, 1])), theirs)
