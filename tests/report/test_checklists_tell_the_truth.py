"""Every item of every checklist: filled by a run that has what it asks for, left to the author by one that lacks it."""

import re
from dataclasses import replace

import pytest

from pipeline.report import build, checklists
from pipeline.report.checklists import facts_data, facts_model, facts_results
from pipeline.report.gather import RunData, gather
from tests.support.report_runs import fake_run, write_audit, write_evaluation

FINDINGS = ("normal", "pneumonia")
ITEMS = [
    pytest.param(item, id=f"{name}-{item['id']}")
    for name in checklists.NAMES
    for section in checklists.load(name)["sections"]
    for item in section["items"]
    if "fact" in item
]
AGREED = {
    "share": {"num_scans": 20, "value": 0.9},
    "krippendorff": {"value": 0.8, "ci95": [0.6, 0.9]},
}


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """All that a run can leave; labels by two people."""
    folder = fake_run(tmp_path_factory.mktemp("full") / "run", findings=FINDINGS, num_scans=120, num_rounds=1)
    write_audit(folder, "caution", findings=FINDINGS)
    write_evaluation(folder, FINDINGS)
    for name in ("pseudo", "model"):
        (folder / "rounds" / "01" / name).mkdir(exist_ok=True)
    build(folder)
    run = gather(folder)
    by_people = {"config": run.config | {"oracle": False}, "annotators": run.annotators | {"agreement": AGREED}}
    named = {"flow": run.flow | {"annotators": ["ann", "bob"]}}
    known_people = {
        side: row | {"view": row["view"] or [("PA", row["num_scans"])], "age_quartiles_years": [40.0, 50.0, 60.0]}
        for side, row in run.sides.items()
    }
    return replace(run, **by_people, **named, sides=known_people)


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    return RunData(tmp_path_factory.mktemp("empty"))


@pytest.mark.parametrize("item", ITEMS)
def test_an_item_is_filled_by_a_run_that_has_it_and_left_to_the_author_by_one_that_lacks_it(item, full, empty):
    answer = checklists._answer(item, full)
    assert answer.fact is not None and answer.fact.links, "nothing in a full run shows it"
    assert answer.status in ("filled", "in part", "not applicable")
    lacking = checklists._answer(item, empty)
    assert (lacking.status, lacking.fact) == ("author", None)
    assert lacking.add


def test_every_link_of_a_filled_item_leads_to_a_file_and_a_place_in_it(full):
    report = full.folder / "report"
    text = (report / "checklists.html").read_text("utf-8")
    links = set(re.findall(r'class="fact">.*?</p>', text, re.DOTALL))
    assert sum("href=" in fact for fact in links) > 30
    for address in set(re.findall(r'href="([^"#:]+(?:#[^"]*)?)"', " ".join(links))):
        name, _, anchor = address.partition("#")
        assert (report / name).exists(), address
        assert not anchor or f'id="{anchor}"' in (report / name).read_text("utf-8"), address


def test_a_fact_whose_artefact_is_gone_is_not_filled(full, tmp_path):
    item = {"id": "1", "asks": "…", "fact": "prediction"}
    assert checklists._answer(item, full).status == "filled"
    assert checklists._answer(item, replace(full, folder=tmp_path)).status == "author"


def test_no_command_is_named_that_does_not_exist(full):
    from pipeline.cli import app

    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    names |= {group.name for group in app.registered_groups}
    texts = [
        text
        for filled in checklists.fill(full)
        for _, answers in filled.sections
        for answer in answers
        for text in (answer.fact.text if answer.fact else "", answer.add)
    ]
    named = set(re.findall(r"`cxr-ssl ([a-z]+)", " ".join(texts)))
    assert named <= names


def test_probes_of_the_audit_are_no_external_test_of_the_model(full):
    assert full.audit.external
    without = replace(full, external={})
    assert facts_results.external_test(without) is None
    item = next(p.values[0] for p in ITEMS if p.values[0]["fact"] == "external_test")
    assert "evaluate RUN --pool" in checklists._answer(item, without).add
    assert facts_results.clusters(replace(without, evaluation=None, flow={"sources": ["a", "b"]})) is None
    assert "The pool, not the model, by the audit’s own probes" in facts_results.robustness(full).text


def test_an_interval_is_not_called_equality(full):
    rows = [
        {"by": "sex", "slice": "M", "auroc": 0.6, "auroc_ci95": [0.18, 0.99], "p_holm": 0.4},
        {"by": "sex", "slice": "F", "auroc": 0.8, "auroc_ci95": [0.7, 0.9], "p_holm": 0.4},
    ]
    text = facts_results.fairness(replace(full, evaluation={"slices": rows})).text
    assert "not equality" in text and "sex M may be anything from 0.180–0.990" in text
    rows[0]["p_holm"] = 0.01
    assert "sex M differ" in facts_results.fairness(replace(full, evaluation={"slices": rows})).text


def test_what_the_audit_could_not_check_fills_nothing(full):
    checks = [replace(check, checked=False, message="Not checked: no label.") for check in full.audit.checks]
    unchecked = replace(full, audit=replace(full.audit, checks=checks))
    assert facts_data.label_consistency(unchecked) is None
    assert "Not checked" not in facts_data.disjoint(unchecked).text


def test_a_model_that_was_not_kept_is_not_said_to_be_available(full, tmp_path):
    gone = replace(full, folder=tmp_path)
    assert facts_model.model_files(gone) is None and facts_model.prediction(gone) is None
