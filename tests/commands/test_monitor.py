"""`cxr-ssl monitor`: batches that are alike and batches that are not, and what is refused."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline import api
from pipeline.monitor import page as monitor_page
from pipeline.monitor.observation import PATIENT
from pipeline.runtime import run_files
from tests.support.dicom_files import chest, file_bytes
from tests.support.tiny import CLASSES, FAST, call, picture

OPTIONS = ("calibrate.num_folds=2", "audit.num_bootstrap=0", "audit.max_scans=100", "audit.max_pictures=0")
PLAIN = [
    word for option in (*OPTIONS, "stop.advise=false", "splits.holdout_fraction=0.5") for word in ("--set", option)
]
QUICK = ("--set", "monitor.num_permutations=999")


def write_pool(folder, first, num, *, noise=0.0, columns=("label", "patient_id")):
    """Pictures of two classes, one scan a patient, that no other range of numbers has."""
    folder.mkdir(parents=True)
    lines = [",".join(("image_path", *columns))]
    for i in range(first, first + num):
        shown = np.asarray(picture(i, bright=60 * (i % 2)), float)
        shown += noise * np.random.default_rng(i).normal(size=shown.shape)
        Image.fromarray(np.clip(shown, 0, 255).astype(np.uint8)).save(folder / f"s{i:04d}.png")
        values = {"label": CLASSES[i % 2], "patient_id": f"p{i}"}
        lines.append(",".join((f"s{i:04d}.png", *(values[name] for name in columns))))
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("monitored")
    pool = write_pool(folder / "pool", 0, 120)
    out = folder / "run"
    done = call("run", "--pool", pool, "--oracle", "--rounds", 1, "--budget", 20, "--out", out, *FAST, *PLAIN)
    assert done.code == 0, done.err
    write_pool(folder / "alike", 1000, 40, columns=("patient_id",))
    return folder


def test_batch_after_batch_in_one_folder(home, tmp_path, monkeypatch):
    run, out = home / "run", tmp_path / "monitor"
    steady = call("monitor", run, home / "alike", "--out", out, *QUICK, "--json")
    assert steady.code == 0 and steady.json["verdict"] == "steady", steady.err
    assert steady.json["reference"]["side"] == "holdout" and steady.json["reference"]["num_scans"] >= 50
    assert steady.json["batch"]["num_compared"] == steady.json["batch"]["num_patients"] == 40
    noisy = write_pool(tmp_path / "noisy", 2000, 40, noise=12.0)
    monkeypatch.setattr(monitor_page, "is_seen_in", lambda uri, _: uri.endswith(("0.png", "1.png")))
    moved = call("monitor", run, noisy, "--out", out, *QUICK, drawn=True)
    assert moved.code in (5, 6) and "most probable cause: noise" in moved.out, moved.out
    content = json.loads((out / "monitor.json").read_text("utf-8"))
    assert content["exit_code"] == moved.code and content["streams"]["pictures"]["moved"]
    lines = [json.loads(line) for line in (out / "history.jsonl").read_text("utf-8").splitlines()]
    assert [line["verdict"] for line in lines] == ["steady", content["verdict"]]
    page = (out / "index.html").read_text("utf-8")
    assert (
        f"Verdict: {content['verdict']}" in page
        and "cause: <b>noise</b>" in page
        and "http" not in page.split("<main>")[1]
    )
    assert page.count("text in it: not shown</div>") > 0 and ": no picture" not in page
    assert sorted(path.name for path in out.iterdir()) == ["history.jsonl", "index.html", "monitor.json"]


def test_the_same_batch_gives_the_same_bytes_and_no_patient_is_written(home, tmp_path):
    for name in ("a", "b"):
        assert call("monitor", home / "run", home / "alike", "--out", tmp_path / name, *QUICK).code == 0
    assert (tmp_path / "a" / "monitor.json").read_bytes() == (tmp_path / "b" / "monitor.json").read_bytes()
    kept = pq.read_schema(home / "run" / run_files.MONITOR_REFERENCE).names
    assert not {PATIENT, "path"} & set(kept)


def test_five_scans_say_what_they_cannot_tell(home, tmp_path):
    five = write_pool(tmp_path / "five", 3000, 5)
    answer = call("monitor", home / "run", five, "--out", tmp_path / "out", *QUICK)
    assert answer.code == 0 and answer.out.startswith("unknown: fewer than 30 patients")
    assert "cannot be told: a batch of 5 patients is too small" in answer.out


def test_the_runs_own_scans_are_counted_and_left_out(home, tmp_path):
    mixed = shutil.copytree(home / "alike", tmp_path / "mixed")
    (mixed / "manifest.csv").unlink()
    for i in range(6):
        shutil.copy(home / "pool" / f"s{i:04d}.png", mixed)
    shutil.copy(mixed / "s1000.png", mixed / "again.png")
    answer = call("monitor", home / "run", mixed, "--out", tmp_path / "out", *QUICK, "--json")
    batch = answer.json["batch"]
    assert sum(batch["in_run"].values()) == 6 and batch["num_repeated"] == 1 and batch["num_compared"] == 40
    assert "6 of 47 scans are files that the run has itself" in answer.err
    same = call("monitor", home / "run", home / "pool", "--out", tmp_path / "same")
    assert same.code == 2 and "none of its 120 scans can be compared: 120 are files of the run" in same.message


def test_bad_requests_are_refused_and_nothing_is_written(home, tmp_path):
    run = home / "run"
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.png").write_text("no picture")
    (tmp_path / "ct").mkdir()
    (tmp_path / "ct" / "a.dcm").write_bytes(file_bytes(chest(0, 64, bits=12), Modality="CT"))
    for folder, line in (("other", '{"run": "r0"}'), ("torn", '{"run": ')):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "history.jsonl").write_text(line + "\n")
    copy = shutil.copytree(run, tmp_path / "copy")
    shutil.rmtree(copy / "rounds" / "01" / "model")
    for wrong, message in (
        ((run, tmp_path / "empty", "--out", tmp_path / "a"), "no images in this folder"),
        ((run, tmp_path / "text", "--out", tmp_path / "a"), "0 are files of the run itself, 1 are unusable"),
        ((run, tmp_path / "ct", "--out", tmp_path / "a"), "1 are unusable (set aside: modality CT, no radiograph)"),
        ((run, home / "alike", "--out", run), "holds something else"),
        ((run, home / "alike", "--out", tmp_path / "other"), "holds the batches of another run"),
        ((run, home / "alike", "--out", tmp_path / "torn"), "history.jsonl:1: is no line of a history"),
        ((run, home / "alike", "--out", run / "config.yaml"), "is a file, no folder"),
        ((copy, home / "alike", "--out", tmp_path / "a"), "no round of this run has learned a classifier yet"),
        ((run, home / "alike", "--out", tmp_path / "a", "--set", "train.head=mlp"), "the model was made with another"),
    ):
        answer = call("monitor", *wrong)
        assert answer.code == 2 and message in answer.message, answer.err
    assert not (tmp_path / "a").exists()


def test_from_python_a_verdict_is_an_answer(home, tmp_path):
    options = {"monitor.num_permutations": 99, "monitor.max_scans": 100}
    content = api.Run(home / "run").monitor(home / "alike", tmp_path / "out", options=options)
    assert content["verdict"] == "steady" and content["num_batches"] == 1
