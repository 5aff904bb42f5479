"""The drafts for regulators: true to the run, and open where a machine cannot know."""

import hashlib
import json
import os
import re
from pathlib import Path

import pytest

from pipeline.report import build, checklists
from pipeline.report.gather import gather
from pipeline.report.regulators import croissant, papers
from tests.support.report_runs import PATIENT_PREFIX, fake_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return fake_run(tmp_path_factory.mktemp("papers") / "run")


@pytest.mark.parametrize("name", checklists.PAPERS)
def test_every_item_has_a_fact_or_is_visibly_left_to_the_author(folder, name):
    content, run = checklists.load(name), gather(folder)
    items = [item for section in content["sections"] for item in section["items"]]
    assert len({item["id"] for item in items}) == len(items)
    filled = checklists.fill_one(name, run)
    text = papers.paper(name, run)
    assert text.count(papers.LEFT) == filled.num("in part", "author") > 3
    assert f"{text.count(papers.LEFT)} of {len(items)} items wait for the author" in text
    assert filled.num("filled", "in part") > len(items) / 2
    for item in items:
        assert item["asks"].split(",")[0].split(":")[0] in text.replace("\\", "")
    for address in re.findall(r"\]\(([^)#]+)", text):
        there = Path(os.path.normpath(folder / "report" / address))  # the folder of the report is not there yet
        assert there.exists() or address in ("index.html", "audit.html", "model_card.md")
    assert PATIENT_PREFIX not in text


def test_the_plan_says_what_may_change_and_when_a_change_is_refused(folder):
    run = gather(folder)
    text = papers.paper("change_plan", run).replace("\\", "")
    assert f"AUROC of {run.scores.auroc:.3f}" in text and "is rolled back" in text
    assert all(finding in text for finding in run.findings)


def test_croissant_describes_the_tables_by_their_hashes(folder):
    content = croissant.described(gather(folder))
    files = {row["@id"]: row for row in content["distribution"]}
    assert files["labels.parquet"]["sha256"] == hashlib.sha256((folder / "labels.parquet").read_bytes()).hexdigest()
    fields = {row["@id"] for records in content["recordSet"] for row in records["field"]}
    assert {"labels/finding", "labels/annotator", "manifest/view"} <= fields and "manifest/uri" not in fields
    rai = {key.removeprefix("rai:"): value for key, value in content.items() if key.startswith("rai:")}
    assert {"annotationsPerItem", "machineAnnotationTools", "dataBiases", "dataAnnotationAnalysis"} <= rai.keys()
    assert rai["dataSocialImpact"] == "LEFT TO THE AUTHOR." and rai["machineAnnotationTools"].endswith("by a machine.")
    assert PATIENT_PREFIX not in croissant.text(gather(folder))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_croissant_is_read_by_its_own_library(folder):
    mlcroissant = pytest.importorskip("mlcroissant")
    dataset = mlcroissant.Dataset(jsonld=json.loads(croissant.text(gather(folder))))
    assert not dataset.metadata.ctx.issues.errors
    assert dataset.metadata.annotations_per_item and dataset.metadata.data_biases
    assert {records.name for records in dataset.metadata.record_sets} == {"manifest", "labels"}


def test_the_report_writes_them(folder):
    build(folder)
    texts = {name: (folder / "report" / name).read_text("utf-8") for name in ("data_governance.md", "change_plan.md")}
    assert all(papers.LEFT in text for text in texts.values())
    assert json.loads((folder / "report" / "croissant.json").read_text("utf-8"))["name"] == "run"
    assert papers.LEFT in (folder / "report" / "model_card.md").read_text("utf-8")
