"""Which folders are classes: those of other pools than the ones that were tried first."""

import io
import logging

import numpy as np
import pytest
from PIL import Image

from pipeline.contracts.errors import InputError
from pipeline.contracts.options.scans import PoolConfig
from pipeline.pool.sources import open_pool


def picture():
    stream = io.BytesIO()
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


PNG = picture()


def pool(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(PNG)
    return root


def listed(root, **options):
    return open_pool(PoolConfig(uri=str(root), **options), root.parent / "cache").scans


def labels(root, **options):
    scans = listed(root, **options)
    return dict(zip(scans["path"].to_pylist(), scans["label"].to_pylist(), strict=True))


NAMES = ("Ann", "Bo", "Cy", "Di", "Ed", "Flo")
NO_CLASSES = {
    "patients": [f"Patient_{i:02d}/{j}.png" for i in range(3) for j in range(4)],
    "patients and studies": [f"p{i}/study{j}/x.png" for i in range(4) for j in range(3)],
    "numbers of patients": [f"{i:05d}/{j}.png" for i in range(3) for j in range(5)],
    "dates": [f"2023-0{i}-17/{j}.png" for i in range(1, 5) for j in range(4)],
    "years": [f"{year}/{j}.png" for year in (2019, 2020, 2021) for j in range(4)],
    "hashes": [f"{i * 7919:08x}a1/{j}.png" for i in range(1, 5) for j in range(4)],
    "UIDs": [f"1.2.840.{i}.17/{j}.png" for i in range(4) for j in range(4)],
    "batches": [f"batch-{i}/images/{j}.png" for i in range(3) for j in range(4)],
    "BIDS": [f"sub-{i:02d}/ses-1/{j}.png" for i in range(3) for j in range(4)],
    "sites": [f"hospital {i}/{j}.png" for i in range(2) for j in range(4)],
    "a download in parts": [f"part_{i}/{j}.png" for i in range(2) for j in range(4)],
    "names of people": [f"{name}/{j}.png" for name in NAMES for j in range(2)],
    "people and their studies": [
        f"{n}/2024011{j}/{k}.png" for n in ("An", "Bo", "Cy", "Di", "Ed") for j in (1, 2) for k in (1, 2)
    ],
}


@pytest.mark.parametrize("kind", NO_CLASSES)
def test_folders_that_are_no_classes(tmp_path, caplog, kind):
    root = pool(tmp_path / "pool", *NO_CLASSES[kind])
    with caplog.at_level(logging.WARNING):
        assert set(labels(root).values()) == {None}
    assert "taken for no classes" in caplog.text
    assert set(labels(root, findings=("normal", "pneumonia")).values()) == {None}
    tops = sorted({path.split("/")[0] for path in NO_CLASSES[kind]})
    sides = {top: ("train", "dev")[i % 2] for i, top in enumerate(tops)}
    split = pool(tmp_path / "split", *(f"{sides[path.split('/')[0]]}/{path}" for path in NO_CLASSES[kind]))
    scans = listed(split)
    assert scans["label"].null_count == len(scans) and set(scans["pool_split"].to_pylist()) == {"train", "dev"}


CLASSES = {
    "two": {"normal": 1, "sick": 1},
    "numbers": {"0": 3, "1": 4},
    "grades": {str(grade): 3 for grade in range(5)},
    "numbered classes": {f"class_{i}": 3 for i in range(3)},
    "grades with a word": {f"stage {i}": 3 for i in range(4)},
    "a number in the name": {"covid19": 3, "sars-cov-2": 3, "normal": 2},
    "many": dict.fromkeys(("a", "b", "c", "d", "e", "f", "g"), 3),
}


@pytest.mark.parametrize("kind", CLASSES)
def test_folders_that_are_classes(tmp_path, kind):
    paths = [f"{name}/{i}.png" for name, count in CLASSES[kind].items() for i in range(count)]
    assert labels(pool(tmp_path / "pool", *paths)) == {path: path.split("/")[0] for path in paths}


def test_folders_that_are_asked_for_are_classes_whatever_they_are_called(tmp_path):
    paths = [f"batch{i}/{j}.png" for i in range(2) for j in range(2)]
    found = labels(pool(tmp_path / "pool", *paths), findings=("Batch0", "batch1"))
    assert set(found.values()) == {"Batch0", "batch1"}
    masks = labels(pool(tmp_path / "m", "mask/a.png", "normal/b.png"), findings=("mask", "normal"))
    assert masks == {"mask/a.png": "mask", "normal/b.png": "normal"}


@pytest.mark.parametrize(
    "name",
    [
        "unlabelled",
        "Unlabeled",
        "_unlabelled_images",
        "TODO",
        "unknown",
        "no label",
        "un-labeled",
        "to_label",
        "unsorted",
    ],
)
def test_what_nobody_has_labelled(tmp_path, name):
    root = pool(tmp_path / "pool", "normal/a.png", "sick/b.png", f"{name}/c.png")
    expected = {"normal/a.png": "normal", "sick/b.png": "sick", f"{name}/c.png": None}
    assert labels(root) == labels(root, findings=("normal", "sick")) == expected
    beside = pool(tmp_path / "split", "train/normal/a.png", "test/sick/b.png", f"{name}/c.png")
    assert listed(beside)["pool_split"].to_pylist().count(None) == 1


def test_a_folder_beside_the_classes_is_asked_about(tmp_path):
    root = pool(tmp_path / "pool", "normal/a.png", "pneumonia/b.png", "covid/c.png", "covid/d.png")
    with pytest.raises(InputError, match=r"none of pool\.findings.*'covid': 2.*call the folder 'unlabelled'"):
        listed(root, findings=("normal", "pneumonia"))
    near = pool(tmp_path / "near", "normal/a.png", "pnuemonia/b.png")
    with pytest.raises(InputError, match="id you mean 'pneumonia'"):
        listed(near, findings=("normal", "pneumonia"))
    assert set(labels(pool(tmp_path / "wards", "east/a.png", "west/b.png"), findings=("normal", "sick")).values()) == {
        None
    }


def test_masks_thumbnails_and_what_systems_make_are_left_out_and_counted(tmp_path, caplog):
    scans = [f"{name}/{i}.png" for name in ("normal", "sick") for i in range(2)]
    others = [
        *("left_mask/0.png", "normal/lungMasks/0.png", "sick/0_mask.png", "sick/1-seg.png", "Segmentation/1.png"),
        *("normal/@eaDir/0.png/THUMB.png", "sick/@Recycle/1.png", "sick/.@__thumb/0.png", "#snapshot/normal/0.png"),
        *("normal/thumbs/0.png", "Previews/1.png", "normal/._0.png", "normal/desktop.ini", "normal/Thumbs.db"),
        *("sick/notes.docx", "sick/a.docx", "sick/b.JSON"),
    ]
    root = pool(tmp_path / "pool", *scans, *others)
    with caplog.at_level(logging.INFO):
        assert [*labels(root)] == scans
    for line in (
        "5 of 21 files are called masks or annotations and are left out: 5 .png",
        "2 of 21 files lie in folders of thumbnails and are left out: 2 .png",
        "7 of 21 files are hidden, or put there by systems (such as @eaDir), and are left out: 5 .png, 1 .db, 1 .ini",
        "3 of 21 files are no scans and are left out: 2 .docx, 1 .json",
    ):
        assert line in caplog.text
    assert len(scans) + 5 + 2 + 7 + 3 == 21


def test_a_file_called_mask_alone_is_a_scan(tmp_path):
    assert [*labels(pool(tmp_path / "pool", "o2_mask.png", "b.png"))] == ["b.png", "o2_mask.png"]


def test_twins_are_left_out_where_each_has_its_scan(tmp_path):
    twins = pool(tmp_path / "pool", "images/a.png", "images/b.png", "labels/a.png", "images/b_thumb.png")
    assert [*labels(twins)] == ["images/a.png", "images/b.png"]
    others = pool(tmp_path / "others", "labels/a.png", "labels/c.png", "images/a.png")
    assert len(labels(others)) == 3


def test_the_table_beside_the_scans_and_twins_are_named(tmp_path, caplog):
    root = pool(tmp_path / "pool", "a.png", "b.png", "labels.xlsx", "A.dcm")
    listed(root)
    assert "the table 'labels.xlsx' in it is not read" in caplog.text
    assert "1 names are there as DICOM and as a picture" in caplog.text


def test_classes_in_several_spellings_are_one(tmp_path):
    root = pool(
        tmp_path / "pool", "train/NORMAL/a.png", "train/sick/b.png", "validate/Normal/c.png", "test/Sick /d.png"
    )
    assert len(set(labels(root).values())) == 2
    assert set(listed(root)["pool_split"].to_pylist()) == {"train", "validate", "test"}
