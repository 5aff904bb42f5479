"""A pool with what no scan is: pipes, devices, odd names, links and addresses that lead out, mutated files."""

import io
import os
import random
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from embeddings.decoding import picture_limits
from embeddings.decoding.picture_limits import Limits
from embeddings.decoding.unusable import DecodeError
from pipeline.contracts.options.scans import PoolConfig
from pipeline.pool import manifest, outside
from pipeline.pool.reading import ReadingOptions
from pipeline.pool.sources import open_pool
from tests.support.mutated_files import mutated

OPTIONS = ReadingOptions(10**6, max_seconds=20.0)
LIMITS = Limits(max_memory_mb=64, max_frames=3)


def encoded(form, picture=None, **options):
    stream = io.BytesIO()
    ramp = np.add.outer(np.arange(48), np.arange(40)).astype(np.uint8) * 2
    (picture or Image.fromarray(ramp)).save(stream, format=form, **options)
    return stream.getvalue()


def read(pool, options=OPTIONS):
    """Reason of each path."""
    shard = manifest.Shard(pool.scans["path"].to_pylist(), pool.scans["uri"].to_pylist(), options, None, pool.root)
    table = manifest.read_shard(shard)
    return dict(zip(table["path"].to_pylist(), table["reason"].to_pylist(), strict=True))


@pytest.fixture
def hostile(tmp_path):
    """Two scans, and beside them what would hang a reader, fill its memory or lead it elsewhere."""
    pool, other = tmp_path / "pool", tmp_path / "other"
    for folder in (pool / "sick", pool / "normal", other / "deep"):
        folder.mkdir(parents=True)
    (pool / "sick" / "a.png").write_bytes(encoded("PNG"))
    (pool / "normal" / "b.png").write_bytes(encoded("PNG", Image.fromarray(np.eye(32, dtype=np.uint8) * 200)))
    (other / "deep" / "c.png").write_bytes(encoded("PNG"))
    os.mkfifo(pool / "sick" / "pipe.png")
    (pool / "sick" / "endless.png").symlink_to("/dev/zero")
    (pool / "sick" / "link.png").symlink_to(other / "deep" / "c.png")
    (pool / "sick" / "inside.png").symlink_to(pool / "normal" / "b.png")
    (pool / "normal" / "folder").symlink_to(other)
    with open(os.fsencode(pool / "sick") + b"/caf\xe9.png", "wb") as stream:  # noqa: PTH123 - no name of a Path
        stream.write(encoded("PNG"))
    return pool


def test_what_is_no_file_of_the_pool_has_a_reason_and_is_not_read(hostile, caplog):
    reasons = read(open_pool(PoolConfig(uri=str(hostile)), hostile))
    assert {path for path, reason in reasons.items() if reason is None} == {
        "normal/b.png",
        "sick/a.png",
        "sick/inside.png",
    }
    assert "a pipe, not a regular file" in reasons["sick/pipe.png"]
    for name in ("link", "endless"):
        assert "a link to outside the pool" in reasons[f"sick/{name}.png"]
    assert not [path for path in reasons if path.startswith("normal/folder")]
    assert "1 folders are links to outside the pool" in caplog.text
    assert r"1 files and folders have names that are not UTF-8" in caplog.text
    assert r"caf\xe9.png" in caplog.text


def test_links_are_followed_where_they_are_allowed(hostile):
    reasons = read(
        open_pool(PoolConfig(uri=str(hostile), allow_outside=("links",)), hostile),
        ReadingOptions(10**6, allow_outside=("links",)),
    )
    assert reasons["sick/link.png"] is None
    assert reasons["normal/folder/deep/c.png"] is None
    assert "a device, not a regular file" in reasons["sick/endless.png"]  # never, whatever is allowed


@pytest.mark.parametrize(
    ("path", "uri", "root", "name"),
    [
        ("http://host/a.png", "http://host/a.png", "/pool", "addresses"),
        ("s3://bucket/a.png", "s3://bucket/a.png", "gs://bucket/p", "addresses"),
        ("simplecache::s3://b/a.png", "/pool/simplecache::s3://b/a.png", "/pool", "addresses"),
        ("zip://a.png::file:///b.zip", "zip://a.png::file:///b.zip", "/pool", "addresses"),
        ("/etc/a.png", "/etc/a.png", "s3://bucket/p", "addresses"),
        ("../secret/a.png", "/pool/../secret/a.png", "/pool", "parents"),
        ("a\\..\\b.png", "/pool/a\\..\\b.png", "/pool", "parents"),
    ],
)
def test_what_leads_out_is_refused_unless_it_is_allowed(path, uri, root, name):
    with pytest.raises(DecodeError, match=rf"pool\.allow_outside does not name \({name}\)"):
        outside.refuse(path, uri, root, [other for other in ("links", "parents", "addresses") if other != name])
    outside.refuse(path, uri, root, [name])


@pytest.mark.parametrize(
    ("uri", "root"),
    [("/pool/a.png", "/pool"), ("/elsewhere/a.png", "/pool"), ("s3://b/p/a.png", "s3://b/p"), ("s3://c/a", "s3://b/p")],
)
def test_plain_addresses_of_the_same_storage_are_taken(uri, root):
    outside.refuse(uri.rpartition("/")[2], uri, root, ())


def test_a_long_file_is_not_read_to_its_end(tmp_path):
    (tmp_path / "long.png").write_bytes(encoded("PNG"))
    shard = manifest.Shard(["long.png"], [str(tmp_path / "long.png")], ReadingOptions(10**6, max_bytes=50))
    assert "longer than 50 bytes" in manifest.read_shard(shard)["reason"][0].as_py()


@pytest.mark.parametrize("name", ["nul\0.png", "half\udce9.png"])
def test_a_name_that_no_file_can_have_is_a_reason(tmp_path, name):
    with pytest.raises(DecodeError, match=r"no file can have this name|missing"):
        manifest.read_bytes(str(tmp_path / name))


def test_what_a_picture_takes_is_known_before_it_is_decoded():
    large = Image.new("F", (3000, 3000))
    data = encoded("TIFF", large, compression="tiff_adobe_deflate")
    assert len(data) < 10**6
    with pytest.raises(DecodeError, match=r"would take \d+ MiB .* limit is 64 MiB \(pool\.max_memory_mb\)"):
        picture_limits.check(data, LIMITS)
    picture_limits.check(data, Limits(512, 3))
    dataset = pydicom.Dataset()
    dataset.Rows = dataset.Columns = 10_000
    with pytest.raises(DecodeError, match=r"pool\.max_memory_mb"):
        picture_limits.check(b"", LIMITS, dataset)


def test_frames_are_counted_no_further_than_the_limit():
    frames = [Image.fromarray(np.full((8, 8), i, np.uint8)) for i in range(6)]
    data = encoded("TIFF", frames[0], save_all=True, append_images=frames[1:])
    assert picture_limits.num_tiff_frames(data, 100) == 6
    with pytest.raises(DecodeError, match=r"more than 3 frames.*pool\.max_frames"):
        picture_limits.check(data, LIMITS)
    circle = bytearray(encoded("TIFF", frames[0]))
    start = int.from_bytes(circle[4:8], "little")
    end = start + 2 + 12 * int.from_bytes(circle[start : start + 2], "little")
    circle[end : end + 4] = circle[4:8]  # the next picture is the first one
    assert picture_limits.num_tiff_frames(bytes(circle), 100) == 100
    dataset = pydicom.Dataset()
    dataset.Rows = dataset.Columns = 8
    dataset.NumberOfFrames = 10**9
    with pytest.raises(DecodeError, match="1,000,000,000 frames"):
        picture_limits.check(b"", LIMITS, dataset)


def test_mutated_files_end_as_rows_with_reasons(tmp_path):
    rng = random.Random(14)
    kinds = {
        "png": encoded("PNG"),
        "jpg": encoded("JPEG"),
        "tif": encoded("TIFF", compression="tiff_lzw"),
        "dcm": Path(get_testdata_file("CT_small.dcm")).read_bytes(),
    }
    paths = []
    for kind, data in kinds.items():
        for i in range(75):
            paths.append(f"{i}.{kind}")
            (tmp_path / paths[-1]).write_bytes(mutated(data, rng))
    options = ReadingOptions(10**6, max_seconds=5.0, max_memory_mb=128)
    table = manifest.read_shard(manifest.Shard(paths, [str(tmp_path / path) for path in paths], options))
    assert table["path"].to_pylist() == paths
    for row in table.to_pylist():
        assert row["reason"] is None or row["reason"].strip()
        assert (row["reason"] is None) == (row["picture_hash"] is not None)
    broken = sum(reason is not None for reason in table["reason"].to_pylist())
    assert 30 < broken < 300
