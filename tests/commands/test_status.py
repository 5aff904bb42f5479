"""`status` says what was asked, what came back, from whom, how far they agree, and what the run waits for."""

import subprocess
import sys

import pytest

from pipeline.commands import status
from pipeline.contracts.answers import BAD_QUALITY, POOL, Answer
from pipeline.labels import agreement_report
from pipeline.labels.label_table import add_answers
from tests.support import waiting_run as waiting
from tests.support.forecast_records import write_forecasts
from tests.support.people import say
from tests.support.report_runs import write_audit
from tests.support.tiny import call
from tests.support.waiting_run import FINDINGS


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    run = waiting.waiting_run(tmp_path_factory.mktemp("standing") / "run", queue__readers_per_scan=2, rounds__num=2)
    _stopped(run.folder, waiting.waits(run), 1)
    return run


@pytest.fixture
def run(template, tmp_path):
    return waiting.moved(template, waiting.copy_of(template, tmp_path / "run"))


def _stopped(folder, message, round_index):
    """As `cxr-ssl run` leaves it."""
    from pipeline.runtime import run_dir

    run_dir.write_status(folder, "waiting", "rounds", round_index, message)


def answer(run, ids, name, round_index=1, **said):
    given = [
        Answer(i, said.get(i, run.truth[i]), name, round_index, None, said.get("certainty"), said.get("seconds"))
        for i in ids
    ]
    return say(run.folder, given, FINDINGS)


def test_before_the_first_answer(run):
    found = status.status(run.folder)
    assert (found["state"], found["rounds"], found["rounds_finished"], found["num_expert"]) == ("waiting", 2, 0, 0)
    told = found["labels"]
    assert {n: told[n] for n in ("round", "num_asked", "num_open", "num_readings_open", "annotators", "agreement")} == {
        "round": 1,
        "num_asked": 14,
        "num_open": 14,
        "num_readings_open": 28,
        "annotators": [],
        "agreement": None,
    }
    assert found["waiting"].startswith("round ")
    assert f"cxr-ssl annotate {run.folder}" in found["waiting"]


def test_labels_are_counted_by_class_and_few_ones_are_warned_of(run):
    found = status.status(run.folder)["labels_by_class"]
    assert found["now"] == dict.fromkeys(FINDINGS, 0) and found["rounds"] == []
    assert [text.split(":")[0] for text in found["warnings"]] == [f"class {finding}" for finding in FINDINGS]
    assert "fewer than" not in call("status", str(run.folder)).out
    train = [i for i in waiting.queue_ids(run.folder) if run.split[i] == "train"]
    answer(run, train, "Ann")
    answer(run, train, "Bob")
    true = [run.truth[i] for i in train]
    now = status.status(run.folder)["labels_by_class"]["now"]
    assert now == {finding: true.count(finding) for finding in FINDINGS} and sum(now.values()) == len(train)
    shown = call("status", str(run.folder)).out
    assert (
        "labels by class, of training scans: " + ", ".join(f"{finding} {num}" for finding, num in now.items()) in shown
    )
    assert "of a training scan" not in shown
    answer(run, [i for i in waiting.queue_ids(run.folder) if run.split[i] == "holdout"], "Ann")
    assert f", {len(train)} of them name a class of a training scan" in call("status", str(run.folder)).out


def test_a_reader_faster_than_a_person_is_named(run):
    """`queue.min_seconds` is 1 s."""
    queue, num = waiting.queue_ids(run.folder), agreement_report.MIN_TIMED
    answer(run, queue[:num], "Ann", seconds=0.9)
    answer(run, queue[:num], "Bob", seconds=1.1)
    answer(run, queue[: num - 1], "Cleo", seconds=0.1)

    def fast(**options):
        return [row["annotator"] for row in agreement_report.annotators(run.folder, **options) if row["too_fast"]]

    assert fast() == ["Ann"], "of Cleo too few times are known"
    assert fast(min_seconds=1.2) == ["Ann", "Bob"] and fast(min_seconds=0.0) == []
    assert "0.9 s a scan, faster than a person can read" in call("status", run.folder).out


def test_asked_answered_by_whom_how_long_and_how_far_they_agree(run):
    queue = waiting.queue_ids(run.folder)
    answer(run, queue[:6], "Ann", seconds=4.0)
    answer(run, queue[6:9], "Ann", seconds=9.0, certainty="unsure", **{queue[6]: BAD_QUALITY})
    wrong = FINDINGS[1 - FINDINGS.index(run.truth[queue[0]])]
    answer(run, queue[:4], "Bob", **{queue[0]: wrong})
    found = status.status(run.folder)
    told = found["labels"]
    assert (told["num_asked"], told["num_open"], told["num_readings_open"]) == (14, 10, 28 - 13)
    ann, bob = told["annotators"]
    assert ann == {
        "annotator": "Ann",
        "num_answers": 9,
        "num_round": 9,
        "num_rejected": 1,
        "num_unsure": 3,
        "seconds_per_scan": 4.0,
        "too_fast": False,
    }
    assert (bob["annotator"], bob["num_answers"], bob["seconds_per_scan"]) == ("Bob", 4, None)
    assert (found["num_expert"], found["num_disagreements"]) == (9, 1)
    assert told["agreement"]["share"]["value"] == 0.75 and told["agreement"]["share"]["num_scans"] == 4
    text = call("status", run.folder).out
    for part in (
        "state: waiting",
        "rounds finished: 0 of 2; expert labels: 9",
        "round 1: 14 scans asked (",
        "), 4 answered",
        "Ann: 9 answers, 9 of this round, 1 rejected, 3 unsure, 4 s a scan",
        "Bob: 4 answers, 4 of this round",
        "4 scans read twice or more: agree on 0.75",
        "round 1 waits for 15 of 28 labels; 5 scans need another reader than Ann",
    ):
        assert part in text, part
    assert call("status", run.folder, "--json").json["labels"] == told


def test_every_label_is_there(run):
    queue = waiting.queue_ids(run.folder)
    for name in ("Ann", "Bob"):
        answer(run, queue, name)
    found = status.status(run.folder)
    assert found["labels"]["num_readings_open"] == 0
    assert found["waiting"] == f"every label is there: cxr-ssl run --out {run.folder} --resume"


def test_the_next_round_and_answers_the_table_does_not_hold_yet(run):
    from pipeline.labels.journal import Journal

    for name in ("Ann", "Bob"):
        answer(run, waiting.queue_ids(run.folder), name)
    _stopped(run.folder, waiting.waits(run), 2)
    journal = Journal.open(run.folder)
    with journal.writing():  # as the page writes them
        new = waiting.queue_ids(run.folder, 2)[:3]
        journal.add(journal.begin("page"), [Answer(i, "normal", "Ann", 2) for i in new])
    found = status.status(run.folder)
    told = found["labels"]
    assert (found["rounds_finished"], told["round"], told["num_asked"]) == (1, 2, 10)
    assert told["num_readings_open"] == 17 and found["waiting"].startswith("round ")
    assert found["num_expert"] == 17
    assert [(row["num_answers"], row["num_round"]) for row in told["annotators"]] == [(17, 3), (14, 0)]


def test_a_label_the_pool_brings_is_no_annotators(run):
    queue = waiting.queue_ids(run.folder)
    add_answers(run.folder, [Answer(queue[0], "normal", POOL, 0)], FINDINGS)
    found = status.status(run.folder)
    assert found["labels"]["num_readings_open"] == 27 and found["labels"]["annotators"] == []
    assert found["num_expert"] == 1


def test_undone_answers_do_not_count(run):
    from pipeline.commands import labels

    answer(run, waiting.queue_ids(run.folder)[:5], "Ann")
    labels.undo(run.folder)
    found = status.status(run.folder)
    assert (found["num_expert"], found["labels"]["num_readings_open"], found["labels"]["annotators"]) == (0, 28, [])


def test_what_further_labels_would_buy(run):
    assert status.status(run.folder)["stop"] is None
    write_forecasts(run.folder, num_rounds=1)
    early = status.status(run.folder)["stop"]
    assert (early["round"], early["stop"], early["forecast"]["scores"]) == (1, False, {})
    write_forecasts(run.folder, num_rounds=4, by=("stable",))
    told = status.status(run.folder)["stop"]
    assert (told["round"], told["stop"], told["by"]) == (4, True, ["stable"])
    assert told["forecast"]["scores"]["auroc"]["gains"][0]["labels"] == 20 and told["stability"]["is_stable"]
    text = call("status", run.folder).out
    assert "further labels: consider stopping, after round 4" in text
    assert "AUROC +20: +0.004 (-0.002 to +0.010), +50: +0.010" in text
    assert "said of the forecast" in text and "said of the predictions" in text


@pytest.mark.parametrize(
    ("command", "heavy"),
    [
        ("status", ("scipy", "pandas", "torch", "sklearn", "ray", "faiss", "matplotlib")),
        ("predict", ("scipy.stats", "scipy.optimize", "pandas", "torch", "sklearn", "ray", "faiss", "matplotlib")),
    ],
)
def test_a_quick_answer_does_not_wait_for_libraries_that_take_a_second_to_import(command, heavy):
    code = f"import sys, pipeline.commands.{command}; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_what_a_running_run_does_is_told_from_another_process(run):
    from pipeline.runtime import run_dir
    from pipeline.runtime.watching.pace import Pace
    from pipeline.runtime.watching.progress_file import ProgressFile

    pace = Pace()
    for second in range(21):
        pace.add(float(second), 5 * second)
    ProgressFile(run.folder).tell("embed", 100, 400, 3, pace)
    assert status.status(run.folder)["progress"] is None  # it waits
    run_dir.write_status(run.folder, "running", "embed")
    result = call("status", run.folder)
    assert "embed: 100 of 400, 5 a second, 60 s left, 3 failed" in result.out
    entry = call("status", run.folder, "--json").json["progress"]
    assert (entry["done"], entry["num_failed"], entry["seconds_left"]) == (100, 3, [60.0, 60.0])
    assert f"process {entry['process']} on {entry['host']}" in result.out


def test_the_verdict_of_the_audit_is_said(run):
    assert status.status(run.folder)["audit"] is None
    write_audit(run.folder, "invalid")
    audit = status.status(run.folder)["audit"]
    assert (audit["verdict"], audit["blocks"], audit["accepted"]) == ("invalid", ["source-label-confounding"], False)
    assert "audit: invalid, source-label-confounding blocks\n" in call("status", run.folder).out
