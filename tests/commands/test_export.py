"""The exported classifier gives elsewhere what it gave in the run."""

import json
import re
import subprocess
import sys

import numpy as np
import onnxruntime as ort
import pyarrow.compute as pc
import pytest
from safetensors.numpy import load_file, save_file

from embeddings import decode
from pipeline.commands.export import FILES
from pipeline.contracts.tables import MANIFEST, PREDICTIONS
from tests.pool.test_reading import forms
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
    np.testing.assert_allclose(found, expected, atol=0.01)
    np.testing.assert_allclose(found.sum(1), 1.0, atol=1e-5)
    named = np.array(card["findings"])[(found / np.array(card["operating_weights"])).argmax(1)]
    assert (named == np.array(table["predicted"].to_pylist())).mean() > 0.98  # half precision in the run
    assert answer["check"]["onnx_against_torch"] < 1e-4


def test_the_example_runs_without_this_package(exported, tmp_path):
    run, out, _, _ = exported
    uri = MANIFEST.read(run)["uri"][0].as_py()
    done = subprocess.run(
        [sys.executable, "-I", out / "example.py", uri], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    card = json.loads((out / "card.json").read_text())
    name, _, rest = done.stdout.rpartition(": ")
    assert name == uri and rest.split(" ")[0] in card["findings"]


def test_the_example_reads_every_form_of_a_scan_alike(exported, tmp_path):
    _, out, _, _ = exported
    names = []
    for name, data in forms(0).items():
        (tmp_path / name).write_bytes(data)
        names.append(str(tmp_path / name))
    done = subprocess.run(
        [sys.executable, "-I", out / "example.py", *names], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    found = np.array([[float(p) for p in re.findall(r" (\d\.\d{3})", line)] for line in done.stdout.splitlines()])
    assert len(found) == len(names) and np.ptp(found, axis=0).max() < 0.05


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
