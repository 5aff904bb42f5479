import json
import re
import shutil
from dataclasses import replace

import pytest

from pipeline.report import build, checklists, flow_diagram, holdout_reads, methods
from pipeline.report.gather import gather
from tests.support.report_runs import COMPARISON, OVERRIDE, evaluation_content, fake_run, write_audit, write_evaluation
from tests.support.report_text import HOSTILE, hostile, says_nothing_broken, stands_alone, table_under, words_of

PAGES = ("index.html", "audit.html", "checklists.html")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run with everything a report can show, three findings."""
    findings = ("normal", "covid", "viral pneumonia")
    folder = fake_run(tmp_path_factory.mktemp("full") / "run", findings=findings, num_scans=200, num_rounds=2)
    write_audit(folder, "invalid", override=OVERRIDE, findings=findings)
    write_evaluation(folder, findings)
    build(folder)
    return folder


@pytest.fixture(scope="module")
def pages(folder):
    return {name: (folder / "report" / name).read_text("utf-8") for name in PAGES}


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A run that has only found its scans."""
    source = fake_run(tmp_path_factory.mktemp("source") / "run", num_scans=60, num_rounds=1)
    folder = tmp_path_factory.mktemp("bare") / "run"
    folder.mkdir()
    shutil.copy(source / "manifest.parquet", folder)
    build(folder)
    return folder


def test_every_page_stands_alone_and_has_no_broken_value(pages):
    for raw in pages.values():
        assert stands_alone(raw) and says_nothing_broken(raw)


def test_links_between_the_pages_have_a_target(folder, pages):
    for raw in pages.values():
        for address in re.findall(r'href="([^"#:]+(?:#[^"]*)?)"', raw):
            name, _, anchor = address.partition("#")
            if name == "/":  # the page of the pool, hidden where no server gives it
                continue
            path = folder / "report" / name
            assert path.exists(), address
            assert not anchor or f'id="{anchor}"' in pages[name], address


def test_operating_points_predictive_values_and_calibration_repeat_every_number(pages):
    raw = pages["index.html"]
    points = table_under(raw, "Operating points")
    assert len(points) == 9
    assert points[0] == ["normal", "specificity 0.90", "0.310", "81.2%", "74.0–88.0%", "90.3%", "85.0–94.0%"]
    assert points[2][1:3] == ["the model’s own", "–"]
    values = table_under(raw, "Predictive values")
    assert values[0] == ["normal", "1.0%", "stated", "2.0%", "1.0–3.0%", "99.8%", "99.8–99.8%"]
    assert values[1][2] == "these scans"
    assert table_under(raw, "Calibration")[1] == ["covid", "0.84", "0.70–1.00", "−0.21", "−0.50 to +0.10"]
    assert raw.count("Decision curve of ") == 3


def test_sub_populations_show_the_corrected_p_and_why_some_cannot_be_measured(pages):
    female, male = table_under(pages["index.html"], "Sub-populations")
    (children,) = table_under(pages["index.html"], "Sub-populations, too small to test")
    assert female[4:] == [
        "0.871 0.780–0.940",
        "80.0% 70.0–90.0%",
        "−0.062 −0.150 to +0.020",
        "0.130",
        "0.260",
        "",
    ]
    assert male[-3:] == ["< 0.001", "< 0.001", "differs"]
    assert children[4:] == ["–"] * 5 + ["no positive scan"]


def test_a_comparison_is_paired_and_shows_both_tests(pages):
    rows = table_under(pages["index.html"], "Comparison")
    assert rows[0] == ["auroc", "0.933", "0.901", "+0.032", "+0.004 to +0.061", "0.021", "0.042"]
    text = words_of(pages["index.html"])
    assert "Paired on the same 85 scans in 80 groups" in text
    assert "difference +0.032, p 0.019. DeLong takes scans for independent" in text


def test_an_external_test_says_what_it_shares_with_the_run(folder, pages, tmp_path):
    text = words_of(pages["index.html"])
    assert "External test: other-hospital" in text and "0.701 (0.620–0.780)" in text
    assert "Not independent: 4 shared patients and 2 copied scans" in text
    assert len(table_under(pages["index.html"], "Operating points, other-hospital")) == 9
    shutil.copytree(folder, tmp_path / "run")
    path = tmp_path / "run" / "external" / "other-hospital" / "evaluation.json"
    other = json.loads(path.read_text())
    other["audit"] |= {"num_left_out": 9, "num_other_classes": 1, "verdict": "invalid"}
    path.write_text(json.dumps(other))
    text = words_of(build(tmp_path / "run").read_text("utf-8"))
    assert "Not independent" not in text
    assert (
        "9 scans were left out, as this run had seen the patient (4 shared patients) or the picture (2 copies)" in text
    )
    assert "1 scan has a class that this model does not know and was not scored" in text
    assert "The audit of the external test other-hospital says “invalid”" in text


def test_of_two_findings_one_decision_curve_is_drawn(tmp_path):
    folder = fake_run(tmp_path / "run", num_scans=120, num_rounds=1)
    content = evaluation_content()
    content["decision_curve"][0]["points"][0] |= {"ci95": None, "all": None}
    (folder / "evaluation.json").write_text(json.dumps(content))
    raw = build(folder).read_text("utf-8")
    assert raw.count("Decision curve of pneumonia") == 1 and "Decision curve of normal" not in raw


def test_what_was_not_evaluated_is_said_with_the_way_to_get_it(bare):
    text = words_of((bare / "report" / "index.html").read_text("utf-8"))
    assert "No detailed evaluation was made; cxr-ssl evaluate RUN makes one" in text
    assert "No external test was made" in text
    assert "No read of the holdout was logged" in text


@pytest.mark.parametrize(
    "content", [{}, {"scope": None, "slices": [{}], "operating_points": [{}], "calibration": [{}]}]
)
def test_an_evaluation_with_parts_missing_still_makes_a_page(tmp_path, content):
    folder = fake_run(tmp_path / "run", num_scans=60, num_rounds=1)
    (folder / "evaluation.json").write_text(json.dumps(content))
    (folder / "comparison.json").write_text("{}")
    (folder / "external" / "x").mkdir(parents=True)
    (folder / "external" / "x" / "evaluation.json").write_text("{}")
    assert says_nothing_broken(build(folder).read_text("utf-8"))


def test_every_read_of_the_holdout_is_listed_and_summed_by_reader(folder, pages):
    rows = table_under(pages["index.html"], "Holdout reads")
    assert rows[0] == [
        "evaluate",
        "2",
        "1 and 2",
        "2025-01-01 00:00:00 UTC",
        "2025-01-01 00:00:01 UTC",
        "scores of a round",
    ]
    assert [row[0] for row in rows] == ["evaluate", "reference", "report"]
    assert len(table_under(pages["index.html"], "Every holdout read")) == 4
    assert sum(reader.num_reads for reader in holdout_reads.readers(gather(folder))) == 4


def test_the_diagram_fits_a_telephone_and_no_box_covers_another(folder, bare):
    for place in (folder, bare):
        drawn = flow_diagram.diagram(gather(place))
        for i, a in enumerate(drawn.boxes):
            assert a.x >= 0 and a.x + a.width <= flow_diagram.WIDTH and a.y + a.height <= drawn.height
            assert len(a.what) * 6.6 < a.width and all(len(line) * 5.9 < a.width - 18 for line in a.lines)
            assert a.baselines[-1] < a.y + a.height
            for b in drawn.boxes[i + 1 :]:
                beside = a.x + a.width <= b.x or b.x + b.width <= a.x
                assert beside or a.y + a.height < b.y or b.y + b.height < a.y
    assert len(flow_diagram.diagram(gather(bare)).boxes) == 3


def test_the_diagram_counts_what_the_tables_hold(folder):
    run = gather(folder)
    count = {box.what: box.value for box in flow_diagram.diagram(run).boxes}
    assert count["files found"] == 200
    assert count["readable scans"] + count["set aside"] == 200
    assert count["training pool"] + count["sealed holdout"] == count["readable scans"]
    assert count["holdout scored"] == run.scores.num_scans
    assert count["mistakes"] == len(run.mistakes)
    assert count["external test"] == 85


def test_methods_state_the_runs_own_facts(folder):
    said = dict(methods.methods(gather(folder)))
    assert list(said) == [
        "Data",
        "Splits",
        "Representation",
        "Selection and labels",
        "Learning",
        "Calibration",
        "Evaluation",
        "Audit",
        "Software",
    ]
    assert said["Data"].startswith("The pool held 200 files; 197 were read as chest radiographs")
    assert "efficientnet_lite0" in said["Representation"] and "1,280 numbers" in said["Representation"]
    assert "no expert took part" in said["Selection and labels"]
    assert "teaching demo, never for patients" in said["Audit"]
    assert "revision abc1234" in said["Software"] and "Python 3.11.9" in said["Software"]
    assert not any(re.search(r"\bNone\b|–", text) for text in said.values())


@pytest.mark.parametrize(("findings", "named"), [(["effusion", "mass"], True), (["effusion"], False), (None, False)])
def test_methods_name_the_findings_that_shared_the_network(findings, named, folder):
    run = gather(folder)
    row = run.rounds[-1] | {"learner": "expert+network", "network_gain": 0.01, "network_findings": findings}
    now = replace(run, rounds=[*run.rounds[:-1], row | {"network_worse": {}}])
    text = dict(methods.methods(now))["Learning"]
    assert "The mean of its calibrated log-probabilities and those of the classifier it started from is used" in text
    assert ("It learnt 2 findings at once (effusion, mass), with a sigmoid for each" in text) == named


def test_methods_say_how_the_network_answers(folder):
    run = gather(folder)
    row = run.rounds[-1] | {"learner": "expert+network", "network_gain": -0.003}

    def learning(**more):
        return dict(methods.methods(replace(run, rounds=[row | more])))["Learning"]

    mean = {"network_worse": {}}
    assert "not worse than that classifier beyond chance (AUROC −0.003)" in learning(**mean)
    left_out = learning(learner="expert", network_worse={"Brier score": 0.02})
    assert "with it the classifier was worse out of fold, beyond chance (Brier score by 0.020)" in left_out
    # In rounds of 0.1.0 the network answered alone, and AUROC alone decided.
    assert "was not below that of the classifier it started from" in learning()
    assert "AUROC was 0.012 below that of the classifier" in learning(learner="expert", network_gain=-0.012)
    words = [methods.classifier_words(replace(run, rounds=[row | more])) for more in ({}, mean, {"learner": "expert"})]
    assert [text.split()[1] for text in words] == ["network", "mean", "head"]


def test_methods_of_a_run_that_has_only_found_its_scans_claim_no_more(bare):
    assert [name for name, _ in methods.methods(gather(bare))] == ["Data", "Audit"]


def test_who_is_on_each_side_is_counted(folder, pages):
    rows = {row[0]: row[1:] for row in table_under(pages["index.html"], "Who is on each side")}
    side = gather(folder).sides
    assert rows["scans"] == [str(side["train"]["num_scans"]), str(side["holdout"]["num_scans"])]
    assert rows["age in years"] == ["not known", "not known"]
    assert rows["source"][0] == f"site-a {side['train']['num_scans']} (100%)"


# --- checklists -------------------------------------------------------------------------------------------------------

ITEMS = [("claim_2024", 44, 44), ("tripod_ai", 52, 27), ("probast_ai", 34, 34)]


@pytest.mark.parametrize(("name", "num_items", "num_main"), ITEMS)
def test_a_checklist_has_as_many_items_as_the_published_one(name, num_items, num_main):
    items = [item for section in checklists.load(name)["sections"] for item in section["items"]]
    numbers = [item["id"] for item in items]
    assert len(numbers) == len(set(numbers)) == num_items
    assert len({re.sub(r"(?<=\d)[a-z]$", "", number) for number in numbers}) == num_main
    for item in items:
        assert "fact" in item or "add" in item or "na" in item
        assert "fact" not in item or callable(checklists.filler(item["fact"]))


def test_probast_asks_16_questions_on_development_and_18_on_evaluation():
    items = [item["id"] for section in checklists.load("probast_ai")["sections"] for item in section["items"]]
    assert [sum(number.startswith(part) for number in items) for part in "DE"] == [16, 18]


def test_the_counts_of_a_checklist_add_up_and_are_printed(folder, pages):
    text = words_of(pages["checklists.html"])
    for filled, (_, num_items, _) in zip(checklists.fill(gather(folder)), ITEMS, strict=True):
        ours, authors, rest = (filled.num("filled", "in part"), filled.num("author"), filled.num("not applicable"))
        assert ours + authors + rest == num_items
        assert f"{filled.title} {ours} filled" in text
        assert f"{authors} for the author" in text
        assert ours > num_items / 2 and authors > 5


def test_a_filled_item_states_the_runs_numbers(folder):
    claim, tripod, probast = checklists.fill(gather(folder))
    answers = {a.number: a for c in (claim,) for _, rows in c.sections for a in rows}
    scores = gather(folder).scores
    assert f"AUROC {scores.auroc:.3f} (" in answers["37"].fact.text and answers["37"].status == "filled"
    assert "other-hospital: AUROC 0.701 (0.620–0.780)" in answers["33"].fact.text
    assert answers["44"].status == "author" and answers["44"].fact is None
    assert answers["16"].fact.text == "No expert took part: labels were looked up in the pool."
    tripod_14 = next(a for _, rows in tripod.sections for a in rows if a.number == "14")
    assert "sex M differ" in tripod_14.fact.text
    resampled = next(a for _, rows in probast.sections for a in rows if a.number == "E 4.6")
    assert resampled.status == "not applicable"


def test_a_run_without_results_fills_in_no_result(bare):
    by_number = {a.number: a for _, rows in checklists.fill(gather(bare))[0].sections for a in rows}
    assert all(by_number[n].status == "author" for n in ("17", "22", "25", "28", "32", "33", "37", "38", "39"))
    assert by_number["35"].status == "filled"
    assert says_nothing_broken((bare / "report" / "checklists.html").read_text("utf-8"))


# --- everywhere -------------------------------------------------------------------------------------------------------


def test_the_model_card_holds_audit_slices_and_calibration(folder):
    card = (folder / "report" / "model_card.md").read_text("utf-8")
    assert "**invalid.** 1 check blocks" in card
    low, high = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["holdout"]["auprc_ci95"]
    assert f"{low:.3f}–{high:.3f} |" in next(line for line in card.splitlines() if line.startswith("| AUPRC |"))
    assert "“teaching demo, never for patients”" in card
    assert "- Any claim about performance: the audit's verdict is “invalid”." in card
    assert "| covid | 0.84 (0.70–1.00) | −0.21 (−0.50 to +0.10) |" in card
    assert "| sex: M | 41 | 0.761 (0.660–0.850) | 70.0% | −0.172 | \\< 0.001 |" in card
    assert "| other-hospital | 85 | 0.701 (0.620–0.780) | 85.0% |" in card
    order = [card.index(f"## {name}") for name in ("Audit", "Intended use", "Out of scope", "Limits")]
    assert order == sorted(order)


def test_markup_in_any_file_is_escaped_on_every_page(folder, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    for name in ("evaluation.json", "comparison.json", "env.json", "backbone.json", "audit.json"):
        (copy / name).write_text(json.dumps(hostile(json.loads((copy / name).read_text()))))
    log = [json.dumps(hostile(json.loads(line))) for line in (copy / "holdout_access.jsonl").read_text().splitlines()]
    (copy / "holdout_access.jsonl").write_text("\n".join(log))
    (copy / "external" / "other-hospital").rename(copy / "external" / "<script>alert(1)")
    build(copy)
    for name, num_scripts in zip(PAGES, (2, 0, 0), strict=True):
        raw = (copy / "report" / name).read_text("utf-8")
        assert raw.count("<script") == num_scripts
        assert HOSTILE in words_of(raw)
    assert "<script>" not in (copy / "report" / "model_card.md").read_text("utf-8").replace("\\<", "")


def test_the_comparison_names_both_runs(pages):
    assert f"Against another run: {COMPARISON['a']} and {COMPARISON['b']}" in words_of(pages["index.html"])
