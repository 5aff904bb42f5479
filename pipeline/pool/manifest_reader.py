"""The table of a pool: its columns found and mapped, every row with a path of its own, labels in one spelling."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NoReturn
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from embeddings.decoding.files import read_uri
from pipeline.contracts.errors import InputError
from pipeline.contracts.options.scans import KNOWN_COLUMNS, PoolConfig
from pipeline.pool import finding_columns, vocabulary
from pipeline.pool.listing import chosen, class_names, dates, patient_ids
from pipeline.pool.sets.repeated_rows import one_row_a_scan
from pipeline.tables import columns as table_columns
from pipeline.tables.notes import Notes, listed
from pipeline.tables.opening import open_table
from pipeline.tables.printed_lists import parts_of_list
from pipeline.tables.table import Loaded, Table

MANIFEST_ENDINGS = (".csv", ".tsv", ".txt", ".tab", ".xlsx", ".xlsm", ".parquet", ".csv.gz", ".tsv.gz", ".txt.gz")
_ONE_ROW = "keep one row per scan, each with its path"
_LIKE_FILES = r"(?i)\.(png|jpe?g|jfif|jpe|tiff?|dcm|dicom)(\s|$)"
_FILE_ADDRESS = re.compile(r"file:/(?:/(?:localhost)?/)?/*(?P<drive>[A-Za-z]:/)?(?P<rest>.*)", re.IGNORECASE)
_PLACEHOLDERS_OF = {"source": "sources", "population": "populations", "official_split": "names of a split"}


@dataclass(frozen=True)
class Listed:
    """What a table says, a row a scan.

    Attributes:
        table: Known columns that it has, as text (N rows); `label` is a class, or a line of independent findings.
        others: Column of the table that `pool.where` asks for -> its N values.
        statements: Who said what of which scan, `OneRowAScan.statements`.
        reports: `image_path`, and the columns that `pool.reports` and `pool.report_labels` name: a row a row of the
            table, of which one scan may have several. None: they name none.
    """

    table: pa.Table
    others: Mapping[str, pa.ChunkedArray] = field(default_factory=dict)
    statements: pa.Table | None = None
    reports: pa.Table | None = None


def read_table(uri: str, config: PoolConfig, notes: Notes) -> Listed:
    """Read the table of a pool, local or remote, in any form that `pipeline.tables` opens.

    Raises:
        InputError: unreadable, a column is missing, rows of a scan contradict each other, or a label is not understood.
    """
    own_names = {known: config.columns.get(known, known) for known in KNOWN_COLUMNS}
    wanted = table_columns.compact(own_names["image_path"])
    opened = open_table(uri, _read(uri), lambda cells: wanted in map(table_columns.compact, cells), notes)
    places = _columns(opened, own_names, config, notes)
    names = {known: opened.header[i] for known, i in places.items()}
    others = _asked_by_where(opened, config)
    read = partial(_read_named, opened)
    several = config.findings_are == "independent"
    own = finding_columns.columns(uri, opened.header, names, config, read, notes) if several else {}
    healthy = finding_columns.healthy_column(opened.header, [*names.values(), *own.values()]) if own else None
    of_reports = _report_columns(opened, config)
    with_dates = dates.columns([name for name in opened.header if name not in (*names.values(), *of_reports)])
    read_also = [*own.values(), *others.values(), *([healthy] if healthy else []), *of_reports, *with_dates]
    order = {name: i for i, name in enumerate(dict.fromkeys(read_also))}
    loaded = opened.load([*places.values(), *(opened.header.index(name) for name in order)])
    cells = [vocabulary.text(column) for column in loaded.columns]
    cell_of = dict(zip(order, cells[len(places) :], strict=True))
    for name in with_dates:
        dates.say_impossible(name, cell_of[name], notes)
    table = _paths_checked(pa.table(dict(zip(places, cells[: len(places)], strict=True))), opened, loaded)
    reports = None
    if of_reports:
        reports = pa.table({"image_path": table["image_path"], **{name: cell_of[name] for name in of_reports}})
    table = _without_placeholders(table, notes)
    extra = {name: cell_of[column] for name, column in others.items()}
    if not several:
        table = _with_classes(table, names, opened, config, notes)
        return replace(_a_row_a_scan(table, extra, config, opened, loaded), reports=reports)
    lines = finding_columns.labels(
        table["label"] if "label" in names else None,
        {finding: cell_of[name] for finding, name in own.items()},
        config,
        partial(_refuse_rows, opened, loaded),
        notes,
        healthy=(healthy, cell_of[healthy]) if healthy else None,
    )
    plain = table.drop_columns(["label"]) if "label" in names else table
    labelled = plain if lines is None else plain.append_column("label", lines)
    return replace(_a_row_a_scan(labelled, extra, config, opened, loaded), reports=reports)


def _a_row_a_scan(
    table: pa.Table, others: Mapping[str, pa.ChunkedArray], config: PoolConfig, opened: Table, loaded: Loaded
) -> Listed:
    """Rows of one scan joined; of further columns the first of them counts."""
    joined = one_row_a_scan(table, config, partial(_refuse_rows, opened, loaded), opened.notes)
    first = pc.index_in(joined.table["image_path"], value_set=table["image_path"].combine_chunks())
    if "patient_id" in joined.table.column_names:
        place_N = loaded.place_N.take(first)
        ids = joined.table["patient_id"]
        ids = ids if isinstance(ids, pa.ChunkedArray) else pa.chunked_array([ids])
        patient_ids.warn_of_large(
            ids, opened.notes, lambda rows: opened.places(place_N.take(pa.array(rows)).to_pylist())
        )
    return Listed(joined.table, {name: column.take(first) for name, column in others.items()}, joined.statements)


def _read(uri: str) -> bytes:
    try:
        return read_uri(uri)
    except OSError as error:
        raise InputError(
            f"the manifest cannot be read: {error.strerror or error}", where=uri, fix="check the name and your access"
        ) from error


def _read_named(opened: Table, names: Sequence[str]) -> pa.Table:
    """Columns by name, as trimmed text; of repeated names the first."""
    distinct = list(dict.fromkeys(names))
    loaded = opened.load([opened.header.index(name) for name in distinct])
    return pa.table({name: vocabulary.text(c) for name, c in zip(distinct, loaded.columns, strict=True)})


def _columns(opened: Table, own_names: Mapping[str, str], config: PoolConfig, notes: Notes) -> dict[str, int]:
    """Known column -> its place in the file, for those the file has; what looks like another is named."""
    header = opened.header
    places: dict[str, int] = {}
    for known, own in own_names.items():
        place = table_columns.find(header, own, opened.name)
        if place is not None:
            places[known] = place
        elif known in config.columns or known == "image_path":
            raise _no_column(opened, known, own, config)
    others = [f"{header[place]!r} as {known}" for known, place in places.items() if header[place] != own_names[known]]
    if others:
        notes.mention(f"columns are read whatever their case, blanks and signs: {', '.join(others)}")
    _say_others_alike(header, places, notes)
    read = set(places.values())
    unread = [name for i, name in enumerate(header) if i not in read and name]
    unread = [
        name
        for name in unread
        if name
        not in {*config.columns.values(), *(config.findings or ()), *config.where, *_report_columns(opened, config)}
    ]
    looks = {known: near for known in own_names if known not in places and (near := table_columns.near(known, unread))}
    if config.findings_are == "independent":
        looks.pop("label", None)  # said with the findings, if no column holds any
    if looks:
        shown = ", ".join(f"{name!r} (did you mean {known}?)" for known, name in looks.items())
        mapping = ", ".join(f"{known}: {name}" for known, name in looks.items())
        notes.warn(f"columns that look like known ones are not read: {shown}; pool.columns={{{mapping}}} reads them")
    return places


def _say_others_alike(header: Sequence[str], places: Mapping[str, int], notes: Notes) -> None:
    for known, place in places.items():
        if others := table_columns.others_alike(header, place):
            notes.warn(f"the column {header[place]!r} is read as {known}, and {listed(others)} beside it not")


def _no_column(opened: Table, known: str, own: str, config: PoolConfig) -> InputError:
    header = [name for name in opened.header if name]
    if known == "image_path" and any(re.search(_LIKE_FILES, name) for name in header):
        return InputError(
            "its first line holds a file and no names of columns",
            where=opened.name,
            fix="put a line above that names the columns, e.g. image_path,label",
        )
    near = table_columns.near(own, header)
    if near is None and known == "image_path":
        near = _that_holds_files(opened)
    hint = f"did you mean {near!r}? " if near else ""
    return InputError(
        f"no column {own!r}" + (f" for pool.columns.{known}" if known in config.columns else ""),
        where=opened.name,
        fix=f"{hint}Its columns are {', '.join(header)}; name the right one in pool.columns.{known}",
    )


def _that_holds_files(opened: Table) -> str | None:
    """The column of which most values end as scans do."""
    for place, name in enumerate(opened.header):
        column = vocabulary.text(opened.load([place]).columns[0].slice(0, 200)) if name else None
        if column is not None and 2 * (pc.sum(pc.match_substring_regex(column, _LIKE_FILES)).as_py() or 0) > len(
            column
        ):
            return name
    return None


def _asked_by_where(opened: Table, config: PoolConfig) -> dict[str, str]:
    """Names in `pool.where` that are no known columns -> the column of the table.

    Raises:
        InputError: there is no such column, or it is that of the reports.
    """
    others = {}
    reports = table_columns.find(opened.header, config.reports, opened.name) if config.reports else None
    for name in config.where:
        place = table_columns.find(opened.header, name, opened.name)
        known = name in KNOWN_COLUMNS or name in chosen.OF_TAGS
        if place is None and not known:
            raise chosen.refuse_unknown(name, [*opened.header, *KNOWN_COLUMNS], opened.name)
        if place is not None and place == reports:
            raise chosen.refuse_reports(name, opened.name)
        if place is not None and not known:
            others[name] = opened.header[place]
    return others


def _report_columns(opened: Table, config: PoolConfig) -> list[str]:
    """Columns of the table that hold reports, or what a model read in them; a path is none."""
    wanted = [*([config.reports] if config.reports else []), *config.report_labels.values()]
    places = [table_columns.find(opened.header, name, opened.name) for name in wanted]
    return list(dict.fromkeys(opened.header[place] for place in places if place is not None))


def _paths_checked(table: pa.Table, opened: Table, loaded: Loaded) -> pa.Table:
    """The table with one spelling a path.

    Raises:
        InputError: a path is blank.
    """
    paths = _plain(table["image_path"], opened.name.rpartition("/")[0])
    if paths.null_count:
        blank = pc.indices_nonzero(pc.is_null(paths)).to_pylist()
        _refuse_rows(opened, loaded, blank, "the path of the image is blank", _ONE_ROW)
    return table.set_column(table.column_names.index("image_path"), "image_path", paths)


def _without_placeholders(table: pa.Table, notes: Notes) -> pa.Table:
    for name, what in _PLACEHOLDERS_OF.items():
        if name in table.column_names:
            column = vocabulary.without_placeholders(table[name], what, notes)
            table = table.set_column(table.column_names.index(name), name, column)
    if "patient_id" in table.column_names:
        ids = patient_ids.known_ids(table["patient_id"], notes)
        table = table.set_column(table.column_names.index("patient_id"), "patient_id", ids)
    return table


def _with_classes(
    table: pa.Table, names: Mapping[str, str], opened: Table, config: PoolConfig, notes: Notes
) -> pa.Table:
    """The table with exclusive classes in one spelling; where there is no label, what looks like findings is named."""
    if "label" not in names:
        signs = finding_columns.that_look_like_findings(partial(_read_named, opened), opened.header, names.values())
        if signs:
            look = "looks like a finding" if len(signs) == 1 else "look like findings"
            notes.warn(
                f"no column of labels, all scans count as unlabelled; {listed(signs)} {look}: "
                "pool.findings_are: independent reads "
                + ("it, pool.columns={label: ...} as classes" if len(signs) == 1 else "them")
            )
        return table
    _warn_of_lists(table["label"], config, notes)
    label = class_names.one_spelling(table["label"], config.findings, notes)
    return table.set_column(table.column_names.index("label"), "label", label)


def _warn_of_lists(label: pa.ChunkedArray, config: PoolConfig, notes: Notes) -> None:
    texts = set(pc.unique(label).drop_null().to_pylist()) - {*(config.findings or ())}
    lists = sorted(text for text in texts if "|" in text or len(parts_of_list(text) or ()) > 1)
    if lists:
        how = "hold '|'" if "|" in lists[0] else "are lists"
        notes.warn(
            f"{len(lists)} labels {how}, such as {lists[0]!r}, and are taken as classes of their own; if they name "
            "several findings of one scan, set pool.findings_are: independent"
        )


def _refuse_rows(opened: Table, loaded: Loaded, rows: Sequence[int], what: str, fix: str) -> NoReturn:
    numbers = loaded.place_N.take(pa.array(rows, pa.int64())).to_pylist()
    raise InputError(f"{what} ({opened.places(numbers)})", where=opened.name, fix=fix)


def _plain(paths: pa.ChunkedArray, root: str) -> pa.ChunkedArray:
    """One spelling per path: forward slashes, no `./`, no empty folders, relative where below `root`."""
    if pc.any(pc.match_substring_regex(paths, "^(?i:file):/")).as_py():
        paths = vocabulary.by_value(paths, _without_scheme, pa.string())
    for pattern, plain in ((r"\\", "/"), (r"(^|/)(\./)+", r"\1"), (r"([^:/])//+", r"\1/")):
        paths = pc.replace_substring_regex(paths, pattern, plain)
    below = pc.starts_with(paths, f"{root}/")
    return pc.if_else(below, pc.utf8_slice_codeunits(paths, len(root) + 1), paths)


def _without_scheme(path: str) -> str:
    """`file:///C:/a%20b.png` -> `C:/a b.png`, `file:///a.png` -> `/a.png`."""
    address = _FILE_ADDRESS.fullmatch(path)
    return path if address is None else unquote((address["drive"] or "/") + address["rest"])
