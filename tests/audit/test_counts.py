"""What the log says of an audit in numbers."""

from pipeline.audit import stage
from tests.support.report_runs import check_row


def test_a_check_that_could_not_be_made_is_not_counted_as_passed():
    checks = [
        check_row("near-duplicates", "ok"),
        check_row("label-conflict", "ok", checked=False),
        check_row("no-external-test", "warn", checked=False),
        check_row("source-predictable", "block"),
    ]
    assert stage.counts({"checks": checks}) == {"ok": 1, "warn": 0, "block": 1, "unchecked": 2}
