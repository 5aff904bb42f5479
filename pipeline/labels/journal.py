"""The journal of what people answered: `answers.jsonl`, an event or a list of events a line, only ever added to.

It is the truth; `labels.parquet` is made from it. An answer is in it, on disk, before anybody is told that it was
saved. Nothing is taken out: what was taken back is an event of its own, and the answer stays on record. What was
written at once is one line, so that a crash leaves all of an import or nothing.
"""

import datetime as dt
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pipeline.contracts.answers import Answer
from pipeline.contracts.errors import RunDirError
from pipeline.contracts.tables import appended_lines
from pipeline.runtime import run_files
from pipeline.runtime.object_storage import shared_logs

log = logging.getLogger(__name__)
LOCK = ".answers.lock"
LOCK_SECONDS = 30.0  # an append takes milliseconds; whoever holds the lock longer hangs


@dataclass(frozen=True)
class Batch:
    """Answers that came together: one import, or one annotator's sitting at the page.

    Attributes:
        name: Number in the order of arrival, as text; `labels undo` takes it.
        kind: import, page, pool (readings that came with the pool), or adopted (found in a table without a journal).
        time: When it was begun, UTC.
        files: Names of the files imported.
        hashes: SHA-256 of each, 16 hex digits.
        blind: Whether annotators were kept from learning why a scan was chosen, as far as the journal can know.
    """

    name: str
    kind: str
    time: dt.datetime
    files: tuple[str, ...] = ()
    hashes: tuple[str, ...] = ()
    blind: bool = True


@dataclass(frozen=True)
class JournalEntry:
    """An answer as the journal holds it."""

    key: str
    answer: Answer
    batch: str


@dataclass
class Journal:
    """All events of a run's journal, read as far as it was written.

    Attributes:
        folder: Run directory.
        batches: By name, in the order of arrival.
        given: Every answer by its key, in the order of arrival.
        retracted: Keys of answers taken back.
        undone: Batch name to when it was undone.
        requests: Names of wishes to take an answer back, each with the answer's key.
    """

    folder: Path
    batches: dict[str, Batch] = field(default_factory=dict)
    entries: dict[str, JournalEntry] = field(default_factory=dict)
    retracted: set[str] = field(default_factory=set)
    undone: dict[str, dt.datetime] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)
    _offset: int = 0
    _lines: int = 0

    @classmethod
    def open(cls, folder: Path) -> "Journal":
        """The journal of a run, also of a finding's folder in it; empty before the first answer."""
        journal = cls(run_files.home(folder))
        journal.refresh()
        return journal

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.folder / run_files.ANSWERS

    def refresh(self, *, at_once: bool = False) -> bool:
        """Read what was added since the last look; True when there was something.

        Args:
            at_once: Of a run at a URL ask the storage, even if that was done a moment ago.

        Raises:
            RunDirError: when a line is no event, or the file has become shorter.
        """
        shared_logs.catch_up(self.path, at_once=at_once)
        lines, offset = appended_lines(self.path, self._offset)
        for number, line in enumerate(lines, start=self._lines + 1):
            self._take(line, number)
        self._lines += len(lines)
        self._offset = offset
        return bool(lines)

    def active(self) -> list[JournalEntry]:
        """Answers that stand: not retracted, their batch not undone; in the order of arrival."""
        return [entry for entry in self.entries.values() if self.stands(entry)]

    def stands(self, entry: JournalEntry) -> bool:
        """Whether an answer was neither retracted nor undone with its batch."""
        return entry.key not in self.retracted and entry.batch not in self.undone

    def imported(self, digest: str) -> bool:
        """Whether a file of this hash came in before, and that import stands."""
        return any(digest in batch.hashes and batch.name not in self.undone for batch in self.batches.values())

    def spelling(self, annotator: str) -> str:
        """The name as she spelt it first: `ann` and `Ann` are one person."""
        known = {entry.answer.person.casefold(): entry.answer.person for entry in reversed(self.entries.values())}
        return known.get(annotator.casefold(), annotator)

    @contextmanager
    def writing(self) -> Iterator["Journal"]:
        """Hold the journal's lock, having read everything that others wrote.

        Raises:
            RunDirError: when another process holds it for long, or it cannot be written.
        """
        lock = FileLock(self.folder / LOCK, timeout=LOCK_SECONDS)
        try:
            lock.acquire()
        except Timeout:
            raise RunDirError(
                "another process has been writing answers for long", where=self.path, fix="stop it and try again"
            ) from None
        try:
            self.refresh(at_once=True)
            yield self
        finally:
            lock.release()

    def begin(self, kind: str, *, files: Sequence[str] = (), hashes: Sequence[str] = (), blind: bool = True) -> Batch:
        """A new batch, not written yet: `add` writes it along with its first answers. Call it while `writing`."""
        return Batch(str(len(self.batches) + 1), kind, now(), tuple(files), tuple(hashes), blind)

    def add(self, batch: Batch, answers: Sequence[Answer]) -> int:
        """Write answers of a batch, durably; those of a known key are left out. Call it while `writing`.

        Returns:
            How many were new.

        Raises:
            OSError: when the disk is full, or the storage of a run at a URL fails; then nothing was added.
        """
        fresh: dict[str, JournalEntry] = {}
        for answer in answers:
            key = answer.key or f"{batch.name}.{len(self.entries) + len(fresh) + 1}"
            if key not in self.entries:
                fresh.setdefault(key, JournalEntry(key, answer, batch.name))
        events = [] if batch.name in self.batches else [_batch_event(batch)]
        self._append([*events, *(_answer_event(entry) for entry in fresh.values())])
        return len(fresh)

    def retract(self, key: str, request: str | None = None) -> None:
        """Take one answer back; `request` names this wish, so that a repeated one is known. While `writing`."""
        self._append([{"event": "retract", "key": key, "request": request, "time": _text(now())}])

    def undo(self, batch: str) -> None:
        """Take a whole batch back. While `writing`."""
        self._append([{"event": "undo", "batch": batch, "time": _text(now())}])

    def _append(self, events: Sequence[dict[str, Any]]) -> None:
        if not events:
            return
        data = (json.dumps(events if len(events) > 1 else events[0], ensure_ascii=False) + "\n").encode()
        shared_logs.add(self.path, data)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            torn = os.fstat(descriptor).st_size - self._offset
            if torn:
                log.warning("%s: %d bytes of a line that was never finished are dropped", self.path.name, torn)
            os.ftruncate(descriptor, self._offset)
            os.lseek(descriptor, self._offset, os.SEEK_SET)
            try:
                _write_all(descriptor, data)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, self._offset)
                raise
        finally:
            os.close(descriptor)
        self.refresh()

    def _take(self, line: bytes, number: int) -> None:
        try:
            content = json.loads(line)
            for event in content if isinstance(content, list) else [content]:
                self._hear(event)
        except (ValueError, KeyError, TypeError) as error:
            raise RunDirError(
                f"line {number} is no event ({error})",
                where=self.path,
                fix="bring the file back from a backup; the tables made from it are left alone",
            ) from error

    def _hear(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "batch":
                self.batches[event["batch"]] = _batch(event)
            case "answer":
                self.entries.setdefault(event["key"], _entry(event))
            case "retract":
                self.retracted.add(event["key"])
                if event["request"]:
                    self.requests[event["request"]] = event["key"]
            case "undo":
                self.undone[event["batch"]] = dt.datetime.fromisoformat(event["time"])
            case other:
                raise ValueError(f"unknown event {other!r}")


def now() -> dt.datetime:
    """This moment, UTC, to the millisecond."""
    moment = dt.datetime.now(dt.UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _text(moment: dt.datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds")


def _moment(text: str | None) -> dt.datetime | None:
    return None if text is None else dt.datetime.fromisoformat(text)


def _batch_event(batch: Batch) -> dict[str, Any]:
    event = asdict(batch)
    return {"event": "batch", "batch": event.pop("name")} | event | {"time": _text(batch.time)}


def _batch(event: dict[str, Any]) -> Batch:
    time = dt.datetime.fromisoformat(event["time"])
    files, hashes = tuple(event["files"]), tuple(event["hashes"])
    return Batch(event["batch"], event["kind"], time, files, hashes, event.get("blind", True))


def _answer_event(entry: JournalEntry) -> dict[str, Any]:
    answer = asdict(entry.answer) | {"time": _text(entry.answer.time)}
    return {"event": "answer", "batch": entry.batch} | answer | {"key": entry.key}


def _entry(event: dict[str, Any]) -> JournalEntry:
    names = ("image_id", "reply", "annotator", "round_index", "certainty", "seconds", "key")
    answer = Answer(**{name: event[name] for name in names}, time=_moment(event["time"]))
    return JournalEntry(event["key"], answer, event["batch"])
