"""Sets through `pool.uri`: files that are there or not, findings asked for, splits, sets of other packages."""

import logging
import zipfile
from importlib.metadata import EntryPoint

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.contracts import config_file
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.scans import PoolConfig
from pipeline.contracts.tables import MANIFEST, POOL_LABELS, POOL_READINGS
from pipeline.pool import manifest
from pipeline.pool.sets import labeler_columns, registry
from pipeline.pool.sets.public_set import ON_SCAN, SetFolder, SetScans
from pipeline.pool.sets.set_tables import columns, constant
from pipeline.pool.sources import open_pool
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine

NIH = "Image Index,Finding Labels,Patient ID,Patient Age,Patient Gender,View Position\n"
ROWS = ("a.png,Mass|Nodule,1,58,M,PA\n", "b.png,No Finding,1,59,M,AP\n", "c.png,Edema,2,60,F,PA\n")
VINBIG = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\n"
BOXES = "".join(
    f"{scan},{name},0,{reader},1,1,2,2\n"
    for scan, name, reader in (
        *(("a", "Mass", "R1"), ("a", "Mass", "R2"), ("a", "No finding", "R3")),
        *(("b", "No finding", "R1"), ("b", "No finding", "R2"), ("b", "No finding", "R3")),
    )
)


def touch(folder, *files):
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()


def nih(folder, *files, rows=ROWS):
    folder.mkdir(exist_ok=True)
    (folder / "Data_Entry_2017.csv").write_text(NIH + "".join(rows))
    touch(folder, *files)
    return folder


def opened(name, folder, tmp_path, **options):
    options = {"findings_are": "independent"} | options
    return open_pool(PoolConfig(uri=f"{name}:{folder}", **options), tmp_path / "cache")


def by_path(pool, column):
    return dict(zip(pool.scans["path"].to_pylist(), pool.scans[column].to_pylist(), strict=True))


def test_rows_without_a_file_are_counted(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    folder = nih(tmp_path / "nih", "images_001/images/a.png", "images_002/images/c.jpg", "images_002/images/notes.txt")
    pool = opened("nih", folder, tmp_path)
    labels = by_path(pool, "label")
    assert list(labels) == ["images_001/images/a.png", "images_002/images/c.jpg"], "whatever the ending"
    assert "Mass=1|Nodule=1" in labels["images_001/images/a.png"]
    assert list(pool.left_out) == [("no file in the folder", 1)]
    assert "1 rows are left out: 1 x no file in the folder" in caplog.text
    assert pool.scans["uri"][0].as_py() == str(folder / "images_001/images/a.png")
    assert by_path(pool, "patient_id") == dict(zip(labels, ["1", "2"], strict=True))
    assert by_path(pool, "age_years")["images_001/images/a.png"] == 58 and pool.name == "NIH ChestX-ray14"


def test_a_folder_with_none_of_the_scans_is_one_clear_error(tmp_path):
    folder = nih(tmp_path / "nih", "photos/holiday.png")
    with pytest.raises(InputError, match=r"none of the 3 scans .* looked for 'a\.png'.*'photos/holiday\.png'"):
        opened("nih", folder, tmp_path)
    empty = nih(tmp_path / "empty")
    with pytest.raises(InputError, match="there is no image at all"):
        opened("nih", empty, tmp_path)


def test_longer_ends_of_a_path_win_and_masks_lose(tmp_path):
    labeler = ",".join(labeler_columns.COLUMNS)
    (tmp_path / "train.csv").write_text(
        f"Path,Sex,Age,Frontal/Lateral,AP/PA,{labeler}\n"
        + "".join(
            f"CheXpert-v1.0/train/patient0000{n}/study{k}/view1_frontal.jpg,Male,50,Frontal,PA,{n - 1}.0{',' * 13}\n"
            for n, k in ((1, 1), (1, 2), (2, 1))
        )
    )
    files = [f"train/patient0000{n}/study{k}/view1_frontal.jpg" for n, k in ((1, 1), (1, 2), (2, 1))]
    touch(tmp_path, *files, "masks/train/patient00001/study1/view1_frontal.jpg")
    pool = opened("chexpert", tmp_path, tmp_path)
    assert pool.scans["path"].to_pylist() == files
    assert pool.scans["label"].null_count == 2, "only the third says anything, and that nothing is there"
    assert "Edema=0" in pool.scans["label"][2].as_py() and "Support Devices=?" in pool.scans["label"][2].as_py()


def test_two_rows_of_one_file_are_one_scan(tmp_path):
    pool = opened("nih", nih(tmp_path / "n", "a.png", rows=(ROWS[0], ROWS[0], ROWS[2])), tmp_path)
    assert len(pool.scans) == 1
    assert dict(pool.left_out) == {"no file in the folder": 1, "a row above has the same file": 1}


def test_findings_are_named_in_any_case_and_a_typo_is_told(tmp_path):
    folder = nih(tmp_path / "nih", "a.png", "c.png")
    pool = opened("nih", folder, tmp_path, findings=("edema", "Mass"))
    assert by_path(pool, "label") == {"a.png": "edema=0|Mass=1", "c.png": "edema=1|Mass=0"}
    one = opened("nih", folder, tmp_path, finding="edema")
    assert by_path(one, "label") == {"a.png": "no edema", "c.png": "edema"}
    with pytest.raises(InputError, match="Did you mean 'Nodule'"):
        opened("nih", folder, tmp_path, findings=("Nodul",))
    with pytest.raises(InputError, match=r"several findings at once.*pool\.findings_are=independent"):
        opened("nih", folder, tmp_path, findings_are="exclusive")


def test_a_set_of_one_finding_is_two_classes(tmp_path):
    (tmp_path / "train-rle.csv").write_text("ImageId, EncodedPixels\n1.2.3,-1\n1.2.4,5 6\n")
    touch(tmp_path, "x/1.2.3.dcm", "y/1.2.4")  # DICOM files may have no ending
    pool = opened("siim", tmp_path, tmp_path, findings_are="exclusive")
    assert by_path(pool, "label") == {"x/1.2.3.dcm": "no pneumothorax", "y/1.2.4": "pneumothorax"}
    assert by_path(opened("siim", tmp_path, tmp_path), "label")["y/1.2.4"] == "pneumothorax=1"


def test_the_owners_split_counts_where_it_has_both_sides(tmp_path, caplog):
    folder = nih(tmp_path / "nih", "a.png", "c.png")
    (folder / "train_val_list.txt").write_text("a.png\nb.png\n")
    (folder / "test_list.txt").write_text("c.png\n")
    assert by_path(opened("nih", folder, tmp_path), "pool_split") == {"a.png": "train", "c.png": "test"}
    (folder / "c.png").unlink()
    assert by_path(opened("nih", folder, tmp_path), "pool_split") == {"a.png": None}
    assert "only train is there, so it is not used" in caplog.text


def test_an_unknown_name_lists_what_is_known(tmp_path):
    with pytest.raises(InputError, match=r"unknown kind of pool 'hin:'.*known sets are brax, chexpert.*vindr"):
        opened("hin", tmp_path, tmp_path)
    for place in ("", str(tmp_path / "none")):
        with pytest.raises(InputError, match="Write nih:FOLDER"):
            opened("nih", place, tmp_path)


def read_clinic(folder: SetFolder) -> SetScans:
    cells = columns(folder, folder.need("Clinic", "clinic.csv"), ("file", "sick"))
    present_NC = np.array([[int(sick)] for sick in cells["sick"].to_pylist()], np.int8)
    return SetScans("Clinic", cells["file"], ("sick",), present_NC, {}, constant(ON_SCAN, len(present_NC)))


def test_other_packages_add_sets_by_entry_point(tmp_path, monkeypatch, caplog):
    entries = [
        EntryPoint("Clinic", f"{__name__}:read_clinic", registry.GROUP),
        EntryPoint("nih", f"{__name__}:read_clinic", registry.GROUP),
        EntryPoint("broken", "no.such.module:read", registry.GROUP),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries if group == registry.GROUP else [])
    (tmp_path / "clinic.csv").write_text("file,sick\n1.png,1\n2.png,0\n")
    touch(tmp_path, "1.png", "2.png")
    assert by_path(opened("clinic", tmp_path, tmp_path), "label") == {"1.png": "sick=1", "2.png": "sick=0"}
    assert {"clinic", "broken"} <= set(registry.names())
    assert "ships with cxr-ssl: ours is read" in caplog.text
    with pytest.raises(InputError, match=r"no\.such\.module:read.*cannot be imported"):
        opened("broken", tmp_path, tmp_path)


def test_every_reader_of_ours_can_be_imported():
    for name in registry.OWN:
        assert callable(registry.reader_of(name))


def test_sets_in_an_archive_and_in_an_object_store(tmp_path):
    folder = nih(tmp_path / "nih", "images/a.png")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for file in ("Data_Entry_2017.csv", "images/a.png"):
            archive.write(folder / file, file)
    packed = opened("nih", tmp_path / "set.zip", tmp_path)
    assert packed.scans["uri"].to_pylist() == [f"{tmp_path / 'set.zip'}!/images/a.png"]
    import fsspec

    store = fsspec.filesystem("memory")
    store.pipe({"/set/images/a.png": b"", "/set/Data_Entry_2017.csv": (NIH + ROWS[0]).encode()})
    far = opened("nih", "memory://set", tmp_path)
    assert far.scans["uri"].to_pylist() == ["memory://set/images/a.png"]


def test_the_manifest_stage_keeps_who_said_what(tmp_path):
    folder, out = tmp_path / "set", tmp_path / "run"
    folder.mkdir()
    out.mkdir()
    (folder / "train.csv").write_text(VINBIG + BOXES + "gone,Mass,0,R1,1,1,2,2\n")
    for seed, name in enumerate(("a", "b")):
        pixels_HW = np.random.default_rng(seed).integers(0, 255, (40, 40), dtype=np.uint8)
        Image.fromarray(pixels_HW).save(folder / f"{name}.png")
    options = {"pool.uri": f"vinbig:{folder}", "pool.findings_are": "independent"}
    ctx = StageContext(config_file.load(None, options), out, SerialEngine())
    counts = manifest.run(ctx)
    assert (counts["num_scans"], counts["num_readings"], counts["num_rows_left_out"]) == (2, 6, 1)
    said = POOL_READINGS.read(out).to_pylist()
    ids = MANIFEST.read(out)["image_id"].to_pylist()
    assert [(row["image_id"], row["reader"], row["label"]) for row in said[:3]] == [
        (ids[0], "R1", "Mass=1"),
        (ids[0], "R2", "Mass=1"),
        (ids[0], "R3", "Mass=0"),
    ]
    assert {row["provenance"] for row in said} == {ON_SCAN}
    assert POOL_LABELS.read(out)["label"].to_pylist() == ["Mass=1", "Mass=0"]
    plain = StageContext(config_file.load(None, {"pool.uri": str(folder)}), out, SerialEngine())
    manifest.run(plain)
    assert not (out / POOL_READINGS.file).exists(), "of a pool that does not tell nothing is left over"


def test_who_has_no_name_is_kept_by_what_was_read(tmp_path):
    said = opened("nih", nih(tmp_path / "nih", "a.png"), tmp_path).statements
    assert said.drop_columns(["label"]).to_pylist() == [
        {"image_path": "a.png", "reader": None, "provenance": "NLP, on the report"}
    ]
    assert said["label"].type == pa.string()
