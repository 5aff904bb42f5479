"""What is kept of large scans: exactly what their files give, private, bounded, made again where it is damaged."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from embeddings import decode
from embeddings.decoding.files import with_white
from embeddings.decoding.picture_keys import picture_key
from embeddings.shrunk import read_shrunk, shrunk_files, shrunk_scan
from pipeline.contracts import config_file
from pipeline.contracts.tables import MANIFEST
from pipeline.pool import manifest
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from tests.embeddings.decoding.test_raster import png
from tests.support.dicom_files import chest, file_bytes

SIZE_PX = 64
MAX_PIXELS = 10**8


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CXR_SSL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shrunk_files, "MIN_PIXELS", 100 * 100)
    return tmp_path / "cache"


def jpeg(values):
    stream = io.BytesIO()
    Image.fromarray((values >> 8).astype(np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def read_pool(tmp_path, **options):
    """One pool in 8, 12 and 16 bits, among them one scan whose white the others decide; its rows by path."""
    files = {
        "8.jpg": jpeg(chest(1, 120, bits=16)),
        "12.dcm": file_bytes(chest(2, 130, bits=12), BitsStored=12),
        **{f"12in16_{i}.png": png(chest(10 + i, 110, bits=12)) for i in range(11)},
        "dark_12in16.png": png(chest(30, 110, bits=12) // 4),
        "small.png": png(chest(4, 99, bits=12)),
    }
    for name, data in files.items():
        (tmp_path / "pool").mkdir(exist_ok=True)
        (tmp_path / "pool" / name).write_bytes(data)
    (tmp_path / "run").mkdir(exist_ok=True)
    plain = {"pool.uri": str(tmp_path / "pool"), "preprocess.size_px": SIZE_PX, "engine.backend": "serial"}
    ctx = StageContext(config_file.load(None, plain | options), tmp_path / "run", SerialEngine())
    # The guarded process has an environment of its own, so what it is asked is answered here.
    manifest.run(ctx)
    return {row["path"]: row for row in MANIFEST.read(ctx.folder).to_pylist()}


@pytest.fixture
def in_this_process(monkeypatch):
    """Files are looked at here, where the tests' limits hold."""
    from pipeline.pool import reading

    class Here:
        def ask(self, question, data, max_seconds):
            return reading.answer(question, data)

    monkeypatch.setattr(reading, "_guard", lambda options: Here())


def test_kept_squares_are_those_of_the_files(tmp_path, cache, in_this_process):
    rows = read_pool(tmp_path)
    assert rows["dark_12in16.png"]["uri"] == with_white(str(tmp_path / "pool" / "dark_12in16.png"), 4095)
    assert shrunk_files.kept(rows["small.png"]["sha256"], rows["small.png"]["uri"], SIZE_PX) is None
    large = [row for path, row in rows.items() if path != "small.png"]
    for row in large:
        for side in (SIZE_PX, *shrunk_scan.SIDES_PX):
            expected_1SS = decode.scan_square(row["uri"], side, MAX_PIXELS)
            kept = shrunk_files.kept(row["sha256"], row["uri"], side)
            assert kept.square(side).tobytes() == expected_1SS.tobytes(), (row["path"], side)
        made = shrunk_scan.shrink(decode.open_scan(row["uri"], max_pixels=MAX_PIXELS), kept.num_bytes, kept.squares)
        assert shrunk_scan.to_bytes(made) == shrunk_scan.to_bytes(kept), row["path"]
        (tmp_path / "pool" / row["path"]).unlink()
        square_1SS = read_shrunk.square_of(row["uri"], SIZE_PX, MAX_PIXELS, picture_key(row["sha256"], row["uri"]))
        assert square_1SS.shape == (1, SIZE_PX, SIZE_PX)
    for place in cache.rglob("*"):
        if shrunk_files.FOLDER in place.parts:
            assert place.stat().st_mode & 0o077 == 0, "read by others"
    assert not list(cache.rglob(".*"))


def test_nothing_is_kept_where_it_is_switched_off(tmp_path, cache, in_this_process):
    read_pool(tmp_path, **{"engine.shrunk_gb": 0.0})
    assert not shrunk_files.folder().exists()


def kept_scan(value=9):
    grey = decode.open_grey(jpeg(chest(value, 120, bits=16)), max_pixels=MAX_PIXELS)
    return shrunk_scan.to_bytes(shrunk_scan.shrink(grey, 1000, (SIZE_PX,)))


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:-9] + b"\1" + data[-8:], lambda _: b""])
def test_a_damaged_file_is_set_aside_and_the_scan_is_read(tmp_path, cache, damage, caplog):
    path = tmp_path / "scan.jpg"
    path.write_bytes(jpeg(chest(9, 120, bits=16)))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert shrunk_files.keep(sha256, kept_scan(), 10**9)
    (kept,) = cache.rglob("*.shrunk")
    kept.write_bytes(damage(kept_scan()))
    square_1SS = read_shrunk.square_of(str(path), SIZE_PX, MAX_PIXELS, sha256)
    np.testing.assert_array_equal(square_1SS, decode.scan_square(str(path), SIZE_PX, MAX_PIXELS))
    assert "is damaged" in caplog.text
    assert not list(cache.rglob("*.shrunk"))
    assert shrunk_files.keep(sha256, kept_scan(), 10**9)
    assert shrunk_files.kept(sha256, str(path), SIZE_PX) is not None


def test_a_square_of_another_side_is_made_from_the_file(tmp_path, cache):
    path = tmp_path / "scan.jpg"
    path.write_bytes(jpeg(chest(9, 120, bits=16)))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    shrunk_files.keep(sha256, kept_scan(), 10**9)
    square_1SS = read_shrunk.square_of(str(path), 48, MAX_PIXELS, sha256)
    np.testing.assert_array_equal(square_1SS, decode.scan_square(str(path), 48, MAX_PIXELS))


def test_the_oldest_files_make_room(cache):
    content = kept_scan()
    names = [f"ab{i % 2}{i:061d}" for i in range(40)]  # one drawer; every second file looks whether it is full
    for name in names:
        assert shrunk_files.keep(name, content, 256 * 5 * len(content))
    left = sorted(path.stem for path in cache.rglob("*.shrunk"))
    assert 5 <= len(left) <= 6
    assert {name in left for name in names[-5:]} == {True}


def test_what_an_older_version_kept_is_thrown_out(cache):
    older = shrunk_files.folder().with_name("v0.0") / "ab" / "abc.shrunk"
    older.parent.mkdir(parents=True)
    older.write_bytes(b"a picture")
    assert shrunk_files.keep("ab" * 32, b"content", 2**30)
    assert not older.exists() and [path.name for path in shrunk_files.folder().parent.iterdir()] == [
        shrunk_files.folder().name
    ]


def test_a_full_disk_or_a_folder_of_another_stops_nothing(cache, monkeypatch):
    monkeypatch.setattr(shrunk_files, "_LEAST_FREE_BYTES", 2**62)
    assert not shrunk_files.keep("ab" * 32, kept_scan(), 10**9)
    monkeypatch.undo()
    monkeypatch.setenv("CXR_SSL_CACHE", str(cache / "file"))
    cache.mkdir(exist_ok=True)
    (cache / "file").write_text("no folder")
    assert not shrunk_files.keep("ab" * 32, kept_scan(), 10**9)
    assert shrunk_files.kept("ab" * 32, "scan.png", SIZE_PX) is None
