"""What commands do with a run on S3, as a server on the loopback speaks it, and what they say where that fails."""

import json
import shutil
import sys

import pytest

from pipeline.annotate.scan_notes import Note, ScanNotes
from pipeline.commands import claim, labels
from pipeline.contracts import config_file, storage
from pipeline.contracts.errors import RunDirError
from pipeline.labels import label_table
from pipeline.labels.journal import Journal
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.object_storage import layout, session, shared_logs
from tests.support import s3_server
from tests.support import waiting_run as waiting
from tests.support.tiny import call
from tests.support.waiting_run import reading

pytestmark = pytest.mark.objectstore


@pytest.fixture(scope="module")
def s3():
    with s3_server.running() as server:
        yield server


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(storage, "WAITS_SECONDS", (0.01, 0.01, 0.01))


@pytest.fixture
def node(tmp_path, monkeypatch):
    return s3_server.nodes(tmp_path, monkeypatch)


def waiting_at(url, folder):
    """A run at a URL that waits for its annotators."""
    run = waiting.waiting_run(folder, rounds__num=2)
    place = session.folder_of(url)
    with run_dir.locked(place):
        shutil.copytree(run.folder, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
        run_dir.write_status(place, "waiting", "rounds", 1)
    return run


def test_people_answer_on_one_node_and_the_run_goes_on_on_another(s3, node, tmp_path, monkeypatch):
    monkeypatch.setattr(shared_logs, "LOOK_AGAIN_SECONDS", 0.0)
    url = s3.url("waiting/run")
    run = waiting_at(url, tmp_path / "run")
    node("of the annotators")
    status = call("status", url, "--json").json
    assert f"cxr-ssl labels import {url} " in status["waiting"]
    handed = call("queue", "export", url, "--format", "csv", "--annotator", "Ann")
    assert handed.code == 0, handed.err
    folder = session.folder_of(url, layout.is_for_labels)
    assert not (folder / run_files.EMBEDDINGS).exists()
    ids = waiting.queue_ids(folder)
    readings = [reading(image_id, run.truth[image_id]) for image_id in ids]
    for half in (readings[:5], readings[5:]):
        told = call("labels", "import", url, waiting.send(tmp_path / "answers.csv", half, folder), "--json")
        assert (told.code, told.json["num_new"], told.json["out"]) == (0, len(half), url), told.err
    node("of the run")
    there = session.folder_of(url)
    assert len(Journal.open(there).active()) == len(ids)
    assert set(label_table.read(there)["image_id"].to_pylist()) == set(ids)
    assert (there / run_files.EMBEDDINGS).read_bytes() == (run.folder / run_files.EMBEDDINGS).read_bytes()
    assert list((there / "rounds" / "01").glob("annotators/*/*")), "the lists of the annotators travelled, too"
    assert [batch["num_standing"] for batch in labels.log_of(there)] == [5, len(ids) - 5]


def test_two_jobs_on_one_run_and_one_that_starts_again(s3, node, monkeypatch):
    monkeypatch.setattr(session, "MOMENT_SECONDS", 0.0)
    url = s3.url("busy/run")
    folder = session.folder_of(url)
    with run_dir.locked(folder):
        run_dir.write_config(folder, config_file.load())
        run_dir.write_status(folder, "running", "embed")
        ScanNotes(folder).keep("a" * 16, "Ann", 1, Note("blurred"))
        session.publish(folder)
        with pytest.raises(RunDirError, match=f"{url}: holds answers of people"):
            claim.claim(folder, resume=False, overwrite=True)
        node("of somebody else")
        told = call("report", url)
        assert told.code == 2 and "another process is working in this run (process" in told.message
        assert call("status", url).code == 0, "who only looks needs no lock"


@pytest.mark.parametrize(
    ("fault", "code", "told"),
    [
        (("403 Forbidden", "AccessDenied"), 2, "the storage forbids this"),
        (("404 Not Found", "NoSuchBucket"), 2, "there is no such bucket"),
        (("503 Slow Down", "SlowDown"), 1, "the storage fails"),
        ("cut", 1, "the storage fails"),
    ],
)
def test_what_the_storage_refuses_is_one_sentence(s3, node, fault, code, told):
    s3.faults += [fault] * 8
    answer = call("run", "--out", s3.url("runs/new"), "--quiet")
    s3.faults.clear()
    assert answer.code == code and told in answer.message and len(answer.message.splitlines()) == 1, answer.err
    assert "s3://bucket/runs/new" in answer.message


def test_a_bucket_that_is_not_there_is_named(s3, node):
    answer = call("run", "--out", "s3://no-bucket/runs/new", "--quiet")
    assert answer.code == 2 and "s3://no-bucket/runs/new: there is no such bucket" in answer.message


def test_without_keys_or_the_package_it_says_what_to_do(s3, node, monkeypatch):
    s3_server.forget_connections()
    with monkeypatch.context() as without:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            without.delenv(name)
        answer = call("status", s3.url("runs/one"))
    assert answer.code == 2 and "no credentials for the storage" in answer.message
    s3_server.forget_connections()
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    answer = call("status", "gs://bucket/run")
    assert answer.code == 2 and "pip install 'cxr-ssl[gcs]'" in answer.message
    answer = call("status", "nowhere://bucket/run")
    assert answer.code == 2 and "no such kind of storage" in answer.message
    monkeypatch.setenv("CXR_SSL_CACHE", "s3://bucket/cache")
    answer = call("status", s3.url("runs/one"))
    assert answer.code == 2 and "CXR_SSL_CACHE: is a URL" in answer.message


def test_the_state_of_a_run_at_work_is_seen_from_elsewhere(s3, node, monkeypatch):
    from pipeline.runtime.object_storage import lease

    url = s3.url("seen/run")
    folder = session.folder_of(url)
    with run_dir.locked(folder):
        run_dir.write_config(folder, config_file.load())
        session.publish(folder)
        run_dir.write_status(folder, "running", "embed")
        held = session._sessions[folder].lease
        held._write(held._facts())
        node("elsewhere")
        assert json.loads(call("status", url, "--json").out)["stage"] == "embed"
        monkeypatch.setattr(lease.alive, "lives", lambda process: None)
        monkeypatch.setattr(lease, "EXPIRED_SECONDS", -1.0)
        assert json.loads(call("status", url, "--json").out)["state"] == "died"
        monkeypatch.undo()
