"""What the stage refuses, and what it leaves of reports that a run no longer has."""

from types import SimpleNamespace

import pytest

from pipeline.contracts import config_file
from pipeline.contracts.errors import InputError
from pipeline.contracts.tables import MANIFEST
from pipeline.radiology_reports import stage
from pipeline.runtime import run_files


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
