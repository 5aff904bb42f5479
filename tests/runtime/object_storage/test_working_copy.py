"""A run at a URL is seen whole or not at all, on every machine; nothing that was written is lost."""

import hashlib
import json
import logging
import shutil

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFile

from pipeline.contracts import config_file, object_store
from pipeline.contracts.errors import InputError, RunBusy, RunDirError, StorageError
from pipeline.contracts.shared_folder import SharedFolder
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.object_storage import layout, session, working_copy
from pipeline.runtime.object_storage.working_copy import WorkingCopy
from pipeline.runtime.workplace import places_of

pytestmark = pytest.mark.objectstore
AT_URLS = {"embed.store": "s3://bucket/store", "pool.uri": "s3://bucket/scans"}


@pytest.fixture
def url(tmp_path):
    """A place in memory of this test alone."""
    place = f"memory://{tmp_path.name}/runs/one"
    yield place
    fsspec.filesystem("memory").rm(f"/{tmp_path.name}", recursive=True) if stored(place) else None


@pytest.fixture
def on(tmp_path, monkeypatch, url):
    """The run's folder on a node, which has a cache of its own."""

    def folder(node, wanted=layout.is_published):
        monkeypatch.setenv("CXR_SSL_CACHE", str(tmp_path / node))
        return session.folder_of(url, wanted)

    return folder


def stored(url):
    return object_store.ObjectStore(url).names()


def write(folder, **texts):
    for name, text in texts.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def files_in(folder):
    return {
        name: path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and not (name := path.relative_to(folder).as_posix()).startswith(".")
    }


def publish(folder, **texts):
    with run_dir.locked(folder):
        write(folder, **texts)


def test_what_one_node_publishes_another_has_to_the_last_byte(on):
    here = on("here")
    publish(here, **{run_files.RESOLVED: "a: 1", "rounds__01__queue": "asked", run_files.EMBEDDINGS: "large"})
    there = on("there")
    assert files_in(there) == {run_files.RESOLVED: "a: 1", "rounds/01/queue": "asked", run_files.EMBEDDINGS: "large"}
    publish(there, rounds__01__queue="asked again", rounds__02__queue="more")
    with run_dir.locked(there):
        (there / run_files.EMBEDDINGS).unlink()
    assert files_in(on("here")) == {
        run_files.RESOLVED: "a: 1",
        "rounds/01/queue": "asked again",
        "rounds/02/queue": "more",
    }


def test_a_reader_sees_the_old_whole_until_the_new_one_is_there(on, monkeypatch):
    here = on("here")
    publish(here, **{run_files.RESOLVED: "old", "labels": "old"})
    sent = []

    def dies(store, path, name):
        sent.append(name)
        if len(sent) == 2:
            raise StorageError("the storage fails")
        original(store, path, name)

    original = object_store.ObjectStore.send
    monkeypatch.setattr(object_store.ObjectStore, "send", dies)
    with pytest.raises(StorageError):
        publish(here, **{run_files.RESOLVED: "new", "labels": "new"})
    assert set(files_in(on("there")).values()) == {"old"}
    monkeypatch.undo()
    assert set(files_in(on("here")).values()) == {"new"}, "what was not published is still there"
    publish(here)
    assert set(files_in(on("there")).values()) == {"new"}


def test_a_file_that_is_written_to_or_goes_while_it_is_published_leaves_a_whole_snapshot(on, monkeypatch):
    here, original = on("here"), object_store.ObjectStore.send
    copied = working_copy._copied

    def meanwhile(store, path, name):
        with (here / "log").open("a") as stream:
            stream.write("more\n")
        original(store, path, name)

    def gone(path, copy):
        if path.name == "passing":
            path.unlink()
        return copied(path, copy)

    monkeypatch.setattr(object_store.ObjectStore, "send", meanwhile)
    monkeypatch.setattr(working_copy, "_copied", gone)
    with run_dir.locked(here):
        write(here, log="line\n", passing="for a moment")
        session.publish(here)
        assert files_in(on("there")) == {"log": "line\n"}
        monkeypatch.undo()
    assert files_in(on("a third")) == {"log": "line\nmore\n"}
    assert not (here.parent / working_copy.SENDING).exists()


def test_only_what_changed_travels_and_a_copy_that_fits_is_not_asked_for_files(on, monkeypatch):
    here = on("here")
    publish(here, **{run_files.RESOLVED: "a: 1", "large": "x" * 100})
    there, fetched = on("there"), []
    original = object_store.ObjectStore.fetch

    def counted(store, name, path):
        fetched.append(name.rpartition("/")[2])
        original(store, name, path)

    monkeypatch.setattr(object_store.ObjectStore, "fetch", counted)
    assert on("there") == there and fetched == []
    publish(on("here"), small="new")
    on("there")
    assert fetched == ["small"]


def test_what_was_changed_here_and_not_published_goes_on_or_is_set_aside_but_never_lost(on, caplog):
    here = on("here")
    publish(here, **{run_files.RESOLVED: "a: 1", "queue": "as drawn"})
    write(here, queue="filled by hand", half="of a stage")
    assert files_in(on("here"))["queue"] == "filled by hand", "nobody published since: it goes on"
    publish(on("there"), queue="drawn elsewhere")
    caplog.set_level(logging.WARNING)
    assert files_in(on("here")) == {run_files.RESOLVED: "a: 1", "queue": "drawn elsewhere"}
    kept = next(here.parent.glob("one.before-*"))
    assert files_in(kept) == {"queue": "filled by hand", "half": "of a stage"}
    assert str(kept) in caplog.text and "was worked on elsewhere" in caplog.text


def test_a_fetch_that_was_cut_off_is_gone_on_with_and_nothing_is_set_aside(on, monkeypatch):
    publish(on("here"), **{run_files.RESOLVED: "a: 1", "b": "2", "c": "3"})
    original = object_store.ObjectStore.fetch

    def cut(store, name, path):
        if name.endswith("/c"):
            raise StorageError("the storage fails")
        original(store, name, path)

    monkeypatch.setattr(object_store.ObjectStore, "fetch", cut)
    with pytest.raises(StorageError):
        on("there")
    monkeypatch.setattr(object_store.ObjectStore, "fetch", original)
    there = on("there")
    assert files_in(there) == {run_files.RESOLVED: "a: 1", "b": "2", "c": "3"}
    assert not list(there.parent.glob("one.before-*"))


def test_a_cache_that_was_cleaned_takes_nothing_from_the_run(on):
    here = on("here")
    publish(here, **{run_files.RESOLVED: "a: 1", "b": "2", "c": "3"})
    write(here, c="half of a stage")
    (here / "b").unlink()
    publish(on("here"), d="4")
    whole = {run_files.RESOLVED: "a: 1", "b": "2", "c": "3", "d": "4"}
    assert files_in(here) == whole and files_in(on("there")) == whole
    assert files_in(next(here.parent.glob("one.before-*"))) == {"c": "half of a stage"}
    shutil.rmtree(here)
    assert files_in(on("here")) == whole


def test_an_object_that_was_changed_is_told_and_not_used(on, url):
    publish(on("here"), **{run_files.RESOLVED: "a: 1"})
    name = next(name for name in stored(url) if name.startswith(layout.FILES))
    object_store.ObjectStore(url).write(name, b"b: 2")
    with pytest.raises(StorageError, match="is not what was published"):
        on("there")


def test_a_command_that_wants_few_files_fetches_few_and_its_changes_keep_the_others(on):
    publish(on("here"), **{run_files.RESOLVED: "a: 1", run_files.EMBEDDINGS: "large", "rounds__01__model__w": "w"})
    there = on("there", layout.is_for_labels)
    assert files_in(there) == {run_files.RESOLVED: "a: 1"}
    publish(there, labels="given")
    here = on("here")
    assert files_in(here)["labels"] == "given" and files_in(here)[run_files.EMBEDDINGS] == "large"
    publish(here, **{run_files.EMBEDDINGS: "another"})
    assert run_files.EMBEDDINGS not in files_in(on("there", layout.is_for_labels))
    assert files_in(on("there"))[run_files.EMBEDDINGS] == "another"


def test_a_place_that_holds_something_else_is_refused_and_left_alone(on, url):
    object_store.ObjectStore(url).write("thesis.txt", b"mine")
    with pytest.raises(RunDirError, match=r"holds something that is not a run \(thesis.txt\)"):
        on("here")
    assert stored(url) == ["thesis.txt"]


@pytest.mark.parametrize(
    "name", ["files/scan1.dcm", "logs/app.log", "published/2024.json", "lock/door.txt", f"files/{'a' * 16}/scan1.dcm"]
)
def test_folders_named_like_a_runs_are_refused_and_left_alone_too(on, url, name):
    object_store.ObjectStore(url).write(name, b"mine")
    with pytest.raises(RunDirError, match="holds something that is not a run"):
        on("here")
    assert stored(url) == [name]


def test_what_others_put_beside_the_files_of_a_run_is_never_removed(on, url, monkeypatch):
    monkeypatch.setattr("pipeline.runtime.object_storage.working_copy.KEPT_SECONDS", -1.0)
    monkeypatch.setattr("pipeline.runtime.object_storage.working_copy.KEPT_SNAPSHOTS", 1)
    here = on("here")
    publish(here, **{run_files.RESOLVED: "a: 1"})
    theirs = ["files/scan1.dcm", "logs/app.log", "published/0.txt", "published/2024.json"]
    for name in theirs:
        object_store.ObjectStore(url).write(name, b"theirs")
    publish(here, **{run_files.RESOLVED: "a: 2"})
    assert set(theirs) <= set(stored(url))
    assert files_in(on("there")) == {run_files.RESOLVED: "a: 2"}


@pytest.mark.parametrize("name", ["../../escaped.txt", "/{folder}/escaped.txt", "a/./b", "a//b", "a\\b"])
def test_a_snapshot_that_names_a_file_outside_is_refused_and_nothing_is_written(on, url, tmp_path, monkeypatch, name):
    store, name = object_store.ObjectStore(url), name.format(folder=tmp_path)
    facts = layout.FileFacts(5, hashlib.sha256(b"pwned").hexdigest())
    store.write(layout.numbered(layout.PUBLISHED, 1), layout.Snapshot(1, {name: facts}).to_json("x"))
    store.write("files/x", b"pwned")
    monkeypatch.setattr(layout, "object_of", lambda *_: "files/x")
    with pytest.raises(StorageError, match="lead out of its folder is refused"):
        on("here")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == b"pwned"]


def test_a_store_with_a_name_that_leads_outside_is_refused(on, url, tmp_path):
    on("here")
    shared = SharedFolder(url)
    path = f"{fsspec.core.url_to_fs(url)[1]}/part/../../../../escaped"
    memory = fsspec.filesystem("memory")
    memory.store[path] = MemoryFile(memory, path, b"theirs")
    try:
        with pytest.raises(StorageError, match="lead out of its folder is refused"):
            shared.receive("part", lambda _: True)
    finally:
        del memory.store[path]


@pytest.mark.parametrize("begin", ["", "file://", "FILE://", "file://localhost", "File://LocalHost", "local://"])
def test_an_address_of_this_machine_is_the_same_path_everywhere(tmp_path, begin):
    place = tmp_path / "localhost" / "a%20b"
    assert session.folder_of(f"{begin}{place}") == place == SharedFolder(f"{begin}{place}").here
    named = places_of(config_file.load(None, {**AT_URLS, "embed.store": f"{begin}{place}"}), tmp_path / "run")
    assert place in named.folders


@pytest.mark.parametrize("end", ["..", ".", "a/../b", "a//b", "a/.."])
def test_a_url_that_names_no_folder_is_refused(on, url, end):
    on("here")
    with pytest.raises(InputError, match="is no address of a run"):
        session.folder_of(f"{url}/{end}")


def test_who_was_overtaken_publishes_nothing_and_keeps_its_work(on, url):
    here = on("here")
    publish(here, **{run_files.RESOLVED: "a: 1"})
    late = WorkingCopy.of(here)
    publish(on("there"), **{run_files.RESOLVED: "a: 2"})
    write(here, **{run_files.RESOLVED: "a: 3"})
    with pytest.raises(RunBusy, match="has published this run meanwhile"):
        late.publish()
    assert json.loads(object_store.ObjectStore(url).read(layout.numbered(layout.PUBLISHED, 2)))["files"]
    assert files_in(on("there"))[run_files.RESOLVED] == "a: 2"
    assert files_in(here)[run_files.RESOLVED] == "a: 3"


def test_what_no_kept_snapshot_names_is_removed_and_what_one_names_stays(on, url, monkeypatch):
    monkeypatch.setattr(working_copy, "KEPT_SNAPSHOTS", 2)
    monkeypatch.setattr(working_copy, "KEPT_SECONDS", -1.0)
    here, store = on("here"), object_store.ObjectStore(url)
    for value in ("a: 1", "a: 2", "a: 3"):
        publish(here, **{run_files.RESOLVED: value})
    kept = [layout.read_snapshot(store, number) for number in (2, 3)]
    assert {name for name in stored(url) if name.startswith(layout.PUBLISHED)} == {
        layout.numbered(layout.PUBLISHED, number) for number in (2, 3)
    }
    contents = {name for name in stored(url) if name.startswith(layout.FILES)}
    assert contents == layout.contents_of(kept[0]) | layout.contents_of(kept[1]) and len(contents) == 2
    shutil.rmtree(here.parent)
    assert files_in(on("here")) == {run_files.RESOLVED: "a: 3"}


def test_content_that_is_young_or_may_be_named_is_not_removed(on, url, monkeypatch, caplog):
    monkeypatch.setattr(working_copy, "KEPT_SNAPSHOTS", 1)
    here = on("here")
    publish(here, **{run_files.RESOLVED: "a: 1"})
    publish(here, **{run_files.RESOLVED: "a: 2"})
    assert sum(name.startswith(layout.FILES) for name in stored(url)) == 2, "somebody may be sending it"
    monkeypatch.setattr(working_copy, "KEPT_SNAPSHOTS", 3)
    publish(here, **{run_files.RESOLVED: "a: 3"})
    monkeypatch.setattr(working_copy, "KEPT_SECONDS", -1.0)
    object_store.ObjectStore(url).write(layout.numbered(layout.PUBLISHED, 2), b"damaged")
    publish(here, **{run_files.RESOLVED: "a: 4"})
    assert sum(name.startswith(layout.FILES) for name in stored(url)) == 4
    assert "is not a snapshot of a run" in caplog.text


def test_a_url_stands_for_the_folder_in_what_people_read(on, url):
    from pipeline.runtime.object_storage.addresses import shown

    folder = on("here")
    assert shown(f"cxr-ssl run --out {folder} --resume") == f"cxr-ssl run --out {url} --resume"
    assert shown(f'{{"out": "{folder}"}} {folder}. And') == f'{{"out": "{url}"}} {url}. And'
    assert shown(f"see {folder}/report/index.html") == f"see {folder}/report/index.html"


def test_a_stage_that_goes_on_for_long_is_published_now_and_then(on, monkeypatch):
    here, told = on("here"), []
    with run_dir.locked(here):
        tell = session.publishing(here, lambda *what: told.append(what))
        write(here, **{run_files.RESOLVED: "a: 1"})
        tell("embed", 1, 2)
        assert files_in(on("there")) == {}
        monkeypatch.setattr(session, "PUBLISH_EVERY_SECONDS", -1.0)
        tell("embed", 2, 2)
        assert files_in(on("there")) == {run_files.RESOLVED: "a: 1"}
    assert told == [("embed", 1, 2), ("embed", 2, 2)]


def test_a_stage_outlives_storage_that_fails_says_so_once_and_publishes_later(on, url, monkeypatch, caplog):
    here, told = on("here"), []
    monkeypatch.setattr(session, "PUBLISH_EVERY_SECONDS", -1.0)
    with run_dir.locked(here):
        tell = session.publishing(here, lambda *what: told.append(what))
        write(here, **{run_files.RESOLVED: "a: 1"})

        def fails(*_):
            raise StorageError("the storage fails")

        with monkeypatch.context() as broken:
            broken.setattr(object_store.ObjectStore, "send", fails)
            tell("embed", 1, 9)
            tell("embed", 2, 9)
            broken.setattr(session, "AGAIN_SECONDS", -1.0)
            tell("embed", 3, 9)
            assert caplog.text.count("the storage fails") == 1
        monkeypatch.setattr(session, "AGAIN_SECONDS", -1.0)
        tell("embed", 4, 9)
        assert files_in(on("there")) == {run_files.RESOLVED: "a: 1"}
        theirs = layout.numbered(layout.LOCKS, 99)
        object_store.ObjectStore(url).write(theirs, b'{"token": "theirs"}')
        with pytest.raises(RunBusy):
            tell("embed", 5, 9)
        object_store.ObjectStore(url).remove([theirs])
    assert [done for _, done, _ in told] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("options", "shared"),
    [
        (AT_URLS, []),
        ({"pool.uri": "s3://bucket/scans"}, ["cache"]),
        ({**AT_URLS, "pool.uri": "phantom:"}, ["cache"]),
        (
            {"embed.store": "s3://bucket/store", "pool.uri": "s3://bucket/scans", "train.adapt": "full"},
            ["run", "cache"],
        ),
    ],
)
def test_nodes_need_a_shared_disk_only_for_what_is_written_to_one(on, options, shared):
    from pipeline.contracts.cache import cache_folder

    folder = on("here")
    names = {folder: "run", cache_folder(): "cache"}
    places = places_of(config_file.load(None, options), folder)
    assert [names[place] for place in places.folders] == shared and places.pool is None
