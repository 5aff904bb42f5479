"""What the stage refuses, and what it leaves of reports that a run no longer has."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from pipeline.contracts import config_file
from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import MANIFEST
from pipeline.radiology_reports import stage, texts
from pipeline.radiology_reports.report_labels import kept
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.growth import record


def context(folder, **options):
    given = {"pool.findings": ["normal", "mass"], **options}
    return SimpleNamespace(config=config_file.load(None, given), folder=folder)


def test_without_reports_what_an_earlier_try_left_goes(tmp_path):
    for name in (run_files.REPORT_LABELS, run_files.REPORTS_READ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"old")
    assert stage.run(context(tmp_path)) == {}
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_columns_of_findings_that_the_run_does_not_have_are_refused(tmp_path, monkeypatch):
    MANIFEST.write(tmp_path, MANIFEST.empty())
    monkeypatch.setattr(stage, "findings_of", lambda ctx: ("normal", "mass"))
    with pytest.raises(InputError, match=r"pool\.report_labels.*masss"):
        stage.run(context(tmp_path, **{"pool.report_labels": {"masss": "chexbert"}}))


def pool_of(folder, reports, first=0):
    """A table of scans that are called alike in every pool, each with its report."""
    folder.mkdir(parents=True)
    lines = ["image_path,label,befund", *(f"{i}.png,normal,{text}" for i, text in enumerate(reports, first))]
    (folder / "scans.csv").write_text("\n".join(lines) + "\n", "utf-8")
    for i in range(first, first + len(reports)):
        (folder / f"{i}.png").write_bytes(b"-")
    return str(folder / "scans.csv")


def manifest_of(names):
    rows = [{"image_id": name, "path": f"{i}.png", "uri": "-", "view": "PA", "status": "ok"} for i, name in names]
    return pa.Table.from_pylist(rows, schema=MANIFEST.schema)


def grown(folder, monkeypatch, first=0, **options):
    """A run on two scans, and a part of two more with the same names; what its stage tells."""
    monkeypatch.setattr(stage, "findings_of", lambda ctx: ("normal", "mass"))
    run = folder / "run"
    ctx = context(run, **{"pool.uri": pool_of(folder / "own", ["No mass.", "A mass."]), **options})
    own, more = [(0, "own0"), (1, "own1")], [(first, "new0"), (first + 1, "new1")]
    part = record.begin(run, pool_of(folder / "more", ["Large mass.", "No mass."], first))
    place = record.part_folder(run, part.part)
    MANIFEST.write(run, pa.concat_tables([manifest_of(own), manifest_of(more)]))
    MANIFEST.write(place, manifest_of(more))
    there = ctx.config.model_copy(update={"pool": ctx.config.pool.model_copy(update={"uri": part.pool})})
    run_dir.write_config(place, there)
    record.join(run, part)
    record.write_scans(run, pa.chunked_array([["new0", "new1"]]), np.ones(2))
    return ctx


def said_of(folder):
    return {scan: said["mass"] for scan, said in kept(folder, ["mass"])["rules en"].items()}


def test_a_pool_that_joined_brings_its_reports_also_where_files_are_called_alike(tmp_path, monkeypatch):
    ctx = grown(tmp_path, monkeypatch, **{"pool.reports": "befund"})
    assert stage.run(ctx) == {"num_reports": 4, "num_scans_with_report": 4}
    assert said_of(ctx.folder) == {"own0": "absent", "own1": "present", "new0": "present", "new1": "absent"}


def test_a_pool_that_joined_without_reports_is_said_and_nothing_else(tmp_path, monkeypatch, caplog):
    ctx = grown(tmp_path, monkeypatch, **{"pool.reports": "befund"})
    more = tmp_path / "more" / "scans.csv"
    more.write_text(more.read_text("utf-8").replace("befund", "remark"), "utf-8")
    assert stage.run(ctx) == {"num_reports": 2, "num_scans_with_report": 2}
    assert set(said_of(ctx.folder)) == {"own0", "own1"}
    assert "no reports of part 1" in caplog.text


def test_a_pool_that_joined_and_is_gone_since_keeps_what_was_read_of_it(tmp_path, monkeypatch, caplog):
    ctx = grown(tmp_path, monkeypatch, **{"pool.reports": "befund"})
    stage.run(ctx)
    before = said_of(ctx.folder)
    shutil.rmtree(tmp_path / "more")
    stage.run(ctx)
    assert said_of(ctx.folder) == before
    assert "no reports of part 1" in caplog.text


def test_a_pool_that_joined_without_the_column_of_another_model_keeps_its_reports(tmp_path, monkeypatch):
    ctx = grown(tmp_path, monkeypatch, **{"pool.reports": "befund", "pool.report_labels": {"mass": "label"}})
    more = tmp_path / "more" / "scans.csv"
    more.write_text(more.read_text("utf-8").replace("label", "remark"), "utf-8")
    stage.run(ctx)
    assert set(said_of(ctx.folder)) == {"own0", "own1", "new0", "new1"}


def test_one_folder_of_reports_for_both_pools_is_counted_once(tmp_path, monkeypatch):
    folder = tmp_path / "reports"
    folder.mkdir()
    for name, text in (("0", "No mass."), ("6", "A mass."), ("elsewhere", "A mass.")):
        (folder / f"{name}.txt").write_text(text, "utf-8")
    ctx = grown(tmp_path, monkeypatch, first=5, **{"pool.reports": str(folder)})
    told = stage.run(ctx)
    assert told["num_reports"] == 3
    assert json.loads((ctx.folder / run_files.REPORTS_READ).read_text("utf-8"))["reasons"][texts.NO_SCAN] == 1
