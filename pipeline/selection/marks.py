"""What people mark while they look at the pool: `marks.jsonl`, an event a line, only ever added to.

Tags, saved views, and wishes that the next queue holds a scan. Each event says who marked what and when; nothing is
taken out: what was taken back is an event of its own. Two people may mark at once, also while the run computes.
"""

import datetime as dt
import json
import os
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from pipeline.contracts.errors import InputError, RunDirError
from pipeline.contracts.tables import appended_lines
from pipeline.runtime import run_files
from pipeline.runtime.object_storage import shared_logs

LOCK = ".marks.lock"
LOCK_SECONDS = 30.0
MAX_LABEL = 60  # letters of a tag's or a view's name
MAX_SCANS = 100_000  # that one event may mark
MAX_VIEW_BYTES = 20_000
T = TypeVar("T")


@dataclass(frozen=True)
class SavedView:
    """A view of the pool that somebody kept.

    Attributes:
        name: As it is listed; a later view of the same name takes its place.
        view: Filters, order and colour, as the page understands them.
        who: Who kept it last.
        time: When, UTC, as text.
    """

    name: str
    view: dict[str, Any]
    who: str
    time: str


@dataclass(frozen=True)
class Wish:
    """Somebody's wish that the next queue holds a scan; `time` is UTC, as text."""

    image_id: str
    who: str
    time: str


@dataclass
class Marks:
    """All marks of a run, read as far as they were written.

    Attributes:
        folder: Run directory.
        tags: Tag to the scans that carry it, each with who gave it last.
        views: Saved views by name.
        wishes: Scans wished for by image_id, in the order of the wishes; those taken back are gone.
    """

    folder: Path
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    views: dict[str, SavedView] = field(default_factory=dict)
    wishes: dict[str, Wish] = field(default_factory=dict)
    _offset: int = 0
    _lines: int = 0

    @classmethod
    def open(cls, folder: Path) -> "Marks":
        """The marks of a run; empty before the first."""
        marks = cls(run_files.home(folder))
        marks.refresh()
        return marks

    @property
    def path(self) -> Path:
        """Where they lie."""
        return self.folder / run_files.MARKS

    def refresh(self, *, at_once: bool = False) -> bool:
        """Read what was added since the last look; True when there was something.

        Args:
            at_once: Of a run at a URL ask the storage, even if that was done a moment ago.

        Raises:
            RunDirError: when a line is no event, or the file has become shorter.
        """
        shared_logs.catch_up(self.path, at_once=at_once)
        lines, offset = appended_lines(self.path, self._offset)
        for line in lines:
            self._lines += 1
            self._take(line)
        self._offset = offset
        return bool(lines)

    def tag(self, who: str, name: str, image_ids: Sequence[str], *, give: bool = True) -> str:
        """Give scans a tag, or take it from them; returns the tag as it is kept.

        Raises:
            InputError: when the tag is none, or marks too many scans or none.
        """
        kept = label_of(name, "tag")
        self._add({"event": "tag", "tag": kept, "give": give, "who": who, "image_ids": _ids(image_ids)})
        return kept

    def wish(self, who: str, image_ids: Sequence[str], *, give: bool = True) -> None:
        """Wish that the next queue holds scans, or take the wish back.

        Raises:
            InputError: when there are too many scans, or none.
        """
        self._add({"event": "queue", "give": give, "who": who, "image_ids": _ids(image_ids)})

    def save_view(self, who: str, name: str, view: dict[str, Any]) -> str:
        """Keep a view; returns its name as it is kept.

        Raises:
            InputError: when the name is none, or the view is too large.
        """
        if len(json.dumps(view)) > MAX_VIEW_BYTES:
            raise InputError(f"is larger than {MAX_VIEW_BYTES} bytes", where="view", fix="draw a simpler lasso")
        kept = label_of(name, "view")
        self._add({"event": "view", "name": kept, "view": view, "who": who})
        return kept

    def _add(self, event: dict[str, Any]) -> None:
        moment = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        data = (json.dumps(event | {"time": moment}, ensure_ascii=False) + "\n").encode()
        with self._writing():
            shared_logs.add(self.path, data)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                os.ftruncate(descriptor, self._offset)  # half a line of a process that died counts for nothing
                os.lseek(descriptor, self._offset, os.SEEK_SET)
                _write_all(descriptor, data, self._offset)
            finally:
                os.close(descriptor)
            self.refresh()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with FileLock(self.folder / LOCK, timeout=LOCK_SECONDS):
                self.refresh(at_once=True)
                yield
        except Timeout:
            raise RunDirError(
                "another process has been writing marks for long", where=self.path, fix="stop it and try again"
            ) from None

    def _take(self, line: bytes) -> None:
        try:
            self._hear(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise RunDirError(
                f"line {self._lines} is no event ({error})", where=self.path, fix="bring the file back from a backup"
            ) from error

    def _hear(self, event: dict[str, Any]) -> None:
        who, moment = event["who"], event["time"]
        match event["event"]:
            case "tag":
                tagged = self.tags.setdefault(event["tag"], {})
                _mark(tagged, dict.fromkeys(event["image_ids"], who), give=event["give"])
                if not tagged:
                    del self.tags[event["tag"]]
            case "queue":
                wishes = {image_id: Wish(image_id, who, moment) for image_id in event["image_ids"]}
                _mark(self.wishes, {i: self.wishes.get(i, wish) for i, wish in wishes.items()}, give=event["give"])
            case "view":
                self.views[event["name"]] = SavedView(event["name"], event["view"], who, moment)
            case other:
                raise ValueError(f"unknown event {other!r}")


def wished_for(folder: Path) -> tuple[str, ...]:
    """Scans that people wish to see in the next queue, in the order of the wishes, whether they can be asked or not."""
    return tuple(Marks.open(folder).wishes)


def label_of(text: str, where: str) -> str:
    """The name of a tag or a view, blanks made single.

    Raises:
        InputError: when it is empty, too long, or holds letters that cannot be seen.
    """
    name = " ".join(unicodedata.normalize("NFC", text).split())
    if not name or len(name) > MAX_LABEL or not name.isprintable():
        fix = f"use 1 to {MAX_LABEL} letters that can be seen"
        raise InputError(f"is no name of a {where}", value=text[: MAX_LABEL + 20], where=where, fix=fix)
    return name


def _ids(image_ids: Sequence[str]) -> list[str]:
    if not 0 < len(image_ids) <= MAX_SCANS:
        fix = f"choose 1 to {MAX_SCANS:,} scans"
        raise InputError("is not a number of scans that can be marked at once", value=len(image_ids), fix=fix)
    return list(image_ids)


def _mark(marked: dict[str, T], values: dict[str, T], *, give: bool) -> None:
    if give:
        marked.update(values)
        return
    for image_id in values:
        marked.pop(image_id, None)


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    """Write durably, or not at all."""
    try:
        while data:
            data = data[os.write(descriptor, data) :]
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, offset)
        raise
