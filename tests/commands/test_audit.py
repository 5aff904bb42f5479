"""`cxr-ssl audit`, as a user types it."""

import csv
import json
import shutil

import pytest

from pipeline.audit.check import TITLES
from pipeline.contracts import tables
from tests.support.tiny import FAST, call, make_pool

SHORT = ("--rounds", "1", "--budget", "8", "--oracle", "--set", "calibrate.num_folds=2", *FAST)
QUICK = ("--set", "audit.num_bootstrap=20")


def leaky(folder):
    """Two scans a patient; of every other patient one is in training and one in test."""

    def row(i):
        side = ("train", "test")[i % 2] if i // 4 % 2 else "train"
        return ("normal", "sick")[i // 2 % 2], f"p{i // 2}", side

    return make_pool(folder, num=40, columns=("label", "patient_id", "official_split"), row=row)


def audited(pool, out, *more):
    return call("audit", pool, "--out", out, *FAST, *QUICK, *more)


def checks_of(found):
    return {check["id"]: check for check in found["checks"]}


def test_audit_writes_every_check_and_a_page(tmp_path):
    answer = audited(make_pool(tmp_path / "pool"), tmp_path / "out", "--json")
    assert answer.code == 0, answer.err
    found = answer.json
    assert [check["id"] for check in found["checks"]] == list(TITLES)
    assert found == json.loads((tmp_path / "out" / "audit.json").read_text("utf-8")) | {
        "out": str(tmp_path / "out"),
        "report": str(tmp_path / "out" / "report" / "audit.html"),
    }
    page = (tmp_path / "out" / "report" / "audit.html").read_text("utf-8")
    assert found["verdict"] in page
    assert found["verdict"] == "caution"  # one unknown source, unknown ages, few patients
    assert checks_of(found)["missing-metadata"]["severity"] == "warn"


def test_a_leaking_split_blocks_with_code_4_and_names_patients_and_scans(tmp_path):
    answer = audited(leaky(tmp_path / "pool"), tmp_path / "out", "--json")
    assert answer.code == 4
    found = checks_of(answer.json)
    assert found["patient-across-splits"]["severity"] == "block"
    assert found["patient-across-splits"]["count"] == 10
    assert "10 patients are in training and in test: 10 of 10 test scans" in found["patient-across-splits"]["message"]
    assert answer.json["verdict"] == "invalid"
    assert "patient-across-splits" in answer.json["blocking"]
    assert "--because" in answer.err


def test_strict_makes_a_warning_block(tmp_path):
    pool = make_pool(tmp_path / "pool")
    assert audited(pool, tmp_path / "a").code == 0
    answer = audited(pool, tmp_path / "b", "--strict")
    assert answer.code == 4
    assert "missing-metadata" in answer.err


def test_an_override_goes_on_but_stays_invalid_and_is_printed_ever_after(tmp_path):
    pool = leaky(tmp_path / "pool")
    answer = audited(pool, tmp_path / "out", "--accept", "all", "--because", "shown to <students>", "--json")
    assert answer.code == 0
    assert answer.json["verdict"] == "invalid"
    assert answer.json["overrides"][0]["because"] == "shown to <students>"
    page = (tmp_path / "out" / "report" / "audit.html").read_text("utf-8")
    assert "shown to &lt;students&gt;" in page
    again = audited(pool, tmp_path / "out")  # the word is remembered
    assert again.code == 0
    assert "shown to <students>" in again.out


def test_an_override_without_a_reason_or_of_no_check_is_refused(tmp_path):
    pool = leaky(tmp_path / "pool")
    assert audited(pool, tmp_path / "out", "--accept", "all").code == 2
    assert audited(pool, tmp_path / "out", "--because", "so").code == 2
    answer = audited(pool, tmp_path / "out", "--accept", "patient-accross-splits", "--because", "so")
    assert answer.code == 2
    assert "patient-across-splits" in answer.err
    assert not (tmp_path / "out").exists()


def test_run_is_blocked_before_labels_are_spent_and_goes_on_when_accepted(tmp_path):
    pool, out = leaky(tmp_path / "pool"), tmp_path / "run"
    answer = call("run", "--pool", pool, "--out", out, *SHORT, *QUICK, "--set", "splits.column=auto")
    assert answer.code == 4, answer.err
    assert not (out / "rounds").exists()
    assert not (out / "labels.parquet").exists()
    assert json.loads((out / "status.json").read_text("utf-8"))["state"] == "blocked"
    assert (out / "report" / "audit.html").exists()
    refused = call("run", "--out", out, "--resume", "--json")
    assert refused.code == 4
    assert refused.json["state"] == "blocked"


def test_run_goes_on_with_an_override_and_every_report_prints_it(tmp_path):
    pool = make_pool(tmp_path / "pool", num=40)
    out = tmp_path / "run"
    assert call("run", "--pool", pool, "--out", out, *SHORT, *QUICK, "--strict").code == 4
    answer = call("run", "--out", out, "--resume", "--accept", "all", "--because", "a drill & nothing else")
    assert answer.code == 0, answer.err
    for name in ("index.html", "audit.html"):
        assert "a drill &amp; nothing else" in (out / "report" / name).read_text("utf-8")
    assert "a drill & nothing else" in (out / "report" / "model_card.md").read_text("utf-8")
    found = json.loads((out / "audit.json").read_text("utf-8"))
    assert found["phase"] == "final"
    assert checks_of(found)["holdout-access"]["checked"]


@pytest.mark.parametrize(
    ("columns", "row", "words"),
    [
        (("label",), lambda i: (("normal", "sick")[i // 2 % 2],), "patient"),
        (("label", "patient_id"), lambda i: (("normal", "sick")[i % 2], ""), "patient"),
        (("patient_id",), lambda i: (f"p{i}",), "no label is known"),
        (("label", "patient_id"), lambda i: ("normal", f"p{i}"), "only one class is known (normal)"),
        (("label", "patient_id"), lambda i: ("sick" if i == 0 else "normal", f"p{i}"), "sick (1 scan of 1)"),
        (("label", "patient_id"), lambda i: (("normal", "sick")[i % 2], "one"), "holdout would be empty"),
    ],
    ids=["no patient column", "patients unknown", "unlabelled", "one class", "a class of one", "one patient"],
)
def test_poor_pools_are_audited_as_far_as_they_go(tmp_path, columns, row, words):
    answer = audited(make_pool(tmp_path / "pool", columns=columns, row=row), tmp_path / "out")
    assert answer.code in (0, 4), answer.err
    assert words in answer.out + answer.err
    assert json.loads((tmp_path / "out" / "audit.json").read_text("utf-8"))["verdict"] in ("caution", "invalid")


def test_a_pool_of_one_picture_is_invalid(tmp_path):
    pool = make_pool(tmp_path / "pool")
    for path in pool.glob("s*.png"):
        if path.name != "s000.png":
            shutil.copyfile(pool / "s000.png", path)
    answer = audited(pool, tmp_path / "out", "--json")
    assert answer.code == 4
    check = checks_of(answer.json)["exact-duplicates"]
    assert (check["severity"], check["count"]) == ("block", 23)


def test_unknown_names_in_the_split_column_are_refused(tmp_path):
    pool = make_pool(
        tmp_path / "pool", columns=("label", "official_split"), row=lambda i: ("a", ("train", "fold-7")[i % 2])
    )
    answer = audited(pool, tmp_path / "out")
    assert answer.code == 2
    assert "fold-7" in answer.err


def test_split_folders_above_class_folders_are_audited(tmp_path):
    flat = make_pool(tmp_path / "flat")
    for i, path in enumerate(sorted(flat.glob("s*.png"))):
        target = tmp_path / "pool" / ("train", "val", "test")[i % 3] / ("normal", "sick")[i // 2 % 2] / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    shutil.copyfile(flat / "s000.png", tmp_path / "pool" / "test" / "normal" / "again.png")
    answer = audited(tmp_path / "pool", tmp_path / "out", "--json")
    assert answer.code == 4
    assert checks_of(answer.json)["duplicates-across-splits"]["count"] == 1
    assert answer.json["facts"]["split"] == "the pool's own"


def test_an_audit_never_takes_over_another_folder(done, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = make_pool(tmp_path / "first"), leaky(tmp_path / "second")
    accepted = ("--accept", "all", "--because", "for the first alone")
    a = call("audit", first, *FAST, *QUICK, *accepted, "--strict", "--json")
    b = call("audit", second, *FAST, *QUICK, "--json")
    assert (a.code, b.code) == (0, 4)
    assert a.json["out"] != b.json["out"]
    assert (b.json["overrides"], b.json["strict"]) == ([], False)
    assert call("audit", second, "--out", a.json["out"], *FAST).code == 2
    assert call("audit", first, "--out", done / "b", *FAST).code == 2
    assert call("audit", done / "b", "--out", tmp_path / "x").code == 2
    assert json.loads((tmp_path / "runs" / "audit-2" / "status.json").read_text())["state"] == "blocked"


def test_the_advice_of_a_block_can_be_followed(tmp_path):
    pool, out = leaky(tmp_path / "pool"), tmp_path / "out"
    assert audited(pool, out).code == 4
    answer = audited(pool, out, "--set", "splits.column=none", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["facts"]["split"] == "drawn by group"
    run = call("run", "--pool", pool, "--out", tmp_path / "run", *SHORT, *QUICK)
    assert run.code == 4
    again = call("run", "--out", tmp_path / "run", "--resume", "--set", "splits.column=none")
    assert again.code == 0, again.err


def test_labels_that_block_keep_blocking_until_accepted(tmp_path):
    """Answers that make the class equal to the source, in a run whose pool brought no labels."""

    def row(i):
        return "", f"p{i // 2}", ("here", "there")[i // 2 % 2]

    pool, out = (
        make_pool(tmp_path / "pool", num=80, columns=("label", "patient_id", "source"), row=row),
        tmp_path / "run",
    )
    asked = ("--set", "pool.findings=[normal, sick]", "--set", "queue.holdout_budget=10")
    human = [word for word in SHORT if word != "--oracle"]
    start = call("run", "--pool", pool, "--out", out, *human, "--budget", "40", *QUICK, *asked)
    assert start.code == 3, start.err
    manifest = tables.MANIFEST.read(out)
    source = dict(zip(manifest["image_id"].to_pylist(), manifest["source"].to_pylist(), strict=True))
    sheet = out / "rounds" / "01" / "queue.csv"
    with sheet.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for line in rows:
        line["label"] = {"here": "normal", "there": "sick"}[source[line["image_id"]]]
    with sheet.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    assert call("labels", "import", out, sheet, "--annotator", "dr").code == 0
    for _ in range(2):  # a second try must not slip through
        answer = call("run", "--out", out, "--resume")
        assert answer.code == 4, answer.err
        assert "source-label-confounding" in answer.err
        assert not (out / "metrics.jsonl").exists() or not (out / "metrics.jsonl").read_text("utf-8")
    assert len(tables.LABELS.read(out)) > 0
    answer = call("run", "--out", out, "--resume", "--accept", "all", "--because", "known, a test")
    assert answer.code == 0, answer.err
    assert json.loads((out / "audit.json").read_text("utf-8"))["verdict"] == "invalid"


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("done")
    answer = call("run", "--pool", make_pool(folder / "pool", num=60), "--out", folder / "b", *SHORT, *QUICK)
    assert answer.code == 0, answer.err
    return folder
