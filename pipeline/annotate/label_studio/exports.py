"""Label Studio's exports read back: JSON, JSON-MIN, CSV and TSV, as version 1.23.2 writes them.

tests/annotators/exports holds files it wrote. JSON-MIN and CSV leave out skipped annotations and drafts, and say who by
number or e-mail, as the full export does.
"""

import datetime as dt
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from pipeline.annotate import answer_choices
from pipeline.annotate.filled_row import Filled
from pipeline.annotate.label_studio.tasks import CERTAINTY, FINDING
from pipeline.contracts.errors import InputError
from pipeline.tables.columns import plain
from pipeline.tables.delimited import open_delimited
from pipeline.tables.notes import Notes
from pipeline.tables.table import Table

EXPORT_COLUMNS = ("annotation_id", "annotator", "image_id", "lead_time")
EXPORT_AGAIN = "export the project again, as JSON, JSON-MIN or CSV"
T = TypeVar("T")


@dataclass(frozen=True)
class Exported:
    """What an export holds.

    Attributes:
        rows: The answers and the blanks, one for each task and reader.
        num_skipped: Annotations their annotator skipped (full JSON alone tells).
        num_superseded: Earlier versions by the same reader of the same task, left out of `rows`.
        num_drafts: Annotations begun and never submitted (full JSON alone tells).
        mistakes: Tasks that cannot be used, each with its place.
    """

    rows: tuple[Filled, ...]
    num_skipped: int = 0
    num_superseded: int = 0
    num_drafts: int = 0
    mistakes: tuple[str, ...] = ()


def is_export(header: Sequence[str]) -> bool:
    """Whether columns are those of Label Studio's CSV or TSV export."""
    return {plain(name) for name in EXPORT_COLUMNS} <= {plain(name) for name in header}


def read_json(name: str, text: str, *, several: bool = False) -> Exported:
    """Read a full JSON or a JSON-MIN export.

    Args:
        name: The file, for messages.
        text: What it holds.
        several: Whether a scan may show several findings.

    Raises:
        InputError: when it is cut off or no export.
    """
    items = _items(name, text)
    if items and all(isinstance(item, dict) and "data" in item and "annotations" not in item for item in items):
        raise InputError("these are tasks as they were sent out, not an export", where=name, fix=EXPORT_AGAIN)
    reading = _Reading(name, several)
    for position, item in enumerate(items, 1):
        number = item.get("id") if isinstance(item, dict) else None
        reading.add(f"{name}, " + (f"entry {position}" if number is None else f"task {number!s:.20}"), item)
    return reading.exported()


def read_csv(name: str, text: str, *, several: bool = False) -> Exported:
    """Read a CSV or TSV export given as text; see `read_table`.

    Raises:
        InputError: when it is cut off or no export.
    """
    try:
        table = open_delimited(name, text.removeprefix("\ufeff").encode(), is_export, Notes(name))
    except InputError as error:
        raise InputError(f"is no table ({error.what})", where=name, fix=EXPORT_AGAIN) from error
    return read_table(table, several=several)


def read_table(table: Table, *, several: bool = False) -> Exported:
    """Read a CSV or TSV export, as `read_json` does; whatever a spreadsheet has made of its form.

    Raises:
        InputError: when it is cut off or no export.
    """
    columns = [plain(name) for name in table.header]
    missing = sorted(set(EXPORT_COLUMNS) - set(columns))
    if missing:
        what = f"is not Label Studio's CSV: no column {', '.join(missing)}"
        raise InputError(what, where=table.name, fix=EXPORT_AGAIN)
    reading = _Reading(table.name, several)
    number = 1
    try:
        for number, (_, cells) in enumerate(table.records(), 2):
            if len(cells) != len(columns):
                what = f"{len(cells)} cells of {len(columns)}; is it cut off?"
                reading.mistakes.append(f"{table.name}, row {number}: {what}")
            else:
                reading.add(f"{table.name}, row {number}", dict(zip(columns, map(_cell, cells), strict=True)))
    except InputError as error:
        what = f"breaks off or is damaged after row {number} ({error.what})"
        raise InputError(what, where=table.name, fix=EXPORT_AGAIN) from None
    return reading.exported()


class _Mistake(ValueError):  # noqa: N818 - the file's, not ours
    """What is wrong with one task; the place is put before it."""


class _Version(NamedTuple):
    """One annotation: the task, its number there, and what it says."""

    task: str
    number: int
    row: Filled


class _Reading:
    """What has been read of a file so far."""

    def __init__(self, name: str, several: bool) -> None:
        self.name = name
        self._answer = _joined if several else _single
        self.versions: dict[tuple[str, ...], list[_Version]] = {}
        self.mistakes: list[str] = []
        self.num_skipped = self.num_drafts = 0
        self.is_unnamed = False  # somebody answered, but not what we ask

    def add(self, where: str, item: object) -> None:
        """Take one task of JSON, or one annotation of JSON-MIN or CSV."""
        try:
            if not isinstance(item, dict):
                raise _Mistake("is no task")
            filled_rows = self._annotations(where, item) if "annotations" in item else [self._flat(where, item)]
        except _Mistake as mistake:
            self.mistakes.append(f"{where}: {mistake}")
            return
        for version in filled_rows:
            self.versions.setdefault(_whose(version), []).append(version)

    def exported(self) -> Exported:
        """The latest version by each reader of each task; an answer is never superseded by a blank."""
        rows = tuple(max(versions, key=_lateness).row for versions in self.versions.values())
        if self.is_unnamed and not self.mistakes and not any(row.reply for row in rows):
            raise InputError(
                f"nobody answered a control named '{FINDING}'",
                where=self.name,
                fix="give the project the labelling configuration that was exported with the queue; answers of another "
                "program come as CSV, with the columns image_id and label",
            )
        num_versions = sum(map(len, self.versions.values()))
        return Exported(rows, self.num_skipped, num_versions - len(rows), self.num_drafts, tuple(self.mistakes))

    def _annotations(self, where: str, item: dict[str, Any]) -> list[_Version]:
        scan = _scan(where, _is(dict, item.get("data"), "data"))
        filled_rows = []
        for annotation in _is(list, item["annotations"], "annotations"):
            _is(dict, annotation, "annotations")
            if annotation.get("was_cancelled"):
                self.num_skipped += 1
                continue
            results = _is(list, annotation.get("result") or [], "result")
            row = _signed(scan, annotation, annotation.get("completed_by"))
            row = row._replace(reply=self._answer(_chosen(results, FINDING), FINDING))
            row = row._replace(certainty=_single(_chosen(results, CERTAINTY), CERTAINTY))
            self.is_unnamed |= bool(results)
            filled_rows.append(_Version(_task(item, where), _whole(annotation.get("id"), "id") or 0, row))
        self.num_drafts += len(_is(list, item.get("drafts") or [], "drafts"))
        return filled_rows if item["annotations"] else [_Version(_task(item, where), 0, scan)]

    def _flat(self, where: str, item: dict[str, Any]) -> _Version:
        number = _whole(item.get("annotation_id"), "annotation_id")
        row = _signed(_scan(where, item), item, item.get("annotator"))
        row = row._replace(reply=self._answer(item.get(FINDING), FINDING))
        row = row._replace(certainty=_single(item.get(CERTAINTY), CERTAINTY))
        self.is_unnamed |= number is not None or "label" in item  # the second: records of another program
        return _Version(_task(item, where), number or 0, row)


def _items(name: str, text: str) -> list[Any]:
    try:
        read = json.loads(text.lstrip("\ufeff"), parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}"
        raise InputError(
            f"the JSON breaks off or is damaged at {at} ({error.msg})", where=name, fix=EXPORT_AGAIN
        ) from None
    except (ValueError, RecursionError) as error:  # NaN, a number of thousands of digits, endless nesting
        raise InputError(f"is no JSON that can be read ({error})", where=name, fix=EXPORT_AGAIN) from None
    if isinstance(read, dict) and ("annotations" in read or "image_id" in read):
        return [read]
    if not isinstance(read, list):
        raise InputError("is not a Label Studio export", where=name, fix=EXPORT_AGAIN)
    return read


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def _cell(text: str) -> object:
    """A cell's text; where several choices were made, Label Studio writes JSON there."""
    if text.startswith(('{"choices"', "[")):
        try:
            several = json.loads(text)
        except (ValueError, RecursionError):
            return text  # a class that begins so
        if isinstance(several, dict) or len(several) > 1:
            return several
    return text or None


def _scan(where: str, data: dict[str, Any]) -> Filled:
    image_id = data.get("image_id")
    if not isinstance(image_id, str) or not image_id:
        raise _Mistake("no image_id: the task was not made by `cxr-ssl queue export`")
    run = _text(data.get("run"), "run")
    return Filled(where, _text(image_id, "image_id"), "", round_index=_whole(data.get("round"), "round"), run=run)


def _signed(scan: Filled, annotation: dict[str, Any], reader: object) -> Filled:
    """With who, how long and when last changed."""
    if isinstance(reader, dict):
        reader = reader.get("email") or reader.get("id")
    who = str(reader) if type(reader) is int else _text(reader, "annotator").strip()
    seconds = _seconds(annotation.get("lead_time"))
    return scan._replace(
        reader=who, seconds=seconds, time=_time(annotation.get("updated_at") or annotation.get("created_at"))
    )


def _chosen(results: list[Any], control: str) -> list[object]:
    """What was chosen in one of the page's controls; the results of others do not matter."""
    choices: list[object] = []
    for result in results:
        if _is(dict, result, "result").get("from_name") == control:
            value = _is(dict, result.get("value"), f"{control}: value")
            choices += _is(list, value.get("choices") or [], f"{control}: choices")
    return choices


def _single(value: object, control: str) -> str:
    """The one choice among what a control holds."""
    choices = _listed(value)
    if len(choices) > 1:
        raise _Mistake(f"{control} has {len(choices)} choices, {choices!r:.200}; one was asked for")
    return _text(choices[0], control) if choices else ""


def _joined(value: object, control: str) -> str:
    """All choices that a control holds, as one answer of independent findings."""
    choices = [_text(choice, control) for choice in _listed(value)]
    alone = [choice for choice in choices if answer_choices.says_all(choice)]
    if alone and len(choices) > 1:
        raise _Mistake(f"{control} has {len(choices)} choices, {choices!r:.200}; {alone[0]!r} stands alone")
    return "|".join(choices)


def _listed(value: object) -> list[Any]:
    if isinstance(value, dict):
        value = value.get("choices") or []
    return value if isinstance(value, list) else [value]


def _task(item: dict[str, Any], where: str) -> str:
    return where if item.get("id") is None else str(item["id"])


def _whose(version: _Version) -> tuple[str, ...]:
    """What versions of one answer share; nobody's are never versions of each other: they may be two people's."""
    return version.task, version.row.image_id, version.row.reader, "" if version.row.reader else str(version.number)


def _lateness(version: _Version) -> tuple[bool, dt.datetime, int]:
    return (bool(version.row.reply), version.row.time or dt.datetime.min.replace(tzinfo=dt.UTC), version.number)


def _is(kind: type[T], value: object, what: str) -> T:
    if not isinstance(value, kind):
        raise _Mistake(f"{what} is missing or broken")
    return value


def _text(value: object, what: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _Mistake(f"{what} is {value!r:.200}, no text")
    if any("\ud800" <= c <= "\udfff" for c in value):  # half a character: no file could hold it
        raise _Mistake(f"{what} is {value!r:.200}, no text that can be written")
    return value


def _whole(value: object, what: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
        return int(value)
    if type(value) is not int or value < 0:
        raise _Mistake(f"{what} is {value!r:.200}, no whole number")
    return value


def _seconds(value: object) -> float | None:
    """Seconds on the page; None as well where the annotator's clock was set back meanwhile."""
    if value is None:
        return None
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise _Mistake(f"lead_time is {value!r:.200}, no number of seconds")
    return seconds if seconds >= 0 else None


def _time(value: object) -> dt.datetime | None:
    if value is None:
        return None
    try:
        time = dt.datetime.fromisoformat(_text(value, "updated_at"))
        return time.replace(tzinfo=dt.UTC) if time.tzinfo is None else time.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise _Mistake(f"updated_at is {value!r:.200}, no time") from None
