"""What the report says of labels by class and of false alarms; numbers are checked against the run's own."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest

from pipeline.contracts import finding_line
from pipeline.labels import dispute_paths
from pipeline.report import build, figures, page_env, summary
from pipeline.report.cautions import cautions
from pipeline.report.flow_diagram import diagram
from pipeline.report.gather import gather
from pipeline.report.model_card import model_card
from pipeline.report.sections import class_labels, false_alarms
from pipeline.runtime import run_files
from tests.support.report_runs import fake_run
from tests.support.report_text import table_under, words_of

THREE = ("normal", "covid", "viral pneumonia")


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    home = tmp_path_factory.mktemp("sections")
    runs = {
        "two": ("normal", "pneumonia"),
        "three": THREE,
        "question": finding_line.question("mass"),
        "ill": ("bacterial", "viral"),
        "ill three": ("bacterial", "viral", "fungal"),
    }
    return {name: fake_run(home / name.replace(" ", "-"), findings=f, num_rounds=2) for name, f in runs.items()}


@pytest.fixture
def copy(template, tmp_path):
    def of(name):
        return shutil.copytree(template[name], tmp_path / "run")

    return of


def rows_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def changed(folder, edit):
    """The run with its last row of metrics edited."""
    rows = rows_of(folder)
    edit(rows[-1])
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def said(folder):
    return " ".join(false_alarms.sentences(gather(folder)))


def percent(share):
    return f"{100 * share:.1f}%"


def bounds(pair):
    """The interval of the wrong calls, from that of the right ones."""
    return f"95% interval {100 * (1 - pair[1]):.1f}–{100 * (1 - pair[0]):.1f}%"


def test_of_two_classes_false_alarms_and_missed_scans_are_counted_with_their_intervals(template):
    row = rows_of(template["two"])[-1]["holdout"]["per_class"]["pneumonia"]
    assert said(template["two"]) == (
        f"False alarms: of {row['fp'] + row['tn']} healthy scans of the holdout (normal) the model would call "
        f"{row['fp']} pneumonia, {percent(1 - row['specificity'])} ({bounds(row['specificity_ci95'])}). "
        f"Missed: of {row['num_positive']} scans with pneumonia it would miss {row['fn']}, "
        f"{percent(1 - row['sensitivity'])} ({bounds(row['sensitivity_ci95'])})."
    )


def one_more_alarm(row):
    """A normal scan that was called normal is called covid."""
    scores = row["holdout"]
    scores["confusion"][0][0] -= 1
    scores["confusion"][0][1] += 1
    normal, covid = scores["per_class"]["normal"], scores["per_class"]["covid"]
    normal |= {"tp": normal["tp"] - 1, "fn": normal["fn"] + 1}
    covid |= {"tn": covid["tn"] - 1, "fp": covid["fp"] + 1}
    normal["sensitivity"] = normal["tp"] / normal["num_positive"]
    covid["specificity"] = covid["tn"] / (covid["tn"] + covid["fp"])


def test_of_several_classes_healthy_scans_and_every_finding_are_told_apart(copy):
    folder = changed(copy("three"), one_more_alarm)
    scores = rows_of(folder)[-1]["holdout"]
    normal, (right, covid, viral) = scores["per_class"]["normal"], scores["confusion"][0]
    text = said(folder)
    assert covid + viral and right + covid + viral == normal["num_positive"]
    named = [f"{num} {finding}" for num, finding in ((covid, "covid"), (viral, "viral pneumonia")) if num]
    assert (
        f"of {normal['num_positive']} healthy scans of the holdout (normal) the model would call {normal['fn']} a "
        f"finding, {percent(1 - normal['sensitivity'])} ({bounds(normal['sensitivity_ci95'])}): {' and '.join(named)}."
    ) in text
    ill = normal["fp"] + normal["tn"]
    assert f"Of {ill} scans with a finding it would call {normal['fp']} normal, {percent(normal['fp'] / ill)}" in text
    first, second = sorted(THREE[1:], key=lambda f: scores["per_class"][f]["specificity"])
    assert text.index(f"{first}: ") < text.index(f"{second}: ")
    for finding in THREE[1:]:
        row = scores["per_class"][finding]
        assert (
            f"{finding}: {row['fp']} of {row['fp'] + row['tn']} scans without it called it "
            f"({percent(1 - row['specificity'])}, {bounds(row['specificity_ci95'])}), {row['fn']} of "
            f"{row['num_positive']} with it missed ({percent(1 - row['sensitivity'])}, "
            f"{bounds(row['sensitivity_ci95'])})"
        ) in text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("question", "healthy scans of the holdout the model would call"),
        ("ill", "holdout scans without viral the model would call"),
    ],
)
def test_scans_are_called_healthy_only_where_the_other_class_is(template, name, words):
    assert words in said(template[name])
    assert ("healthy" in said(template[name])) == (name == "question")


def test_without_a_healthy_class_only_the_classes_are_told(template):
    text = said(template["ill three"])
    assert "healthy" not in text and text.startswith("By class, the most false alarms first: ")
    assert all(f"{finding}: " in text for finding in ("bacterial", "viral", "fungal"))


def test_what_was_not_measured_is_not_claimed(copy):
    folder = copy("two")

    def no_intervals(row):
        row["holdout"]["per_class"]["pneumonia"] |= {"specificity_ci95": None, "sensitivity_ci95": None}

    assert "interval" not in said(changed(folder, no_intervals))

    def nobody_ill(row):
        row["holdout"]["per_class"]["pneumonia"] |= {"tp": 0, "fn": 0, "num_positive": 0}

    assert "Missed" not in said(changed(folder, nobody_ill))

    def unscored(row):
        row["holdout"] = None

    assert said(changed(folder, unscored)) == ""


def test_the_page_and_the_model_card_say_it(template):
    page = words_of(build(template["three"]).read_text("utf-8"))
    card = (template["three"] / "report" / "model_card.md").read_text("utf-8")
    for text in false_alarms.sentences(gather(template["three"])):
        assert text in page and text.split(":")[0] in card


def test_labels_are_counted_by_class_and_by_round(template):
    first, second = (row["expert_by_class"] for row in rows_of(template["three"]))
    shown = table_under(build(template["three"]).read_text("utf-8"), "Expert labels by class")
    assert shown[0] == ["1", *(f"{first[f]} (+{first[f]})" for f in THREE)]
    assert shown[1] == ["2", *(f"{second[f]} (+{second[f] - first[f]})" for f in THREE)]


def test_a_class_of_few_labels_is_marked_in_the_table_and_warned_of(copy):
    few = {"normal": 33, "covid": 4, "viral pneumonia": 5}
    folder = changed(copy("three"), lambda row: row.update(expert_by_class=few))
    shown = table_under(build(folder).read_text("utf-8"), "Expert labels by class")[-1]
    assert ["few" in cell for cell in shown[1:]] == [False, True, False]
    assert shown[2].startswith("4 (−2)")  # an expert took labels back
    warned = [text for text in cautions(gather(folder)) if text.startswith("Class ")]
    assert len(warned) == 1 and warned[0].startswith("Class covid: 4 expert labels, fewer than 5; it has no say")


def test_rounds_of_an_older_version_have_no_counts(copy):
    folder = copy("two")
    rows = [{k: v for k, v in row.items() if k != "expert_by_class"} for row in rows_of(folder)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = gather(folder)
    assert (class_labels.by_round(run), class_labels.warnings(run)) == ([], [])
    assert "Expert labels by class" not in build(folder).read_text("utf-8")


def test_flips_second_opinion_and_caps_are_shown_for_each_round(template):
    raw = build(template["three"]).read_text("utf-8")
    assert table_under(raw, "Flips and second opinion") == [
        ["1", "–", "–", "24 of 30 (80.0%)", "98.0%", "71.0%", "7 by the largest share of a class (pseudo.max_share)"],
        [
            *("2", "3 of 60 (5.0%)", "3", "54 of 60 (90.0%)", "98.0%", "71.0%"),
            "7 by the largest share of a class (pseudo.max_share) and 1 by the cap per class",
        ],
    ]
    by_class = table_under(raw, "Flips and second opinion by class")
    assert by_class == [[finding, "1 of 20 (5.0%)", "18 of 20 (90.0%)"] for finding in THREE]


def test_outside_a_benchmark_nobody_knows_where_they_are_right(copy):
    def edit(row):
        row["second_opinion"] |= {"precision_agreeing": None, "precision_disagreeing": None}

    folder = copy("two")
    rows = rows_of(folder)
    for row in rows:
        edit(row)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    raw = build(folder).read_text("utf-8")
    assert "right where it agrees" not in raw and len(table_under(raw, "Flips and second opinion")[0]) == 5


def test_rounds_without_accepted_pseudo_labels_have_no_row(copy):
    folder = changed(copy("two"), lambda row: row.update(second_opinion=None, pseudo_flips=None))
    assert [row[0] for row in table_under(build(folder).read_text("utf-8"), "Flips and second opinion")] == ["1"]


def test_scans_of_the_holdout_are_shown_to_experts_on_its_own_side(template):
    run = gather(template["two"])
    flow = run.flow | {"kinds": {"uniform": 4, "representative": 16, "holdout": 8}, "queued": 28}
    shown = {
        (box.value, *box.notes) for box in diagram(replace(run, flow=flow)).boxes if box.what == "shown to experts"
    }
    assert shown == {(20, "16 typical, 4 at random"), (8, "one scan a patient")}


def test_stages_stand_in_the_order_of_a_run_without_counts_that_are_not_known(copy):
    folder = copy("two")
    rows = [
        {"name": "embed", "place": 5, "seconds": 2.0, "counts": {"num_embedded": 3, "scans_per_second": None}},
        {"name": "manifest", "place": 0, "seconds": 1.0, "counts": {"num_scans": 3}},
    ]
    (folder / run_files.STAGES).write_text(json.dumps({"stages": rows}))
    table = table_under(build(folder).read_text("utf-8"), "Time by stage")
    assert [row[0] for row in table] == ["manifest", "embed"] and table[1][-1] == "embedded 3"


def test_all_answers_of_people_are_counted_beside_the_labels_that_train(template):
    run = gather(template["two"])
    num_labels = run.last["num_expert"]
    by_people = [{"annotator": name, "num_answers": num_labels} for name in ("ann", "bob")]
    shown = summary.tiles(replace(run, annotators={"annotators": by_people}))[0]
    assert shown.value == str(num_labels) and f"people gave {2 * num_labels} answers in all" in shown.note
    flow = run.flow | {"kinds": {"uniform": 4, "holdout": 1_008}}
    sealed = summary.tiles(replace(run, annotators={"annotators": by_people}, flow=flow))[0]
    assert "answers in all, 1,008 of scans of the holdout" in sealed.note
    assert "answer" not in summary.tiles(run)[0].note  # the pool's own labels


def disputes(paths):
    """The section of a run with these disputes."""
    ended_by = dict(Counter(path["ended_by"] for path in paths))
    told = {"disputes": {"num": len(paths), "ended_by": ended_by, "paths": paths}}
    return page_env.environment().get_template("disputes.html.j2").render(told=told)


def test_the_path_of_each_dispute_is_told():
    said = [("Ann", "normal", None), ("Bob", "<b>covid</b>", "unsure"), ("Lee (adjudicator)", "covid", "sure")]
    steps = [{"annotator": who, "reply": reply, "certainty": certainty} for who, reply, certainty in said]
    ended = {"image_id": "a" * 16, "steps": steps, "ended_by": dispute_paths.BY_ADJUDICATOR, "label": "covid"}
    left = {"image_id": "b" * 16, "steps": steps[:2], "ended_by": dispute_paths.OPEN, "label": None}
    text = words_of(disputes([ended, left]))
    assert "Ann: normal → Bob: <b>covid</b> (unsure) → Lee (adjudicator): covid" in text
    assert "The readers of 2 scans first gave different answers" in text
    assert "an adjudicator: 1" in text and "Still open: 1." in text
    many = disputes([ended] * 60)
    assert many.count("<tr>") == 51 and "agreement.json" in many
    assert disputes([]).strip() == ""


def test_promises_about_reports_are_not_rounded_up():
    run = SimpleNamespace(config={"reports": {"min_precision": 0.975, "confidence": 0.995}}, last={"num_report": 1})
    names = ("class_name", "says", "source", "scans", "checked", "errors", "precision", "bound", "is_used", "why")
    row = dict.fromkeys(names, "x")
    template = page_env.environment().get_template("radiology_reports.html.j2")
    page = template.render(run=run, report_rows=[row])
    assert "at least 97.5%" in page and "with 99.5% confidence" in page


def test_a_round_is_held_only_against_rounds_on_its_own_holdout(copy):
    folder = copy("two")
    path = folder / run_files.METRICS
    first, last = (json.loads(line) for line in path.read_text("utf-8").splitlines())
    first["holdout"]["auroc"] = 0.999
    path.write_text("\n".join(map(json.dumps, (first, last))), "utf-8")
    assert any(text.startswith("Round 1 scored higher on the holdout") for text in cautions(gather(folder)))
    assert "the holdout grew" not in figures.learning_curve(gather(folder), "auroc", "AUROC")
    last["holdout_parts"] = [{"part": part, "holdout": last["holdout"]} for part in (0, 1)]
    path.write_text("\n".join(map(json.dumps, (first, last))), "utf-8")
    assert not any("scored higher" in text for text in cautions(gather(folder)))
    assert "the holdout grew" in figures.learning_curve(gather(folder), "auroc", "AUROC")


def test_the_model_card_says_what_the_model_may_decide_alone(copy):
    folder = copy("two")
    assert "## Act or defer" not in model_card(gather(folder))
    side = {"by_promise": {"class": {"num_labels": 80}}, "num_missing_labels": 20, "why_not": "too few"}
    shares = {"share_alone": 0.4, "share_alone_ci95": [0.3, 0.5], "share_no": 0.4, "share_yes": 0.0, "share_ask": 0.6}
    sides = {
        "no": side | {"threshold_prob": 0.1, "certified": True},
        "yes": side | {"threshold_prob": None, "certified": False},
    }
    certified = {
        "is_current": True,
        "promised_error": 0.05,
        "confidence": 0.95,
        "confidence_together": 0.9,
        "promise_of": "class",
        "num_patients": 200,
        "findings": {"pneumonia": shares | {"sides": sides}},
    }
    card = model_card(replace(gather(folder), act_or_defer=certified)).split("## Act or defer")[1].split("\n## ")[0]
    assert "the model decides 40.0% of these patients’ scans alone" in card
    assert "| pneumonia: no | ≤ 0.100 | 40.0% | 80 |  |" in card
    assert "| pneumonia: yes | – | 0.0% | 80 | too few: about 20 more labelled patients if all" in card
