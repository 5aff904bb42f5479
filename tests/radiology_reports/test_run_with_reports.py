"""A small run with reports: they train once experts have checked them, certify nothing, and their text goes nowhere."""

import json

import pyarrow.compute as pc
import pytest

from pipeline.contracts.tables import LABELS, PSEUDO
from pipeline.radiology_reports.report_labels import REPORT_LABELS
from tests.support.tiny import FAST, call, make_pool

SECRET = "quetzalcoatlus"
TEXTS = (f"No sickness, {SECRET}.", f"Marked sickness, {SECRET}.")
RULES = """
language: en
negation: {before: ["no"]}
uncertainty: {before: [possible]}
findings:
  sick: {present: [sickness]}
"""


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """Ninety scans of 45 patients with a report each; two reports are wrong, one is empty."""

    def row(i):
        sick = i // 2 % 2
        text = TEXTS[1 - sick] if i in (4, 7) else "" if i == 9 else TEXTS[sick]
        return ("normal", "sick")[sick], f"p{i // 2}", f'"{text}"'

    folder = make_pool(
        tmp_path_factory.mktemp("reports") / "pool", num=90, columns=("label", "patient_id", "befund"), row=row
    )
    (folder / "rules.yaml").write_text(RULES, "utf-8")
    return folder


@pytest.fixture(scope="module")
def run(pool, tmp_path_factory):
    out = tmp_path_factory.mktemp("reports-run") / "run"
    options = ["--set", "pool.reports=befund", "--set", f"reports.rules={pool / 'rules.yaml'}"]
    options += ["--set", "reports.check_share=0.5", "--set", "reports.weight=0.5", "--set", "reports.rank=true"]
    answer = call(
        *("run", "--pool", pool, "--oracle", "--rounds", "2", "--budget", "30", "--out", out),
        *(*FAST, *options, "--set", "queue.uniform_share=0.5", "--set", "reports.min_precision=0.6", "-q"),
    )
    assert answer.code == 0, answer.err
    return out


def last_row(run):
    return json.loads((run / "metrics.jsonl").read_text("utf-8").splitlines()[-1])


def test_reports_that_were_checked_train_and_are_told_of(run):
    row = last_row(run)
    present = next(one for one in row["reports"] if one["says"] == "present")
    assert present["class_name"] == "sick" and present["num_checked"] >= 8 and present["used"]
    pseudo = PSEUDO.read(run / "rounds" / "02")
    assert 0 <= row["num_report_and_pseudo"] <= min(row["num_report"], pc.sum(pseudo["admitted"]).as_py())
    assert row["num_report"] > 0
    card = json.loads((run / "rounds" / "02" / "model" / "card.json").read_text("utf-8"))
    assert "reports" in json.dumps(card)
    status = call("status", run)
    assert "reports say sick (present, rules rules.yaml)" in status.out
    assert "What radiology reports say" in (run / "report" / "index.html").read_text("utf-8")


def test_no_label_by_report_is_in_the_label_table(run):
    labels = LABELS.read(run)
    assert set(labels["origin"].to_pylist()) <= {"expert", "pseudo"}
    assert set(labels.filter(pc.equal(labels["origin"], "expert"))["annotator"].to_pylist()) == {"oracle"}


def test_labels_and_spans_are_kept_in_private_and_the_text_nowhere(run):
    kept = REPORT_LABELS.read(run / "private").to_pylist()
    assert len(kept) == 89 and {row["says"] for row in kept} == {"present", "absent"}
    assert all(0 <= row["start"] < row["end"] for row in kept)
    for path in run.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def test_doctor_finds_no_word_of_the_reports(run, tmp_path):
    terms = tmp_path / "terms.txt"
    terms.write_text(f"{SECRET}\n", "utf-8")
    answer = call("doctor", "--privacy", run, "--terms", terms, "--json")
    assert json.loads(answer.out)["ok"], answer.out


def test_a_rules_file_can_be_tried_before_any_run(pool):
    answer = call("labels", "reports", pool, "--reports", "befund", "--rules", pool / "rules.yaml", "--json")
    counts = json.loads(answer.out)
    assert counts["says"] == {
        "rules rules.yaml": {"sick": {"present": 44, "uncertain": 0, "absent": 45, "not mentioned": 0}}
    }
    assert counts["num_scans_with_report"] == 89 and counts["reasons"]["without a word"] == 1
    shown = call("labels", "reports", pool, "--reports", "befund", "--rules", pool / "rules.yaml").out
    assert "1 without a word" in shown and SECRET not in shown
    assert call("labels", "reports", pool).code == 2
