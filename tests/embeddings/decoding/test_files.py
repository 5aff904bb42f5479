import zipfile

import pyarrow as pa
import pytest

from embeddings.decoding import files
from embeddings.decoding.picture_keys import by_picture
from embeddings.decoding.unusable import DecodeError


def archive(tmp_path, contents, compression=zipfile.ZIP_DEFLATED):
    path = tmp_path / "pool.zip"
    with zipfile.ZipFile(path, "w", compression) as stream:
        for name, data in contents.items():
            stream.writestr(name, data)
    return str(path)


def test_an_address_carries_its_white():
    uri = files.with_white("/a b/s.png", 4095)
    assert (files.place_of(uri), files.white_of(uri)) == ("/a b/s.png", 4095)
    assert files.white_of("/a/s.png") is None
    assert files.with_white(uri, 1023) == "/a b/s.png#white=1023"


def test_a_picture_is_its_content_and_its_white(tmp_path):
    (tmp_path / "s.png").write_bytes(b"x")
    uri = str(tmp_path / "s.png")
    assert files.read_bytes(files.with_white(uri, 4095)) == b"x"
    depths, uris = [8, 16, 16, None], [uri, uri, files.with_white(uri, 4095), uri]
    rows = pa.table({"sha256": ["s", "s", "s", None], "uri": uris, "bit_depth": pa.array(depths, pa.int16())})
    names = by_picture(rows)["sha256"].to_pylist()
    assert names[0] == "s" and names[3] is None and len({*names}) == 4
    assert by_picture(rows.slice(0, 1)).equals(rows.slice(0, 1))


def test_members_of_an_archive(tmp_path):
    path = archive(tmp_path, {"a/b.png": b"1", "c.png": b"2", "empty/": b""})
    assert files.members(path) == ["a/b.png", "c.png"]
    assert files.read_bytes(f"{path}!/a/b.png") == b"1"
    assert files.head_of(f"{path}!/c.png") == b"2"
    with pytest.raises(DecodeError, match="missing"):
        files.read_bytes(f"{path}!/none.png")


def test_an_archive_that_changes_is_read_anew(tmp_path):
    path = archive(tmp_path, {"a.png": b"1"})
    assert files.read_bytes(f"{path}!/a.png") == b"1"
    archive(tmp_path, {"a.png": b"another"})
    assert files.read_bytes(f"{path}!/a.png") == b"another"


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = archive(tmp_path, {"bomb.png": bytes(80 * 2**20)})
    with pytest.raises(DecodeError, match="would unpack to 83,886,080 bytes"):
        files.read_bytes(f"{path}!/bomb.png")


def test_what_is_no_archive_or_a_broken_one(tmp_path):
    (tmp_path / "x.zip").write_bytes(b"no archive")
    with pytest.raises(OSError, match="not a ZIP archive"):
        files.members(str(tmp_path / "x.zip"))
    path = archive(tmp_path, {"a.png": b"1" * 1000}, zipfile.ZIP_STORED)
    data = bytearray((tmp_path / "pool.zip").read_bytes())
    data[60] ^= 255
    (tmp_path / "pool.zip").write_bytes(data)
    with pytest.raises(DecodeError, match="archive"):
        files.read_bytes(f"{path}!/a.png")


@pytest.mark.objectstore
def test_an_archive_in_an_object_store(tmp_path):
    import fsspec

    path = archive(tmp_path, {"a.png": b"1"})
    with fsspec.open("memory://archives/pool.zip", "wb") as stream:
        stream.write((tmp_path / "pool.zip").read_bytes())
    assert path and files.members("memory://archives/pool.zip") == ["a.png"]
    assert files.read_bytes("memory://archives/pool.zip!/a.png") == b"1"
    assert files.head_of("memory://archives/a") is None
