"""Where scans come from: a folder, a ZIP archive, a manifest, a public set (`nih:FOLDER`), `medmnist:NAME`, `phantom:`.

A pool is opened without reading a single scan; what is wrong with a file is found by the manifest stage.
"""

import difflib
import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from embeddings.decode import IMAGE_ENDINGS
from embeddings.decoding.files import members
from pipeline.contracts.config import PoolConfig
from pipeline.contracts.errors import InputError
from pipeline.pool import folders, vocabulary
from pipeline.pool.dicom import dicomdir
from pipeline.pool.manifest_reader import MANIFEST_ENDINGS, read_table
from pipeline.pool.sets import opening, registry
from pipeline.pool.sets.public_set import Reader, SetFolder

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
_ARCHIVE = ".zip"
_OWN_MANIFESTS = ("manifest.csv", "manifest.parquet")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_MAX_SHOWN = 5


@dataclass(frozen=True)
class Pool:
    """The scans of a pool and what it says about them.

    Attributes:
        name: For people.
        root: Folder that paths are relative to.
        scans: One row per scan, columns of `SCANS`; null where unknown.
        said: Who said what of which scan, `opening.OpenedSet.said`; None where the pool does not tell.
        left_out: Rows of a set that are no scans here: reason and count.
    """

    name: str
    root: str
    scans: pa.Table
    said: pa.Table | None = None
    left_out: Sequence[tuple[str, int]] = ()

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
    return pool if config.patient_regex is None else _with_patients(pool, config.patient_regex)


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
    path = Path(uri.removeprefix("file://")).expanduser()
    if path.is_dir():
        own = next((path / name for name in _OWN_MANIFESTS if (path / name).is_file()), None)
        if own is not None:
            _log.info("%s holds %s: the pool is what it lists", path, own.name)
            return _from_manifest(str(own.absolute()), config)
        return _from_folder(str(path.absolute()), folders.local_files(path), config)
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
    hint = f"did you mean {str(path.with_name(near[0]))!r}?" if near else "give a folder, a CSV or a Parquet manifest"
    raise InputError("no such file or folder", value=uri, where="pool.uri", fix=hint)


def _unknown_scheme(uri: str, kind: str) -> InputError:
    return InputError(
        f"unknown kind of pool {kind + ':'!r}",
        value=uri,
        where="pool.uri",
        fix="give a folder, a ZIP archive, a CSV or Parquet manifest, medmnist:NAME, phantom:, a storage URI such as "
        f"s3://, or a public set as NAME:FOLDER; known sets are {', '.join(registry.names())}",
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
    paths = sorted(files) if listed else folders.scans(root, files)
    if not paths:
        raise InputError(
            f"no images in this folder: none of its {len(files)} files ends in {', '.join(IMAGE_ENDINGS)}, or is DICOM",
            where=root,
            fix="point pool.uri at the folder of the scans or at a manifest",
        )
    has_classes = not listed and folders.may_name_classes(root, files, paths, config.findings)
    labels, splits = folders.names(root, paths) if has_classes else (pa.nulls(len(paths), pa.string()),) * 2
    if config.findings_are == "independent" and labels.null_count < len(labels):
        raise InputError(
            f"folders of classes ({', '.join(sorted({*labels.to_pylist()} - {None})[:_MAX_SHOWN])}) cannot name "
            "several findings of one scan",
            where=root,
            fix="write a manifest: a row per scan, a column per finding (1, 0, blank), and point pool.uri at it",
        )
    if config.columns:
        _log.warning("pool.columns is skipped: %s is a folder and has no columns", root)
    table = pa.table({"image_path": paths, "label": labels, "official_split": splits})
    return Pool(Path(root.removesuffix("!")).name, root, _scans(table, root))


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
    return _from_folder(f"{archive}!", files, config)


def _from_set(uri: str, reader: Reader, config: PoolConfig) -> Pool:
    """A public set, by its owner's own tables."""
    name, _, place = uri.partition(":")
    if config.columns:
        _log.warning("pool.columns is skipped: the columns of %s: are known", name)
    folder = _set_folder(name, place.strip())
    found = opening.opened(reader, folder, config)
    return Pool(found.title, folder.root, _scans(found.scans, folder.root), found.said, tuple(found.left_out.items()))


def _set_folder(name: str, place: str) -> SetFolder:
    """The files of a set.

    Raises:
        InputError: no folder is named, or it cannot be listed.
    """
    path = Path(place.removeprefix("file://")).expanduser()
    try:
        if place and path.is_dir():
            return SetFolder(str(path.absolute()), tuple(folders.local_files(path)))
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


def _from_manifest(uri: str, config: PoolConfig, name: str | None = None) -> Pool:
    root, _, file = uri.rpartition("/")
    listed = read_table(uri, config)
    scans = _scans(listed.table, root)
    if config.findings_are == "exclusive":
        _warn_of_lists(scans["label"], uri, config)
    stem = Path(file).stem
    return Pool(name or (Path(root).name if stem == "manifest" else stem), root, scans, listed.said)


def _warn_of_lists(label: pa.ChunkedArray, uri: str, config: PoolConfig) -> None:
    names = pc.unique(label).drop_null()
    lists = sorted(set(names.filter(pc.match_substring(names, "|")).to_pylist()) - {*(config.findings or ())})
    if lists:
        _log.warning(
            "%s: %d labels hold '|', such as %r, and are taken as classes of their own; if they name several findings "
            "of one scan, set pool.findings_are: independent",
            uri,
            len(lists),
            lists[0],
        )


def _scans(table: pa.Table, root: str) -> pa.Table:
    """The columns of `SCANS` from whichever known columns `table` has."""

    def column(known: str) -> Any:
        if known in table.column_names:
            return table.column(known)
        return pa.chunked_array([pa.nulls(len(table), pa.string())])

    paths = table.column("image_path")
    own_place = pc.match_substring_regex(paths, r"^(/|[A-Za-z][A-Za-z0-9+.-]*:/)")
    uris = pc.if_else(own_place, paths, pc.binary_join_element_wise(f"{root}/", paths, ""))
    return pa.table(
        {
            "path": paths,
            "uri": uris,
            "label": column("label"),
            "patient_id": column("patient_id"),
            "source": column("source"),
            "population": column("population"),
            "age_years": vocabulary.ages(column("age")),
            "sex": vocabulary.sexes(column("sex")),
            "view": vocabulary.views(column("view")),
            "pool_split": column("official_split"),
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
        _log.warning("the pool's patient_id column is skipped: %s is set", where)
    place = SCANS.get_field_index("patient_id")
    patient_id = pa.array([patient or None for patient in patients], pa.string())
    return replace(pool, scans=pool.scans.set_column(place, SCANS.field(place), patient_id))
