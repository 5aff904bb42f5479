"""Rounds of learning over the synthetic run, with the oracle."""

import json

import numpy as np
import pytest

from pipeline.contracts.tables import PREDICTIONS, PSEUDO, QUEUE
from pipeline.labels import label_table
from pipeline.learn.classifier import Classifier
from pipeline.rounds import learn_round, loop
from pipeline.runtime import run_files
from tests.support.synthetic_run import options, synthetic_run

OPTIONS = {
    "num_scans": 400,
    "num_holdout": 100,
    "queue__budget": 30,
    "queue__uniform_share": 0.4,
    "release__check_share": 0.9,
}


def metrics(run):
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Three oracle rounds of 30 labels."""
    run = synthetic_run(tmp_path_factory.mktemp("outcome"), rounds__num=3, **OPTIONS)
    loop.run(run.ctx)
    return run


def test_every_round_leaves_its_row(finished):
    rows = metrics(finished)
    assert [r["round"] for r in rows] == [1, 2, 3]
    assert [r["num_expert"] for r in rows] == [30, 60, 90]
    for row in rows:
        assert row["holdout"]["auroc"] > 0.95
        assert row["rolled_back"] is False
        assert set(row["seconds"]) >= {"queue", "labels", "train", "pseudo", "evaluate"}
    assert rows[0]["flip_rate"] is None and 0 <= rows[1]["flip_rate"] < 0.2


def test_estimate_and_certificate_have_different_origins(finished):
    """The estimate comes from out-of-fold scores at once; the certificate waits for blind checks of proposals."""
    first, second, third = metrics(finished)
    assert first["pseudo_precision_estimated"] > 0.9
    assert first["pseudo_precision_certified"] is None
    assert second["certificates"]["pooled"]["num_checked"] > 0
    checked = 0
    for row, round_index in ((second, 2), (third, 3)):
        queue = QUEUE.read(finished.ctx.round_folder(round_index)).to_pylist()
        checks = [q for q in queue if q["kind"] == "uniform" and q["proposed"]]
        checked += len(checks)
        pooled = row["certificates"]["pooled"]
        assert pooled["num_checked"] == checked
        assert pooled["lower_bound"] < pooled["num_correct"] / checked
        assert row["release"]["round"] == 1  # frozen before the first check of it
        assert row["pseudo_precision_certified"] == row["release"]["bound"] != row["pseudo_precision_estimated"]


def test_proposals_of_a_queue_are_those_of_the_round_before(finished):
    accepted = {
        r["image_id"]: r["finding"]
        for r in PSEUDO.read(finished.ctx.round_folder(1)).to_pylist()
        if r["decision"] == "accept"
    }
    queue = QUEUE.read(finished.ctx.round_folder(2)).to_pylist()
    assert [q["proposed"] for q in queue] == [accepted.get(q["image_id"]) for q in queue]


def test_pseudo_precision_is_the_share_that_the_truth_confirms(finished):
    last = metrics(finished)[-1]
    admitted = [r for r in PSEUDO.read(finished.ctx.round_folder(3)).to_pylist() if r["admitted"]]
    assert last["num_pseudo"] == len(admitted) > 0
    right = np.mean([finished.truth[r["image_id"]] == r["finding"] for r in admitted])
    assert last["pseudo_precision"] == pytest.approx(right)


def test_experts_are_never_touched_and_never_pseudo_labelled(finished):
    rows = label_table.read(finished.folder).to_pylist()
    expert = {r["image_id"]: r["finding"] for r in rows if r["origin"] == "expert" and r["value"] == 1.0}
    pseudo_ids = {r["image_id"] for r in rows if r["origin"] == "pseudo"}
    assert len(expert) == 90 and pseudo_ids
    assert all(finished.truth[i] == finding for i, finding in expert.items())
    assert not pseudo_ids & set(expert)
    assert {finished.split[i] for i in pseudo_ids} == {"train"}


def test_predictions_cover_every_scan_with_a_vector(finished):
    table = PREDICTIONS.read(finished.folder)
    assert len(table) == 400 and set(table["round"].to_pylist()) == {3}
    prob_NC = np.column_stack([table["prob_normal"].to_numpy(), table["prob_pneumonia"].to_numpy()])
    np.testing.assert_allclose(prob_NC.sum(1), 1.0, atol=1e-5)
    truth = [finished.truth[i] for i in table["image_id"].to_pylist()]
    assert np.mean([a == b for a, b in zip(table["predicted"].to_pylist(), truth, strict=True)]) > 0.95


def test_every_read_of_the_holdout_is_logged(finished):
    entries = [json.loads(line) for line in (finished.folder / run_files.HOLDOUT_READS).read_text().splitlines()]
    assert [(e["round"], e["num_scans"], e["reader"]) for e in entries] == [
        (1, 100, "evaluate"),
        (2, 100, "evaluate"),
        (3, 100, "evaluate"),
    ]


def test_the_same_run_again_leaves_the_same_numbers(finished, tmp_path):
    again = synthetic_run(tmp_path, rounds__num=2, **OPTIONS)
    loop.run(options(again, rounds__num=3))
    for mine, theirs in zip(metrics(again), metrics(finished), strict=True):
        assert {k: v for k, v in mine.items() if k != "seconds"} == {k: v for k, v in theirs.items() if k != "seconds"}


def test_a_poisoned_round_is_rolled_back_and_says_so(tmp_path, caplog):
    """Round 2 brings three times as many labels as round 1, all of them flipped."""
    run = synthetic_run(tmp_path, num_scans=400, num_holdout=100, queue__budget=40, rounds__num=1)
    loop.run(run.ctx)
    other = {"normal": "pneumonia", "pneumonia": "normal"}
    known = {r["image_id"] for r in label_table.read(run.folder).to_pylist() if r["origin"] == "expert"}
    sealed = set(run.ids("holdout"))
    run.table({i: f if i in known | sealed else other[f] for i, f in run.truth.items()})
    loop.run(options(run, rounds__num=2, queue__budget=120))
    first, second = metrics(run)
    assert first["rolled_back"] is False and second["rolled_back"] is True
    assert "rolled back" in caplog.text
    assert second["num_expert"] == 160
    for name in ("pseudo_precision_estimated", "threshold_prob", "prevalence", "temperature"):
        assert second[name] == first[name]  # of the labels and the model in force, not of the rejected ones
    assert second["holdout"]["auroc"] == pytest.approx(first["holdout"]["auroc"])  # the model of round 1 goes on
    models = [Classifier.load(run.ctx.round_folder(r) / "model") for r in (1, 2)]
    np.testing.assert_array_equal(models[0].head.arrays["weight0"], models[1].head.arrays["weight0"])
    assert json.loads((run.ctx.round_folder(2) / "model" / "card.json").read_text())["rolled_back"] is True
    rows = label_table.read(run.folder).to_pylist()
    expert = {r["image_id"] for r in rows if r["origin"] == "expert"}
    assert len(expert) == 160  # what experts said stays, poisoned or not
    before = PSEUDO.read(run.ctx.round_folder(1))["image_id"].to_pylist()
    after = PSEUDO.read(run.ctx.round_folder(2))["image_id"].to_pylist()
    assert after == [i for i in before if i not in expert]
    assert (run.ctx.round_folder(2) / run_files.OOF).exists()


def test_one_class_gives_no_classifier_yet(tmp_path, caplog):
    run = synthetic_run(tmp_path, num_scans=80, num_holdout=20, queue__budget=4, rounds__num=2)
    run.table(dict.fromkeys(run.truth, "normal") | {run.ids("holdout")[0]: "pneumonia"})
    loop.run(run.ctx)
    rows = metrics(run)
    assert [r["num_expert"] for r in rows] == [4, 8]
    assert rows[1]["holdout"] is None and rows[1]["num_pseudo"] == 0
    assert "no classifier yet, the 4 expert labels name fewer than two classes" in caplog.text


def test_cannot_learn_from_one_patient():
    assert learn_round.cannot_learn(np.array([0, 1]), ["p", "p"]) == "the expert labels are of one patient"
    assert learn_round.cannot_learn(np.array([0, 1]), ["p", "q"]) is None


def test_a_certified_gate_admits_nothing_before_enough_checks_and_then_does(tmp_path):
    run = synthetic_run(
        tmp_path,
        num_scans=600,
        num_holdout=100,
        queue__budget=80,
        queue__uniform_share=1.0,
        rounds__num=4,
        pseudo__gate="certified",
        pseudo__precision=0.8,
        pseudo__confidence=0.8,
    )
    loop.run(run.ctx)
    rows = metrics(run)
    assert [r["num_pseudo"] for r in rows][:1] == [0]
    assert rows[0]["num_accepted"] > 0  # proposed, not admitted
    for row, round_index in zip(rows, range(1, 5), strict=True):
        admitted = [r for r in PSEUDO.read(run.ctx.round_folder(round_index)).to_pylist() if r["admitted"]]
        holds = {name for name, found in row["certificates"].items() if found["holds"]}
        assert {r["finding"] for r in admitted} <= holds
    assert rows[-1]["num_pseudo"] > 0
