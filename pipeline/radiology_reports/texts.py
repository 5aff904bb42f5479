"""Which report belongs to which scan: by a column of the pool's table, by files, or by a table of reports.

A report that cannot be used is counted with the reason and never guessed at: of a scan that is not there, without a
word, in letters that cannot be told, or with a name that several scans answer to. A scan may have several reports
(two reads, an addendum): all are read. The text itself stays where it is; messages tell counts and never quote it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from embeddings.decoding.files import read_uri
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.scans import PoolConfig
from pipeline.pool.sources import Pool
from pipeline.radiology_reports.labeler import is_blank
from pipeline.tables import columns as table_columns
from pipeline.tables.characters import as_utf8
from pipeline.tables.notes import Notes
from pipeline.tables.opening import open_table

WHERE = "pool.reports"
FILE_ENDING = ".txt"
MAX_BYTES = 2**20  # of one report
NO_SCAN = "of a scan that is not in the pool"
SEVERAL = "its name fits scans in several folders"
EMPTY = "without a word"
OTHER_LETTERS = "not UTF-8 or UTF-16 text; save it as UTF-8"
TOO_LONG = "longer than 1 MiB"
SECOND = "a further report of a scan; both are read"
REPEATED = "the same text again for a scan"
# Columns of a table of reports, as `columns.compact` has them: the scan or study, the text, or its sections.
_KEYS = (
    *("imagepath", "pathtoimage", "path", "file", "filename", "imageid", "image", "dicomid", "bildpfad", "datei"),
    *("studyid", "study", "accessionnumber", "accession", "studie", "id", "name"),
)
_TEXTS = ("report", "reporttext", "reports", "text", "radiologyreport", "fulltext", "befundtext", "bericht")
_SECTIONS = (
    *("findings", "impression", "conclusion", "sectionfindings", "sectionimpression"),
    *("befund", "beurteilung"),
)


@dataclass
class Texts:
    """The reports of a pool.

    Attributes:
        of_scan: Path of a scan inside the pool to its reports, in their order.
        num_reports: Reports that were looked at.
        reasons: Reports that are not used, or worth a word: reason and count.
        where: What they were read from.
        unmatched: Those counted under `NO_SCAN`, by their place among the reports.
    """

    where: str
    of_scan: dict[str, list[str]] = field(default_factory=dict)
    num_reports: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    unmatched: set[int] = field(default_factory=set)

    def without_scan(self) -> None:
        """Count the report looked at last as one of no scan of the pool."""
        self.reasons[NO_SCAN] += 1
        self.unmatched.add(self.num_reports)

    def add(self, paths: Iterable[str], text: str | None) -> None:
        """Take a report of these scans, which may be none."""
        self.num_reports += 1
        if text is None or is_blank(text):
            self.reasons[EMPTY] += 1
            return
        if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
            self.reasons[TOO_LONG] += 1
            return
        known = [self.of_scan.setdefault(path, []) for path in paths]
        if not known:
            self.without_scan()
        elif all(text in before for before in known):
            self.reasons[REPEATED] += 1
        else:
            self.reasons[SECOND] += any(before and text not in before for before in known)
            for before in known:
                if text not in before:
                    before.append(text)


def read(pool: Pool, config: PoolConfig, studies: Callable[[str], Iterable[str]] = lambda study: ()) -> Texts | None:
    """The reports of a pool; None where `pool.reports` is not set.

    Args:
        pool: As it was listed.
        config: Its options.
        studies: Paths of the scans of a study, by an id as a table or a file's name writes it.

    Raises:
        InputError: there is neither such a column nor such a file, or a table of reports lacks a column.
    """
    if config.reports is None:
        return None
    column = column_of(pool, config.reports)
    if column is not None:
        texts = Texts(f"column {column}")
        _of_column(pool, column, texts)
        return texts
    place = _place(pool, config.reports)
    texts = Texts(place)
    scans = ScanNames(pool.scans["path"].to_pylist(), studies)
    if Path(place).is_dir():
        _of_folder(Path(place), scans, texts)
    else:
        _of_table(place, scans, texts)
    return texts


def column_of(pool: Pool, name: str) -> str | None:
    """The pool's own column of reports; None: it has none of that name."""
    header = [] if pool.reports is None else pool.reports.column_names[1:]
    place = table_columns.find(header, name, WHERE)
    return None if place is None else header[place]


def _of_column(pool: Pool, column: str, texts: Texts) -> None:
    assert pool.reports is not None, "the column was found in it"
    here = set(pool.scans["path"].to_pylist())
    for path, text in zip(pool.reports["image_path"].to_pylist(), pool.reports[column].to_pylist(), strict=True):
        texts.add([path] if path in here else [], text)


def _place(pool: Pool, name: str) -> str:
    """Where a folder or table of reports lies: as given, or beside the scans.

    Raises:
        InputError: it is at neither place.
    """
    if "://" in name:
        return name
    own = Path(name).expanduser()
    for path in (own, Path(pool.root.removesuffix("!")) / own):
        if path.exists():
            return str(path)
    raise InputError(
        "is neither a column of the pool's table nor a file or folder",
        value=name,
        where=WHERE,
        fix="name the column as the table writes it, or give the path of the reports",
    )


class ScanNames:
    """Scans by what a report may call them: their path, its end, their file's name, a folder they lie in, their study.

    Args:
        paths: Of the scans inside the pool.
        studies: Paths of the scans of a study, by its id.
    """

    def __init__(self, paths: Iterable[str], studies: Callable[[str], Iterable[str]] = lambda study: ()) -> None:
        self._scans: dict[tuple[str, ...], list[str]] = {}
        self._places: dict[str, list[tuple[str, ...]]] = {}
        self._studies = studies
        for path in paths:
            parts = tuple(part for part in path.split("/") if part)
            own = [parts, (*parts[:-1], _stem(parts[-1])), *(parts[:depth] for depth in range(1, len(parts)))]
            for place in dict.fromkeys(own):
                self._scans.setdefault(place, []).append(path)
        for place in self._scans:
            self._places.setdefault(place[-1], []).append(place)

    def meant(self, name: str) -> list[str] | None:
        """The scans of a report with this name, the longest agreement first; None: several places answer to it."""
        parts = tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
        if not parts:
            return []
        near = [place for place in self._places.get(parts[-1], ()) if _ends_alike(place, parts)]
        longest = max((min(len(place), len(parts)) for place in near), default=0)
        near = [place for place in near if min(len(place), len(parts)) == longest]
        exact = [place for place in near if len(place) == len(parts)]
        if len(near) > 1 and len(exact) != 1:
            return None
        return self._scans[(exact or near)[0]] if near else list(self._studies(parts[-1]))


def _ends_alike(place: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    shared = min(len(place), len(parts))
    return place[-shared:] == parts[-shared:]


def _stem(name: str) -> str:
    stem = name.partition(".")[0] if name.lower().endswith((".nii.gz", ".dcm.gz")) else name.rpartition(".")[0]
    return stem or name


def _of_folder(folder: Path, scans: ScanNames, texts: Texts) -> None:
    """Each file of text is a report; it is called like its scan, its study, or a folder of its scans."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() == FILE_ENDING and path.is_file())
    if not files:
        raise InputError(
            f"holds no {FILE_ENDING} files", value=str(folder), where=WHERE, fix="write one file of text a report"
        )
    for path in files:
        name = path.relative_to(folder).with_suffix("").as_posix()
        if path.stat().st_size > MAX_BYTES:
            texts.num_reports += 1
            texts.reasons[TOO_LONG] += 1
            continue
        text = _decoded(path.read_bytes())
        if text is None:
            texts.num_reports += 1
            texts.reasons[OTHER_LETTERS] += 1
        else:
            _add(name, text, scans, texts)


def _decoded(data: bytes) -> str | None:
    """The text of a file; None: it is not in letters that can be told without guessing."""
    try:
        return as_utf8("report", data, Notes("report")).decode("utf-8")
    except InputError:
        return None


def _add(name: str, text: str | None, scans: ScanNames, texts: Texts) -> None:
    meant = scans.meant(name)
    if meant is None:
        texts.num_reports += 1
        texts.reasons[SEVERAL] += 1
    else:
        texts.add(meant, text)


def _of_table(place: str, scans: ScanNames, texts: Texts) -> None:
    """A row a report: a column that names its scan or study, and its text, whole or by sections."""
    for name, text in _rows(place):
        if name is None:
            texts.num_reports += 1
            texts.without_scan()
        else:
            _add(name, text, scans, texts)


def _rows(place: str) -> Iterator[tuple[str | None, str | None]]:
    name = place.rpartition("/")[2]
    wanted = {*_TEXTS, *_SECTIONS}
    try:
        data = read_uri(place)
    except OSError as error:
        raise InputError(
            f"the reports cannot be read: {error.strerror or error}", value=place, where=WHERE, fix="check your access"
        ) from error
    try:
        opened = open_table(
            name, data, lambda cells: any(table_columns.compact(c) in wanted for c in cells), Notes(name)
        )
        key, parts = _columns_of(opened.header, name)
        no_text = InputError(
            f"a column of {name} holds no text", where=WHERE, fix="write ids and reports as UTF-8 text"
        )
        if opened.objects & {key, *parts.values()}:
            raise no_text
        loaded = opened.load([key, *parts.values()])
    except InputError as error:
        if error.where == WHERE:
            raise
        # Without the value: it may be a piece of a report.
        raise InputError(error.what, where=error.where, fix=error.fix) from None
    try:
        cells = [column.cast("string").to_pylist() for column in loaded.columns]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise no_text from error
    for own, *texts in zip(*cells, strict=True):
        known = [(heading, text) for heading, text in zip(parts, texts, strict=True) if text and text.strip()]
        whole = "\n".join(f"{heading}: {text}" if heading else text for heading, text in known)
        yield (own.strip() or None) if own else None, whole or None


def _columns_of(header: Iterable[str], name: str) -> tuple[int, Mapping[str, int]]:
    """The column of names, and those of the text by their heading; of one whole text the heading is blank.

    Raises:
        InputError: the table has no such columns.
    """
    place = {table_columns.compact(own): number for number, own in reversed(list(enumerate(header)))}
    key = next((place[own] for own in _KEYS if own in place), None)
    whole = next((place[own] for own in _TEXTS if own in place), None)
    sections = {own.removeprefix("section"): place[own] for own in _SECTIONS if own in place}
    if key is None or (whole is None and not sections):
        lacks = "of scan or study ids" if key is None else "of the text"
        raise InputError(
            f"{name} has no column {lacks}",
            where=WHERE,
            fix="call it image_path or study_id, and the text report (or findings and impression)",
        )
    return key, {"": whole} if whole is not None else sections
