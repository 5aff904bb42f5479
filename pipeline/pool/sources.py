"""Where scans come from: a folder, a ZIP archive, a manifest, a public set (`nih:FOLDER`), `medmnist:NAME`, `phantom:`.

A pool is opened without reading a single scan; what is wrong with a file is found by the manifest stage.
"""

import difflib
import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from embeddings.decode import IMAGE_ENDINGS
from embeddings.decoding.files import members
from pipeline.contracts.errors import InputError
from pipeline.contracts.object_store import local_path
from pipeline.contracts.options.scans import PoolConfig
from pipeline.pool import folders, vocabulary
from pipeline.pool.dicom import dicomdir
from pipeline.pool.listing import chosen, class_names, files_of_table, patient_ids
from pipeline.pool.manifest_reader import MANIFEST_ENDINGS, read_table
from pipeline.pool.outside import LINKS
from pipeline.pool.sets import opening, registry
from pipeline.pool.sets.public_set import Reader, SetFolder
from pipeline.tables.notes import Notes

if TYPE_CHECKING:
    from pipeline.pool.phantoms import PhantomSpec

_log = logging.getLogger(__name__)

SCANS = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),  # inside the pool, with /
        pa.field("uri", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("patient_id", pa.string()),  # as the pool writes it
        pa.field("source", pa.string()),
        pa.field("population", pa.string()),  # as the pool names it: adult, pediatric, ...
        pa.field("age_years", pa.float32()),
        pa.field("sex", pa.string()),
        pa.field("view", pa.string(), nullable=False),
        pa.field("pool_split", pa.string()),
    ]
)
_ARCHIVE, _PACKED = ".zip", (".zip", ".tar", ".tgz", ".tar.gz", ".7z", ".rar", ".gz", ".bz2", ".xz")
_OWN_MANIFESTS = (
    "manifest.csv",
    "manifest.parquet",
    "manifest.tsv",
    "manifest.xlsx",
    "manifest.csv.gz",
    "manifest.tsv.gz",
)
_PACKED_TABLES = tuple(ending for ending in MANIFEST_ENDINGS if ".txt" not in ending)
# Name in `pool.where` -> column of `SCANS`.
_WHERE_COLUMNS = {
    "image_path": "path",
    "label": "label",
    "patient_id": "patient_id",
    "source": "source",
    "population": "population",
    "age": "age_years",
    "sex": "sex",
    "view": "view",
    "official_split": "pool_split",
}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_MAX_SHOWN = 5


@dataclass(frozen=True)
class Pool:
    """The scans of a pool and what it says about them.

    Attributes:
        name: For people.
        root: Folder that paths are relative to.
        scans: One row per scan, columns of `SCANS`; null where unknown.
        notes: What was forgiven, skipped or left out.
        not_chosen: Why `pool.where` leaves scans out, and how many, before a file is opened.
        others: Further columns that `pool.where` asks for, a value a scan.
        is_table: Whether a table names the files, which may lie elsewhere.
        refusal: What to raise before anything is read, where not one of the files is there.
        statements: Who said what of which scan, `opening.OpenedSet.statements`; None where the pool does not tell.
        left_out: Rows of a set that are no scans here: reason and count.
        reports: What the table's columns of reports hold, `manifest_reader.Listed.reports`; it may name other scans.
    """

    name: str
    root: str
    scans: pa.Table
    notes: Notes = field(default_factory=lambda: Notes("pool"))
    not_chosen: Sequence[tuple[str, int]] = ()
    others: Mapping[str, pa.ChunkedArray] = field(default_factory=dict)
    is_table: bool = False
    refusal: InputError | None = None
    statements: pa.Table | None = None
    left_out: Sequence[tuple[str, int]] = ()
    reports: pa.Table | None = None

    @property
    def has_split(self) -> bool:
        """Whether the pool brings its own split."""
        return self._knows("pool_split")

    @property
    def has_patients(self) -> bool:
        """Whether at least one scan's patient is known."""
        return self._knows("patient_id")

    def _knows(self, column: str) -> bool:
        return bool(self.scans.column(column).null_count < len(self.scans))


def open_pool(config: PoolConfig, cache: Path) -> Pool:
    """List a pool's scans.

    Args:
        config: Where it is and what its columns mean.
        cache: Folder that runs share; `medmnist:` and `phantom:` pools are written there once.

    Raises:
        InputError: the pool is missing, unreadable, empty or contradicts the configuration.
    """
    uri = config.uri.strip()
    scheme = _SCHEME.match(uri)
    kind = scheme[1].lower() if scheme else ""
    if kind == "medmnist":
        from pipeline.pool.medmnist import findings, write_medmnist

        name = uri.partition(":")[2]
        config = _of_several(config, findings(name))
        pool = _from_manifest(str(write_medmnist(name, cache)), config, name=name)
    elif kind == "phantom":
        spec = _phantom_spec(uri)
        config = _of_several(config, spec.independent)
        pool = _from_manifest(str(_write_phantoms(spec, cache)), config, name="phantom")
    elif kind and (reader := registry.reader_of(kind)) is not None:
        pool = _from_set(uri, reader, config)
    elif "://" in uri and kind != "file":
        pool = _from_remote(uri, kind, config)
    else:
        pool = _from_local(uri, kind, config)
    if not len(pool.scans):
        raise InputError("the pool is empty", where=uri, fix="point pool.uri at a manifest with rows")
    if config.root is not None and not pool.is_table:
        pool.notes.warn("pool.root is skipped: it is of pools that are a table")
    pool = pool if config.patient_regex is None else _with_patients(pool, config.patient_regex)
    pool = _chosen(pool, config)
    return _with_files(pool) if pool.is_table else pool


def _chosen(pool: Pool, config: PoolConfig) -> Pool:
    """The scans that `pool.where` takes, as far as it can be told before a file is opened."""
    asked = chosen.conditions(config.where)
    if not asked:
        return pool
    may_tell = [folders.is_of_dicom(path) for path in pool.scans["path"].to_pylist()]
    known = {name: chosen.text_of(pool.scans[own]) for name, own in _WHERE_COLUMNS.items()}
    columns = {name: column for name, column in known.items() if column.null_count < len(column)} | dict(pool.others)
    for name in asked:
        if name not in columns and not (name in chosen.OF_TAGS and any(may_tell)):
            raise chosen.refuse_unknown(name, list(columns), pool.notes.where)
    taken_N, not_chosen = chosen.choose(asked, columns, may_tell, pool.notes)
    return replace(pool, scans=pool.scans.filter(pa.array(taken_N)), not_chosen=not_chosen, others={})


def _with_files(pool: Pool) -> Pool:
    """A table's pool with its files where they are."""
    located = files_of_table.locate(pool.root, pool.scans["path"].to_pylist(), pool.notes)
    paths = pa.chunked_array([pa.array(located.paths, pa.string())])
    statements, reports = (_moved(table, pool.scans["path"], paths) for table in (pool.statements, pool.reports))
    scans = pool.scans.set_column(0, SCANS.field("path"), paths)
    scans = scans.set_column(1, SCANS.field("uri"), _uris(paths, located.root))
    return replace(
        pool, root=located.root, scans=scans, refusal=located.refusal, statements=statements, reports=reports
    )


def _moved(table: pa.Table | None, before: pa.ChunkedArray, paths: pa.ChunkedArray) -> pa.Table | None:
    """A table that names scans by `image_path`, with the paths that they have now; other scans are left out."""
    if table is None:
        return None
    place = pc.index_in(table["image_path"], value_set=before.combine_chunks())
    return table.set_column(0, "image_path", paths.take(place)).filter(pc.is_valid(place))


def _of_several(config: PoolConfig, findings: Sequence[str]) -> PoolConfig:
    """The configuration of a pool that names its own independent findings; of any other as it is.

    Raises:
        InputError: it has such findings, and classes are asked for.
    """
    if not findings:
        return config
    if config.findings_are == "exclusive":
        raise InputError(
            "its scans may show several findings at once",
            value=config.uri,
            where="pool.findings_are",
            fix=f"set pool.findings_are: independent (its findings are {', '.join(findings)})",
        )
    return config if config.findings is not None else config.model_copy(update={"findings": tuple(findings)})


def _phantom_spec(uri: str) -> "PhantomSpec":
    from pipeline.pool.phantoms import PhantomSpec

    try:
        return PhantomSpec.from_uri(uri)
    except ValueError as error:
        raise InputError(str(error), where="pool.uri") from error


def _write_phantoms(spec: "PhantomSpec", cache: Path) -> Path:
    from pipeline.pool.phantoms import RENDER_VERSION, write_pool

    try:
        key = hashlib.sha256(f"{RENDER_VERSION}/{spec.to_json()}".encode()).hexdigest()[:12]
        return write_pool(spec, cache / f"phantom-{key}")
    except ValueError as error:
        raise InputError(str(error), where="pool.uri") from error


def _from_local(uri: str, kind: str, config: PoolConfig) -> Pool:
    path = local_path(uri).expanduser()
    if path.is_dir():
        own = next((path / name for name in _OWN_MANIFESTS if (path / name).is_file()), None)
        if own is not None:
            _log.info("%s holds %s: the pool is what it lists", path, own.name)
            return _from_manifest(str(own.absolute()), config)
        files = folders.local_files(path, follow_outside=LINKS in config.allow_outside)
        return _from_folder(str(path.absolute()), files, config)
    if path.is_file() and path.suffix.lower() == _ARCHIVE:
        return _from_archive(str(path.absolute()), config)
    if path.is_file() and dicomdir.is_dicomdir(path.name):
        return _from_folder(str(path.absolute().parent), dicomdir.files(path.absolute()), config, listed=True)
    if path.is_file():
        return _from_manifest(str(path.absolute()), config)
    if kind and kind != "file":
        raise _unknown_scheme(uri, kind)
    try:
        near = difflib.get_close_matches(path.name, [p.name for p in path.absolute().parent.iterdir()], n=1)
    except OSError:
        near = []
    hint = f"did you mean {str(path.with_name(near[0]))!r}?" if near else "give a folder or a table"
    raise InputError("no such file or folder", value=uri, where="pool.uri", fix=hint)


def _unknown_scheme(uri: str, kind: str) -> InputError:
    return InputError(
        f"unknown kind of pool {kind + ':'!r}",
        value=uri,
        where="pool.uri",
        fix="give a folder, a ZIP archive, a table (CSV, TSV, XLSX, Parquet), medmnist:NAME, phantom:, a storage URI "
        f"such as s3://, or a public set as NAME:FOLDER; known sets are {', '.join(registry.names())}",
    )


def _from_remote(uri: str, kind: str, config: PoolConfig) -> Pool:
    import fsspec

    if kind not in fsspec.available_protocols():
        raise _unknown_scheme(uri, kind)
    try:
        filesystem, root = fsspec.core.url_to_fs(uri)
        if uri.lower().endswith(MANIFEST_ENDINGS):
            return _from_manifest(uri, config)
        if uri.lower().endswith(_ARCHIVE):
            return _from_archive(uri, config)
        base = uri.rstrip("/")
        for name in _OWN_MANIFESTS:
            if filesystem.isfile(f"{root.rstrip('/')}/{name}"):
                return _from_manifest(f"{base}/{name}", config)
        start = len(root.rstrip("/")) + 1
        return _from_folder(base, [path[start:] for path in filesystem.find(root)], config)
    except ImportError as error:
        raise InputError(
            f"{kind}:// needs a package that is not installed ({error})",
            where="pool.uri",
            fix="install it; for S3: pip install 'cxr-ssl[s3]'",
        ) from error
    except OSError as error:
        raise InputError(
            f"the storage refused: {error}", value=uri, where="pool.uri", fix="check the name and your access"
        ) from error


def _from_folder(root: str, files: list[str], config: PoolConfig, *, listed: bool = False) -> Pool:
    """The pool of a folder, or of an archive, from the paths in it; `listed`: a DICOMDIR vouches for all of them."""
    notes = Notes(root)
    exclusive = config.findings_are == "exclusive"
    asked = config.findings if exclusive else None
    paths = sorted(files) if listed else folders.scans(root, files, notes, asked)
    if not paths:
        packed = sum(path.lower().endswith(_PACKED) for path in files)
        inside = f" ({packed} are archives, which are not looked into)" if packed else ""
        raise InputError(
            f"no images in this folder: none of its {len(files)} files ends in {', '.join(IMAGE_ENDINGS)}, or is DICOM"
            + inside,
            where=root,
            fix="unpack them, and point pool.uri at the folder of the scans"
            if packed
            else "point pool.uri at the folder of the scans or at a manifest",
        )
    nothing = (pa.nulls(len(paths), pa.string()),) * 2
    labels, splits = (
        nothing
        if listed
        else folders.names(root, files, paths, asked, notes, patients_are_read=config.patient_regex is not None)
    )
    if not exclusive and labels.null_count < len(labels):
        raise InputError(
            f"folders of classes ({', '.join(sorted({*labels.to_pylist()} - {None})[:_MAX_SHOWN])}) cannot name "
            "several findings of one scan",
            where=root,
            fix="write a manifest: a row per scan, a column per finding (1, 0, blank), and point pool.uri at it",
        )
    if config.columns:
        notes.warn("pool.columns is skipped: it is a folder and has no columns")
    label = class_names.one_spelling(pa.chunked_array([labels]), asked, notes)
    table = pa.table({"image_path": paths, "label": label, "official_split": splits})
    return Pool(Path(root.removesuffix("!")).name, root, _scans(table, root, notes), notes)


def _from_archive(archive: str, config: PoolConfig) -> Pool:
    """A ZIP archive is read as the folder that it would unpack to; nothing is unpacked."""
    try:
        files = members(archive)
    except OSError as error:
        raise InputError(
            f"the archive cannot be read: {error}", where=archive, fix="download or pack it again"
        ) from error
    own = [path for path in files if path.rpartition("/")[2] in _OWN_MANIFESTS and path.count("/") <= 1]
    if own:
        first = min(own, key=lambda path: (path.count("/"), path))
        _log.info("%s holds %s: the pool is what it lists", archive, first)
        return _from_manifest(f"{archive}!/{first}", config, name=Path(archive).stem)
    tables = [path for path in files if path.lower().endswith(_PACKED_TABLES) and not path.startswith("__MACOSX")]
    if len(tables) == 1 and not any(path.lower().endswith((*IMAGE_ENDINGS, ".dcm", ".dicom")) for path in files):
        return _from_manifest(f"{archive}!/{tables[0]}", config, beside=archive)  # a table that was packed
    return _from_folder(f"{archive}!", files, config)


def _from_set(uri: str, reader: Reader, config: PoolConfig) -> Pool:
    """A public set, by its owner's own tables."""
    name, _, place = uri.partition(":")
    notes = Notes(uri)
    if config.columns:
        notes.warn(f"pool.columns is skipped: the columns of {name}: are known")
    folder = _set_folder(name, place.strip(), follow_outside=LINKS in config.allow_outside)
    opened_set = opening.opened(reader, folder, config, notes)
    scans = _scans(opened_set.scans, folder.root, notes)
    return Pool(
        opened_set.title,
        folder.root,
        scans,
        notes,
        statements=opened_set.statements,
        left_out=tuple(opened_set.left_out.items()),
    )


def _set_folder(name: str, place: str, *, follow_outside: bool) -> SetFolder:
    """The files of a set.

    Raises:
        InputError: no folder is named, or it cannot be listed.
    """
    path = local_path(place).expanduser()
    try:
        if place and path.is_dir():
            return SetFolder(str(path.absolute()), tuple(folders.local_files(path, follow_outside=follow_outside)))
        if place.lower().endswith(_ARCHIVE) and ("://" in place or path.is_file()):
            archive = place if "://" in place else str(path.absolute())
            return SetFolder(f"{archive}!", tuple(members(archive)))
        if "://" in place:
            import fsspec

            filesystem, root = fsspec.core.url_to_fs(place)
            start = len(root.rstrip("/")) + 1
            return SetFolder(place.rstrip("/"), tuple(file[start:] for file in filesystem.find(root)))
    except (OSError, ImportError, ValueError) as error:
        raise InputError(
            f"the folder of the set cannot be listed: {error}", value=place, where="pool.uri", fix="check your access"
        ) from error
    raise InputError(
        "no such folder or ZIP archive" if place else "the folder of the set is missing",
        value=f"{name}:{place}",
        where="pool.uri",
        fix=f"write {name}:FOLDER, the folder that holds the set's own table, with the scans in it or below it",
    )


def _from_manifest(uri: str, config: PoolConfig, name: str | None = None, beside: str | None = None) -> Pool:
    """The pool that a table lists; its paths begin in its own folder, or in that of the file `beside` it."""
    file = uri.rpartition("/")[2]
    root = (beside or uri).rpartition("/")[0]
    notes = Notes(uri)
    listed = read_table(uri, config, notes)
    base = _root_of(root, config.root)
    scans = _scans(listed.table, base, notes)
    stem = Path(file).name.partition(".")[0]
    shown = name or (Path(root).name if stem == "manifest" else stem)
    return Pool(
        shown,
        base,
        scans,
        notes,
        others=listed.others,
        is_table=True,
        statements=listed.statements,
        reports=listed.reports,
    )


def _root_of(folder: str, asked: str | None) -> str:
    """Where the paths of a table in this folder begin.

    Raises:
        InputError: `pool.root` names a folder that is not there.
    """
    if asked is None:
        return folder
    if "://" in asked:
        return asked.rstrip("/")
    own = str(Path(asked).expanduser())
    root = own.rstrip("/") if Path(own).is_absolute() else f"{folder}/{own}".rstrip("/")
    if "://" in folder or "!" in folder or Path(root).is_dir():
        return root
    raise InputError("no such folder", value=root, where="pool.root", fix="name the folder that the paths begin in")


def _uris(paths: pa.ChunkedArray, root: str) -> pa.ChunkedArray:
    own_place = pc.match_substring_regex(paths, r"^(/|[A-Za-z][A-Za-z0-9+.-]*:/)")
    return pc.if_else(own_place, paths, pc.binary_join_element_wise(f"{root}/", paths, ""))


def _scans(table: pa.Table, root: str, notes: Notes) -> pa.Table:
    """The columns of `SCANS` from whichever known columns `table` has; values not understood are counted."""

    def column(known: str) -> Any:
        if known in table.column_names:
            return table.column(known)
        return pa.chunked_array([pa.nulls(len(table), pa.string())])

    read = {
        "age": vocabulary.ages(column("age")),
        "sex": vocabulary.sexes(column("sex")),
        "view": vocabulary.views(column("view")),
    }
    for name, values in read.items():
        vocabulary.say_unread(column(name), values, name, notes)
    paths = table.column("image_path")
    return pa.table(
        {
            "path": paths,
            "uri": _uris(paths, root),
            "label": column("label"),
            "patient_id": column("patient_id"),
            "source": column("source"),
            "population": column("population"),
            "age_years": read["age"],
            "sex": read["sex"],
            "view": read["view"],
            "pool_split": vocabulary.split_names(column("official_split"), notes),
        },
        schema=SCANS,
    )


def _with_patients(pool: Pool, regex: str) -> Pool:
    where = "pool.patient_regex"
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise InputError(f"not a regular expression: {error}", value=regex, where=where) from error
    if pattern.groups < 1:
        raise InputError(
            "it has no group to take the patient id from",
            value=regex,
            where=where,
            fix=r"write it like '(\d+)_\d+'",
        )
    paths = pool.scans.column("path").to_pylist()
    patients = [match[1] if (match := pattern.search(path)) else None for path in paths]
    if not any(patients):
        raise InputError(
            f"it matches none of the {len(paths)} paths, the first is {paths[0]!r}", value=regex, where=where
        )
    if pool.has_patients:
        pool.notes.warn(f"the pool's patient_id column is skipped: {where} is set")
    place = SCANS.get_field_index("patient_id")
    patient_id = pa.chunked_array([pa.array([patient or None for patient in patients], pa.string())])
    if num := patient_id.null_count:
        pool.notes.warn(f"{where} matches not {num:,} of {len(paths):,} paths; their patients are not known")
    patient_ids.warn_of_large(patient_id, pool.notes)
    return replace(pool, scans=pool.scans.set_column(place, SCANS.field(place), patient_id))
