"""The exported classifier gives elsewhere what it gave in the run."""

import csv
import io
import json
import subprocess
import sys

import numpy as np
import onnxruntime as ort
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from embeddings import decode
from pipeline.commands.export import FILES
from pipeline.contracts.tables import MANIFEST, PREDICTIONS
from pipeline.predict import other_scans, predictor, recipe
from pipeline.predict.heat_maps import of_run, shuffled
from tests.pool.test_reading import forms
from tests.support.dicom_files import chest, file_bytes
from tests.support.tiny import FAST, call

PHANTOM = "phantom:num_patients=30,size_px=64,seed=5"
QUICK = (
    "--set",
    "calibrate.num_folds=2",
    "--set",
    "network.min_steps=4",
    "--set",
    "network.num_views=2",
    "--set",
    "audit.num_bootstrap=0",
    "--set",
    "network.lr=1e-6",
)


@pytest.fixture(scope="module", params=["head", "partial"])
def exported(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    run = call(
        "run",
        "--pool",
        PHANTOM,
        "--oracle",
        "--rounds",
        "1",
        "--budget",
        "12",
        "--out",
        folder / "run",
        *FAST,
        *QUICK,
        "--set",
        f"train.adapt={request.param}",
    )
    assert run.code == 0, run.err
    answer = call("export", folder / "run", "--out", folder / "model", "--json")
    assert answer.code == 0, answer.err
    return folder / "run", folder / "model", answer.json, request.param


def test_it_holds_everything(exported):
    run, out, answer, way = exported
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    card = json.loads((out / "card.json").read_text())
    assert json.loads((run / "rounds" / "01" / "model" / "card.json").read_text())["input"] == (
        "scan" if way == "partial" else "embedding"
    )
    assert card["input"] == "scan" and card["findings"][0] == "normal"
    assert card["check"] == answer["check"] and answer["check"]["num_scans"] == 32
    assert json.loads((out / "preprocessing.json").read_text())["size_px"] == 64
    assert (out / "MODEL_CARD.md").read_text().startswith("# Model card")


def test_onnx_gives_the_predictions_of_the_run(exported):
    run, out, answer, _ = exported
    table, manifest = PREDICTIONS.read(run), MANIFEST.read(run)
    place = pc.index_in(table["image_id"], value_set=manifest["image_id"].combine_chunks())
    uris = manifest["uri"].take(place).to_pylist()
    scan = np.stack([decode.load_square(decode.read_bytes(uri), 64, max_pixels=10**8) for uri in uris])
    session = ort.InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"])
    found = session.run(["probability"], {"scan": scan})[0]
    card = json.loads((out / "card.json").read_text())
    expected = np.column_stack([table[f"prob_{finding}"].to_numpy() for finding in card["findings"]])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found.sum(1), 1.0, atol=1e-5)
    named = np.array(card["findings"])[(found / np.array(card["operating_weights"])).argmax(1)]
    assert (named == np.array(table["predicted"].to_pylist())).all()
    assert answer["check"]["onnx_against_torch"] < 1e-3 and answer["check"]["onnx_against_run"] < 1e-5


def rows_of(out, *names, cwd):
    """What the exported script says of files, in an interpreter that finds nothing of this project."""
    done = subprocess.run(
        [sys.executable, "-I", out / "predict.py", *names], capture_output=True, text=True, check=True, cwd=cwd
    )
    return list(csv.DictReader(io.StringIO(done.stdout)))


def test_predict_gives_the_probabilities_of_the_run(exported, tmp_path):
    run, _, _, _ = exported
    answer = call("predict", run, PHANTOM, "--out", tmp_path / "rows.parquet", "--json")
    assert answer.code == 0, answer.err
    rows, table = pq.read_table(tmp_path / "rows.parquet"), PREDICTIONS.read(run)
    place = pc.index_in(rows["image_id"], value_set=table["image_id"].combine_chunks())
    assert len(rows) == len(MANIFEST.read(run)) and place.null_count == 0
    for name in [name for name in table.column_names if name.startswith("prob_")]:
        here = rows[name].to_numpy()
        np.testing.assert_allclose(here, table[name].take(place).to_numpy(), rtol=0, atol=1e-6)
        low, high = (rows[f"{name}_{end}"].to_numpy() for end in ("low", "high"))
        assert ((low <= here) & (here <= high)).all() and (high > low).any()
    assert rows["answer"].to_pylist() == table["predicted"].take(place).to_pylist()
    assert set(rows["in_run"].to_pylist()) == {"train", "holdout"}
    assert sum(answer.json["num_in_run"].values()) == len(rows)
    assert "files that the run has itself" in answer.err


def test_every_form_of_a_scan_gets_the_rows_of_the_product(exported, tmp_path):
    run, out, _, _ = exported
    pool = tmp_path / "pool"
    pool.mkdir()
    broken = {"broken.png": b"\x89PNG\r\n\x1a\n no more", "ct.dcm": file_bytes(chest(3, 64), Modality="CT")}
    for name, data in (forms(0) | broken).items():
        (pool / name).write_bytes(data)
    assert call("predict", run, pool, "--out", tmp_path / "rows.json").code == 0
    theirs = {row["path"].rpartition("/")[2]: row for row in rows_of(out, pool, cwd=tmp_path)}
    ours = {row["path"]: row for row in json.loads((tmp_path / "rows.json").read_text())["scans"]}
    assert ours.keys() == theirs.keys()
    for name, row in ours.items():
        for column in theirs[name].keys() & row.keys() - {"path"}:
            if isinstance(row[column], float):
                assert float(theirs[name][column]) == pytest.approx(row[column], abs=1e-5), (name, column)
            else:
                text = str(row[column]).lower() if isinstance(row[column], bool) else row[column] or ""
                assert theirs[name][column] == text, (name, column)
    assert "set aside: modality CT" in ours["ct.dcm"]["reason"] and "cannot be" in ours["broken.png"]["reason"]
    alone = {name: row["note"] for name, row in ours.items() if "does not say what is white" in (row["note"] or "")}
    assert alone["12in16.png"].endswith("its values need 12 of 16 bits: read with white 4095")
    assert set(alone) >= {name for name in ours if "in16" in name} and not set(alone) & {"8.png", "16.png", "12.dcm"}
    scores = [row["outside_score"] for name, row in ours.items() if name not in broken]
    assert max(scores) - min(scores) < 0.1 * max(scores)  # the same picture, whatever holds it


def test_the_exported_script_says_what_it_lacks_for_dicom(exported, tmp_path):
    _, out, _, _ = exported
    (tmp_path / "a.dcm").write_bytes(file_bytes(chest(0, 64)))
    code = (
        "import sys; sys.modules['pydicom'] = None; sys.path.insert(0, sys.argv[1])\n"
        "from predict import HERE, Model\n"
        "import json, pathlib\n"
        "print(json.dumps([Model(HERE).row(pathlib.Path(sys.argv[2])), sorted(sys.modules)]))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, out, tmp_path / "a.dcm"], capture_output=True, text=True, check=True
    )
    row, modules = json.loads(done.stdout)
    assert row["status"] == "unusable" and "pip install pydicom" in row["reason"]
    assert not {"pipeline", "embeddings", "torch", "pyarrow", "pandas", "scipy"} & set(modules)


def test_weights_that_do_not_belong_to_the_run_are_refused(exported, tmp_path):
    run, _, _, way = exported
    home = run / "rounds" / "01" / "model"
    file = home / "model.safetensors"
    before = file.read_bytes()
    arrays = load_file(file)
    name = "weight0" if way == "head" else max(n for n in arrays if ".head." in n and n.endswith("weight"))
    try:
        save_file(arrays | {name: -arrays[name]}, file)
        answer = call("export", run, "--out", tmp_path / "model")
    finally:
        file.write_bytes(before)
    assert answer.code == 2 and "does not give the probabilities of the run" in answer.message


def test_a_folder_that_is_not_empty_is_refused(exported, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    answer = call("export", exported[0], "--out", tmp_path)
    assert answer.code == 2 and "is not empty" in answer.message and (tmp_path / "mine.txt").read_text() == "keep"


def test_a_run_without_a_model_is_refused(tmp_path):
    answer = call("export", tmp_path, "--out", tmp_path / "model")
    assert answer.code == 2 and "is not a run directory" in answer.message


def test_heat_maps_are_checked_with_the_head_shuffled_and_with_all_layers(exported, tmp_path, monkeypatch):
    run, _, _, way = exported
    model = predictor.load(recipe.of_run(run, other_scans.config_for(run, str(run), {})))
    scan = np.random.default_rng(0).random((2, 1, 64, 64)).astype(np.float32)
    others = shuffled.models(model, np.random.default_rng(0))
    has_file = way == "partial" or model.recipe.embedder is not None  # what runs through torch is not shuffled
    assert set(others) == ({shuffled.HEAD, shuffled.ALL} if has_file else {shuffled.HEAD})
    own = model.evidence(scan)
    for other in others.values():
        evidence = other(scan)
        assert evidence.keys() == own.keys()
        assert any(not np.allclose(evidence[finding], own[finding], atol=1e-3) for finding in own)
    monkeypatch.setattr(of_run, "NUM_SCANS", 4)  # too few for any map to pass
    monkeypatch.setattr(of_run, "NUM_REFERENCE", 1)
    answer = call("predict", run, PHANTOM, "--out", tmp_path / "rows.csv", "--heat-maps", tmp_path / "maps")
    assert answer.code == 2 and "no heat map of this model has passed its checks" in answer.message
    assert not (tmp_path / "rows.csv").exists() and not (tmp_path / "maps").exists()
