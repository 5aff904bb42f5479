"""The files of a table: found where they are, said where they were found, never given to the wrong row."""

import unicodedata
import zipfile

import pytest

from pipeline.contracts import config_file
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.scans import PoolConfig
from pipeline.pool import manifest
from pipeline.pool.listing.files_of_table import locate
from pipeline.pool.sources import open_pool
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from pipeline.tables.notes import Notes


def tree(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")
    return root


def located(root, *paths):
    notes = Notes("t.csv")
    found = locate(str(root), paths, notes)
    return found, notes.lines


def nfc(text):
    return unicodedata.normalize("NFC", text)


def nfd(text):
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize(
    ("there", "written", "how"),
    [
        ("a/B.PNG", "a/b.png", "with another case of letters"),
        ("A/b.png", "a/b.png", "with another case of letters"),
        ("é/Å.jpg", "é/Å.jpg", None),
        (nfd("å/ö.png"), nfc("å/ö.png"), "in another Unicode form"),
        (nfc("å/ö.png"), nfd("å/ö.png"), "in another Unicode form"),
        ("a.png", "a", "with an ending"),
        ("sub/a.dcm", "sub/a", "with an ending"),
        ("a.jpg", "a.png", "with another ending"),
        ("a", "a.dcm", "with another ending"),
        ("batch_1/deep/a.png", "a.png", "in a folder below"),
        ("part2/p1/s1/a.png", "p1/s1/a.png", "in a folder below"),
        ("part2/A.JPG", "a.jpg", "in a folder below"),
        ("images/1.2.840.1", "1.2.840.1", "in a folder below"),
        ("imgs/a.png", "/data/ward/imgs/a.png", "without '/data/ward/' at the beginning"),
        ("imgs/a.png", "C:/Users/me/imgs/a.png", "without 'C:/Users/me/' at the beginning"),
        ("a b.png", "a%20b.png", "with the signs behind % read as in an address"),
        ("a.png", "old/a.png", "without 'old/' at the beginning"),
    ],
)
def test_one_file_in_another_place_or_spelling(tmp_path, there, written, how):
    found, said = located(tree(tmp_path, there, "other.png"), written)
    assert found.paths == [there] and found.refusal is None
    assert said == ([] if how is None else [f"1 file found {how}: {written!r} is {there!r}"])


def test_below_a_parent_of_the_tables_folder(tmp_path):
    tree(tmp_path, "set/v1/train/p1/a.png", "set/v1/train/p2/b.png")
    found, said = located(tmp_path / "set" / "v1" / "lists", "v1/train/p1/a.png", "v1/train/p2/b.png", "v1/train/c.png")
    assert (found.root, found.paths[:2]) == (str(tmp_path / "set"), ["v1/train/p1/a.png", "v1/train/p2/b.png"])
    assert "its paths are read below" in said[0] and "1 of 3 files are missing" in said[1]


def test_a_name_that_fits_two_files_or_two_rows_is_missing(tmp_path):
    root = tree(tmp_path, "x/a.png", "y/a.png", "z/b.png", "z/c.png")
    found, said = located(root, "a.png", "z/c.png")
    assert found.paths == ["a.png", "z/c.png"] and "1 name fit more than one file" in said[0]
    found, said = located(root, "b.png", "B.png", "z/c.png")
    assert found.paths == ["b.png", "B.png", "z/c.png"] and "2 paths would lead to a file of another row" in said[0]
    found, _ = located(root, "z/c.jpg", "z/c.png")
    assert found.paths == ["z/c.jpg", "z/c.png"]


def test_another_folder_is_not_the_same_file(tmp_path):
    """Half of a set is there: `train/1.png` is not `test/1.png`."""
    found, said = located(tree(tmp_path, "test/1.png", "test/2.png"), "train/1.png", "test/2.png")
    assert found.paths == ["train/1.png", "test/2.png"]
    assert said == [
        f"1 of 2 files are missing; the first was looked for at {tmp_path}/train/1.png; there is {tmp_path}/test/1.png"
    ]


def test_nothing_there_shows_one_path_and_one_that_is(tmp_path):
    found, _ = located(tree(tmp_path, "scans/img_0001.png"), "one.png", "two.png")
    message = str(found.refusal)
    assert f"'{tmp_path}/one.png'" in message and f"there is {tmp_path}/scans/img_0001.png" in message.lower()
    assert "2 x the file is missing" in message and "pool.root" in message


def test_in_an_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as stream:
        for name in ("set/images_1/A.PNG", "set/images_2/b.png", "set/list.csv"):
            stream.writestr(name, b"x")
    found, said = located(f"{tmp_path}/set.zip!/set", "a.png", "b.png")
    assert found.paths == ["images_1/A.PNG", "images_2/b.png"] and len(said) == 1


def test_waste_baskets_and_thumbnails_are_not_looked_into(tmp_path):
    found, _ = located(tree(tmp_path, "@eaDir/a.png", ".trash/a.png", "#recycle/a.png", "in/a.png"), "a.png")
    assert found.paths == ["in/a.png"]


def opened(table, tmp_path, **options):
    return open_pool(PoolConfig(uri=str(table), **options), tmp_path / "cache")


def test_the_root_that_is_asked_for(tmp_path):
    tree(tmp_path, "far/off/a.png", "lists/near/a.png")
    table = tmp_path / "lists" / "t.csv"
    table.write_text("image_path\na.png\n")
    for root in (str(tmp_path / "far" / "off"), "../far/off"):
        (uri,) = opened(table, tmp_path, root=root).scans["uri"].to_pylist()
        assert uri.endswith("far/off/a.png")
    assert opened(table, tmp_path, root="near").scans["uri"].to_pylist() == [f"{table.parent}/near/a.png"]
    with pytest.raises(InputError, match=r"pool\.root: no such folder"):
        opened(table, tmp_path, root="nowhere")


def test_a_table_whose_every_row_lacks_its_file_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    (tmp_path / "t.csv").write_text("image_path\n" + "".join(f"gone/{i}.png\n" for i in range(1000)))
    monkeypatch.setattr(manifest, "read_scans", lambda *_: pytest.fail("read"))
    with pytest.raises(InputError, match=r"1000 x the file is missing.*got '.*gone/0\.png'"):
        config = config_file.load(None, {"pool.uri": str(tmp_path / "t.csv")})
        manifest.run(StageContext(config, tmp_path, SerialEngine()))
