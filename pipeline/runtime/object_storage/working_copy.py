"""The folder of this machine in which a run at a URL is worked on: fetched from there, and published whole.

It lies in the cache, under the run's own name. Beside it stands `remote.json`: the URL, the snapshot that the folder
was made of, and what each file was then. So a folder tells by itself that it is a working copy, in any process.
"""

import datetime as dt
import hashlib
import json
import logging
import os
import shutil
import stat
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.contracts.cache import cache_folder
from pipeline.contracts.errors import InputError, RunBusy, RunDirError, StorageError
from pipeline.contracts.object_store import ObjectStore, safe_name
from pipeline.contracts.shared_folder import at_once
from pipeline.contracts.tables import write_text
from pipeline.runtime.object_storage import layout
from pipeline.runtime.object_storage.layout import FileFacts, Snapshot

log = logging.getLogger(__name__)
NOTE = "remote.json"
SENDING = ".sending"  # beside the folder: copies of files on their way
BLOCK_BYTES = 1 << 20
COPIES = "runs"  # folder of the cache
TRIES = 3  # snapshots that may be replaced while one is fetched
KEPT_SNAPSHOTS = 10
# Age of content, by the storage's clock, from which it is removed where no kept snapshot names it.
KEPT_SECONDS = 3600.0
Wanted = Callable[[str], bool]


class LocalFile(NamedTuple):
    """A file as it was when it was the same here and there.

    Attributes:
        num_bytes: Its size.
        mtime_ns: When it was changed, which a change moves.
        sha256: Of its content.
    """

    num_bytes: int
    mtime_ns: int
    sha256: str


def everything(_name: str) -> bool:
    """Want every file of a run."""
    return True


class WorkingCopy:
    """A run at a URL and its folder here.

    Args:
        url: Of the run.
        folder: Where it is worked on.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self._store: ObjectStore | None = None
        self._mutex = threading.RLock()
        self._snapshot = Snapshot(0, {})
        self._local: dict[str, LocalFile] = {}
        self._load()

    @classmethod
    def of_url(cls, url: str) -> "WorkingCopy":
        """The copy of a run; its folder is made where there is none.

        Raises:
            InputError: the URL has a part that is empty, `.` or `..`, so the copy's folder could not be named by it.
        """
        url = url.rstrip("/")
        try:
            safe_name(url.partition("://")[2], url)
        except StorageError as error:
            raise InputError("is no address of a run", value=url, fix=error.fix) from error
        home = cache_folder().absolute() / COPIES / hashlib.sha256(url.encode()).hexdigest()[:16]
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o700)
        folder = home / url.rpartition("/")[2]
        folder.mkdir(exist_ok=True)
        copy = cls(url, folder)
        if not (home / NOTE).exists():
            copy._save()
        return copy

    @classmethod
    def of(cls, folder: Path) -> "WorkingCopy | None":
        """The copy that a folder is, or lies in; None of a run of this machine."""
        place = folder.absolute()
        for home in (place, *place.parents):
            note = home.parent / NOTE
            if note.is_file():
                content = json.loads(note.read_text("utf-8"))
                if content["folder"] == home.name:
                    return cls(content["url"], home)
        return None

    @property
    def store(self) -> ObjectStore:
        """The objects of the run."""
        if self._store is None:
            self._store = ObjectStore(self.url)
        return self._store

    def fetch(self, wanted: Wanted = everything) -> None:
        """Bring the folder to the latest snapshot; files that are the same here stay.

        Where nobody has published since, what was changed here is gone on with. Elsewhere it is set aside: it belongs
        to a state of the run that is no more. So it is where files are gone from here, as when somebody cleans the
        cache: what a run takes away itself is published while it holds the lock.

        Raises:
            RunDirError: something else lies at the URL.
        """
        with self._mutex:
            self._load()
            for _ in range(TRIES):
                number = layout.latest(self.store, layout.PUBLISHED)
                if number == 0:
                    self._refuse_foreign()
                try:
                    snapshot = layout.read_snapshot(self.store, number)
                    if number != self._snapshot.number or self._has_lost_files():
                        self._set_aside_changed(snapshot)
                    self._bring(snapshot, wanted)
                    return
                except FileNotFoundError:
                    continue  # it was replaced, and what it alone named was removed
            raise StorageError("the run changes faster than it can be fetched", where=self.url, fix="try again")

    def publish(self) -> bool:
        """Make what was changed here the run's: everything it needs first, then the snapshot. False: nothing was.

        Raises:
            RunBusy: another process has published since this copy was fetched.
        """
        with self._mutex:
            touched, gone = self._touched()
            if not touched and not gone:
                return False
            if layout.latest(self.store, layout.PUBLISHED) != self._snapshot.number:
                raise self._overtaken()
            sent = self._send(touched)
            files = {name: facts for name, facts in self._snapshot.files.items() if name not in gone}
            now = {name: FileFacts(local.num_bytes, local.sha256) for name, local in sent.items()}
            is_changed = bool(gone) or any(files.get(name) != facts for name, facts in now.items())
            if is_changed:
                self._put(Snapshot(self._snapshot.number + 1, files | now))
            self._local = {name: local_file for name, local_file in self._local.items() if name not in gone} | sent
            self._save()
            return is_changed

    def show(self, name: str, content: str | None) -> None:
        """Have a file here say something for the moment that is not the run's; None takes it away."""
        path = self.folder / name
        with self._mutex:
            if content is None:
                path.unlink(missing_ok=True)
                self._local.pop(name, None)
            else:
                write_text(path, content)
                facts = path.stat()
                self._local[name] = LocalFile(facts.st_size, facts.st_mtime_ns, _sha256(path))
            self._save()

    def clean(self) -> None:
        """Remove old snapshots, and contents that no kept one names and that nobody can be sending.

        Where a kept snapshot cannot be read, nobody knows what it names, and no content is removed.
        """
        with self._mutex:
            newest = layout.numbered(layout.PUBLISHED, self._snapshot.number)
            snapshots = [name for name in self.store.names(layout.PUBLISHED) if layout.is_own(name)]
            kept = {*snapshots[-KEPT_SNAPSHOTS:], newest}
            self.store.remove([name for name in snapshots if name not in kept])
            written = {n: time for n, time in self.store.written(layout.FILES).items() if layout.is_content(n)}
            unnamed = written.keys() - layout.contents_of(self._snapshot)
            if not unnamed:
                return
            now = self.store.modified(newest)
            old = {name for name in unnamed if (now - written[name]).total_seconds() > KEPT_SECONDS}
            try:
                for name in kept - {newest} if old else ():
                    old -= layout.contents_of(layout.read_snapshot(self.store, layout.number_of(name)))
            except (StorageError, FileNotFoundError) as error:
                log.warning("contents that no snapshot may name any more are kept: %s", error)
                return
            self.store.remove(sorted(old))

    def _send(self, touched: Mapping[str, os.stat_result]) -> dict[str, LocalFile]:
        """Send off what was written here; what is there already is not sent, and what is gone meanwhile is left out.

        Returns:
            What was sent of each file. One that was written to meanwhile is touched still, and follows the next time.
        """
        private = self.folder.parent / SENDING
        shutil.rmtree(private, ignore_errors=True)  # of a process that died
        private.mkdir()
        try:
            names = list(touched)
            facts = at_once(partial(self._send_one, name, private / uuid.uuid4().hex) for name in names)
        finally:
            shutil.rmtree(private, ignore_errors=True)
        return {
            n: LocalFile(f.num_bytes, touched[n].st_mtime_ns, f.sha256) for n, f in zip(names, facts, strict=True) if f
        }

    def _send_one(self, name: str, copy: Path) -> FileFacts | None:
        """Send a copy of a file, which nobody writes to; None: the file is gone."""
        facts = _copied(self.folder / name, copy)
        try:
            if facts is not None and self._snapshot.files.get(name) != facts:
                self.store.send(copy, layout.object_of(name, facts))
        finally:
            copy.unlink(missing_ok=True)
        return facts

    def _put(self, snapshot: Snapshot) -> None:
        """Publish a snapshot, after everything that it names.

        Raises:
            RunBusy: another process has published.
        """
        name = layout.numbered(layout.PUBLISHED, snapshot.number)
        if not self.store.create(name, snapshot.to_json(uuid.uuid4().hex)):
            raise self._overtaken()
        self._snapshot = snapshot

    def _bring(self, snapshot: Snapshot, wanted: Wanted) -> None:
        """Make the folder what a snapshot says, as far as it is wanted."""
        files = {name: facts for name, facts in snapshot.files.items() if wanted(name)}
        lacking = {name: facts for name, facts in files.items() if self._lacks(name, facts, snapshot.number)}
        at_once(partial(self._fetch_one, name, facts) for name, facts in lacking.items())
        if snapshot.number != self._snapshot.number:
            for name in [name for name in self._local if name not in lacking and self._is_of_before(name, snapshot)]:
                (self.folder / name).unlink(missing_ok=True)
                del self._local[name]
        for name, facts in lacking.items():
            arrived = (self.folder / name).stat()
            self._local[name] = LocalFile(arrived.st_size, arrived.st_mtime_ns, facts.sha256)
        self._snapshot = snapshot
        self._save()

    def _is_of_before(self, name: str, snapshot: Snapshot) -> bool:
        """Whether a file that lies here is not the snapshot's: taken away there, or changed and not wanted."""
        return name not in snapshot.files or self._local[name].sha256 != snapshot.files[name].sha256

    def _has_lost_files(self) -> bool:
        return any(not (self.folder / name).exists() for name in self._local)

    def _lacks(self, name: str, facts: FileFacts, number: int) -> bool:
        known = self._local.get(name)
        if not (self.folder / name).exists():
            return True
        if number == self._snapshot.number:
            return False  # what was changed here goes on
        return known is None or known.sha256 != facts.sha256

    def _fetch_one(self, name: str, facts: FileFacts) -> None:
        path = self.folder / name
        arrived = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            self.store.fetch(layout.object_of(name, facts), arrived)
            if facts != FileFacts(arrived.stat().st_size, _sha256(arrived)):
                fix = "bring the object back from a backup, or go on from an older copy of the run"
                raise StorageError("is not what was published", where=f"{self.url}: {name}", fix=fix)
            arrived.replace(path)
        finally:
            arrived.unlink(missing_ok=True)

    def _touched(self) -> tuple[dict[str, os.stat_result], set[str]]:
        """Files that are new or were written to since they were the same there; and names of those taken away."""
        present = dict(self._files())
        touched = {}
        for name, facts in present.items():
            known = self._local.get(name)
            if known is None or (known.num_bytes, known.mtime_ns) != (facts.st_size, facts.st_mtime_ns):
                touched[name] = facts
        return touched, self._local.keys() - present.keys()

    def _files(self) -> Iterator[tuple[str, os.stat_result]]:
        """Every file that is published, by its name inside the run; one that goes while they are listed is none."""
        for place, _, own in os.walk(self.folder):
            for path in (Path(place) / file for file in own):
                name = path.relative_to(self.folder).as_posix()
                if not layout.is_published(name):
                    continue
                try:
                    facts = path.stat()
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(facts.st_mode):
                    yield name, facts

    def _set_aside_changed(self, snapshot: Snapshot) -> None:
        """Move what was changed here and never published out of the way; nothing is deleted that a person may want.

        What is as the snapshot says arrived in a fetch that did not end.
        """
        place = self.folder.with_name(f"{self.folder.name}.before-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}")
        moved = []
        for name, facts in sorted(self._touched()[0].items()):
            local = LocalFile(facts.st_size, facts.st_mtime_ns, _sha256(self.folder / name))
            if snapshot.files.get(name) == FileFacts(local.num_bytes, local.sha256):
                self._local[name] = local
                continue
            self._local.pop(name, None)
            if name.rpartition("/")[2] in layout.MOMENTARY | layout.REMADE:
                (self.folder / name).unlink()
                continue
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).replace(place / name)
            moved.append(name)
        if moved:
            what = "%s was worked on elsewhere : %d files changed here and never published, such as %s, are in %s"
            log.warning(what, self.url, len(moved), moved[0], place)

    def _refuse_foreign(self) -> None:
        """Refuse a place that holds something else, before anything is written there.

        What stopped before its first snapshot left a lock, answers and contents of files, named as such.

        Raises:
            RunDirError: it does.
        """
        top = self.store.top()
        others = [name for name in top if name not in layout.OWN]
        if not others:
            others = [name for below in top for name in self.store.names(below) if not layout.is_own(name)]
        if not others and layout.FILES in top and layout.LOCKS not in top:
            others = [f"{layout.FILES}/"]  # who writes contents holds the lock, which is never removed
        if others:
            raise RunDirError(
                f"holds something that is not a run ({', '.join(others[:3])}{', …' if len(others) > 3 else ''})",
                where=self.url,
                fix="name an empty or new place with --out; nothing was touched",
            )

    def _overtaken(self) -> RunBusy:
        return RunBusy(
            "another process has published this run meanwhile, so what was done here was not",
            where=self.url,
            fix=f"give the command again: what was done here is set aside beside {self.folder}",
        )

    def _load(self) -> None:
        note = self.folder.parent / NOTE
        if not note.exists():
            return
        content: dict[str, Any] = json.loads(note.read_text("utf-8"))
        published = {name: FileFacts(*facts) for name, facts in content["published"].items()}
        self._snapshot = Snapshot(content["number"], published)
        self._local = {name: LocalFile(*fields) for name, fields in content["local"].items()}

    def _save(self) -> None:
        content = {"url": self.url, "folder": self.folder.name, "number": self._snapshot.number}
        content |= {"published": dict(self._snapshot.files), "local": self._local}
        write_text(self.folder.parent / NOTE, json.dumps(content))


def _copied(path: Path, copy: Path) -> FileFacts | None:
    """Copy a file; facts of what the copy holds, whoever writes to the file meanwhile. None: there is no such file."""
    try:
        source = path.open("rb")
    except FileNotFoundError:
        return None
    digest, num_bytes = hashlib.sha256(), 0
    with source, copy.open("xb") as target:
        while block := source.read(BLOCK_BYTES):
            digest.update(block)
            num_bytes += target.write(block)
    return FileFacts(num_bytes, digest.hexdigest())


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
