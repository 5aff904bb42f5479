"""The evidence of a finished run, and `cxr-ssl evaluate` as a user types it."""

import json
import shutil

import pytest

from pipeline.contracts import tables
from tests.support.tiny import FAST, call, make_pool, picture

SHORT = ("--rounds", "1", "--budget", "8", "--oracle", "--set", "calibrate.num_folds=2", *FAST)
QUICK = ("--set", "audit.num_bootstrap=20")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("done")
    pool = make_pool(folder / "pool", num=60)
    answers = [
        call("run", "--pool", pool, "--out", folder / name, *SHORT, *QUICK, *more)
        for name, more in (("a", ()), ("b", ("--set", "train.teacher_l2=100.0")))
    ]
    assert [answer.code for answer in answers] == [0, 0], answers[0].err
    return folder


def test_a_run_leaves_its_evidence_in_detail(done):
    found = json.loads((done / "a" / "evaluation.json").read_text("utf-8"))
    metrics = json.loads((done / "a" / "metrics.jsonl").read_text("utf-8").splitlines()[-1])["holdout"]
    assert found["overall"]["auroc"] == metrics["auroc"]
    assert found["overall"]["auroc_ci95"] == metrics["auroc_ci95"]
    assert found["overall"]["confusion"] == metrics["confusion"]
    assert found["scope"]["kind"] == "holdout"
    assert {"operating_points", "predictive_values", "calibration", "decision_curve", "slices"} <= set(found)
    readers = [json.loads(line)["reader"] for line in (done / "a" / "holdout_access.jsonl").read_text().splitlines()]
    assert {"audit", "evaluate", "evidence", "report"} <= set(readers)


def test_evaluate_prints_the_holdout_at_other_prevalences(done):
    answer = call("evaluate", done / "a", "--prevalence", "0.02", "--json")
    assert answer.code == 0, answer.err
    stated = {row["prevalence"] for row in answer.json["predictive_values"] if row["of"] == "deployment"}
    assert stated == {0.02}


def test_what_the_model_may_decide_alone_is_refused_on_few_labels(done):
    answer = call("evaluate", done / "a", "--act-or-defer", "0.05", "--json")
    assert answer.code == 0, answer.err
    (row,) = answer.json["act_or_defer"]["findings"].values()
    assert row["share_ask"] == 1.0 and all(side["num_missing_labels"] > 0 for side in row["sides"].values())
    assert "What the model may decide alone" in (done / "a" / "report" / "index.html").read_text("utf-8")
    refused = call("evaluate", done / "a", "--act-or-defer", "0.05", "--against", done / "b")
    assert refused.code == 2 and "--act-or-defer" in refused.err


def test_two_runs_side_by_side(done):
    answer = call("evaluate", done / "a", "--against", done / "b", "--json")
    assert answer.code == 0, answer.err
    rows = {row["metric"]: row for row in answer.json["metrics"]}
    assert rows["auroc"]["difference"] == pytest.approx(rows["auroc"]["b"] - rows["auroc"]["a"])
    assert (done / "a" / "comparison.json").exists()
    same = call("evaluate", done / "a", "--against", done / "a", "--json").json
    assert all(row["difference"] == 0 for row in same["metrics"])


def test_another_pool_is_an_external_test_without_what_training_has_seen(done, tmp_path):
    pool = make_pool(
        tmp_path / "elsewhere", num=40, row=lambda i: (("normal", "sick", "odd")[i // 2 % 2 + (i > 35)], f"q{i // 2}")
    )
    for i in range(40):  # other pictures than those of the run
        picture(1000 + i, bright=60 * (i // 2 % 2)).save(pool / f"s{i:03d}.png")
    trained = tables.SPLIT_TABLE.read(done / "a")
    manifest = tables.MANIFEST.read(done / "a")
    train = {
        image_id
        for image_id, split in zip(trained["image_id"].to_pylist(), trained["split"].to_pylist(), strict=True)
        if split == "train"
    }
    seen = next(
        uri
        for image_id, uri in zip(manifest["image_id"].to_pylist(), manifest["uri"].to_pylist(), strict=True)
        if image_id in train
    )
    shutil.copyfile(seen, pool / "s001.png")
    answer = call("evaluate", done / "a", "--pool", pool, "--json")
    assert answer.code == 0, answer.err
    found = answer.json
    assert found["scope"]["kind"] == "external"
    assert found["audit"]["num_copies"] == found["audit"]["num_left_out"] == 1
    assert found["audit"]["num_other_classes"] > 0
    assert found["scope"]["num_scans"] + found["audit"]["num_left_out"] + found["audit"]["num_other_classes"] == 40
    assert list((done / "a" / "external").glob("elsewhere-*/evaluation.json"))
    assert not (done / "a" / "external" / "elsewhere").exists()


def test_the_runs_own_pool_is_no_external_test(done):
    answer = call("evaluate", done / "a", "--pool", done / "pool")
    assert answer.code == 2
    assert "known from the run itself" in answer.err
    assert not list((done / "a" / "external").glob("pool-*"))


def test_another_pool_may_name_its_columns_otherwise(done, tmp_path):
    pool = make_pool(tmp_path / "theirs", num=30, row=lambda i: (("normal", "sick")[i // 2 % 2], f"z{i // 2}"))
    for i in range(30):
        picture(3000 + i, bright=60 * (i // 2 % 2)).save(pool / f"s{i:03d}.png")
    text = (pool / "manifest.csv").read_text("utf-8")
    (pool / "manifest.csv").write_text(text.replace("image_path,label,patient_id", "file,truth,mrn"), "utf-8")
    columns = "pool.columns={image_path: file, label: truth, patient_id: mrn}"
    answer = call("evaluate", done / "a", "--pool", pool, "--json", "--set", columns)
    assert answer.code == 0, answer.err
    assert answer.json["scope"]["num_scans"] == 30


def test_wrong_questions_are_refused(done, tmp_path):
    assert call("evaluate", tmp_path).code == 2
    assert call("evaluate", done / "a", "--pool", done / "pool", "--against", done / "b").code == 2
    assert call("evaluate", done / "a", "--prevalence", "1.5").code == 2
    other = make_pool(tmp_path / "other", row=lambda i: (("x", "y")[i // 2 % 2], f"p{i // 2}"))
    answer = call("evaluate", done / "a", "--pool", other)
    assert answer.code == 2
    assert "none of its" in answer.err


def test_a_run_can_be_audited_again_in_place(done):
    answer = call("audit", done / "b", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["phase"] == "final"
    assert (done / "b" / "metrics.jsonl").exists()
