"""Who labelled the pool before the run, as the report says it."""

import shutil

import pyarrow as pa
import pytest

from pipeline.contracts.tables import MANIFEST, POOL_READINGS
from pipeline.report import counts
from pipeline.report.gather import gather
from pipeline.report.methods import methods
from tests.support.report_runs import fake_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fake_run(tmp_path_factory.mktemp("run") / "run", num_scans=120, num_rounds=1)


def said(ids):
    rows = [(ids[0], "R1", "normal"), (ids[0], "R2", "pneumonia"), (ids[1], "R1", None)]
    rows = [(*row, "physician, on the scan") for row in rows] + [
        (i, None, "normal", "NLP, on the report") for i in ids[2:7]
    ]
    names = POOL_READINGS.schema.names
    return pa.table({name: [row[k] for row in rows] for k, name in enumerate(names)}, schema=POOL_READINGS.schema)


def test_labels_are_counted_by_who_made_them():
    ids = [f"{i:016x}" for i in range(8)]
    assert counts.provenance(said(ids)) == [
        {"provenance": "NLP, on the report", "num_labels": 5, "num_scans": 5, "num_readers": 0},
        {"provenance": "physician, on the scan", "num_labels": 2, "num_scans": 2, "num_readers": 2},
    ]
    assert counts.provenance(POOL_READINGS.empty()) == []


def test_the_draft_methods_name_them_and_say_nothing_where_the_pool_does_not(run, tmp_path):
    assert "Labels that came with the pool" not in dict(methods(gather(run)))["Data"]
    shutil.copytree(run, tmp_path / "run")
    POOL_READINGS.write(tmp_path / "run", said(MANIFEST.read(run)["image_id"].to_pylist()))
    text = dict(methods(gather(tmp_path / "run")))["Data"]
    assert "NLP, on the report (5 labels) and physician, on the scan (2 labels)" in text
    assert "Of 2 named readers every reading was kept" in text
