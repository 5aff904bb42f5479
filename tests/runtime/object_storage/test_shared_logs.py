"""What people said is on storage before anybody hears that it is saved, and every node has all of it, in one order."""

import json

import fsspec
import pytest

from pipeline.annotate.scan_notes import Note, ScanNotes
from pipeline.contracts import object_store
from pipeline.contracts.answers import Answer
from pipeline.contracts.errors import StorageError
from pipeline.labels import holdout
from pipeline.labels.journal import Journal
from pipeline.runtime import run_files
from pipeline.runtime.object_storage import layout, session, shared_logs
from pipeline.selection.marks import Marks

pytestmark = pytest.mark.objectstore


@pytest.fixture(autouse=True)
def asked_every_time(monkeypatch):
    monkeypatch.setattr(shared_logs, "LOOK_AGAIN_SECONDS", 0.0)


@pytest.fixture
def url(tmp_path):
    yield f"memory://{tmp_path.name}/run"
    fsspec.filesystem("memory").rm(f"/{tmp_path.name}", recursive=True)


@pytest.fixture
def on(tmp_path, monkeypatch, url):
    def folder(node):
        monkeypatch.setenv("CXR_SSL_CACHE", str(tmp_path / node))
        return session.folder_of(url)

    return folder


def answer(folder, image_id, key):
    journal = Journal.open(folder)
    with journal.writing():
        journal.add(journal.begin("page"), [Answer(image_id, "sick", "Ann", 1, None, None, None, key)])
    return journal


def keys(journal):
    return list(journal.entries)


def test_answers_of_two_nodes_are_one_journal_on_both(on):
    here, there = on("here"), on("there")
    first = answer(here, "a" * 16, "k1")
    second = answer(there, "b" * 16, "k2")
    assert keys(second) == ["k1", "k2"] and second.entries["k2"].batch == "2"
    first.refresh()
    assert keys(first) == ["k1", "k2"]
    assert (here / run_files.ANSWERS).read_bytes() == (there / run_files.ANSWERS).read_bytes()
    assert keys(Journal.open(on("a third"))) == ["k1", "k2"]


def test_an_answer_that_storage_does_not_take_is_not_given_here_either(on, monkeypatch):
    here = on("here")
    answer(here, "a" * 16, "k1")
    before = (here / run_files.ANSWERS).read_bytes()

    def fails(store, *_):
        raise StorageError("the storage fails")

    with monkeypatch.context() as broken:
        broken.setattr(object_store.ObjectStore, "create", fails)
        with pytest.raises(OSError, match="the storage fails"):
            answer(here, "b" * 16, "k2")
        broken.setattr(object_store.ObjectStore, "names", fails)
        with pytest.raises(OSError, match="the storage fails"):
            answer(here, "b" * 16, "k2")
        assert keys(Journal.open(here)) == ["k1"], "who only reads goes on"
    assert (here / run_files.ANSWERS).read_bytes() == before
    assert keys(answer(here, "c" * 16, "k3")) == ["k1", "k3"]


def test_two_who_answer_at_the_same_moment_do_not_overwrite_each_other(on, url, monkeypatch):
    here, there = on("here"), on("there")
    create = object_store.ObjectStore.create
    raced = []

    def late(store, name, data):
        if not raced:
            raced.append(answer(there, "b" * 16, "theirs") if raced.append(1) is None else None)
        return create(store, name, data)

    monkeypatch.setattr(object_store.ObjectStore, "create", late)
    with pytest.raises(OSError, match="added from elsewhere at the same moment"):
        answer(here, "a" * 16, "mine")
    assert keys(answer(here, "a" * 16, "mine")) == ["theirs", "mine"]
    assert len([name for name in object_store.ObjectStore(url).names() if name.startswith(layout.LOGS)]) == 2


def test_what_was_kept_on_storage_alone_when_the_machine_went_down_is_here_again(on, monkeypatch):
    here = on("here")
    answer(here, "a" * 16, "k1")

    def full(descriptor, data):
        raise OSError("power")

    with monkeypatch.context() as dying:
        dying.setattr("pipeline.labels.journal._write_all", full)
        with pytest.raises(OSError, match="power"):
            answer(here, "b" * 16, "k2")
    assert keys(Journal.open(here)) == ["k1", "k2"]


def test_half_a_line_of_a_process_that_died_is_dropped(on):
    here = on("here")
    answer(here, "a" * 16, "k1")
    with (here / run_files.ANSWERS).open("ab") as stream:
        stream.write(b'{"event": "ans')
    assert keys(answer(here, "b" * 16, "k2")) == ["k1", "k2"]
    assert keys(Journal.open(on("there"))) == ["k1", "k2"]


def test_notes_marks_and_reads_of_the_holdout_travel_too_also_of_one_finding(on):
    here = on("here")
    ScanNotes(here).keep("a" * 16, "Ann", 1, Note("blurred"))
    Marks.open(here).tag("Ann", "odd", ["a" * 16])
    (here / "findings" / "effusion").mkdir(parents=True)
    (here / "findings" / "index.json").write_text(
        json.dumps({"findings": [{"finding": "effusion", "folder": "effusion"}], "names": {}})
    )
    holdout.log_read(here / "findings" / "effusion", "compare", 1, 20)
    there = on("there")
    holdout.log_read(there, "report", None, None)
    assert ScanNotes(there).of("a" * 16, "Ann") == Note("blurred")
    assert Marks.open(there).tags == {"odd": {"a" * 16: "Ann"}}
    assert "compare" in (there / "findings" / "effusion" / run_files.HOLDOUT_READS).read_text()
    assert "report" in (on("here") / run_files.HOLDOUT_READS).read_text()
