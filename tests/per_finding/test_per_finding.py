"""A run of independent findings: one queue, one expert reading, and each finding learned as a run of its own."""

import csv
import json
import math
import re
import shutil
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipeline.contracts import finding_line
from pipeline.contracts.answers import BAD_QUALITY, CANNOT_TELL, NOT_CXR, ORACLE, POOL, Answer
from pipeline.contracts.config import Config
from pipeline.contracts.tables import LABELS, PREDICTIONS, PSEUDO, QUEUE
from pipeline.labels import label_table, reading_matrix, training_labels, verdicts
from pipeline.per_finding import merge, rounds
from pipeline.per_finding import parts as per_finding_parts
from pipeline.rounds import question
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.engine import SerialEngine
from pipeline.runtime.run_files import PREANNOTATED
from tests.support.several_findings import (
    FINDINGS,
    NUM,
    READ,
    SEVERAL,
    answered,
    number_of,
    reading_of,
    reply_of,
    rows_of,
    scan,
    shows,
)
from tests.support.tiny import FAST, call


def test_the_row_of_a_round_holds_every_finding_and_their_means(run):
    last = rows_of(run)[-1]
    parts = {f: rows_of(run / "findings" / f)[-1] for f in FINDINGS}
    assert last["findings"] == parts
    assert last["num_expert"] == 32
    assert parts["effusion"]["num_expert"] == 32 > parts["mass"]["num_expert"]  # of some the mass is unknown
    for name in ("auroc", "accuracy", "sensitivity"):
        assert last["holdout"][name] == pytest.approx(np.mean([row["holdout"][name] for row in parts.values()]))
    assert last["holdout"]["per_class"]["mass"] == parts["mass"]["holdout"]["per_class"]["mass"]
    assert last["num_pseudo"] == sum(row["num_pseudo"] for row in parts.values())
    assert parts["effusion"]["holdout"]["auroc"] > 0.8 and parts["mass"]["holdout"]["auroc"] > 0.8


def test_predictions_stand_side_by_side(run):
    table = PREDICTIONS.read(run)
    for finding in FINDINGS:
        part = PREDICTIONS.read(run / "findings" / finding)
        place = pc.index_in(table["image_id"], value_set=part["image_id"].combine_chunks())
        assert table[f"prob_{finding}"].equals(part[f"prob_{finding}"].take(place))
        said = [finding_line.class_of(line, finding) for line in table["predicted"].to_pylist()]
        assert said == part["predicted"].take(place).to_pylist()


def test_the_label_table_tells_every_finding(run):
    table = label_table.read(run)
    expert = table.filter(pc.equal(table["origin"], "expert"))
    values = {(r["image_id"], r["finding"]): r["value"] for r in expert.to_pylist()}
    assert {finding for _, finding in values} == set(FINDINGS)
    assert any(math.isnan(value) for (_, finding), value in values.items() if finding == "mass")
    assert not any(math.isnan(value) for (_, finding), value in values.items() if finding == "effusion")
    pseudo = table.filter(pc.equal(table["origin"], "pseudo")).to_pylist()
    accepted = {f: PSEUDO.read(run / "findings" / f / "rounds" / "02") for f in FINDINGS}
    wanted = {
        (row["image_id"], finding, float(row["finding"] == finding))
        for finding, found in accepted.items()
        for row in found.filter(found["admitted"]).to_pylist()
        if math.isnan(values.get((row["image_id"], finding), math.nan))
    }
    assert {(r["image_id"], r["finding"], r["value"]) for r in pseudo} == wanted


def test_every_part_is_an_ordinary_run(run):
    index = json.loads((run / "findings" / "index.json").read_text())
    assert index["findings"] == [{"finding": f, "folder": f} for f in FINDINGS]
    for finding in FINDINGS:
        part = run / "findings" / finding
        for name in ("audit.json", "evaluation.json", "report/index.html", "report/model_card.md"):
            assert (part / name).is_file(), name
        assert json.loads((part / "evaluation.json").read_text())["scope"]["findings"] == [f"no {finding}", finding]
    assert (run / "report" / "index.html").is_file()


def test_what_no_finding_changes_lies_once_and_is_found(run):
    part = run / "findings" / "mass"
    for name in run_files.SHARED:
        assert not (part / name).exists() and not (part / name).is_symlink(), name
        assert run_files.path(part, name) == run / name
    assert not [path for path in run.rglob("*") if path.is_symlink()]  # no object store has them
    links = re.findall(r'href="(\.\./[^"#]+)', (part / "report" / "checklists.html").read_text())
    assert "../../../manifest.parquet" in links and "../resolved.yaml" in links
    assert all((part / "report" / link).exists() for link in links), links


def test_resuming_changes_nothing(run, pool):
    names = ("metrics.jsonl", "predictions.parquet", "labels.parquet", "findings/mass/metrics.jsonl")
    before = {name: (run / name).read_bytes() for name in names}
    again = call("run", "--pool", pool, *SEVERAL, "--oracle", "--rounds", 2, "--budget", 16, "--out", run, "--resume")
    assert again.code == 0, again.err
    assert {name: (run / name).read_bytes() for name in names} == before
    assert "round 2, mass: finished before, kept" in again.err


def test_a_run_killed_between_two_findings_goes_on_as_if_nothing_had_happened(run, pool, tmp_path):
    learn = question.learn_round

    def dies(ctx, data, round_index, *rest):
        if (round_index, ctx.config.pool.finding) == (2, "mass"):
            raise SystemError("pulled the plug")
        return learn(ctx, data, round_index, *rest)

    go = ["run", "--pool", pool, *SEVERAL, "--oracle", "--rounds", 2, "--budget", 16, "--out", tmp_path / "run"]
    with mock.patch.object(question, "learn_round", dies):
        assert call(*go).code == 1
    assert not (tmp_path / "run" / "rounds" / "02" / "metrics.json").exists()
    (tmp_path / "run" / "findings" / "mass" / "env.json").unlink()  # as if killed between two files of its folder
    again = call(*go, "--resume")
    assert again.code == 0, again.err
    assert "round 2, effusion: finished before, kept" in again.err
    for name in ("labels.parquet", "predictions.parquet", "findings/mass/predictions.parquet"):
        assert (tmp_path / "run" / name).read_bytes() == (run / name).read_bytes(), name


def test_one_finding_by_itself_learns_as_two_classes_do(pool, tmp_path):
    """The same scans as a finding that is there or not, and as two classes: every number of every round is the same."""
    with (pool / "manifest.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        row["image_path"] = str(pool / row["image_path"])
        row["label"] = "effusion" if row["effusion"] == "1" else "no effusion"
    for name, column in (("present", "effusion"), ("classes", "label")):
        with (tmp_path / f"{name}.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, ("image_path", "patient_id", column), extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
    common = [*FAST, "--oracle", "--rounds", 2, "--budget", 12]
    ours = ["--set", "pool.findings_are=independent", "--set", "pool.findings=[effusion]"]
    assert call("run", "--pool", tmp_path / "present.csv", *ours, *common, "--out", tmp_path / "a").code == 0
    classes = ["--set", "pool.findings=[no effusion, effusion]"]
    assert call("run", "--pool", tmp_path / "classes.csv", *classes, *common, "--out", tmp_path / "b").code == 0
    mine, theirs = rows_of(tmp_path / "a" / "findings" / "effusion"), rows_of(tmp_path / "b")
    for row in (*mine, *theirs):
        del row["seconds"], row["fingerprint"]
    assert mine == theirs


def test_people_read_all_findings_at_once(begun, tmp_path):
    """Stops for its annotators, takes what they write, freezes what it proposed, and goes on."""
    out = shutil.copytree(begun, tmp_path / "run")
    number = number_of(out)
    asked = set(QUEUE.read(out / "rounds" / "01")["image_id"].to_pylist())
    frozen = {f: QUEUE.read(out / "findings" / f / "rounds" / "02") for f in FINDINGS}
    for finding, queue in frozen.items():
        found = PSEUDO.read(out / "findings" / finding / "rounds" / "01")
        accepted = found.filter(pc.equal(found["decision"], "accept"))
        proposed = dict(zip(accepted["image_id"].to_pylist(), accepted["finding"].to_pylist(), strict=True))
        assert queue["proposed"].to_pylist() == [proposed.get(i) for i in queue["image_id"].to_pylist()]
    table = label_table.read(out)
    value = {(r["image_id"], r["finding"]): r["value"] for r in table.to_pylist() if r["origin"] == "expert"}
    for image_id in asked:
        i = number[image_id]
        if i % 8 == 0:
            assert value[image_id, "effusion"] == 0.0 and math.isnan(value[image_id, "mass"])
        elif i % 9 == 0:
            assert math.isnan(value[image_id, "effusion"]) and math.isnan(value[image_id, "mass"])
        else:
            assert {f: value[image_id, f] for f in FINDINGS} == shows(i)
    filled, later = answered(tmp_path, out, lambda image_id: reading_of(number[image_id]))
    assert call("labels", "import", out, filled, "--annotator", "Lee").code == 0
    assert call("run", *READ, "--out", out, "--resume").code == 0
    assert rows_of(out)[-1]["round"] == 2
    assert call("status", out, "--json").json["num_expert"] == len(asked | later)


@pytest.fixture
def half_known(pool, tmp_path):
    """The pool knows the effusion of every scan and the mass of none."""
    rows = [f"{pool / f's{i:03d}.png'},p{i // 2},{shows(i)['effusion']}," for i in range(NUM)]
    path = tmp_path / "half.csv"
    path.write_text("image_path,patient_id,effusion,mass\n" + "\n".join(rows) + "\n")
    return path


def test_a_finding_the_pool_leaves_open_is_asked_for(half_known, tmp_path):
    """In training and holdout, although another finding of the same scans is known."""
    out = tmp_path / "run"
    go = ["run", *SEVERAL, "--rounds", 1, "--budget", 16, "--set", "queue.holdout_budget=8", "--out", out]
    first = call(*go, "--pool", half_known)
    assert first.code == 3, first.err
    kinds = QUEUE.read(out / "rounds" / "01")["kind"].to_pylist()
    assert kinds.count("holdout") > 0 and len(kinds) - kinds.count("holdout") == 16
    waiting = call("status", out, "--json").json["labels"]
    assert waiting["num_open"] == len(kinds)  # what the pool says of the other finding is no answer
    number = number_of(out)
    filled, _ = answered(tmp_path, out, lambda image_id: reply_of(number[image_id]))
    assert call("labels", "import", out, filled, "--annotator", "Lee").code == 0
    assert call("status", out, "--json").json["labels"]["num_open"] == 0
    assert call(*go, "--resume").code == 0
    row = rows_of(out)[-1]
    assert row["findings"]["mass"]["num_expert"] == 16 < row["findings"]["effusion"]["num_expert"]


def test_a_finding_can_be_added_to_a_run(pool, tmp_path):
    out = tmp_path / "run"
    go = ["run", *FAST, "--set", "pool.findings_are=independent", "--oracle", "--budget", 12, "--out", out]
    assert call(*go, "--pool", pool, "--rounds", 1, "--set", "pool.findings=[mass]").code == 0
    before = rows_of(out)[0]["findings"]["mass"]["holdout"]
    more = call(*go, "--resume", "--rounds", 2, "--set", "pool.findings=[effusion, mass]")
    assert more.code == 0, more.err
    rows = rows_of(out)
    assert [set(row["findings"]) for row in rows] == [set(FINDINGS), set(FINDINGS)]
    assert rows[0]["findings"]["mass"]["holdout"] == before
    assert [row["findings"]["effusion"]["num_expert"] for row in rows] == [12, 24]  # the oracle answers once more


def test_an_emptied_cell_of_the_pool_is_asked_for(pool, tmp_path):
    """What the pool said before it left a finding open is no answer any more."""
    out = tmp_path / "run"
    go = ["run", *FAST, "--set", "pool.findings_are=independent", "--budget", 12, "--out", out]
    known = [f"{pool / f's{i:03d}.png'},p{i // 2},{shows(i)['mass']}," for i in range(NUM)]
    path = tmp_path / "pool.csv"
    path.write_text("image_path,patient_id,mass,effusion\n" + "\n".join(known) + "\n")
    assert call(*go, "--pool", path, "--rounds", 1, "--set", "pool.findings=[mass]").code == 0
    more = call(*go, "--resume", "--rounds", 2, "--set", "pool.findings=[effusion, mass]")
    assert more.code == 3, more.err
    assert "effusion was added after 1 rounds" in more.err
    told = call("status", out, "--json").json["labels"]
    assert told["num_open"] == told["num_asked"] > 0


def test_findings_that_people_have_named_cannot_be_left_out(blank, tmp_path):
    """Refused before anything of the run has changed."""
    out = tmp_path / "run"
    go = ["run", *FAST, "--set", "pool.findings_are=independent", "--budget", 12, "--rounds", 1, "--out", out]
    assert call(*go, "--pool", blank, "--set", "pool.findings=[effusion, mass]").code == 3
    filled, _ = answered(tmp_path, out, lambda _: "effusion")
    assert call("labels", "import", out, filled, "--annotator", "Lee").code == 0
    index = (out / "findings" / "index.json").read_bytes()
    for wrong in ("pool.findings=[mass]", "pool.findings_are=exclusive"):
        refused = call(*go, "--resume", "--set", wrong)
        assert refused.code == 2, refused.err
        assert "experts have given labels outside the classes" in refused.message
        assert (out / "findings" / "index.json").read_bytes() == index


def another_pool(folder, numbers, **columns):
    """Scans of other patients; `columns` say what stands for each number."""
    rows = [",".join(("image_path", "patient_id", *columns))]
    for i in numbers:
        scan(i).save(folder / f"s{i}.png")
        rows.append(",".join((f"s{i}.png", f"q{i // 2}", *(str(value(i)) for value in columns.values()))))
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")


def test_a_pool_without_one_finding_tests_the_others(run, pool, tmp_path):
    another_pool(tmp_path, range(2000, 2024), mass=lambda i: shows(i)["mass"])
    found = call("evaluate", run, "--pool", tmp_path, "--json")
    assert found.code == 0, found.err
    assert set(found.json["findings"]) == {"mass"}
    assert "effusion is left out" in found.err


def test_a_part_is_no_run_to_work_in(run, tmp_path):
    part = run / "findings" / "mass"
    for command in (["run", "--out", part, "--resume"], ["labels", "log", part], ["queue", "export", part]):
        refused = call(*command)
        assert refused.code == 2, refused.err
        assert f"Name the run: {run}" in refused.message


def test_evaluate_and_export_speak_of_every_finding(run, tmp_path):
    found = call("evaluate", run, "--json")
    assert found.code == 0, found.err
    assert set(found.json["findings"]) == set(FINDINGS)
    written = call("export", run, "--out", tmp_path / "models", "--json")
    assert written.code == 0, written.err
    for finding in FINDINGS:
        assert (tmp_path / "models" / finding / "model.onnx").is_file()
        assert written.json["findings"][finding]["check"]["onnx_against_run"] < 0.02


def test_another_pool_tests_every_finding(run, pool, tmp_path):
    """An external pool may have fewer columns in another order; each finding is tested where it is known."""
    another_pool(
        tmp_path,
        range(1000, 1040),
        mass=lambda i: shows(i)["mass"],
        effusion=lambda i: shows(i)["effusion"] if (i - 1000) % 3 else "",
    )
    found = call("evaluate", run, "--pool", tmp_path, "--json")
    assert found.code == 0, found.err
    scopes = {finding: one["scope"] for finding, one in found.json["findings"].items()}
    assert scopes["mass"]["num_scans"] == 40 and scopes["effusion"]["num_scans"] == 26
    assert all(one["overall"]["auroc"] > 0.8 for one in found.json["findings"].values())


# --- parts ------------------------------------------------------------------------------------------------------------


def answer_rows(*answers):
    return label_table._rows(
        ((answer, number) for number, answer in enumerate(answers, 1)), finding_line.Independent(FINDINGS)
    )


def test_who_left_a_finding_open_could_not_tell_but_a_pool_says_nothing():
    table = answer_rows(
        Answer("a", "effusion=1|mass=?", "Lee", 1),
        Answer("b", "effusion=0|mass=?", POOL, 0),
        Answer("c", "effusion=0|mass=1", ORACLE, 1),
        Answer("d", NOT_CXR, "Lee", 1),
        Answer("e", CANNOT_TELL, ORACLE, 1),
    )
    mass = per_finding_parts.project_labels(table, "mass")
    assert verdicts.expert_classes(mass, finding_line.question("mass")) == {
        "c": "mass",
        "e": None,
        "a": None,
        "d": None,
    }
    assert verdicts.rejections(mass) == {"d": NOT_CXR}
    effusion = per_finding_parts.project_labels(table, "effusion")
    assert verdicts.expert_classes(effusion, finding_line.question("effusion")) == {
        "a": "effusion",
        "b": "no effusion",
        "c": "no effusion",
        "d": None,
        "e": None,
    }
    LABELS.check(mass)


def test_whether_a_scan_is_any_good_the_readings_as_a_whole_decide(tmp_path):
    """One reader in two holds it to be no good: no majority, for no finding, and what comes later changes nothing."""
    table = answer_rows(
        Answer("a", BAD_QUALITY, "Ann", 1),
        Answer("a", "effusion=?|mass=1", "Ben", 1),
        Answer("a", BAD_QUALITY, "Cat", 2),
        Answer("b", BAD_QUALITY, "Ann", 1),
    )
    LABELS.write(tmp_path, table)
    for finding in FINDINGS:
        part = part_of(tmp_path, finding)
        per_finding_parts.write_labels(part.folder, table, finding)
        with mock.patch.object(training_labels, "training_classes", lambda *_: {}):
            heard = [rounds.expert_labels(part, finding_line.question(finding), r).rejected for r in (1, 2)]
        assert heard == [{"b": BAD_QUALITY}, dict.fromkeys("ab", BAD_QUALITY)]


def test_labels_are_projected_only_when_the_table_has_changed(tmp_path):
    asked = {finding: SimpleNamespace(ctx=part_of(tmp_path, finding)) for finding in FINDINGS}
    learning = rounds.Findings(SimpleNamespace(folder=tmp_path), None, asked)
    LABELS.write(tmp_path, answer_rows(Answer("a", "effusion=1|mass=0", "Ann", 1)))
    with mock.patch.object(per_finding_parts, "write_labels", wraps=per_finding_parts.write_labels) as written:
        learning._project()
        learning._project()
        assert written.call_count == len(FINDINGS)
        LABELS.write(tmp_path, answer_rows(Answer("a", "effusion=1|mass=1", "Ann", 1)))
        learning._project()
        assert written.call_count == 2 * len(FINDINGS)
    mass = label_table.read(tmp_path / "findings" / "mass")
    assert verdicts.expert_classes(mass, finding_line.question("mass")) == {"a": "mass"}


def part_of(folder, finding):
    """The context of a finding's folder in a run that has come to its findings."""
    index = {"findings": [{"finding": name, "folder": name} for name in FINDINGS]}
    (folder / "findings" / finding).mkdir(parents=True, exist_ok=True)
    (folder / "findings" / "index.json").write_text(json.dumps(index))
    return StageContext(Config(), folder / "findings" / finding, SerialEngine())


def test_who_was_not_asked_for_a_finding_has_not_left_it_open():
    asked_less = answer_rows(Answer("a", "mass=1", "Lee", 1))
    assert len(per_finding_parts.project_labels(asked_less, "effusion")) == 0
    assert len(per_finding_parts.project_labels(asked_less, "mass")) == 2


def test_readers_may_differ_on_one_finding_alone():
    table = answer_rows(Answer("a", "effusion=1|mass=0", "Lee", 1), Answer("a", "effusion=1|mass=1", "Kim", 1))
    assert per_finding_parts.disagreements(table, FINDINGS) == ["a"]
    assert verdicts.disagreements(per_finding_parts.project_labels(table, "effusion")) == []


def test_a_certified_bound_of_all_is_that_of_the_worst_and_none_without_checks():
    def row(bound, num_pseudo, precision):
        return {
            "num_pseudo": num_pseudo,
            "num_accepted": num_pseudo,
            "pseudo_share": 0.5,
            "pseudo_precision": precision,
            "pseudo_precision_estimated": None,
            "pseudo_precision_certified": bound,
            "gate": "estimated",
            "rolled_back": False,
            "calibration_auroc": None,
            "flip_rate": None,
            "holdout": None,
            "seconds": {"train": 1},
            "fingerprint": str(bound),
        }

    found = merge.merged_row(1, 20, {"a": row(0.9, 30, 1.0), "b": row(0.8, 10, 0.6)})
    assert found["pseudo_precision_certified"] == 0.8
    assert found["pseudo_precision"] == pytest.approx(0.9)
    assert found["seconds"] == {"train": 2} and found["holdout"] is None
    unchecked = merge.merged_row(1, 20, {"a": row(0.9, 30, 1.0), "b": row(None, 0, None)})
    assert unchecked["pseudo_precision_certified"] is None


def test_the_run_is_audited_as_its_worst_finding():
    def check(name, severity, value, message):
        return {"id": name, "severity": severity, "value": value, "message": message, "count": 1}

    def one(labels_hash, *checks):
        facts = {"classes": {}, "num_labelled": 4, "labels_hash": labels_hash}
        return {"facts": facts, "checks": list(checks), "shortcuts": [{"finding": labels_hash}], "external": []}

    found = merge.merged_audit(
        {
            "a": one(
                "x",
                check("class-imbalance", "ok", 0.3, "a."),
                check("exact-duplicates", "ok", 0.1, "same."),
                check("metadata-predicts-label", "warn", 0.7, "much."),
            ),
            "b": one(
                "y",
                check("class-imbalance", "ok", 0.1, "b."),
                check("exact-duplicates", "ok", 0.1, "same."),
                check("metadata-predicts-label", "block", 0.96, "all."),
            ),
        }
    )
    by_id = {check["id"]: check for check in found["checks"]}
    assert by_id["class-imbalance"]["value"] == 0.1  # the rarer finding
    assert by_id["exact-duplicates"]["message"] == "same."
    assert (by_id["metadata-predicts-label"]["severity"], by_id["metadata-predicts-label"]["message"]) == (
        "block",
        "b: all.",
    )
    assert found["shortcuts"] == [{"finding": "x"}, {"finding": "y"}]


def test_folders_of_findings_are_told_apart():
    names = per_finding_parts._names(["pleural effusion", "pleural/effusion", "Ödem", "…", "index.json"], {})
    assert names == {
        "pleural effusion": "pleural-effusion",
        "pleural/effusion": "pleural-effusion-2",
        "Ödem": "Ödem",
        "…": "finding",
        "index.json": "index.json-2",
    }
    again = per_finding_parts._names(
        ["pleural/effusion", "Pleural effusion"], names
    )  # another order, one gone, one new
    assert again == {"pleural/effusion": "pleural-effusion-2", "Pleural effusion": "Pleural-effusion-3"}


def test_an_answer_elsewhere_costs_no_pseudo_label(tmp_path):
    """Of a scan that the pool knows in part, the rest keeps its pseudo-labels whatever is answered about others."""
    LABELS.write(tmp_path, answer_rows(Answer("a", "effusion=1|mass=?", POOL, 0)))
    one = {
        "image_id": "a",
        "finding": "mass",
        "value": 1.0,
        "origin": "pseudo",
        "annotator": "model",
        "answer": -1,
        "round": 1,
        "probability": 0.9,
    }
    label_table.replace_pseudo_values(tmp_path, pa.Table.from_pylist([one], LABELS.schema))
    label_table.add_answers(tmp_path, [Answer("b", "effusion=1|mass=1", ORACLE, 1)], finding_line.Independent(FINDINGS))
    assert label_table.read(tmp_path)["origin"].to_pylist().count("pseudo") == 1
    label_table.add_answers(tmp_path, [Answer("a", "effusion=1|mass=0", ORACLE, 1)], finding_line.Independent(FINDINGS))
    assert label_table.read(tmp_path)["origin"].to_pylist().count("pseudo") == 0


def test_readings_shown_with_the_models_answer_are_steered_for_every_finding(tmp_path):
    part = tmp_path / "findings" / "mass"
    (tmp_path / "rounds" / "02").mkdir(parents=True)
    (tmp_path / "rounds" / "02" / PREANNOTATED).write_text('["a"]')
    part.mkdir(parents=True)
    (part.parent / "index.json").write_text(json.dumps({"findings": [{"finding": "mass", "folder": "mass"}]}))
    assert reading_matrix.steered_readings(part) == reading_matrix.steered_readings(tmp_path) == {("a", 2)}


def test_pseudo_labels_give_way_to_what_an_expert_says_of_that_finding_alone(tmp_path):
    table = answer_rows(Answer("a", "effusion=1|mass=?", ORACLE, 1), Answer("b", "effusion=1|mass=?", "Lee", 1))
    LABELS.write(tmp_path, table)
    names = [("a", "effusion"), ("a", "mass"), ("b", "mass"), ("c", "mass")]
    rows = pa.Table.from_pylist(
        [
            {
                "image_id": i,
                "finding": f,
                "value": 0.0,
                "origin": "pseudo",
                "annotator": "model",
                "answer": -1,
                "round": 1,
                "probability": 0.9,
            }
            for i, f in names
        ],
        LABELS.schema,
    )
    label_table.replace_pseudo_values(tmp_path, rows)
    kept = label_table.read(tmp_path)
    kept = kept.filter(pc.equal(kept["origin"], "pseudo"))
    assert list(zip(kept["image_id"].to_pylist(), kept["finding"].to_pylist(), strict=True)) == [
        ("a", "mass"),
        ("c", "mass"),
    ]
