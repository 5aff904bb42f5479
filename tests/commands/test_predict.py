"""`cxr-ssl predict`: what it refuses, and that one bad scan ends nothing."""

import csv
import json
import shutil

import numpy as np
import pytest

from pipeline import api
from pipeline.contracts.tables import MANIFEST, write_text
from tests.pool.test_reading import forms, png
from tests.support.dicom_files import chest
from tests.support.tiny import FAST, call, make_pool


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """A run on files of 12 bits in 16, of which two are so dark that alone they would look like 10 bits."""
    folder = tmp_path_factory.mktemp("deep")
    pool = make_pool(folder / "pool", num=24)
    for i in range(24):
        dark = 5 if i in (3, 7) else 1
        (pool / f"s{i:03d}.png").write_bytes(png(chest(i, 64, bits=12) // dark))
    plain = ("--set", "calibrate.num_folds=2", "--set", "audit.num_bootstrap=0")
    done = call(
        "run", "--pool", pool, "--oracle", "--rounds", 1, "--budget", 10, "--out", folder / "run", *FAST, *plain
    )
    assert done.code == 0, done.err
    return folder / "run", pool


def rows_of(path):
    return json.loads(path.read_text("utf-8"))["scans"]


def test_white_is_what_the_run_decided_even_of_one_file(deep, tmp_path):
    run, pool = deep
    assert set(MANIFEST.read(run)["white"].to_pylist()) == {4095}
    assert call("predict", run, pool, "--out", tmp_path / "all.json").code == 0
    dark = next(row for row in rows_of(tmp_path / "all.json") if row["path"] == "s003.png")
    assert call("predict", run, pool / "s003.png", "--out", tmp_path / "one.json").code == 0
    (alone,) = rows_of(tmp_path / "one.json")
    assert alone["prob_sick"] == dark["prob_sick"] and alone["in_run"] == dark["in_run"] is not None
    other = call("predict", run, pool / "s003.png", "--out", tmp_path / "own.json", "--set", "pool.white=1023")
    assert other.code == 0 and rows_of(tmp_path / "own.json")[0]["prob_sick"] != dark["prob_sick"]


def test_another_pool_is_evaluated_with_the_white_of_the_run(deep, tmp_path):
    run, _ = deep
    there = make_pool(tmp_path / "there", num=8, row=lambda i: (("normal", "sick")[i % 2], f"other{i}"))
    for i in range(8):
        (there / f"s{i:03d}.png").write_bytes(png(chest(90 + i, 64, bits=12) // 5))
    answer = call("evaluate", run, "--pool", there, "--json")
    assert answer.code == 0, answer.err
    (external,) = (run / "external").iterdir()
    assert set(MANIFEST.read(external)["white"].to_pylist()) == {4095}


def test_what_cannot_be_used_is_a_row_with_the_reason(deep, tmp_path):
    run, _ = deep
    pool = tmp_path / "mixed"
    pool.mkdir()
    data = forms(0) | {"empty.png": b"", "text.png": b"no picture", "cut.png": forms(0)["16.png"][:900]}
    for name, content in data.items():
        (pool / name).write_bytes(content)
    lines = ["image_path", *data, "gone.png", "=1+1.png"]
    (pool / "manifest.csv").write_text("\n".join(lines) + "\n")
    answer = call("predict", run, pool, "--out", tmp_path / "rows.csv", "--json")
    assert answer.code == 0, answer.err
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as stream:
        rows = {row["path"]: row for row in csv.DictReader(stream)}
    assert list(rows) == [*data, "gone.png", "'=1+1.png"]
    bad = {name: row["reason"] for name, row in rows.items() if row["status"] == "unusable"}
    assert bad.keys() == {"empty.png", "text.png", "cut.png", "gone.png", "'=1+1.png"}
    assert "0 bytes" in bad["empty.png"] and "missing" in bad["gone.png"] and "not a PNG" in bad["text.png"]
    assert all(row["prob_sick"] == row["answer"] == row["outside"] == "" for name, row in rows.items() if name in bad)
    assert answer.json["num_unusable"] == 5 and answer.json["num_scans"] == len(rows)
    assert "5 of 16 scans are unusable" in answer.err


def test_the_rows_do_not_depend_on_the_shards(deep, tmp_path):
    run, pool = deep
    listed = pool / "manifest.csv"
    assert call("predict", run, listed, "--out", tmp_path / "a.csv").code == 0
    resolved = run / "resolved.yaml"
    before = resolved.read_text()
    try:
        write_text(resolved, before.replace("shard_size: 256", "shard_size: 5"))
        assert call("predict", run, listed, "--out", tmp_path / "b.csv").code == 0
    finally:
        write_text(resolved, before)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_false_alarms_are_an_option(deep, tmp_path):
    run, pool = deep
    for rate in ("0.4", "0.1"):
        assert call("predict", run, pool, "--out", tmp_path / f"{rate}.json", "--false-alarms", rate).code == 0
    often, seldom = (rows_of(tmp_path / f"{rate}.json") for rate in ("0.4", "0.1"))
    assert all(more["outside_score"] >= less["outside_score"] for more, less in zip(often, seldom, strict=True))
    assert sum(row["outside"] for row in often) > sum(row["outside"] for row in seldom)
    never = call("predict", run, pool, "--out", tmp_path / "never.json", "--set", "predict.false_alarm_rate=0.001")
    assert never.code == 0 and "cannot be said: too few held-out scans" in never.out
    assert {row["outside"] for row in rows_of(tmp_path / "never.json")} == {None}


def test_bad_requests_are_refused_with_one_error(deep, tmp_path):
    run, pool = deep
    (tmp_path / "empty").mkdir()
    (tmp_path / "there.csv").write_text("mine")
    for wrong, message in (
        ((run, tmp_path / "empty", "--out", tmp_path / "a.csv"), "no images in this folder"),
        ((run, tmp_path / "gone", "--out", tmp_path / "a.csv"), "no such file or folder"),
        ((run, pool, "--out", tmp_path / "a.xlsx"), "no form of file has this ending"),
        ((run, pool, "--out", tmp_path / "no" / "a.csv"), "the folder it would lie in is missing"),
        ((run, pool, "--out", tmp_path / "there.csv"), "is there already"),
        ((tmp_path, pool, "--out", tmp_path / "a.csv"), "is not a run directory"),
        ((run, pool, "--out", tmp_path / "a.csv", "--set", "train.head=mlp"), "the model was made with another value"),
    ):
        answer = call("predict", *wrong)
        assert answer.code == 2 and message in answer.message, answer.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "there.csv"]


def test_a_model_of_another_version_and_a_run_without_one_are_refused(deep, tmp_path):
    run, pool = deep
    copy = shutil.copytree(run, tmp_path / "run")
    card = copy / "rounds" / "01" / "model" / "card.json"
    known = json.loads(card.read_text())
    for changed in (known | {"format": 99}, {name: value for name, value in known.items() if name != "learning_prior"}):
        card.write_text(json.dumps(changed))
        answer = call("predict", copy, pool, "--out", tmp_path / "a.csv")
        assert answer.code == 2 and "made by another version of cxr-ssl" in answer.message
    shutil.rmtree(card.parent)
    answer = call("predict", copy, pool, "--out", tmp_path / "a.csv")
    assert answer.code == 2 and "no round of this run has learned a classifier yet" in answer.message


# --- the same from Python


def test_the_classifier_says_from_python_what_the_command_says(deep, tmp_path):
    run, pool = deep
    assert call("predict", run, pool, "--out", tmp_path / "all.json").code == 0
    rows = rows_of(tmp_path / "all.json")[:3]
    files = [pool / row["path"] for row in rows]
    model = api.Classifier.load(run)
    prob_NC = model.predict_proba(files)
    assert model.classes_.tolist() == ["normal", "sick"] and prob_NC.shape == (3, 2)
    assert "round=1, classes=['normal', 'sick'])" in repr(model)
    expected_NC = np.array([[row["prob_normal"], row["prob_sick"]] for row in rows])
    assert np.abs(prob_NC - expected_NC).max() < 1e-6
    assert model.predict(files).tolist() == [row["answer"] for row in rows]
    assert model.table(files)["in_run"].tolist() == [row["in_run"] for row in rows]
    assert model.predict_proba([]).shape == (0, 2)


def test_a_file_that_cannot_be_used_raises_or_is_a_row_of_nan(deep, tmp_path):
    run, pool = deep
    (tmp_path / "text.png").write_text("no picture")
    files = [tmp_path / "text.png", pool / "s000.png"]
    model = api.Classifier.load(api.Run(run))
    with pytest.raises(api.InputError, match=r"1 of 2 files cannot be used.*not a PNG.*text\.png"):
        model.predict_proba(files)
    prob_NC = model.predict_proba(files, unusable="nan")
    assert np.isnan(prob_NC[0]).all() and prob_NC[1].sum() == pytest.approx(1)
    with pytest.raises(api.InputError, match="is one path"):
        model.predict(str(files[1]))
    assert len(api.Run(run).embeddings) == len(api.Run(run).embeddings.scans) == 24
