"""One process works on a run at a URL; whose lock it is, and whether its holder lives, no clock of a node decides."""

import datetime as dt
import json

import fsspec
import pytest

from pipeline.contracts.errors import InputError, RunBusy, RunDirError
from pipeline.contracts.object_store import ObjectStore
from pipeline.runtime.object_storage import layout, lease
from pipeline.runtime.processes import alive

pytestmark = pytest.mark.objectstore
ELSEWHERE = {"pid": 4711, "started": "boot:1", "host": "node-7", "container": None}


@pytest.fixture
def store(tmp_path):
    yield ObjectStore(f"memory://{tmp_path.name}/run")
    files = fsspec.filesystem("memory")
    if files.exists(f"/{tmp_path.name}"):
        files.rm(f"/{tmp_path.name}", recursive=True)


def acquired(store, patience=0.0):
    return lease.acquire(store, patience, lambda: {"status": {"state": "running"}})


def age(store, number, seconds):
    """Have the storage say that a lock was written so long ago."""
    path = fsspec.filesystem("memory").store[
        f"/{store.url.partition('://')[2]}/{layout.numbered(layout.LOCKS, number)}"
    ]
    path.modified -= dt.timedelta(seconds=seconds)


def held_elsewhere(store):
    number = layout.latest(store, layout.LOCKS) + 1
    store.write(layout.numbered(layout.LOCKS, number), json.dumps({"token": "x", "process": ELSEWHERE}).encode())
    return number


def test_the_second_is_told_who_has_the_run_and_the_next_gets_it_once_it_is_handed_back(store):
    first = acquired(store)
    with pytest.raises(RunBusy, match=rf"working in this run \(process {alive.this_process()['pid']} on "):
        acquired(store)
    first.release()
    acquired(store).release()
    assert lease.holder_of(store) is None


def test_a_lock_of_another_node_is_free_once_nobody_renewed_it_for_long_by_the_storages_clock(store, monkeypatch):
    number = held_elsewhere(store)
    monkeypatch.setattr(lease.time, "time", lambda: 0.0)  # a node whose clock is decades behind
    age(store, number, lease.EXPIRED_SECONDS - 5)
    with pytest.raises(RunBusy, match=r"process 4711 on node-7.*heard of 11\d s ago.*free after 120 s"):
        acquired(store)
    age(store, number, 10)
    acquired(store).release()


def test_a_process_of_this_machine_that_is_gone_holds_nothing(store):
    number = held_elsewhere(store)
    gone = alive.this_process() | {"pid": 2**22 + 1}
    store.write(layout.numbered(layout.LOCKS, number), json.dumps({"token": "x", "process": gone}).encode())
    acquired(store).release()


def test_who_was_silent_for_long_learns_that_another_has_taken_over(store):
    mine = acquired(store)
    taken = held_elsewhere(store)
    with pytest.raises(RunBusy, match=r"another has taken the run over \(process 4711 on node-7\)"):
        mine.check()
    mine.release()
    assert json.loads(store.read(layout.numbered(layout.LOCKS, taken)))["process"] == ELSEWHERE, "theirs is left alone"


def test_others_read_in_the_lock_what_is_being_done(store, monkeypatch):
    monkeypatch.setattr(lease, "RENEWED_SECONDS", 0.01)
    said = iter(["embed", "audit"])
    seen = lease.acquire(store, 0.0, lambda: {"status": {"stage": next(said, "rounds")}})
    renewed = {}
    for _ in range(500):
        renewed = lease.holder_of(store)["status"]
        if renewed["stage"] == "rounds":
            break
        seen._ended.wait(0.01)
    seen.release()
    assert renewed == {"stage": "rounds"}


def test_storage_that_creates_an_object_twice_is_refused(store, monkeypatch):
    monkeypatch.setattr(ObjectStore, "create", lambda store, name, data: store.write(name, data) or True)
    with pytest.raises(RunDirError, match="does not look whether an object is there"):
        acquired(store)


def test_storage_of_a_kind_that_has_no_such_condition_is_refused(store):
    store.url = "sftp://server/run"
    with pytest.raises(InputError, match="two jobs could not be told apart"):
        acquired(store)
