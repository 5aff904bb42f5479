"""Trees of DICOM, archives, files without an ending; what is left out is counted."""

import io
import logging
import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from embeddings.decoding.files import read_bytes
from embeddings.decoding.unusable import DecodeError
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.scans import PoolConfig
from pipeline.pool.sources import open_pool
from tests.support.dicom_files import chest, file_bytes

SCAN = file_bytes(chest(side=32))


def image(kind="PNG"):
    stream = io.BytesIO()
    Image.fromarray(chest(side=32, bits=8).astype(np.uint8)).save(stream, kind)
    return stream.getvalue()


def write(root, files):
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def listed(tmp_path, uri, **options):
    return open_pool(PoolConfig(uri=str(uri), **options), tmp_path / "cache").scans


def test_all_endings_and_none(tmp_path):
    files = dict.fromkeys(["a.dcm", "b.dicom", "c.DCM", "IM0001", "1.2.840.113", "e.jpe"], SCAN)
    files |= {"f.jfif": image("JPEG"), "noending": image(), "README": b"text in a file without an ending"}
    scans = listed(tmp_path, write(tmp_path / "pool", files))
    assert scans["path"].to_pylist() == sorted({*files} - {"README"})


@pytest.mark.parametrize("ending", [".ima", ".IMG", ".dc3"])
def test_dicom_of_another_ending_is_read(tmp_path, ending, caplog):
    files = {f"PAT1/ST1/a{ending}": SCAN, f"PAT1/ST1/b{ending}": SCAN, f"PAT2/ST1/c{ending}": b"no scan" * 99}
    with caplog.at_level(logging.WARNING):
        scans = listed(tmp_path, write(tmp_path / "pool", files))
    assert scans["path"].to_pylist() == [f"PAT1/ST1/a{ending}", f"PAT1/ST1/b{ending}"]
    assert scans["label"].null_count == 2 and f"1 {ending.lower()}" in caplog.text


def test_what_is_left_out_is_counted_by_ending(tmp_path, caplog):
    files = {"a.png": image(), "b.bmp": image("BMP"), "c.bmp": image("BMP"), "d.gif": image("GIF"), "notes": b"text"}
    files |= {".hidden.bmp": b"x", "Thumbs.db": b"x", "@eaDir/a.png": image()}
    with caplog.at_level(logging.WARNING):
        assert listed(tmp_path, write(tmp_path / "pool", files))["path"].to_pylist() == ["a.png"]
    assert "4 of 8 files" in caplog.text
    assert "2 .bmp, 1 .gif, 1 without an ending" in caplog.text


def test_folders_of_a_dicom_tree_are_no_classes(tmp_path, caplog):
    names = [f"PAT{p}/ST{s}/SE1/IM{i}" for p in range(3) for s in range(2) for i in range(2)]
    pool = write(tmp_path / "pool", dict.fromkeys(names, SCAN))
    with caplog.at_level(logging.WARNING):
        scans = listed(tmp_path, pool)
    assert len(scans) == 12 and scans["label"].null_count == 12
    assert "taken for no classes" in caplog.text


def test_folders_of_patients_alone_are_no_classes(tmp_path):
    pool = write(tmp_path / "pool", dict.fromkeys([f"patient{i:04d}/a.dcm" for i in range(4)], SCAN))
    assert listed(tmp_path, pool)["label"].null_count == 4


@pytest.mark.parametrize("options", [{}, {"findings": ("normal", "pneumonia")}])
def test_folders_of_classes_are_classes(tmp_path, options):
    names = [f"{label}/{i}.dcm" for label in ("normal", "pneumonia") for i in range(3)]
    scans = listed(tmp_path, write(tmp_path / "pool", dict.fromkeys(names, SCAN)), **options)
    assert scans["label"].to_pylist() == ["normal"] * 3 + ["pneumonia"] * 3


def dicomdir(*names):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    records = []
    for kind, name in [("PATIENT", None), ("STUDY", None), *(("IMAGE", name) for name in names)]:
        record = Dataset()
        record.DirectoryRecordType = kind
        if name:
            record.ReferencedFileID = name.split("/")
        records.append(record)
    made.DirectoryRecordSequence = records
    stream = io.BytesIO()
    made.save_as(stream, enforce_file_format=False)
    return stream.getvalue()


def classes_in(tmp_path, *folders):
    write(tmp_path / "pool", {f"{folder}/{i}.png": image() for folder in folders for i in range(3)})
    return set(listed(tmp_path, tmp_path / "pool")["label"].to_pylist())


@pytest.mark.parametrize("name", ["images", "all_data", "PNG", "raw images"])
def test_a_folder_of_anything_beside_classes_is_none(tmp_path, name):
    assert classes_in(tmp_path, "train/normal", "train/sick", f"test/{name}") == {"normal", "sick", None}


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        (("normal", "sick/virus", "sick/bacteria"), "inside the class 'sick' are not told apart: 'bacteria', 'virus'"),
        (("normal", "sick", "normal - Copy"), "look alike are kept apart: 'normal / normal - Copy'"),
        (("normal", "sick", "sick_augmented"), "'sick / sick_augmented'"),
        (("normal", "sick", "sick (1)"), "'sick / sick (1)'"),
        (("normal", "sick", "bad_quality"), "speak of the picture or the reader, and not of a finding: 'bad_quality'"),
    ],
)
def test_folders_that_may_be_no_classes_are_said(tmp_path, caplog, folders, words):
    classes_in(tmp_path, *folders)
    assert words in caplog.text


def test_folders_of_patients_inside_classes_are_nobodys_business(tmp_path, caplog):
    assert classes_in(tmp_path, "normal/p1", "normal/p2", "sick/p3", "sick/p4") == {"normal", "sick"}
    assert not caplog.text


def test_a_dicomdir_lists_its_files(tmp_path):
    files = {"dicom/st1/im1": SCAN, "dicom/st1/im2": SCAN, "other/im9": SCAN}
    files["DICOMDIR"] = dicomdir("DICOM/ST1/IM1", "DICOM/ST1/IM2", "DICOM/ST1/GONE")
    pool = write(tmp_path / "pool", files)
    scans = listed(tmp_path, pool / "DICOMDIR")
    assert scans["path"].to_pylist() == ["DICOM/ST1/GONE", "dicom/st1/im1", "dicom/st1/im2"]
    assert scans["label"].null_count == 3
    assert listed(tmp_path, pool)["path"].to_pylist() == ["dicom/st1/im1", "dicom/st1/im2", "other/im9"]


def test_a_dicomdir_that_lists_nothing_or_is_none(tmp_path):
    for data, words in ((dicomdir(), "lists no pictures"), (b"text", "DICOMDIR")):
        path = write(tmp_path / "pool", {"DICOMDIR": data}) / "DICOMDIR"
        with pytest.raises(InputError, match=words):
            listed(tmp_path, path)


def archived(tmp_path, files):
    with zipfile.ZipFile(tmp_path / "pool.zip", "w", zipfile.ZIP_DEFLATED) as stream:
        for name, data in files.items():
            stream.writestr(name, data)
    return tmp_path / "pool.zip"


def test_an_archive_is_the_folder_in_it(tmp_path):
    names = [f"chest/{label}/{i}.png" for label in ("normal", "pneumonia") for i in range(2)]
    path = archived(tmp_path, dict.fromkeys(names, image()) | {"chest/readme.txt": b"x", "__MACOSX/._a.png": b"x"})
    scans = listed(tmp_path, path)
    assert scans["path"].to_pylist() == names
    assert scans["label"].to_pylist() == ["normal", "normal", "pneumonia", "pneumonia"]
    assert scans["uri"].to_pylist()[0] == f"{path}!/{names[0]}"


def test_an_archive_with_a_manifest_is_what_it_lists(tmp_path):
    table = b"image_path,label,patient_id\nscans/a.png,normal,p1\nscans/b.png,pneumonia,p2\n"
    files = {"pool/manifest.csv": table, "pool/scans/a.png": image(), "pool/scans/b.png": image(), "pool/c.png": b"x"}
    scans = listed(tmp_path, archived(tmp_path, files))
    assert scans["path"].to_pylist() == ["scans/a.png", "scans/b.png"]
    assert scans["patient_id"].to_pylist() == ["p1", "p2"]
    assert scans["uri"].to_pylist()[0].endswith("pool.zip!/pool/scans/a.png")


def test_an_archive_with_backslashes_is_the_folder_in_it(tmp_path):
    names = [f"scans\\{label}\\{i}.png" for label in ("normal", "sick") for i in range(2)]
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr("scans\\", b"")
        for name in names:
            archive.writestr(name, image())
    scans = listed(tmp_path, tmp_path / "p.zip")
    assert scans["path"].to_pylist() == [name.replace("\\", "/") for name in names]
    assert scans["label"].to_pylist() == ["normal", "normal", "sick", "sick"]
    assert all(read_bytes(uri) == image() for uri in scans["uri"].to_pylist())


@pytest.mark.parametrize("way", ["twice", "from the root", "from a drive", "encrypted"])
def test_archives_as_programs_pack_them(tmp_path, way):
    head = {"from the root": "/", "from a drive": "C:\\"}.get(way, "")
    archive = tmp_path / "scans.zip"
    with warnings.catch_warnings(), zipfile.ZipFile(archive, "w") as packed:
        warnings.simplefilter("ignore")  # of a name that is there already
        for name in ("a/1.png", "b/2.png", *(["a/1.png"] if way == "twice" else [])):
            packed.writestr(head + name, image())
    if way == "encrypted":
        data = bytearray(archive.read_bytes())
        for sign, at in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
            data[data.index(sign) + at] |= 1
        archive.write_bytes(data)
    scans = listed(tmp_path, archive)
    assert scans["path"].to_pylist() == ["a/1.png", "b/2.png"]
    if way == "encrypted":
        with pytest.raises(DecodeError, match="encrypted: unpack it with its password"):
            read_bytes(scans["uri"][0].as_py())
    assert read_bytes(scans["uri"][1].as_py()) == image()


def test_an_archive_of_dicom_without_endings(tmp_path):
    path = archived(tmp_path, {"PAT1/IM1": SCAN, "PAT1/IM2": SCAN, "PAT2/README": b"text"})
    assert listed(tmp_path, path)["path"].to_pylist() == ["PAT1/IM1", "PAT1/IM2"]


def test_an_archive_without_scans_or_a_broken_one(tmp_path):
    with pytest.raises(InputError, match="no images"):
        listed(tmp_path, archived(tmp_path, {"a.txt": b"x"}))
    (tmp_path / "broken.zip").write_bytes(b"PK no")
    with pytest.raises(InputError, match="the archive cannot be read"):
        listed(tmp_path, tmp_path / "broken.zip")


@pytest.mark.parametrize("name", ["inner.zip", "scans.tar.gz"])
def test_archives_in_an_archive_or_a_folder_are_named(tmp_path, name):
    pool = write(tmp_path / "pool", {name: b"PK\x03\x04", "notes.txt": b"text"})
    with pytest.raises(InputError, match=r"1 are archives, which are not looked into.*npack them"):
        listed(tmp_path, pool)


def test_an_archive_of_very_many_entries(tmp_path):
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as stream:
        for i in range(66_000):  # more than 65,535 entries have a directory of another form
            stream.writestr(f"notes/{i}.txt", b"")
        stream.writestr("a.png", image())
    assert listed(tmp_path, tmp_path / "many.zip")["path"].to_pylist() == ["a.png"]
