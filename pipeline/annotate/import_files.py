"""Filled files become answers: read, checked row by row, and counted, before anything is kept."""

import datetime as dt
import io
import lzma
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.annotate import answer_choices, queue_csv
from pipeline.annotate.filled_row import Filled
from pipeline.annotate.label_studio import exports
from pipeline.annotate.other_tools import cvat, fiftyone
from pipeline.contracts.answers import CERTAINTIES, Answer, annotator_name, reply_of
from pipeline.contracts.errors import InputError
from pipeline.contracts.finding_line import are_independent
from pipeline.labels.journal import Journal
from pipeline.runtime import run_files
from pipeline.tables import characters
from pipeline.tables.notes import Notes
from pipeline.tables.opening import open_table, other_spreadsheet
from pipeline.tables.workbook import is_workbook

DEFAULT_NAME, LABEL_STUDIO = "expert", "label-studio"
MAX_BYTES = 256 * 2**20  # a label file of a million rows has about 100 MB
SHOWN = 20
CLOCK_DRIFT = dt.timedelta(minutes=10)  # between two machines whose clocks are set
BUNDLE_MEMBERS = ("answers.csv", run_files.QUEUE_TABLE, "annotations.xml", "labels.json")
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")  # of UTF-16 and UTF-32
BROKEN_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
)


@dataclass(frozen=True)
class Scans:
    """What the run knows of scans.

    Attributes:
        asked: Scan to the rounds that asked for it, in order; a file that does not say answers the last.
        holdout: Scans of the sealed holdout.
        others: All other scans of the pool.
        last_round: The latest queue's.
        run: The code in the files this run hands out.
    """

    asked: Mapping[str, Sequence[int]]
    holdout: frozenset[str]
    others: frozenset[str]
    last_round: int
    run: str | None


@dataclass(frozen=True)
class Who:
    """Who gave the labels, where the user says so.

    Attributes:
        annotator: One person; None: as the files say, else `expert`.
        accounts: Number or e-mail of a Label Studio account to the annotator's name.
    """

    annotator: str | None = None
    accounts: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Harvest:
    """What files hold, after every row was looked at.

    Attributes:
        answers: Rows that can be kept.
        counts: blank, repeated, skipped, superseded, mistake: rows that give no answer, by reason.
        mistakes: One line for each row that cannot be used: where, what, how to mend it.
        notes: What was forgiven or not read.
    """

    answers: list[Answer] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    mistakes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def harvest(
    files: Sequence[Path], scans: Scans, findings: Sequence[str], who: Who, spelling: Callable[[str], str] = str
) -> Harvest:
    """Read files of one sitting: filled CSV tables, Label Studio exports, bundles.

    Args:
        files: In any form that `pipeline.tables` opens; one annotator may not answer a scan in two ways among them.
        scans: What the run knows.
        findings: Classes an answer may name.
        who: Who filled them.
        spelling: A name to the way it was spelt first.

    Raises:
        InputError: when a file as a whole cannot be used.
    """
    harvested = Harvest()
    first: dict[tuple[str, str, int], tuple[str, Answer]] = {}
    for path in files:
        rows, is_export = _rows(path, harvested, several=are_independent(findings))
        _refuse_other_run(path, rows, scans)
        name_of = _accounts(path, rows, who) if is_export else _names(path, rows, who.annotator)
        names = {reader: spelling(name) for reader, name in name_of.items()}
        for row in rows:
            _take(row, names.get(row.reader, DEFAULT_NAME), scans, findings, harvested, first)
    harvested.counts["mistake"] = len(harvested.mistakes)
    return harvested


def refuse(harvested: Harvest, where: str, findings: Sequence[str]) -> None:
    """Refuse files with rows that cannot be used, all of them shown.

    Raises:
        InputError: when there is any.
    """
    if harvested.mistakes:
        more = len(harvested.mistakes) - SHOWN
        shown = "\n".join(harvested.mistakes[:SHOWN]) + (f"\n… and {more} more" if more > 0 else "")
        raise InputError(
            f"{len(harvested.mistakes)} rows cannot be used, so nothing of the file was taken:\n{shown}",
            where=where,
            fix=f"answers are {', '.join(answer_choices.offered(findings))}; mend the rows and import the file again, "
            "or take the others alone with --skip-mistakes",
        )


def news(answers: Sequence[Answer], journal: Journal) -> tuple[list[Answer], Counter[str]]:
    """Answers the journal does not hold yet, and how many it knows already, holds newer, or has another of.

    Asked again in another round, the same answer is a new one: that is how agreement with oneself is measured.
    """
    standing: dict[tuple[str, str, int], Answer] = {}
    recorded: set[tuple[str, str, int, str, str | None]] = set()
    for answer in (entry.answer for entry in journal.active()):
        standing[_asked_of(answer)] = answer
        recorded.add((*_asked_of(answer), answer.reply, answer.certainty))
    counts: Counter[str] = Counter()
    fresh = []
    for answer in answers:
        known = standing.get(_asked_of(answer))
        both_timed = known is not None and known.time is not None and answer.time is not None
        if known and (known.reply, known.certainty) == (answer.reply, answer.certainty):
            counts["known"] += 1
        elif known and both_timed and answer.time < known.time:  # type: ignore[operator]
            counts["older"] += 1  # an export from before a correction
        elif known and not both_timed and (*_asked_of(answer), answer.reply, answer.certainty) in recorded:
            counts["older"] += 1  # she said so once, and something else since; a file without times cannot say more
        else:
            counts["changed" if known else "new"] += 1
            fresh.append(answer)
    return fresh, counts


def _asked_of(answer: Answer) -> tuple[str, str, int]:
    return answer.image_id, answer.person, answer.round_index


def _take(
    row: Filled,
    name: str,
    scans: Scans,
    findings: Sequence[str],
    harvested: Harvest,
    first: dict[tuple[str, str, int], tuple[str, Answer]],
) -> None:
    if not row.reply.strip():
        harvested.counts["blank"] += 1
        return
    mistake = _mistake(row, scans, findings)
    if mistake:
        harvested.mistakes.append(f"{row.where}: {mistake}")
        return
    reply = reply_of(row.reply, findings)
    assert reply is not None
    round_index = row.round_index or scans.asked[row.image_id][-1]
    certainty = row.certainty.strip().casefold() or None
    answer = Answer(row.image_id, reply, name, round_index, row.time, certainty, row.seconds)
    where, before = first.setdefault((row.image_id, name, round_index), (row.where, answer))
    if before is answer:
        harvested.answers.append(answer)
    elif (before.reply, before.certainty) == (answer.reply, answer.certainty):
        harvested.counts["repeated"] += 1
    elif before.time and answer.time and before.time != answer.time:  # an older and a newer export
        harvested.counts["superseded"] += 1
        if answer.time > before.time:
            harvested.answers[harvested.answers.index(before)] = answer
            first[row.image_id, name, round_index] = (row.where, answer)
    else:
        harvested.mistakes.append(f"{row.where}: {row.image_id!r} has another answer by {name} in {where}")


def _mistake(row: Filled, scans: Scans, findings: Sequence[str]) -> str | None:
    """What is wrong with a row, if anything."""
    if row.image_id not in scans.asked:
        if row.image_id in scans.holdout:
            return f"{row.image_id!r} is of the sealed holdout and was not asked for; its labels are not taken so"
        if row.image_id in scans.others:
            return f"this run has not asked for {row.image_id!r} yet"
        return f"this run never asked for {row.image_id[:80]!r}"
    if row.round_index is not None and not scans.asked[row.image_id][0] <= row.round_index <= scans.last_round:
        return f"{row.image_id!r} was not asked for in round {row.round_index}"
    if row.time is not None and row.time > dt.datetime.now(dt.UTC) + CLOCK_DRIFT:
        return f"was answered in the future ({row.time.isoformat(timespec='seconds')}); set the clock, mend the time"
    if row.certainty.strip().casefold() not in ("", *CERTAINTIES):
        return f"unknown certainty {row.certainty.strip()[:80]!r}; write {' or '.join(CERTAINTIES)}, or nothing"
    if row.beyond and are_independent(findings):  # `effusion, nodule` would lose the nodule
        return f"more cells than columns ({row.beyond[:80]!r}); put quotation marks around an answer with commas"
    return answer_choices.wrong(row.reply, findings)


def _names(path: Path, rows: Sequence[Filled], annotator: str | None) -> dict[str, str]:
    """The annotator behind each name in a table: a name is her own, and another cannot be given from outside."""
    readers = sorted({row.reader for row in rows})
    fallback = annotator_name(annotator) if annotator is not None else DEFAULT_NAME
    strangers = [name for name in readers if name and annotator is not None and name.casefold() != fallback.casefold()]
    if strangers:
        raise InputError(
            f"was handed out to {strangers[0]}, not to {fallback}",
            where=path.name,
            fix="leave --annotator out, or empty the column annotator if somebody else filled it",
        )
    return {name: annotator_name(name, f"{path.name}, annotator") if name else fallback for name in readers}


def _accounts(path: Path, rows: Sequence[Filled], who: Who) -> dict[str, str]:
    """The annotator behind each Label Studio account that answered.

    An account is what `who` calls it; else its e-mail, or its number behind `label-studio/`: the same today and after
    others have joined. `who.annotator` names an account that answered alone.
    """
    accounts = sorted({row.reader for row in rows if row.reader and row.reply.strip()})
    names = {account: annotator_name(who.accounts[account]) for account in accounts if account in who.accounts}
    rest = [account for account in accounts if account not in names]
    if who.annotator is not None and len(rest) > 1:
        raise InputError(
            f"holds answers of {len(rest)} accounts ({', '.join(rest[:5])})",
            where=path.name,
            fix="leave --annotator out, or name them: --account 1=dr-lee --account 2=dr-kim",
        )
    for account in rest:
        own = account if "@" in account else f"{LABEL_STUDIO}/{account}"
        names[account] = annotator_name(own if who.annotator is None else who.annotator, path.name)
    return {"": DEFAULT_NAME if who.annotator is None else annotator_name(who.annotator)} | names


def _refuse_other_run(path: Path, rows: Sequence[Filled], scans: Scans) -> None:
    strange = sorted({row.run for row in rows if row.run and row.run != scans.run})
    if strange:
        raise InputError(
            "was handed out by another run",
            value=strange[0],
            where=path.name,
            fix=f"import it there; the files of this run carry {scans.run}",
        )


def _rows(path: Path, harvested: Harvest, *, several: bool) -> tuple[list[Filled], bool]:
    """The rows of a file, and whether it is an export of Label Studio, whose readers are accounts."""
    notes = Notes(path.name)
    data = characters.unpacked(path.name, _bytes(path), notes)
    is_bundle = data[:4] == b"PK\x03\x04" and not is_workbook(data) and other_spreadsheet(data) is None
    members = _bundle_members(path, data) if is_bundle else {path.name: data}
    rows: list[Filled] = []
    is_export = False
    for name, content in members.items():
        own, of_accounts = _rows_of(name, content, harvested, notes, several=several)
        rows += own
        is_export |= of_accounts
    harvested.notes += [f"{path.name}: {line}" for line in notes.lines]
    return rows, is_export


def _rows_of(name: str, data: bytes, harvested: Harvest, notes: Notes, *, several: bool) -> tuple[list[Filled], bool]:
    first = b"" if is_workbook(data) or data[:2] in _WIDE_MARKS else data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if data[:2] in _WIDE_MARKS:
        data = characters.as_utf8(name, data, notes)
        first = data.lstrip()[:1]
    if first == b"<":
        return cvat.read(name, characters.as_utf8(name, data, notes), notes), False
    if first in (b"[", b"{"):
        text = characters.as_utf8(name, data, notes).decode()
        if fiftyone.is_export(text):
            return fiftyone.read(name, text, notes), False
        export = exports.read_json(name, text, several=several)
    else:
        table = open_table(name, data, queue_csv.is_header, notes)
        if not exports.is_export(table.header):
            return queue_csv.read_table(table, several=several), False
        export = exports.read_table(table, several=several)
    harvested.counts["skipped"] += export.num_skipped
    harvested.counts["superseded"] += export.num_superseded
    harvested.mistakes += export.mistakes
    return list(export.rows), True


def _bundle_members(path: Path, data: bytes) -> dict[str, bytes]:
    """The answers that came back in bundles, one a folder: `answers.csv` of the page, else a queue, else exports."""
    tables_of: dict[str, bytes] = {}
    left = MAX_BYTES  # for all of them together
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as bundle:
            inside = {(str(Path(name).parent), Path(name).name): name for name in bundle.namelist()}
            for folder in sorted({folder for folder, _ in inside}):
                for member in [inside[folder, name] for name in BUNDLE_MEMBERS if (folder, name) in inside][:1]:
                    with bundle.open(member) as stream:
                        inner = stream.read(left + 1)
                    left -= len(inner)
                    if left < 0:
                        raise InputError(
                            f"the tables of this bundle are larger than {MAX_BYTES // 2**20} MiB together",
                            where=f"{path.name}/{member}",
                            fix="give the filled tables themselves, one by one",
                        )
                    tables_of[f"{path.name}/{member}"] = inner
    except BROKEN_ZIP as error:
        raise InputError(f"is no whole ZIP file ({error})", where=path.name, fix="copy it again") from error
    if not tables_of:
        raise InputError(
            f"holds neither of {', '.join(BUNDLE_MEMBERS)}", where=path.name, fix="give the filled table itself"
        )
    return tables_of


def refuse_file(path: Path) -> None:
    """Refuse what is no label file before a byte of it is read.

    Raises:
        InputError: when there is no such file, it is a folder, or too large.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise InputError(
            "no such file", value=str(path), where="labels import", fix="give a filled queue.csv or a JSON export"
        ) from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=path, fix="give a file you can read") from error
    if path.is_dir():
        raise InputError("is a folder", where=path, fix="name the files in it")
    if not path.is_file():
        raise InputError("is no regular file", where=path, fix="copy its content into a file")
    if size > MAX_BYTES:
        raise InputError(
            f"is larger than any label file ({size / 2**20:.0f} MiB)",
            where=path.name,
            fix=f"give the filled table alone; up to {MAX_BYTES // 2**20} MiB are read",
        )


def _bytes(path: Path) -> bytes:
    refuse_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=path, fix="give a file you can read") from error
