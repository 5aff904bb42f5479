"""`doctor --privacy`: of a pool full of names nothing is found in what a run wrote; what is planted there is found."""

import base64
import io
import json
import zipfile

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import helper
from PIL import Image, PngImagePlugin
from safetensors.numpy import save_file

from pipeline.commands.privacy import run_scan
from pipeline.commands.privacy.identifiers import Identifiers
from pipeline.contracts import config_file
from pipeline.contracts.errors import InputError, RunDirError
from pipeline.contracts.tables import write_parquet
from pipeline.runtime import run_dir, run_files
from tests.support.dicom_files import chest, file_bytes
from tests.support.tiny import CLASSES, FAST, call, picture

NAME, MRN, PATH = "Quintanilla^Marisol", "KX-4821077", "vandermolen-77"
PERSONS = {
    "column": "Thistlewood",
    "tag": "Brzezinska^Olga",
    "exif": "Oyelaran Adebayo",
    "png": "Szymborska Ewa",
    "jpeg": "Nwosu Chidinma",
}


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """Names and ids in tags, paths, columns, EXIF and PNG text: 24 scans of 12 patients."""
    folder = tmp_path_factory.mktemp("of-people") / "pool"
    folder.mkdir()
    lines = ["image_path,label,patient_id,patient_name"]
    for i in range(24):
        name, image = f"{PATH}-{i:03d}", picture(i, bright=60 * (i // 2 % 2))
        if i % 4 == 0:
            tags = {"PatientName": PERSONS["tag"], "PatientID": f"{MRN}{i // 2}", "AccessionNumber": f"ACC77120{i}"}
            name += ".dcm"
            (folder / name).write_bytes(file_bytes(chest(i), **tags))
        elif i % 4 == 1:
            exif = Image.Exif()
            exif[315] = PERSONS["exif"]
            name += ".jpg"
            image.save(folder / name, exif=exif, comment=PERSONS["jpeg"])
        else:
            text = PngImagePlugin.PngInfo()
            text.add_text("Comment", PERSONS["png"])
            name += ".png"
            image.save(folder / name, pnginfo=text)
        lines.append(f"{name},{CLASSES[i // 2 % 2]},{MRN}{i // 2},{PERSONS['column']}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


@pytest.fixture
def begun(pool, tmp_path):
    """A run of that pool that has written its options alone."""
    run_dir.write_config(tmp_path / "run", config_file.load(None, {"pool.uri": str(pool)}))
    return tmp_path / "run"


def test_a_run_of_a_pool_of_people_names_nobody(pool, tmp_path):
    short = ("--rounds", "1", "--budget", "8", "--oracle", "--set", "calibrate.num_folds=2", *FAST)
    answer = call("run", "--pool", pool, "--out", tmp_path / "run", *short)
    assert answer.code == 0, answer.err
    for formats in ("csv", "html", "bundle", "labelstudio"):
        assert call("queue", "export", tmp_path / "run", "--format", formats).code == 0
    exported = call("export", tmp_path / "run", "--out", tmp_path / "run" / "handed-on")
    assert exported.code == 0, exported.err
    answer = call("doctor", "--privacy", tmp_path / "run", "--json")
    assert answer.json["found"] == [] and answer.json["unreadable"] == []
    assert (answer.code, answer.json["ok"]) == (0, True)
    assert answer.json["num_terms"] > 24 and answer.json["num_files"] > 20


def test_all_that_a_pool_says_of_people_is_looked_for(begun):
    words = [*PERSONS.values(), "Olga", "Adebayo", f"{MRN}3", "ACC771204", f"{PATH}-003"]
    for number, word in enumerate(words):
        (begun / f"{number}.txt").write_text(f"one\n{word.replace('^', ', ')} was here\n")
    found = run_scan.scan(begun)["found"]
    assert {(row["file"], row["place"]) for row in found} == {(f"{i}.txt", "line 2") for i in range(len(words))}
    assert {row["kind"] for row in found} == {
        *("patient id", "column of a table", "name in a DICOM tag", "DICOM tag"),
        *("name in EXIF or PNG text", "part of a path"),
    }


def png(text):
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("Comment", text)
    stream = io.BytesIO()
    picture(0).save(stream, "PNG", pnginfo=chunks)
    return stream.getvalue()


def jpeg(text):
    exif, stream = Image.Exif(), io.BytesIO()
    exif[270] = text
    picture(0).save(stream, "JPEG", exif=exif)
    return stream.getvalue()


def zipped(text):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("inner.png", png(text))
    return stream.getvalue()


def write_onnx(path, text):
    graph = helper.make_graph([helper.make_node("Identity", ["a"], ["b"])], "graph", [], [])
    model = helper.make_model(graph)
    helper.set_model_props(model, {"note": text})
    onnx.save(model, path)


PLANTS = {
    "t.parquet": (lambda path, text: write_parquet(path, pa.table({"note": [None, text]})), "column note"),
    "t.json": (lambda path, text: path.write_text(json.dumps({"a": {"b": [1, text]}})), "a b"),
    "t.jsonl": (lambda path, text: path.write_text(json.dumps({"a": 1}) + "\n" + json.dumps({"a": text})), "line 2 a"),
    "t.html": (lambda path, text: path.write_text(f"<p>\n<b>{text}</b>"), "line 2"),
    "u.html": (
        lambda path, text: path.write_text(
            f'<img src="data:image/jpeg;base64,{base64.b64encode(jpeg(text)).decode()}">'
        ),
        "picture 1, EXIF ImageDescription",
    ),
    "t.png": (lambda path, text: path.write_bytes(png(text)), "text Comment"),
    "t.jpg": (lambda path, text: path.write_bytes(jpeg(text)), "EXIF ImageDescription"),
    "t.zip": (lambda path, text: path.write_bytes(zipped(text)), "inner.png, text Comment"),
    "t.onnx": (write_onnx, "metadata"),
    "t.safetensors": (lambda path, text: save_file({"a": np.zeros(2)}, path, {"note": text}), "metadata"),
    "t.npy": (lambda path, text: np.save(path, np.array([text])), "array"),
    "t.bin": (lambda path, text: path.write_bytes(b"\xff\xfe\x00" + text.encode() + b"\x00\xff"), "bytes"),
}


@pytest.mark.parametrize("name", PLANTS)
def test_what_is_planted_in_a_file_is_found(begun, tmp_path, name):
    (tmp_path / "terms.txt").write_text(f"{NAME}\n")
    plant, place = PLANTS[name]
    plant(begun / name, "Marisol Quintanilla")
    answer = call("doctor", "--privacy", begun, "--terms", tmp_path / "terms.txt")
    assert answer.code == 1
    assert f"{name}: {place}: listed term, 2 times" in answer.out
    assert "marisol" not in answer.out.casefold(), "what is found is not shown"


def test_the_manifest_alone_may_hold_paths_and_private_is_no_part_of_it(begun, pool):
    (begun / run_files.PRIVATE).mkdir()
    (begun / run_files.SALT).write_text(MRN)
    table = pa.table({"uri": [str(pool / f"{PATH}-002.png")], "note": ["plain"]})
    write_parquet(begun / "manifest.parquet", table)
    assert run_scan.scan(begun)["ok"]
    write_parquet(begun / "other.parquet", table)
    assert [(row["file"], row["place"]) for row in run_scan.scan(begun)["found"]] == [("other.parquet", "column uri")]


def test_a_file_that_cannot_be_read_is_said(begun):
    (begun / "broken.parquet").write_bytes(b"PAR1 and no more")
    found = run_scan.scan(begun)
    assert (found["unreadable"], found["ok"]) == (["broken.parquet"], False)


def test_short_numbers_and_fractions_are_no_finds():
    terms = Identifiers()
    for text in ("12", "4821", "48210", "image_12345", "Miller", "scan"):
        terms.add(text, "id")
    assert terms.num_too_short == 2
    assert not terms.count_in("12 4821 0.48210 -3.48210e-5 image 12346 millers scan")
    assert terms.count_in("id 48210; IMAGE-12345, (miller)") == {"id": 3}


@pytest.mark.parametrize(("annotator", "is_clean"), [("Dr Lee", True), ("Dr Cohen", False)])
def test_a_measure_that_is_called_after_somebody_is_nobody(begun, tmp_path, annotator, is_clean):
    (tmp_path / "terms.txt").write_text("Cohen\n")
    measured = {"intra": [{"annotator": annotator, "cohen": {"kind": "cohen"}}]}
    (begun / run_files.AGREEMENT).write_text(json.dumps(measured))
    assert run_scan.scan(begun, tmp_path / "terms.txt")["ok"] is is_clean


def test_what_programs_write_into_pictures_names_nobody():
    terms = Identifiers()
    terms.add_name("Intel(R) JPEG Library, version [2.0.18.50]; Szymborska Ewa", "name in EXIF or PNG text")
    terms.add("Cohen", "column of a table")
    assert not terms.count_in("Cohen’s kappa by cohen_kind, Cohen's kappa") and terms.count_in("seen by Dr Cohen")
    assert not terms.count_in("version 1 of the library") and terms.count_in("Szymborska, of all people")


def test_what_cannot_be_scanned_is_refused(begun, tmp_path):
    with pytest.raises(RunDirError, match="is not a run"):
        run_scan.scan(tmp_path)
    (tmp_path / "terms").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(InputError, match="--terms"):
        run_scan.scan(begun, tmp_path / "terms")
