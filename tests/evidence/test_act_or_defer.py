"""`act_or_defer.json`: on which labels it rests, when it refuses, and what is decided with it."""

import json

import numpy as np
import pyarrow as pa
import pytest

from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import LABELS, PREDICTIONS, write_text
from pipeline.evidence import act_or_defer, stage
from pipeline.labels import decision_thresholds
from pipeline.predict import columns, decisions
from pipeline.predict.recipe import Question
from pipeline.report.gather import RunData
from pipeline.report.sections.act_or_defer import alone
from pipeline.runtime import run_files
from pipeline.runtime.growth import record
from tests.support.synthetic_run import options, synthetic_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two scans a patient whose model is unsure of many, and far wrong of one in fifty."""
    run = synthetic_run(tmp_path_factory.mktemp("run"), num_scans=660, num_holdout=400, scans_per_patient=2, dim=4)
    rng = np.random.default_rng(0)
    ids = list(run.truth)
    ill_N = np.array([run.truth[i] == "pneumonia" for i in ids]) ^ (rng.random(len(ids)) < 0.02)
    prob_N = np.where(ill_N, rng.uniform(0.3, 0.99, len(ids)), rng.uniform(0.01, 0.7, len(ids)))
    table = {
        "image_id": ids,
        "split": [run.split[i] for i in ids],
        "round": [1] * len(ids),
        "predicted": np.where(prob_N > 0.5, "pneumonia", "normal").tolist(),
        "prob_normal": (1.0 - prob_N).astype(np.float32),
        "prob_pneumonia": prob_N.astype(np.float32),
    }
    probabilities = [pa.field(name, pa.float32()) for name in table if name.startswith("prob_")]
    PREDICTIONS.write(run.folder, pa.table(table, schema=pa.schema([*PREDICTIONS.schema, *probabilities])))
    place = run_files.round_folder(run.folder, 1)
    (place / run_files.MODEL).mkdir(parents=True)
    write_text(place / run_files.ROW, "{}")
    write_text(place / run_files.MODEL / run_files.CARD, "{}")
    return run


def certified(run, **changed):
    ctx = options(run, **changed)
    act_or_defer.write(ctx, stage.holdout(ctx))
    return decision_thresholds.read(run.folder)


def test_one_scan_of_each_patient_certifies_both_answers(run):
    told = certified(run, evaluate__promise_error=0.1)
    row = told["findings"]["pneumonia"]
    assert list(told["findings"]) == ["pneumonia"]
    assert told["num_scans"] == 400 and told["num_patients"] == row["num_with"] + row["num_without"] == 200
    no, yes = row["sides"]["no"], row["sides"]["yes"]
    assert no["certified"] and yes["certified"] and no["threshold_prob"] < 0.5 <= yes["threshold_prob"]
    assert 100 < no["by_promise"]["class"]["num_labels"] < 200  # patients with an ill scan, not ill scans
    assert row["share_alone"] == pytest.approx(row["share_no"] + row["share_yes"]) and 0.2 < row["share_alone"] < 0.9
    assert told["confidence"] == 0.95 and told["confidence_together"] == pytest.approx(0.9)
    assert certified(run, evaluate__promise_error=0.1)["findings"] == told["findings"]


def test_a_promise_that_the_labels_cannot_carry_is_refused_with_what_is_missing(run):
    told = certified(run, evaluate__promise_error=0.01, evaluate__promise_of="both")
    row = told["findings"]["pneumonia"]
    assert row["share_alone"] == 0.0 and row["share_ask"] == 1.0
    for side in row["sides"].values():
        assert (
            side["threshold_prob"] is None and side["num_missing_labels"] > side["by_promise"]["class"]["num_missing"]
        )
    section = alone(RunData(run.folder, act_or_defer=told))
    assert all("more labelled patients" in row.missing for row in section.rows)
    assert any("a person reads every scan" in text for text in section.texts)


def test_the_promise_of_the_decided_is_tested_from_the_surest_quarter_on(run):
    told = certified(run, evaluate__promise_error=0.25, evaluate__promise_of="decided")
    side = told["findings"]["pneumonia"]["sides"]["yes"]
    assert side["threshold_prob"] == side["by_promise"]["decided"]["threshold_prob"] >= 0.5
    assert side["by_promise"]["decided"]["num_labels"] < 100


def test_rows_are_decided_and_strangers_left_to_a_person(run):
    certified(run, evaluate__promise_error=0.1)
    rules = decisions.rules_of([Question(None, run.folder, 1)])
    no_at, yes_at = rules["pneumonia"]
    findings = ("normal", "pneumonia")
    rows = [
        {"path": "a", "image_id": "a", "status": "ok", "prob_pneumonia": yes_at, "outside": False},
        {"path": "b", "image_id": "b", "status": "ok", "prob_pneumonia": no_at, "outside": None},
        {"path": "c", "image_id": "c", "status": "ok", "prob_pneumonia": (no_at + yes_at) / 2, "outside": False},
        {"path": "d", "image_id": "d", "status": "ok", "prob_pneumonia": 0.9999, "outside": True},
        {"path": "e", "image_id": "e", "status": "unusable"},
    ]
    table = decisions.decided(pa.Table.from_pylist(rows, schema=columns.schema(findings)), rules, findings)
    assert table["decision_pneumonia"].to_pylist() == ["yes", "no", "ask a person", "ask a person", None]
    assert table.schema.names == columns.schema(findings, ["pneumonia"]).names
    of_part = decisions.rules_of([Question("effusion", run.folder, 1)])
    assert of_part == {"effusion": rules["pneumonia"]}


def test_thresholds_of_an_earlier_model_decide_nothing(run, caplog):
    told = certified(run, evaluate__promise_error=0.1)
    card = run_files.round_folder(run.folder, 1) / run_files.MODEL / run_files.CARD
    write_text(card, json.dumps({"temperature": 2.0}))
    try:
        assert decisions.rules_of([Question(None, run.folder, 1)]) == {} and "another model" in caplog.text
        stale = decision_thresholds.read(run.folder)
        assert stale["is_current"] is False and stale["findings"] == told["findings"]
        assert "may be used any more" in alone(RunData(run.folder, act_or_defer=stale)).texts[0]
    finally:
        write_text(card, "{}")


def test_no_file_no_decision_and_a_broken_one_is_refused(run):
    path = run.folder / run_files.ACT_OR_DEFER
    path.unlink(missing_ok=True)
    assert decisions.rules_of([Question(None, run.folder, 1)]) == {} and alone(RunData(run.folder)) is None
    path.write_text("{", "utf-8")
    with pytest.raises(InputError, match="no JSON"):
        decision_thresholds.read(run.folder)
    path.unlink()


def test_of_a_run_that_has_grown_the_old_holdout_does_not_come_first(run):
    scored = stage.holdout(run.ctx)
    asked = {"image_id": scored.ids_S[:30], "finding": ["normal"] * 30, "value": np.ones(30, np.float32)}
    table = {name: [None] * 30 for name in LABELS.schema.names} | asked
    table |= {"origin": ["expert"] * 30, "annotator": ["a"] * 30, "answer": list(range(30)), "round": [1] * 30}
    kept = run.folder / LABELS.file
    before = kept.read_bytes() if kept.exists() else None
    LABELS.write(run.folder, pa.table(table, schema=LABELS.schema))
    late_first = act_or_defer._order(run.ctx, scored.ids_S).tolist()
    record.join(run.folder, record.begin(run.folder, "other"))
    mixed = act_or_defer._order(run.ctx, scored.ids_S).tolist()
    (run.folder / run_files.GROWTH).unlink()
    kept.unlink() if before is None else kept.write_bytes(before)
    assert late_first[-30:] != mixed[-30:] and set(late_first[-30:]) == set(range(30))
    assert set(mixed[-30:]) != set(range(30)) and sorted(mixed) == sorted(late_first)
