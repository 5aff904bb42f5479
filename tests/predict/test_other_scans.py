"""The scans to predict: one file, any pool whatever its labels; what the run has of them."""

import hashlib

import pyarrow as pa
import pytest

from pipeline.contracts import config_file
from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import MANIFEST, write_text
from pipeline.predict import other_scans
from pipeline.runtime import run_files
from tests.pool.test_reading import png
from tests.support.dicom_files import chest, file_bytes
from tests.support.synthetic_run import synthetic_run
from tests.support.tiny import make_pool, picture


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = synthetic_run(tmp_path_factory.mktemp("run"), num_scans=60, num_holdout=20)
    write_text(made.folder / run_files.RESOLVED, config_file.dump(made.ctx.config))
    return made


def opened(run, pool, **overrides):
    return other_scans.open_scans(other_scans.config_for(run.folder, str(pool), overrides))


def test_one_file_is_a_pool_of_one(run, tmp_path):
    for name, data in {"a.bin": file_bytes(chest(0, 64)), "b.png": png(chest(0, 64))}.items():
        (tmp_path / name).write_bytes(data)
        scans = opened(run, tmp_path / name).scans
        assert scans["path"].to_pylist() == [name] and scans["uri"].to_pylist() == [str(tmp_path / name)]
    for name in ("empty.png", "text.JPG"):  # broken, and no table for that
        (tmp_path / name).write_bytes(b"" if "empty" in name else b"no picture")
        assert opened(run, tmp_path / name).scans["path"].to_pylist() == [name]
    assert len(opened(run, make_pool(tmp_path / "pool", num=4) / "manifest.csv").scans) == 4


def test_labels_of_any_kind_are_no_obstacle(run, tmp_path):
    for side in ("odd", "even"):
        (tmp_path / "folders" / side).mkdir(parents=True)
        picture(1).save(tmp_path / "folders" / side / "a.png")
    assert len(opened(run, tmp_path / "folders").scans) == 2
    strange = make_pool(tmp_path / "other", num=4, row=lambda i: (f"unheard-of-{i}", "p"))
    assert len(opened(run, strange).scans) == 4
    independent = synthetic_run(
        tmp_path / "several",
        num_scans=30,
        num_holdout=5,
        oracle=False,
        labelled=(),
        pool__findings=["mass"],
        pool__findings_are="independent",
    )
    write_text(independent.folder / run_files.RESOLVED, config_file.dump(independent.ctx.config))
    assert len(opened(independent, tmp_path / "folders").scans) == 2


def test_an_empty_pool_and_an_option_of_the_model_are_refused(run, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images in this folder"):
        opened(run, tmp_path / "empty")
    with pytest.raises(InputError, match="no such file or folder"):
        opened(run, tmp_path / "gone")
    with pytest.raises(InputError, match="the model was made with another value"):
        other_scans.config_for(run.folder, "x", {"preprocess.size_px": 64})


def test_the_white_of_the_run_is_handed_on(run, tmp_path):
    assert other_scans.config_for(run.folder, "x", {}).pool.white == "auto"
    manifest = MANIFEST.read(run.folder)
    place = manifest.schema.get_field_index("white")
    rows = pa.array([[None, 4095, 1023][i % 3] for i in range(len(manifest))], pa.int32())
    MANIFEST.write(run.folder, manifest.set_column(place, manifest.schema.field(place), rows))
    try:
        assert other_scans.config_for(run.folder, "x", {}).pool.white == (1023, 4095)
        assert other_scans.config_for(run.folder, "x", {"pool.white": 255}).pool.white == 255
    finally:
        MANIFEST.write(run.folder, manifest)


def test_files_that_the_run_has_are_told_by_their_content(run):
    manifest = MANIFEST.read(run.folder)
    known = dict(zip(manifest["image_id"].to_pylist(), manifest["sha256"].to_pylist(), strict=True))
    train, held_out = (known[run.ids(side)[0]] for side in ("train", "holdout"))
    other = hashlib.sha256(b"other").hexdigest()
    sides = other_scans.ScansOfRun(run.folder).sides(pa.chunked_array([[train, other, None, held_out]]))
    assert sides.to_pylist() == ["train", None, None, "holdout"]
