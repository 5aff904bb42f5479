"""How often the sealed holdout was read, by whom, and how many of the reads scored a model."""

import json

from pipeline.audit.audited_pool import open_subject
from pipeline.audit.checks import holdout_reads
from pipeline.labels.holdout import log_read
from pipeline.runtime import run_files
from tests.support.audit_pools import context, many


def test_reads_of_the_holdout_are_counted_by_reader(tmp_path):
    ctx = context(tmp_path, many(10), **{"audit.warn_holdout_reads": 2})
    unread = holdout_reads.check(open_subject(ctx))
    assert (unread.severity, unread.checked, unread.message) == ("ok", False, "No read of the holdout is on record.")
    for reader in ("audit", "evaluate", "evaluate", "report"):
        log_read(tmp_path, reader, 1, 7)
    check = holdout_reads.check(open_subject(ctx))
    assert (check.severity, check.count, check.value) == ("ok", 4, 2.0)
    assert "4 (audit 1, evaluate 2, report 1); 2 of them scored a model." in check.message
    assert check.threshold == 2.0
    log_read(tmp_path, "comparison", None, 7)
    assert holdout_reads.check(open_subject(ctx)).severity == "warn"


def test_the_last_forty_reads_are_listed(tmp_path):
    reads = [{"time": f"t{i}", "reader": "audit", "round": i, "num_scans": 100 + i} for i in range(50)]
    ctx = context(tmp_path, many(10))
    path = tmp_path / run_files.HOLDOUT_READS
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(read) + "\n" for read in reads), "utf-8")
    check = holdout_reads.check(open_subject(ctx))
    assert check.count == 50
    assert check.table.columns == ("time", "reader", "round", "scans")
    assert check.table.rows == tuple((f"t{i}", "audit", i, 100 + i) for i in range(10, 50))
