"""`cxr-ssl compare`: any number of runs on one page, and what cannot be compared."""

import json
import re
import shutil

import pytest
from PIL import Image

from pipeline.commands.comparison import compare_runs
from pipeline.contracts import config_file
from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import PREDICTIONS
from tests.support.report_runs import fake_run
from tests.support.report_text import table_under
from tests.support.tiny import call

SMALL = {"num_scans": 120}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """`short` and `long` share pool and holdout, of `other` nothing is shared; tests copy what they change."""
    folder = tmp_path_factory.mktemp("runs")
    picture = folder.parent / f"{folder.name}.png"
    Image.new("L", (8, 8), 90).save(picture)
    made = {"short": {"num_rounds": 1}, "long": {"num_rounds": 3}, "other": {"num_rounds": 1, "seed": 7}}
    for name, options in made.items():
        run = fake_run(folder / name, pictures=[picture], **SMALL, **options)
        budget = {"short": 20, "long": 40, "other": 20}[name]
        changed = {"queue.budget": budget, "pool.uri": f"/pools/{name == 'other'}", "evaluate.num_bootstrap": 50}
        config = config_file.load(run / "resolved.yaml", changed)
        (run / "resolved.yaml").write_text(config_file.dump(config), "utf-8")
    return folder


@pytest.fixture
def own(runs, tmp_path):
    return shutil.copytree(runs, tmp_path / "runs")


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def reads(run):
    return [json.loads(line)["reader"] for line in (run / "holdout_access.jsonl").read_text().splitlines()]


def test_runs_on_one_holdout_are_paired_with_the_first(own):
    answer = call("compare", own / "short", own / "long", "--json", drawn=True)
    assert answer.code == 0, answer.err
    (pair,) = answer.json["pairs"]
    assert (pair["a"], pair["b"], answer.json["reference"]) == ("short", "long", "short")
    row = pair["metrics"][0]
    assert row["metric"] == "auroc" and row["difference"] == pytest.approx(row["b"] - row["a"])
    assert row["ci95"][0] <= row["difference"] <= row["ci95"][1] and row["difference"] > 0
    assert answer.json["options"] == [{"option": "queue.budget", "values": [20, 40]}]
    short, long = answer.json["runs"]
    assert (short["num_expert"], long["num_expert"]) == (20, 60) and len(long["curve"]) == 3
    assert sum(long["asked"].values()) == 60 and answer.json["not_paired"] == []
    assert long["scores"]["auroc"] == long["curve"][-1]["auroc"]


def test_the_page_says_what_was_asked_in_words_and_breaks_a_pool_between_them(own):
    assert call("compare", own / "short", own / "long", "--out", own / "page.html").code == 0
    page = (own / "page.html").read_text()
    assert "16 typical, 4 at random" in page and "representative" not in page
    assert "pools/<wbr>False" in page
    assert call("compare", own / "short", own / "other", "--out", own / "other.html").code == 0
    options = table_under((own / "other.html").read_text(), "Options that differ")
    assert ["pool.uri", "pools/False", "pools/True"] in options  # where on a disk it lies is nobody's business


def test_a_line_breaks_where_the_holdout_grew(own):
    assert call("compare", own / "short", own / "long", "--out", own / "before.html").code == 0
    assert "the holdout grew" not in (own / "before.html").read_text()
    metrics = own / "long/metrics.jsonl"
    first, *since = (json.loads(line) for line in metrics.read_text("utf-8").splitlines())
    for row in since:
        row["holdout_parts"] = [{"part": part, "holdout": row["holdout"]} for part in (0, 1)]
    metrics.write_text("".join(json.dumps(row) + "\n" for row in (first, *since)), "utf-8")
    answer = call("compare", own / "short", own / "long", "--out", own / "page.html", "--json")
    assert [point["pools"] for point in answer.json["runs"][1]["curve"]] == [1, 2, 2]
    page = (own / "page.html").read_text()
    assert "The line of long is broken where a pool joined" in page
    assert page.count("the holdout grew</text>") == 2  # once in each chart's legend


def test_nobody_gives_half_a_label(own):
    assert call("compare", own / "short", own / "long", "--out", own / "page.html", drawn=True).code == 0
    ticks = re.findall(r">([\d.]+)</text>", (own / "page.html").read_text())
    labels = [tick for tick in ticks if float(tick) > 1.0]
    assert labels and all(tick.isdigit() for tick in labels)


def test_every_read_of_the_holdout_is_logged_once(own):
    assert call("compare", own / "short", own / "long", own / "other").code == 0
    assert reads(own / "short") == reads(own / "long") == ["comparison"]
    assert not (own / "other" / "holdout_access.jsonl").exists()


def test_another_holdout_is_said_and_only_what_is_shared_is_compared(own):
    answer = call("compare", own / "short", own / "other", own / "long", "--json")
    assert [(pair["a"], pair["b"]) for pair in answer.json["pairs"]] == [("short", "long")]
    (apart,) = answer.json["not_paired"]
    assert (apart["b"], apart["reason"]) == ("other", "the holdouts share no scan")
    ours, theirs, third = (run["holdout"] for run in answer.json["runs"])
    assert ours == third != theirs
    page = (own.parent / "runs" / "comparison-1.html").read_text()
    assert "stand in a chart of their own" in page and "the holdouts share no scan" in page


def test_holm_corrects_over_all_pairs_of_the_page(own):
    again = shutil.copytree(own / "long", own / "again")
    (two,) = compare_runs.compare([own / "short", own / "long"], None)["pairs"]
    three = compare_runs.compare([own / "short", own / "long", again], None)["pairs"]
    assert [row["p_value"] for row in three[0]["metrics"]] == [row["p_value"] for row in two["metrics"]]
    pairs = zip(three[0]["metrics"], two["metrics"], strict=True)
    assert all(one["p_holm"] >= other["p_holm"] for one, other in pairs)
    tests = [row for pair in three for row in pair["metrics"] if row["p_value"] is not None]
    least = min(row["p_value"] for row in tests)
    assert min(row["p_holm"] for row in tests) == pytest.approx(min(1.0, least * len(tests)))


def test_a_run_half_way_and_one_without_a_holdout_are_rows_with_a_reason(own):
    status = {"state": "waiting", "stage": "rounds", "round": 3, "updated": "2025-01-02T00:00:00Z"}
    (own / "long" / "status.json").write_text(json.dumps(status))
    begun = shutil.copytree(own / "short", own / "begun")
    (begun / "metrics.jsonl").unlink()
    blank = shutil.copytree(own / "short", own / "blank")
    row = json.loads((blank / "metrics.jsonl").read_text()) | {"holdout": None}
    (blank / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    answer = call("compare", begun, own / "short", own / "long", blank, "--json")
    assert answer.code == 0, answer.err
    row = {run["run"]: run for run in answer.json["runs"]}
    assert row["begun"]["reason"] == "no round is finished yet" and row["begun"]["scores"] is None
    assert "expert's label" in row["blank"]["reason"]
    assert "half-way: 3 of" in row["long"]["note"] and row["long"]["reason"] is None
    assert answer.json["reference"] == "short"  # the first that has scores
    assert {(pair["a"], pair["b"]) for pair in answer.json["not_paired"]} == {("short", "begun"), ("short", "blank")}


def test_an_audit_alone_is_not_called_a_run_without_a_round(own):
    alone = shutil.copytree(own / "short", own / "audit")
    (alone / "metrics.jsonl").unlink()
    (alone / "status.json").write_text(json.dumps({"state": "done", "stage": "audit", "updated": ""}))
    row = {run["run"]: run for run in call("compare", own, "--json").json["runs"]}
    assert row["audit"]["reason"] == "an audit alone: no round was asked for" and row["short"]["reason"] is None


def test_a_file_that_was_cut_off_is_the_reason_of_its_run_alone(own):
    (own / "other" / "metrics.jsonl").write_text('{"round": 1, "num_ex')
    answer = call("compare", own, "--json")
    row = {run["run"]: run for run in answer.json["runs"]}
    assert "cannot be read" in row["other"]["reason"] and row["short"]["reason"] is None
    assert "cannot be read" in call("compare", own).out


def test_a_folder_is_told_as_a_history_without_a_read_of_the_holdout(own):
    for name, day in (("long", 1), ("other", 2), ("short", 3)):
        text = json.dumps({"state": "done", "updated": f"2025-01-0{day}T00:00:00Z"})
        (own / name / "status.json").write_text(text)
    (own / "notes.txt").write_text("mine")
    answer = call("compare", own, "--out", own / "history.html", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["kind"] == "history" and answer.json["pairs"] == []
    assert [run["run"] for run in answer.json["runs"]] == ["long", "other", "short"]
    assert not (own / "long" / "holdout_access.jsonl").exists()
    assert "History of 3 runs" in (own / "history.html").read_text()


def test_bad_requests_are_one_error(own, tmp_path):
    (tmp_path / "empty").mkdir()
    for wrong, message in (
        ((own / "short", own / "short"), "is named twice"),
        ((own / "short", own / "long" / ".." / "short"), "is named twice"),
        ((own / "short",), "one run alone"),
        ((tmp_path / "empty",), "no run lies directly in it"),
        ((tmp_path / "gone",), "no such folder"),
        ((own / "short", tmp_path / "empty"), "is not a run directory"),
        ((own / "short", own / "long", "--out", tmp_path / "page.txt"), "is no page"),
        ((own / "short", own / "long", "--out", own / "short" / "report" / "index.html"), "is taken"),
    ):
        answer = call("compare", *wrong)
        assert answer.code == 2 and message in answer.message, answer.err
    assert not (tmp_path / "runs" / "comparison-1.html").exists()


def test_a_salt_is_not_shown(own):
    for name, salt in (("short", "pepper"), ("long", "paprika")):
        text = (own / name / "resolved.yaml").read_text("utf-8")
        (own / name / "resolved.yaml").write_text(text.replace("splits:\n", f"splits:\n  salt: {salt}\n", 1), "utf-8")
    answer = call("compare", own / "short", own / "long", "--json")
    assert answer.code == 0, answer.err
    assert "paprika" not in (own / "comparison-1.html").read_text() + answer.out


def test_names_and_options_are_escaped_and_the_page_loads_nothing(own):
    evil = shutil.move(own / "long", own / "<script>alert(1)<>")
    result = compare_runs.compare([own / "short", evil], own / "page.html")
    page = (own / "page.html").read_text("utf-8")
    assert "<script>alert(1)" not in page and result["pairs"][0]["b"] == "<script>alert(1)<>"
    assert re.findall(r'(?:src|href)="(?!#|data:)[^"]+"', page) == []


def test_runs_of_one_name_are_told_apart_by_their_folders(own):
    other = shutil.copytree(own / "short", own / "later" / "short")
    answer = call("compare", own / "short", other, "--json")
    assert [run["run"] for run in answer.json["runs"]] == ["runs/short", "later/short"]


def test_a_run_whose_predictions_are_gone_is_not_paired(own):
    table = PREDICTIONS.read(own / "long")
    PREDICTIONS.write(own / "long", table.slice(0, 0))
    answer = call("compare", own / "short", own / "long", "--json")
    assert answer.json["not_paired"][0]["reason"] == "has no scored holdout"


def test_a_finding_s_part_is_refused(own):
    part = shutil.copytree(own / "short", own / "long" / "findings" / "mass")
    index = {"findings": [{"finding": "mass", "folder": "mass"}]}
    (part.parent / "index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="one finding's part of a run"):
        compare_runs.compare([own / "short", part], None)
