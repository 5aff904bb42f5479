"""Where scans come from: a folder, a CSV or Parquet manifest, `medmnist:NAME`, `phantom:`; local or remote.

A pool is opened without reading a single scan; what is wrong with one file is found out by the manifest stage.
"""

import csv
import difflib
import hashlib
import io
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from embeddings.decode import IMAGE_ENDINGS
from pipeline import pool_values
from pipeline.config import KNOWN_COLUMNS, PoolConfig
from pipeline.errors import InputError

_log = logging.getLogger(__name__)

SCANS = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),  # inside the pool, with /
        pa.field("uri", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("patient_id", pa.string()),  # as the pool writes it
        pa.field("source", pa.string()),
        pa.field("age_years", pa.float32()),
        pa.field("sex", pa.string()),
        pa.field("view", pa.string(), nullable=False),
        pa.field("pool_split", pa.string()),
    ]
)
_MANIFESTS = (".csv", ".parquet")
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
    """

    name: str
    root: str
    scans: pa.Table

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
        from pipeline.pool_medmnist import write_medmnist

        name = uri.partition(":")[2]
        pool = _from_manifest(str(write_medmnist(name, cache)), config, name=name)
    elif kind == "phantom":
        pool = _from_manifest(str(_write_phantoms(uri, cache)), config, name="phantom")
    elif "://" in uri and kind != "file":
        pool = _from_remote(uri, kind, config)
    else:
        pool = _from_local(uri, kind, config)
    if not len(pool.scans):
        raise InputError("the pool is empty", where=uri, fix="point pool.uri at a manifest with rows")
    return pool if config.patient_regex is None else _with_patients(pool, config.patient_regex)


def _write_phantoms(uri: str, cache: Path) -> Path:
    from pipeline.phantoms import PhantomSpec, write_pool

    try:
        spec = PhantomSpec.from_uri(uri)
        key = hashlib.sha256(spec.to_json().encode()).hexdigest()[:12]
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
        return _from_folder(str(path.absolute()), _local_files(path), config)
    if path.is_file():
        return _from_manifest(str(path.absolute()), config)
    if kind and kind != "file":
        raise _unknown_scheme(uri, kind)
    try:
        near = difflib.get_close_matches(path.name, [p.name for p in path.absolute().parent.iterdir()], n=1)
    except OSError:
        near = []
    hint = (
        f"did you mean {str(path.with_name(near[0]))!r}?"
        if near
        else "give a folder, a CSV or a Parquet manifest"
    )
    raise InputError("no such file or folder", value=uri, where="pool.uri", fix=hint)


def _unknown_scheme(uri: str, kind: str) -> InputError:
    return InputError(
        f"unknown kind of pool {kind + ':'!r}",
        value=uri,
        where="pool.uri",
        fix="give a folder, a CSV or Parquet manifest, medmnist:NAME, phantom: or a storage URI such as s3://",
    )


def _local_files(root: Path) -> list[str]:
    def refuse(error: OSError) -> None:
        raise InputError(
            f"the folder cannot be read: {error.strerror}", where=error.filename, fix="check its permissions"
        )

    found: list[str] = []
    seen = {os.path.realpath(root)}
    for folder, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        kept = []
        for name in sorted(folders):
            real = os.path.realpath(Path(folder, name))
            if real not in seen:  # a link to a folder above would never end
                seen.add(real)
                kept.append(name)
        folders[:] = kept
        prefix = Path(folder).relative_to(root).as_posix()
        found += files if prefix == "." else [f"{prefix}/{name}" for name in files]
    return found


def _from_remote(uri: str, kind: str, config: PoolConfig) -> Pool:
    import fsspec

    if kind not in fsspec.available_protocols():
        raise _unknown_scheme(uri, kind)
    try:
        filesystem, root = fsspec.core.url_to_fs(uri)
        if uri.lower().endswith(_MANIFESTS):
            return _from_manifest(uri, config)
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


def _from_folder(root: str, files: list[str], config: PoolConfig) -> Pool:
    paths = sorted(path for path in files if path.lower().endswith(IMAGE_ENDINGS) and not _hidden(path))
    if not paths:
        raise InputError(
            f"no images in this folder: none of its {len(files)} files ends in {', '.join(IMAGE_ENDINGS)}",
            where=root,
            fix="point pool.uri at the folder of the scans or at a manifest",
        )
    if config.columns:
        _log.warning("pool.columns is skipped: %s is a folder and has no columns", root)
    labels, splits = _folder_names(root, paths)
    table = pa.table({"image_path": paths, "label": labels, "official_split": splits})
    return Pool(Path(root).name, root, _scans(table, root))


def _hidden(path: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))


def _folder_names(root: str, paths: list[str]) -> tuple[pa.Array, pa.Array]:
    """Class and split of each path from its folders; one lone folder around everything names neither."""
    folders = [path.split("/")[:-1] for path in paths]
    while (tops := {parts[0] if parts else "" for parts in folders}) and len(tops) == 1 and tops != {""}:
        if tops.pop().lower() in pool_values.SPLIT_NAMES:
            break
        folders = [parts[1:] for parts in folders]
    tops = {parts[0] for parts in folders if parts}
    named = {top for top in tops if top.lower() in pool_values.SPLIT_NAMES}
    if named and tops - named:
        raise InputError(
            f"folders of splits ({', '.join(sorted(named))}) stand beside others "
            f"({', '.join(sorted(tops - named)[:_MAX_SHOWN])})",
            where=root,
            fix="keep either split folders or class folders at the top, or write a manifest",
        )
    splits = [parts[0] if named and parts else None for parts in folders]
    inner = [parts[1:] if named else parts for parts in folders]
    labels = [parts[0] if parts else None for parts in inner]
    return pa.array(labels, pa.string()), pa.array(splits, pa.string())


def _from_manifest(uri: str, config: PoolConfig, name: str | None = None) -> Pool:
    root, _, file = uri.rpartition("/")
    if not file.lower().endswith(_MANIFESTS):
        raise InputError(
            "this file is neither a CSV nor a Parquet manifest", value=uri, where="pool.uri",
            fix="give a folder, or a manifest that ends in .csv or .parquet",
        )  # fmt: skip
    data = _read(uri)
    own_names = {known: config.columns.get(known, known) for known in KNOWN_COLUMNS}
    if file.lower().endswith(".csv"):
        table = _read_csv(uri, data, own_names, config)
    else:
        table = _read_parquet(uri, data, own_names, config)
    paths = table.column("image_path")
    if paths.null_count:
        _refuse_rows(
            uri, data, pc.indices_nonzero(pc.is_null(paths)).to_pylist(), "the path of the image is blank"
        )
    scans = _scans(table, root)
    copies = pc.value_counts(scans.column("path"))
    repeated = copies.filter(pc.greater(copies.field("counts"), 1)).field("values")
    if len(repeated):
        rows = pc.indices_nonzero(pc.is_in(scans.column("path"), repeated)).to_pylist()
        _refuse_rows(uri, data, rows, f"{len(repeated)} paths repeat, the first is {repeated[0].as_py()!r}")
    stem = Path(file).stem
    return Pool(name or (Path(root).name if stem == "manifest" else stem), root, scans)


def _read(uri: str) -> bytes:
    import fsspec

    try:
        if "://" not in uri:
            return Path(uri).read_bytes()
        with fsspec.open(uri, "rb") as stream:
            data: bytes = stream.read()
        return data
    except OSError as error:
        raise InputError(
            f"the manifest cannot be read: {error.strerror or error}",
            where=uri,
            fix="check the name and your access",
        ) from error


def _read_csv(uri: str, data: bytes, own_names: dict[str, str], config: PoolConfig) -> pa.Table:
    from pyarrow import csv as pa_csv

    try:
        head = data.partition(b"\n")[0].decode("utf-8-sig").rstrip("\r")
        separator = max(",;\t", key=head.count)
        header = next(csv.reader([head], delimiter=separator), [])
        columns = _columns(uri, header, own_names, config)
        return _renamed(
            pa_csv.read_csv(
                pa.BufferReader(data),
                read_options=pa_csv.ReadOptions(column_names=header, skip_rows=1),
                parse_options=pa_csv.ParseOptions(delimiter=separator, newlines_in_values=True),
                convert_options=pa_csv.ConvertOptions(
                    include_columns=list(dict.fromkeys(columns.values())),
                    column_types=dict.fromkeys(header, pa.string()),
                ),
            ),
            columns,
        )
    except UnicodeDecodeError as error:
        raise InputError("the manifest is not UTF-8 text", where=uri, fix="save it as UTF-8") from error
    except pa.ArrowInvalid as error:
        raise InputError(
            f"the manifest cannot be read as CSV: {error}",
            where=uri,
            fix="give every row the header's columns",
        ) from error


def _read_parquet(uri: str, data: bytes, own_names: dict[str, str], config: PoolConfig) -> pa.Table:
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        columns = _columns(uri, list(file.schema_arrow.names), own_names, config)
        return _renamed(file.read(columns=list(dict.fromkeys(columns.values()))), columns)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise InputError(f"the manifest cannot be read as Parquet: {error}", where=uri) from error


def _columns(uri: str, header: list[str], own_names: dict[str, str], config: PoolConfig) -> dict[str, str]:
    """Known column -> its name in the file, for those the file has."""
    if not any(header):
        raise InputError(
            "the manifest is empty",
            where=uri,
            fix=f"its first line names the columns: {', '.join(KNOWN_COLUMNS)}",
        )
    if len(set(header)) < len(header):
        twice = sorted({name for name in header if header.count(name) > 1})
        raise InputError(f"columns {twice} stand twice in the header", where=uri, fix="rename one of them")
    for known, own in own_names.items():
        if own in header or (known not in config.columns and known != "image_path"):
            continue
        near = difflib.get_close_matches(own, header, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(
            f"no column {own!r}" + (f" for pool.columns.{known}" if known in config.columns else ""),
            where=uri,
            fix=f"{hint}Its columns are {', '.join(header)}; name the right one in pool.columns.{known}",
        )
    return {known: own for known, own in own_names.items() if own in header}


def _renamed(table: pa.Table, columns: dict[str, str]) -> pa.Table:
    return pa.table({known: pool_values.text(table.column(own)) for known, own in columns.items()})


def _refuse_rows(uri: str, data: bytes, rows: list[int], what: str) -> None:
    numbers = [row + 1 for row in rows]
    unit = "rows"
    if uri.lower().endswith(".csv"):
        # A quoted field may span lines and blank lines are skipped, so the file is read once more to count them.
        reader, unit = csv.reader(io.StringIO(data.decode("utf-8-sig"))), "lines"
        ends = [reader.line_num for fields in reader if fields]
        numbers = [ends[row + 1] for row in rows]
    shown = ", ".join(str(number) for number in numbers[:_MAX_SHOWN]) + (
        " ..." if len(rows) > _MAX_SHOWN else ""
    )
    raise InputError(f"{what} ({unit} {shown})", where=uri, fix="keep one row per scan, each with its path")


def _scans(table: pa.Table, root: str) -> pa.Table:
    """The columns of `SCANS` from whichever known columns `table` has."""

    def column(known: str) -> Any:
        if known in table.column_names:
            return table.column(known)
        return pa.chunked_array([pa.nulls(len(table), pa.string())])

    paths = table.column("image_path")
    for pattern, plain in ((r"\\", "/"), (r"(^|/)(\./)+", r"\1"), (r"([^:/])//+", r"\1/")):
        paths = pc.replace_substring_regex(paths, pattern, plain)
    below = pc.starts_with(paths, f"{root}/")
    paths = pc.if_else(below, pc.utf8_slice_codeunits(paths, len(root) + 1), paths)
    own_place = pc.match_substring_regex(paths, r"^(/|[A-Za-z][A-Za-z0-9+.-]*:/)")
    uris = pc.if_else(own_place, paths, pc.binary_join_element_wise(f"{root}/", paths, ""))
    return pa.table(
        {
            "path": paths,
            "uri": uris,
            "label": column("label"),
            "patient_id": column("patient_id"),
            "source": column("source"),
            "age_years": pool_values.ages(column("age")),
            "sex": pool_values.sexes(column("sex")),
            "view": pool_values.views(column("view")),
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
    return Pool(pool.name, pool.root, pool.scans.set_column(place, SCANS.field(place), patient_id))
