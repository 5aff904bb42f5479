"""What was answered is on disk before anybody hears so, and stays there whatever happens to the process."""

import datetime as dt
import errno
import json
import multiprocessing
import os
import signal
import time

import pytest

from pipeline.contracts.answers import BAD_QUALITY, CANNOT_TELL, Answer
from pipeline.contracts.errors import RunDirError
from pipeline.contracts.tables import LABELS
from pipeline.labels import journal as module
from pipeline.labels import label_table, verdicts
from pipeline.labels.journal import Journal
from pipeline.runtime import run_files

FINDINGS = ("normal", "covid")
WHEN = dt.datetime(2026, 3, 1, 10, 0, 0, 123000, tzinfo=dt.UTC)


def said(image_id, reply="normal", annotator="ann", key=None, round_index=1):
    return Answer(image_id, reply, annotator, round_index, WHEN, "sure", 3.25, key)


def write(folder, answers, kind="import", **about):
    journal = Journal.open(folder)
    with journal.writing():
        batch = journal.begin(kind, **about)
        journal.add(batch, answers)
    return journal


def standing(folder):
    return [one.answer.image_id for one in Journal.open(folder).active()]


def test_what_is_written_is_read_back(tmp_path):
    odd = Answer('x"\n\u2028=1+1', "肺炎; <b>", "Dr. Jörg O'Neill", 3, None, None, None, "key-1")
    write(tmp_path, [said("a", key="key-0"), odd], files=["q.csv"], hashes=["00ff"])
    found = Journal.open(tmp_path)
    assert [one.answer for one in found.active()] == [said("a", key="key-0"), odd]
    (batch,) = found.batches.values()
    assert (batch.name, batch.kind, batch.files, batch.hashes) == ("1", "import", ("q.csv",), ("00ff",))
    assert found.imported("00ff") and not found.imported("ffff")
    assert {one.batch for one in found.active()} == {"1"}


@pytest.mark.parametrize("told", [True, False])
def test_whether_a_batch_was_read_blind_is_kept_and_older_ones_were(tmp_path, told):
    path = tmp_path / run_files.ANSWERS
    write(tmp_path, [said("a")], blind=told)
    assert [batch.blind for batch in Journal.open(tmp_path).batches.values()] == [told]
    batch, answer = json.loads(path.read_text("utf-8"))
    del batch["blind"]
    path.write_text(json.dumps([batch, answer]) + "\n", "utf-8")
    assert [batch.blind for batch in Journal.open(tmp_path).batches.values()] == [True]


def test_an_empty_run_has_an_empty_journal_and_reading_makes_no_file(tmp_path):
    assert Journal.open(tmp_path).active() == []
    assert list(tmp_path.iterdir()) == []


def test_an_answer_of_a_known_key_changes_nothing(tmp_path):
    write(tmp_path, [said("a", key="k1"), said("b", key="k1"), said("c", key="k2")])
    before = (tmp_path / run_files.ANSWERS).read_bytes()
    journal = Journal.open(tmp_path)
    with journal.writing():
        assert journal.add(journal.batches["1"], [said("z", key="k2")]) == 0
    assert (tmp_path / run_files.ANSWERS).read_bytes() == before
    assert standing(tmp_path) == ["a", "c"]


def test_retract_and_undo_keep_the_answers_on_record(tmp_path):
    write(tmp_path, [said("a", key="k1"), said("b", key="k2")])
    write(tmp_path, [said("c", key="k3")], hashes=["00ff"])
    journal = Journal.open(tmp_path)
    with journal.writing():
        journal.retract("k1", request="wish-1")
        journal.undo("2")
    found = Journal.open(tmp_path)
    assert standing(tmp_path) == ["b"]
    assert list(found.entries) == ["k1", "k2", "k3"]
    assert (found.requests, set(found.undone)) == ({"wish-1": "k1"}, {"2"})
    assert not found.imported("00ff")  # so that the file may come again
    with journal.writing():
        journal.add(journal.begin("import"), [said("c")])
    assert Journal.open(tmp_path).active()[-1].batch == "3"  # no number is given twice


def test_others_are_heard_by_refresh(tmp_path):
    mine = Journal.open(tmp_path)
    write(tmp_path, [said("a")])
    assert mine.refresh() and not mine.refresh()
    assert [one.answer.image_id for one in mine.active()] == ["a"]
    with mine.writing():
        assert mine.begin("page").name == "2"


def append_many(folder, name, num):
    journal = Journal.open(folder)
    for i in range(num):
        with journal.writing():
            batch = journal.batches.get(name) or journal.begin("page")
            journal.add(batch, [said(f"{name}-{i}", key=f"{name}-{i}")])


def test_two_processes_lose_and_double_nothing(tmp_path):
    spawn = multiprocessing.get_context("fork")
    workers = [spawn.Process(target=append_many, args=(tmp_path, name, 200)) for name in ("x", "y")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    found = standing(tmp_path)
    assert len(found) == 400 and set(found) == {f"{name}-{i}" for name in "xy" for i in range(200)}
    for name in "xy":  # each in its own order
        assert [one for one in found if one.startswith(name)] == [f"{name}-{i}" for i in range(200)]


def append_and_tell(folder, pipe):
    journal = Journal.open(folder)
    for i in range(100_000):
        with journal.writing():
            journal.add(journal.batches.get("1") or journal.begin("page"), [said(f"{i}", key=f"{i}")])
        pipe.send(i)


def test_killed_while_it_writes(tmp_path):
    """Whatever was acknowledged is there, and the next process goes on."""
    context = multiprocessing.get_context("fork")
    for _ in range(3):
        receive, send = context.Pipe(duplex=False)
        worker = context.Process(target=append_and_tell, args=(tmp_path, send))
        worker.start()
        told = [receive.recv() for _ in range(20)]
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        while receive.poll():
            told.append(receive.recv())
        assert worker.exitcode == -signal.SIGKILL
        found = standing(tmp_path)
        assert {str(i) for i in told} <= set(found) and len(found) == len(set(found))
    write(tmp_path, [said("after")])
    assert standing(tmp_path)[-1] == "after"


def full_after(num_bytes):
    def write_part(descriptor, data):
        os.write(descriptor, data[:num_bytes])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return write_part


@pytest.mark.parametrize("num_bytes", [0, 10, 150, 400])
def test_a_full_disk_leaves_the_journal_as_it_was(tmp_path, monkeypatch, num_bytes):
    write(tmp_path, [said("a")])
    before = (tmp_path / run_files.ANSWERS).read_bytes()
    journal = Journal.open(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_write_all", full_after(num_bytes))
        with pytest.raises(OSError, match="No space left"), journal.writing():
            journal.add(journal.begin("import", hashes=["00ff"]), [said("b"), said("c")])
    assert (tmp_path / run_files.ANSWERS).read_bytes() == before
    assert not journal.imported("00ff") and len(journal.batches) == 1
    with journal.writing():
        assert journal.add(journal.begin("import", hashes=["00ff"]), [said("b"), said("c")]) == 2
    assert standing(tmp_path) == ["a", "b", "c"]


def test_a_last_line_torn_by_a_crash_is_dropped_and_said(tmp_path, caplog):
    write(tmp_path, [said("a")])
    path = tmp_path / run_files.ANSWERS
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"event": "answer", "batch": "1", "image_id": "nev')
    assert standing(tmp_path) == ["a"]
    write(tmp_path, [said("b")])
    assert "bytes of a line that was never finished are dropped" in caplog.text
    assert standing(tmp_path) == ["a", "b"]
    assert path.read_bytes().startswith(whole) and b"nev" not in path.read_bytes()


def test_a_crash_inside_an_import_takes_all_of_it_or_nothing(tmp_path):
    """Else the file would count as imported, and the answers that were not written would never come in."""
    write(tmp_path, [said("old")])
    path = tmp_path / run_files.ANSWERS
    before = path.read_bytes()
    write(tmp_path, [said(f"{i}") for i in range(5)], hashes=["00ff"])
    whole = path.read_bytes()
    for end in range(len(before), len(whole), 7):
        path.write_bytes(whole[:end])
        found = Journal.open(tmp_path)
        assert [one.answer.image_id for one in found.active()] == ["old"]
        assert not found.imported("00ff")


@pytest.mark.parametrize(
    "line",
    [
        b"garbage",
        b"{}",
        b"[3]",
        b"3",
        b"null",
        b'{"event": "answer"}',
        b'{"event": "dance"}',
        b"\xff\xfe",
        b"\x00" * 40,
        b'{"event": "undo", "batch": "1", "time": "soon"}',
    ],
)
def test_garbage_in_the_middle_is_loud_and_loses_nothing(tmp_path, line):
    write(tmp_path, [said("a")])
    write(tmp_path, [said("b")])
    label_table.settle(tmp_path, FINDINGS)
    table, path = (tmp_path / "labels.parquet").read_bytes(), tmp_path / run_files.ANSWERS
    lines = path.read_bytes().splitlines(keepends=True)
    spoilt = lines[0] + line + b"\n" + b"".join(lines[1:])
    path.write_bytes(spoilt)
    for attempt in (lambda: Journal.open(tmp_path), lambda: write(tmp_path, [said("c")])):
        with pytest.raises(RunDirError, match=r"answers\.jsonl: line 2 is no event .*[Bb]ring the file back"):
            attempt()
    with pytest.raises(RunDirError):
        label_table.settle(tmp_path, FINDINGS)
    assert path.read_bytes() == spoilt
    assert (tmp_path / "labels.parquet").read_bytes() == table


def test_garbage_is_told_with_the_same_line_however_often_it_is_met(tmp_path):
    write(tmp_path, [said("a")])
    journal = Journal.open(tmp_path)
    num_lines = len((tmp_path / run_files.ANSWERS).read_bytes().splitlines())
    with (tmp_path / run_files.ANSWERS).open("ab") as stream:
        stream.write(json.dumps({"event": "undo", "batch": "9", "time": WHEN.isoformat()}).encode() + b"\ngarbage\n")
    for _ in range(3):
        with pytest.raises(RunDirError, match=f"line {num_lines + 2} is no event"):
            journal.refresh()


def test_a_journal_that_lost_lines_is_noticed(tmp_path):
    write(tmp_path, [said("a")])
    journal = write(tmp_path, [said("b")])
    path = tmp_path / run_files.ANSWERS
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(RunDirError, match="is shorter than it was"):
        journal.refresh()


def test_whoever_holds_the_lock_for_long_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.01)
    one, other = Journal.open(tmp_path), Journal.open(tmp_path)
    with one.writing(), pytest.raises(RunDirError, match="another process has been writing answers"), other.writing():
        pass
    with other.writing():
        other.add(other.begin("page"), [said("a")])
    assert standing(tmp_path) == ["a"]


def as_of_version_01(folder, answers):
    """A label table as version 0.1 wrote it: without reply and certainty, and without a journal."""
    import pyarrow.parquet as pq

    rows = [
        {
            "image_id": answer.image_id,
            "finding": finding,
            "origin": "expert",
            "annotator": answer.annotator,
            "value": float("nan") if answer.finding is None else float(finding == answer.finding),
            "answer": number,
            "round": answer.round_index,
            "time": answer.time,
            "reply": None,
            "certainty": None,
            "probability": None,
        }
        for number, answer in enumerate(answers, start=1)
        for finding in FINDINGS
    ]
    rows += [
        {
            "image_id": "pseudo",
            "finding": finding,
            "origin": "pseudo",
            "annotator": "model",
            "answer": -1,
            "value": float(finding == "covid"),
            "round": 1,
            "probability": 0.75,
            "reply": None,
            "certainty": None,
        }
        for finding in FINDINGS
    ]
    import pyarrow as pa

    table = pa.Table.from_pylist(rows, LABELS.schema).drop_columns(["reply", "certainty"])
    pq.write_table(table, folder / "labels.parquet")


OLD = [said("b", "covid"), said("pooled", "normal", "pool", 0), said("a", CANNOT_TELL), said("b", "normal")]


def test_a_table_of_version_01_is_brought_up_to_date_and_its_answers_adopted(tmp_path):
    as_of_version_01(tmp_path, OLD)
    table = label_table.read(tmp_path)
    assert table.schema.equals(LABELS.schema)
    assert verdicts.latest(table) == {("b", "ann"): "normal", ("pooled", "pool"): "normal", ("a", "ann"): CANNOT_TELL}
    assert set(table.filter(table["origin"].to_numpy(zero_copy_only=False) == "pseudo")["reply"].to_pylist()) == {None}
    assert label_table.settle(tmp_path, FINDINGS)
    journal = Journal.open(tmp_path)
    assert [(b.kind, b.files) for b in journal.batches.values()] == [("adopted", ())]
    assert [(o.answer.image_id, o.answer.reply, o.answer.time) for o in journal.active()] == [
        ("b", "covid", WHEN),
        ("a", CANNOT_TELL, WHEN),
        ("b", "normal", WHEN),
    ]
    after = label_table.read(tmp_path)
    assert verdicts.latest(after) == verdicts.latest(table)
    assert after.filter(after["image_id"].to_numpy(zero_copy_only=False) == "pseudo").num_rows == 2
    assert not label_table.settle(tmp_path, FINDINGS)  # once


def test_adopted_answers_can_be_added_to_and_undone(tmp_path):
    as_of_version_01(tmp_path, OLD)
    label_table.settle(tmp_path, FINDINGS)
    write(tmp_path, [said("c", BAD_QUALITY)])
    label_table.settle(tmp_path, FINDINGS)
    assert verdicts.rejections(label_table.read(tmp_path)) == {"c": BAD_QUALITY}
    journal = Journal.open(tmp_path)
    with journal.writing():
        journal.undo("1")
    label_table.settle(tmp_path, FINDINGS)
    assert set(verdicts.latest(label_table.read(tmp_path))) == {("pooled", "pool"), ("c", "ann")}
    assert len(journal.entries) == 4  # on record


def test_the_table_follows_the_journal_even_when_all_is_undone(tmp_path):
    write(tmp_path, [said("a")])
    label_table.settle(tmp_path, FINDINGS)
    journal = Journal.open(tmp_path)
    with journal.writing():
        journal.undo("1")
    assert label_table.settle(tmp_path, FINDINGS)
    assert len(label_table.read(tmp_path)) == 0
    assert not label_table.settle(tmp_path, FINDINGS)  # nothing is adopted from the table it was made of


def test_times_are_kept_to_the_millisecond_in_utc():
    moment = module.now()
    assert moment.tzinfo == dt.UTC and moment.microsecond % 1000 == 0
    assert abs(moment.timestamp() - time.time()) < 60
