import pytest

from pipeline.audit.checks import burned_in
from pipeline.pool.burned_in.note import SEEN, TOLD
from tests.support.audit_pools import many, subject


def found(tmp_path, note, **overrides):
    return burned_in.check(subject(tmp_path, many(40, note=note), **overrides))


def test_scans_with_text_are_counted_by_who_says_so(tmp_path):
    check = found(tmp_path, lambda i: TOLD if i < 2 else f"another note; {SEEN}" if i < 7 else None)
    assert (check.severity, check.count, check.value) == ("ok", 7, pytest.approx(7 / 40))
    assert check.table.rows == ((SEEN, 5), (TOLD, 2)) and "stay out of" in check.message
    assert [row["note"] for row in check.evidence[:3]] == [TOLD, TOLD, SEEN]


def test_it_warns_where_they_are_handed_on(tmp_path):
    option = {"pool.allow_burned_in_text": True}
    assert found(tmp_path, lambda i: SEEN if i == 0 else None, **option).severity == "warn"
    assert found(tmp_path, None, **option).severity == "ok"
