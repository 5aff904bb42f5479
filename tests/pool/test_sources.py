import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.contracts.errors import InputError
from pipeline.contracts.options.scans import PoolConfig
from pipeline.pool import vocabulary
from pipeline.pool.dicom import words
from pipeline.pool.sources import SCANS, open_pool
from tests.support.call_count import num_calls


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")


def opened(uri, tmp_path, **options):
    return open_pool(PoolConfig(uri=str(uri), **options), tmp_path / "cache")


def column(pool, name):
    return pool.scans[name].to_pylist()


def manifest(tmp_path, text, name="manifest.csv"):
    path = tmp_path / "pool" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def test_class_folders(tmp_path):
    touch(tmp_path / "p", "normal/b.png", "normal/a.JPG", "sick/deep/c.tiff", "sick/notes.txt", ".x/d.png")
    pool = opened(tmp_path / "p", tmp_path)
    assert column(pool, "path") == ["normal/a.JPG", "normal/b.png", "sick/deep/c.tiff"]
    assert column(pool, "label") == ["normal", "normal", "sick"]
    assert column(pool, "uri")[0] == str(tmp_path / "p" / "normal/a.JPG")
    assert pool.scans.schema == SCANS
    assert (pool.name, pool.has_split, pool.has_patients) == ("p", False, False)


def test_split_folders_above_class_folders_and_a_lone_folder_around(tmp_path):
    touch(tmp_path / "p", "chest/train/N/a.png", "chest/test/P/b.png", "chest/validation/N/c.png")
    pool = opened(tmp_path / "p", tmp_path)
    assert column(pool, "label") == ["P", "N", "N"]
    assert column(pool, "pool_split") == ["test", "train", "validation"]
    assert pool.has_split


def test_flat_folder_has_no_labels(tmp_path):
    touch(tmp_path / "p", "images/a.png", "images/b.png")
    assert column(opened(tmp_path / "p", tmp_path), "label") == [None, None]


def test_split_folders_beside_others_are_refused(tmp_path):
    touch(tmp_path / "p", "train/N/a.png", "extra/b.png")
    with pytest.raises(InputError, match=r"splits \(train\) stand beside others \(extra\)"):
        opened(tmp_path / "p", tmp_path)


def test_linked_folders_are_followed_once(tmp_path):
    touch(tmp_path / "p", "a/x.png", "b/y.png")
    (tmp_path / "p" / "a" / "up").symlink_to(tmp_path / "p")
    assert len(opened(tmp_path / "p", tmp_path).scans) == 2


def test_manifest_with_known_columns(tmp_path):
    path = manifest(
        tmp_path,
        "image_path,label,patient_id,source,age,sex,view,official_split\n"
        "./a.png,normal,7,x,034Y,female,lateral,train\n"
        "sub//b.png, ,,NA,999,?,AP supine,\n",
    )
    pool = opened(path, tmp_path)
    values = [list(row.values()) for row in pool.scans.drop(["uri"]).to_pylist()]
    assert values == [
        ["a.png", "normal", "7", "x", None, 34, "F", "LL", "train"],
        ["sub/b.png", None, None, None, None, None, None, "AP", None],
    ]
    assert column(pool, "uri") == [str(path.parent / "a.png"), str(path.parent / "sub/b.png")]
    assert pool.name == "pool"


def test_folder_with_a_manifest_is_what_it_lists(tmp_path):
    path = manifest(tmp_path, "image_path\na.png\n")
    touch(path.parent, "a.png", "b.png")
    assert column(opened(path.parent, tmp_path), "path") == ["a.png"]


def test_semicolons_quotes_and_a_byte_order_mark(tmp_path):
    path = manifest(tmp_path, '\ufeffimage_path;label\n"a;1.png";"two\nlines"\n')
    pool = opened(path, tmp_path)
    assert (column(pool, "path"), column(pool, "label")) == (["a;1.png"], ["two\nlines"])


def test_absolute_and_remote_paths_stay(tmp_path):
    path = manifest(tmp_path, f"image_path\n{tmp_path}/pool/in.png\n/else/b.png\ns3://bucket/c.png\n")
    pool = opened(path, tmp_path)
    assert column(pool, "path") == ["in.png", "/else/b.png", "s3://bucket/c.png"]
    assert column(pool, "uri") == [f"{tmp_path}/pool/in.png", "/else/b.png", "s3://bucket/c.png"]


def test_mapped_columns_in_parquet_with_numbers(tmp_path):
    path = tmp_path / "scans.parquet"
    table = {"file": ["a.png", "b.png"], "y": [0, 1], "years": [34.5, None], "pid": [12, 13]}
    pq.write_table(pa.table(table), path)
    columns = {"image_path": "file", "label": "y", "age": "years", "patient_id": "pid"}
    pool = opened(path, tmp_path, columns=columns)
    assert column(pool, "label") == ["0", "1"]
    assert column(pool, "age_years") == [34.5, None]
    assert column(pool, "patient_id") == ["12", "13"]
    assert pool.name == "scans"


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "is empty"),
        ("image_path,label\n", {}, "the pool is empty"),
        (
            "image_pth,label\na.png,x\n",
            {},
            "did you mean 'image_pth'? Its columns are image_pth, label; name",
        ),
        ("image_path,finding\na.png,x\n", {"columns": {"label": "findings"}}, "did you mean 'finding'?"),
        ("image_path,age,age\na.png,1,2\n", {}, "columns ['age'] stand twice"),
        ("image_path,label\na.png,x,y\n", {}, "has 3 cells, the header has 2 columns"),
        ("image_path,label\na.png,x\n\nb.png,y\n./a.png,y\n", {}, "several classes: x, y (lines 2, 5)"),
        ('image_path,label\na.png,"x\ny"\n,y\n', {}, "the path of the image is blank (lines 4)"),
    ],
)
def test_bad_manifests_are_explained(tmp_path, text, options, message):
    path = manifest(tmp_path, text)
    with pytest.raises(InputError) as caught:
        opened(path, tmp_path, **options)
    assert message.lower() in str(caught.value).lower()
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 2


def test_manifest_that_is_not_utf8(tmp_path):
    path = manifest(tmp_path, "")
    path.write_bytes("image_path,label\na.png,Größe\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"UTF-?8"):
        opened(path, tmp_path)


def test_bad_uris_are_explained(tmp_path):
    touch(tmp_path, "scans/readme.md", "scans.txt")
    cases = {
        str(tmp_path / "scan"): "did you mean",
        str(tmp_path / "scans"): r"none of its 1 files ends in \.png, ",
        str(tmp_path / "scans.txt"): "no column 'image_path'",
        "foo:bar": "unknown kind of pool 'foo:'",
        "s4://bucket/x": "unknown kind of pool 's4:'",
        "phantom:num_patient=3": "unknown key 'num_patient'",
        "medmnist:nomnist": "no MedMNIST set",
    }
    for uri, message in cases.items():
        with pytest.raises(InputError, match=f"(?i){message}"):
            opened(uri, tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_unreadable_folder(tmp_path):
    touch(tmp_path, "p/a/x.png")
    (tmp_path / "p" / "a").chmod(0)
    with pytest.raises(InputError, match="cannot be read"):
        opened(tmp_path / "p", tmp_path)


def test_patients_from_the_path(tmp_path):
    path = manifest(tmp_path, "image_path\nperson12_a.png\nperson3_b.png\nother.png\n")
    pool = opened(path, tmp_path, patient_regex=r"person(\d+)_")
    assert column(pool, "patient_id") == ["12", "3", None]


@pytest.mark.parametrize(
    ("regex", "message"), [("(", "not a regular"), (r"\d+", "no group"), (r"(zzz)", "none of the 1 paths")]
)
def test_useless_patient_regex(tmp_path, regex, message):
    path = manifest(tmp_path, "image_path\na.png\n")
    with pytest.raises(InputError, match=message):
        opened(path, tmp_path, patient_regex=regex)


@pytest.mark.objectstore
def test_remote_folder_and_manifest(tmp_path):
    import fsspec

    for path in ("pool/N/a.png", "pool/P/b.png"):
        with fsspec.open(f"memory://{path}", "wb") as stream:
            stream.write(b"x")
    pool = opened("memory://pool", tmp_path)
    assert column(pool, "label") == ["N", "P"]
    assert column(pool, "uri") == ["memory://pool/N/a.png", "memory://pool/P/b.png"]
    with fsspec.open("memory://listed/m.csv", "wb") as stream:
        stream.write(b"image_path,label\nN/a.png,x\n")
    assert column(opened("memory://listed/m.csv", tmp_path), "uri") == ["memory://listed/N/a.png"]
    with pytest.raises(InputError, match="no images"):
        opened("memory://nothing-here", tmp_path)


def test_medmnist_is_written_once(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (6, 28, 28), dtype=np.uint8)
    labels = np.array([[0], [1], [0], [1], [0], [1]], np.uint8)
    parts = {"train": slice(0, 3), "val": slice(3, 4), "test": slice(4, 6)}
    arrays = {f"{k}_images": images[v] for k, v in parts.items()}
    arrays |= {f"{k}_labels": labels[v] for k, v in parts.items()}
    monkeypatch.delenv("CXR_SSL_DATA", raising=False)
    monkeypatch.setenv("CXR_SSL_MEDMNIST", str(tmp_path))
    np.savez(tmp_path / "pneumoniamnist.npz", **arrays)
    pool = opened("medmnist:pneumoniamnist", tmp_path)
    assert column(pool, "label") == ["normal", "pneumonia"] * 3
    assert column(pool, "pool_split") == ["train"] * 3 + ["val"] + ["test"] * 2
    assert not pool.has_patients
    np.testing.assert_array_equal(np.asarray(Image.open(column(pool, "uri")[4])), images[4])
    stamp = Path(pool.root, "manifest.csv").stat().st_mtime_ns
    assert opened("medmnist:pneumoniamnist", tmp_path).scans == pool.scans
    assert Path(pool.root, "manifest.csv").stat().st_mtime_ns == stamp
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [Path(pool.root).name]


def test_medmnist_is_never_downloaded(tmp_path, monkeypatch):
    monkeypatch.delenv("CXR_SSL_DATA", raising=False)
    monkeypatch.delenv("CXR_SSL_MEDMNIST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"bloodmnist\.npz is not on this machine"):
        opened("medmnist:bloodmnist", tmp_path)


def test_phantom_pool(tmp_path):
    pool = opened("phantom:num_patients=8,size_px=64", tmp_path)
    assert pool.has_patients
    assert all(Path(uri).is_file() for uri in column(pool, "uri"))


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("34", 34),
        ("034Y", 34),
        ("6M", 0.5),
        ("0", 0),
        ("120", 120),
        ("121", None),
        ("-3", None),
        ("old", None),
    ],
)
def test_ages(text, years):
    assert words.age_years(text) == years


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("pa", "PA"),
        ("AP_semi", "AP"),
        ("Lateral", "LL"),
        ("LL", "LL"),
        ("A.P. portable", "AP"),
        ("P-A", "PA"),
        ("postero-anterior", "PA"),
        ("PA/LAT", "unknown"),
        ("AP and Lateral", "unknown"),
        ("AP lateral decubitus", "AP"),
        ("PATIENT", "unknown"),
        ("L spine", "unknown"),
    ],
)
def test_views(text, view):
    assert words.view(text) == view


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["Männlich", "weiblich", "m"], ["M", "F", "M"]),
        (["homme", "FEMME", "H"], ["M", "F", None]),
        (["Hombre", "Mujer", "M"], ["M", "F", None]),  # a woman, perhaps
        (["男", "女", "1"], ["M", "F", None]),
    ],
)
def test_sexes_are_read_by_whole_words_of_several_languages_and_by_letters_only_where_they_are_clear(written, read):
    assert vocabulary.sexes(pa.chunked_array([written])).to_pylist() == read


def test_work_grows_with_the_number_of_rows_and_not_with_its_square(tmp_path):
    def calls(num):
        rows = "".join(f"images/{i:07d}.png,normal,P{i // 3},{i % 90},M\n" for i in range(num))
        path = manifest(tmp_path, "image_path,label,patient_id,age,sex\n" + rows)
        pools = []
        count = num_calls(lambda: pools.append(opened(path, tmp_path, patient_regex=r"(\d+)\.png")))
        assert len(pools[0].scans) == num
        return count

    assert calls(10_000) < 11 * calls(1000)


@pytest.mark.real
def test_real_manifests(tmp_path):
    root = os.environ["CXR_SSL_DATA"]
    kermany, covid3 = opened(Path(root, "kermany"), tmp_path), opened(Path(root, "covid3"), tmp_path)
    assert (len(kermany.scans), kermany.has_split, kermany.has_patients) == (5856, True, True)
    assert (len(covid3.scans), covid3.has_split) == (1124, False)
    assert set(column(covid3, "view")) <= {"PA", "AP", "LL", "unknown"}
