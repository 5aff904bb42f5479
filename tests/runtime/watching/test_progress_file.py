import json
import logging
import os

from pipeline.runtime import progress as progress_of_runs
from pipeline.runtime import run_files
from pipeline.runtime.progress import Progress
from pipeline.runtime.watching import pace, progress_file


class Clock:
    """Seconds that tests set."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


def ticking(monkeypatch):
    clock = Clock()
    for module in (progress_of_runs, progress_file):
        monkeypatch.setattr(module, "time", clock)
    return clock


def test_another_process_reads_what_is_done_the_pace_and_the_failures(tmp_path, monkeypatch, caplog):
    clock = ticking(monkeypatch)
    caplog.set_level(logging.INFO, "pipeline")
    with Progress(folder=tmp_path) as progress:
        progress("embed", 0, 1000)
        assert progress_file.read(tmp_path)["per_second"] is None
        for done in range(10, 310, 10):
            clock.now += 1.0
            progress.failed("embed", done // 100)
            progress("embed", done, 1000)
        entry = progress_file.read(tmp_path)
        assert (entry["what"], entry["total"], entry["process"]) == ("embed", 1000, os.getpid())
        assert (
            250 < entry["done"] <= 300
            and entry["per_second"] == 10.0
            and entry["num_failed"] == 3 - (entry["done"] < 300)
        )
        low, high = entry["seconds_left"]
        assert low <= (1000 - entry["done"]) / 10 <= high
    assert "10.0/s" in caplog.text and "s left, 2 failed" in caplog.text
    assert progress_file.read(tmp_path) is None  # nothing goes on any more


def test_the_file_is_written_now_and_then_and_at_the_end_of_a_piece_of_work(tmp_path, monkeypatch):
    clock, writes = ticking(monkeypatch), []
    monkeypatch.setattr(progress_file.tables, "write_text", lambda path, text: writes.append(json.loads(text)["done"]))
    with Progress(quiet=True, folder=tmp_path) as progress:
        for done in range(101):
            clock.now += 0.1
            progress("manifest", done, 100)
    assert writes[0] == 0 and writes[-1] == 100 and len(writes) <= 4


def test_what_cannot_be_read_is_nothing(tmp_path):
    (tmp_path / run_files.PROGRESS).write_text("{")
    assert progress_file.read(tmp_path) is None
    progress_file.ProgressFile(tmp_path).tell("embed", 1, 1, 0, pace.Pace())
    assert progress_file.read(tmp_path)["done"] == 1
