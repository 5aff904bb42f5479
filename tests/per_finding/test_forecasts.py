"""Of independent findings each forecasts for itself, and stopping is advised only where all of them say so."""

from pipeline.commands import status
from pipeline.learn.stopping import record
from tests.support.report_text import table_under
from tests.support.several_findings import FINDINGS
from tests.support.tiny import call


def test_every_finding_says_what_further_labels_would_buy(run):
    told = status.status(run)["stop"]
    assert list(told["findings"]) == list(FINDINGS) and told["round"] == 2
    for finding, advised in told["findings"].items():
        of_part = record.latest(run / "findings" / finding)
        assert advised["forecast"] == of_part["forecast"] and advised["why"] == of_part["advice"]["why"]
    assert told["stop"] == all(advised["stop"] for advised in told["findings"].values())
    text = call("status", run).out
    assert all(f"further labels, {finding}: " in text for finding in FINDINGS)


def test_the_overview_shows_them_side_by_side(run):
    rows = table_under((run / "report" / "index.html").read_text("utf-8"), "Further labels")
    assert [row[0] for row in rows] == list(FINDINGS)
    for row in rows:
        assert row[-1] in ("go on", "consider stopping") or row[-1].startswith("too early to say: ")
