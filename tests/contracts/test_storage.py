"""Storage that fails for a moment costs a wait; storage that stays broken is said, and nothing half written is left."""

import errno
import os
from pathlib import Path

import pytest

from pipeline.contracts import storage, tables


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """Seconds that were waited."""
    waited = []
    monkeypatch.setattr(storage.time, "sleep", waited.append)
    return waited


def failing(times, number):
    """A step that fails so often with an error, and how often it was tried."""
    tries = []

    def step():
        tries.append(1)
        if len(tries) <= times:
            raise OSError(number, os.strerror(number))
        return "done"

    return step, tries


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOSPC])
def test_what_passes_is_waited_for_with_growing_patience(waits, number, caplog):
    step, tries = failing(2, number)
    assert storage.patiently(step, "there") == "done"
    assert len(tries) == 3 and waits == [0.5, 2.0]
    assert f"there: {os.strerror(number)}; tried again in 2 s" in caplog.text


def test_what_stays_is_raised_after_the_last_wait(waits):
    step, tries = failing(99, errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        storage.patiently(step, "there")
    assert len(tries) == 1 + len(storage.WAITS_SECONDS) and waits == list(storage.WAITS_SECONDS)


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOENT, errno.EROFS])
def test_what_does_not_pass_is_raised_at_once(waits, number):
    step, tries = failing(99, number)
    with pytest.raises(OSError, match=os.strerror(number)):
        storage.patiently(step, "there")
    assert len(tries) == 1 and waits == []


def test_a_file_is_written_whole_though_storage_failed_twice(tmp_path, monkeypatch, waits):
    replace, failed = Path.replace, []

    def stale(path, target):
        if len(failed) < 2:
            failed.append(path)
            raise OSError(errno.ESTALE, "Stale file handle")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", stale)
    tables.write_bytes(tmp_path / "table", b"whole")
    assert (tmp_path / "table").read_bytes() == b"whole"
    assert [path.name for path in tmp_path.iterdir()] == ["table"] and len(waits) == 2
