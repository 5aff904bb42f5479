"""Several findings at once: a column each, a line as the answer, empty where a finding has no classifier."""

import json
import shutil

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.contracts.tables import PREDICTIONS
from pipeline.runtime.finding_folders import parts_in
from tests.support.several_findings import scan as scan_of
from tests.support.tiny import call


def test_every_finding_is_predicted_as_in_the_run(run, pool, tmp_path):
    answer = call("predict", run, pool, "--out", tmp_path / "rows.parquet", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["findings"] == ["effusion", "mass"]
    rows, table = pq.read_table(tmp_path / "rows.parquet"), PREDICTIONS.read(run)
    place = pc.index_in(rows["image_id"], value_set=table["image_id"].combine_chunks())
    assert place.null_count == 0
    for finding in ("effusion", "mass"):
        here = rows[f"prob_{finding}"].to_numpy()
        np.testing.assert_allclose(here, table[f"prob_{finding}"].take(place).to_numpy(), rtol=0, atol=1e-6)
        assert (rows[f"prob_{finding}_low"].to_numpy() <= here).all()
    assert rows["answer"].to_pylist() == table["predicted"].take(place).to_pylist()


def test_one_finding_may_be_asked_alone_and_one_may_lack_a_classifier(run, pool, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    parts = parts_in(copy)
    (parts["mass"] / PREDICTIONS.file).unlink()
    scan = pool / "s001.png"
    both = call("predict", copy, scan, "--out", tmp_path / "both.json")
    assert both.code == 0 and "mass has no classifier yet" in both.err
    (row,) = json.loads((tmp_path / "both.json").read_text())["scans"]
    assert row["prob_mass"] is None and row["prob_effusion"] is not None and row["answer"].endswith("|mass=?")
    assert call("predict", parts["effusion"], scan, "--out", tmp_path / "one.json").code == 0
    (alone,) = json.loads((tmp_path / "one.json").read_text())["scans"]
    assert alone["prob_effusion"] == row["prob_effusion"] and alone["answer"] in ("effusion", "no effusion")
    (parts["effusion"] / PREDICTIONS.file).unlink()
    none = call("predict", copy, scan, "--out", tmp_path / "none.json")
    assert none.code == 2 and "no round of this run has learned a classifier yet" in none.message


def test_a_batch_is_monitored_finding_by_finding(run, tmp_path):
    folder = tmp_path / "batch"
    folder.mkdir()
    for i in range(1000, 1036):
        scan_of(i).save(folder / f"n{i}.png")
    answer = call("monitor", run, folder, "--out", tmp_path / "out", "--set", "monitor.num_permutations=199", "--json")
    assert answer.code == answer.json["exit_code"], answer.err
    assert answer.json["accuracy"].keys() == answer.json["prevalence"].keys() == {"effusion", "mass"}
    assert list(answer.json["prevalence"]["mass"]["em"]) == ["no mass", "mass"]
    assert answer.json["reference"]["side"] == "training" and "predictions" in answer.json["not_compared"]
    assert "mass" in (tmp_path / "out" / "index.html").read_text("utf-8")
