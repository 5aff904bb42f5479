"""The audit on real scans: what is known of these pools is what it says."""

import csv
import json
import os
import random
from pathlib import Path
from unittest import mock

import pytest

from tests.support import tiny
from tests.support.tiny import FAST, call

DATA = Path(os.environ.get("CXR_SSL_DATA", ""))
pytestmark = pytest.mark.real
SETTINGS = ("--set", "engine.backend=serial", "--set", "audit.num_bootstrap=20", "--json", "-q")


@pytest.fixture(scope="module", autouse=True)
def sharper():
    """What is asserted of real pools is what probes of more trees and folds read off."""
    with mock.patch.dict(tiny.PROBES, NUM_TREES=15, NUM_FOLDS=5):
        yield


def rows_of(pool):
    with (DATA / pool / "manifest.csv").open(encoding="utf-8") as stream:
        return [row | {"image_path": str(DATA / pool / row["image_path"])} for row in csv.DictReader(stream)]


def audited(folder, rows, *more):
    folder.mkdir()
    names = list(dict.fromkeys(name for row in rows for name in row))
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows(rows)
    answer = call("audit", folder / "manifest.csv", "--out", folder / "out", *SETTINGS, *more)
    assert answer.code in (0, 4), answer.err
    found = json.loads(answer.out)
    return answer.code, found["verdict"], {check["id"]: check for check in found["checks"]}, found


@pytest.fixture(scope="module")
def covid3(sharper, tmp_path_factory):
    """By the default network, on small squares."""
    rows = rows_of("covid3")[::6]
    return audited(tmp_path_factory.mktemp("covid3") / "pool", rows, "--set", "preprocess.size_px=128")


def test_covid3_is_invalid_and_says_why(covid3):
    code, verdict, checks, found = covid3
    assert (code, verdict) == (4, "invalid")
    source = checks["source-label-confounding"]
    assert source["severity"] == "block"
    assert "covid shares no source with any other class" in source["message"]
    shortcuts = {(row["probe"], row["finding"]): row["auroc"] for row in found["shortcuts"]}
    assert shortcuts["metadata", "covid"] > 0.98
    assert shortcuts["lungs-masked", "covid"] > 0.95
    assert shortcuts["model", "covid"] > 0.95
    message = checks["metadata-predicts-label"]["message"]
    assert f"{shortcuts['metadata', 'covid']:.3f}" in message
    assert f"{shortcuts['model', 'covid']:.3f}" in message
    assert checks["no-external-test"]["severity"] == "warn"
    assert "shares no class" in checks["no-external-test"]["message"]


def test_its_nih_part_alone_has_no_source_flag_and_names_patients_of_both_classes(tmp_path):
    every = [row for row in rows_of("covid3") if row["source"] == "nih-chestxray8"]
    classes = {
        row["patient_id"]: {one["label"] for one in every if one["patient_id"] == row["patient_id"]} for row in every
    }
    rows = [row for i, row in enumerate(every) if i % 10 == 0 or len(classes[row["patient_id"]]) > 1]
    code, verdict, checks, _ = audited(tmp_path / "nih", rows, *FAST)
    assert (code, verdict) == (0, "caution")
    assert checks["source-label-confounding"]["severity"] == "ok"
    assert checks["source-predictable"]["severity"] == "ok"
    both = len(
        {row["patient_id"] for row in rows if row["label"] == "pneumonia"}
        & {row["patient_id"] for row in rows if row["label"] == "no_finding"}
    )
    assert both == 21
    assert "21 patients with scans of several classes" in checks["label-conflict"]["message"]


def test_covid_adults_against_kermany_children_are_named(tmp_path):
    covid = [row for row in rows_of("covid3") if row["label"] == "covid"][::3]
    children = [row for row in rows_of("kermany") if row["subtype"] in ("normal", "viral")][::30]
    rows = [
        {name: row.get(name, "") for name in ("image_path", "patient_id", "source", "population")}
        | {"label": row.get("subtype") or "covid"}
        for row in (*covid, *children)
    ]
    code, verdict, checks, _ = audited(tmp_path / "pooled", rows, *FAST)
    assert (code, verdict) == (4, "invalid")
    population = checks["population-confounding"]
    assert population["severity"] == "block"
    assert "The population of covid is not known, that of other classes is" in population["message"]
    assert "age of covid is not known, the others are children" in population["message"]
    assert checks["source-label-confounding"]["severity"] == "block"


def test_kermany_leaks_only_when_it_is_split_by_image(tmp_path):
    rows = rows_of("kermany")
    draw = random.Random(0)
    patients = sorted({row["patient_id"] for row in rows})
    chosen = set(draw.sample(patients, 110))
    rows = [row for row in rows if row["patient_id"] in chosen]
    few = (*FAST, "--set", "audit.max_scans=300")
    code, _, checks, _ = audited(tmp_path / "official", rows, *few)
    assert code == 0
    for name in ("patient-across-splits", "duplicates-across-splits", "label-conflict"):
        assert checks[name]["severity"] == "ok", checks[name]["message"]
    for row in rows:
        row["official_split"] = "test" if draw.random() < 0.2 else "train"
    sides = {side: {r["patient_id"] for r in rows if r["official_split"] == side} for side in ("train", "test")}
    both = sides["train"] & sides["test"]
    affected = sum(row["official_split"] == "test" and row["patient_id"] in both for row in rows)
    code, verdict, checks, _ = audited(tmp_path / "by-image", rows, *few)
    assert (code, verdict) == (4, "invalid")
    check = checks["patient-across-splits"]
    assert check["severity"] == "block"
    # Copies of a picture are counted by the other check, so a patient or two may be missing here.
    assert len(both) - 3 <= check["count"] <= len(both)
    assert f"{check['count']} patients are in training and in test" in check["message"]
    assert check["value"] == pytest.approx(affected / sum(r["official_split"] == "test" for r in rows), abs=0.02)
