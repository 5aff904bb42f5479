"""Where predictions go: a Parquet, CSV or JSON file, or a folder with a JSON file beside nothing but each scan's name.

Rows are written as they come, so that a million need no more memory than a few. What is not finished is not there: it
is written under another name, and renamed at the end.
"""

import csv
import json
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.contracts.errors import InputError
from pipeline.contracts.spreadsheet import defused

_SIDECARS = "/"


class Writer(Protocol):
    """Takes tables of rows, one after the other."""

    def write(self, table: pa.Table) -> None:
        """Add rows."""
        ...

    def close(self) -> None:
        """Finish: nothing comes any more."""
        ...


def check(out: str) -> Path:
    """The path that is to be written, before anything is done for it.

    Raises:
        InputError: its ending names no form, its folder is missing, or it is there already.
    """
    path = Path(out)
    if not out.endswith(_SIDECARS) and path.suffix.lower() not in _FILES:
        raise InputError(
            f"no form of file has this ending: {path.suffix or 'none'}",
            value=out,
            where="--out",
            fix=f"end it in {', '.join(_FILES)}, or in / for a folder with a JSON file for each scan",
        )
    if not path.absolute().parent.is_dir():
        raise InputError(
            "the folder it would lie in is missing",
            value=str(path.absolute().parent),
            where="--out",
            fix="make it first",
        )
    if path.exists() or path.is_symlink():
        raise InputError("is there already", value=out, where="--out", fix="name a new one; nothing was touched")
    return path


class Output:
    """The file that predictions go to; it appears when all went well, and not at all otherwise.

    Args:
        out: As the user gave it, see `check`.
        schema: The columns.
        about: What the file as a whole should say of where it comes from; only JSON and Parquet have a place for it.
    """

    def __init__(self, out: str, schema: pa.Schema, about: dict[str, Any]) -> None:
        self._path = check(out)
        self._partial = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex[:8]}.part")
        self._writer: Writer
        if out.endswith(_SIDECARS):
            self._writer = _Sidecars(self._partial)
        else:
            self._writer = _FILES[self._path.suffix.lower()](self._partial, schema, about)

    def __enter__(self) -> "Output":
        return self

    def write(self, table: pa.Table) -> None:
        """Add rows."""
        self._writer.write(table)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._writer.close()
        if kind is None:
            self._partial.replace(self._path)
        elif self._partial.is_dir():
            shutil.rmtree(self._partial, ignore_errors=True)
        else:
            self._partial.unlink(missing_ok=True)


class _Parquet:
    def __init__(self, path: Path, schema: pa.Schema, about: dict[str, Any]) -> None:
        described = schema.with_metadata({"cxr_ssl": json.dumps(about)})
        self._writer = pq.ParquetWriter(path, described, compression="zstd")

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table.cast(self._writer.schema))

    def close(self) -> None:
        self._writer.close()


class _Csv:
    def __init__(self, path: Path, schema: pa.Schema, about: dict[str, Any]) -> None:
        self._stream: IO[str] = path.open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._stream, lineterminator="\n")
        self._rows.writerow([defused(name) for name in schema.names])

    def write(self, table: pa.Table) -> None:
        for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
            self._rows.writerow([_cell(value) for value in row])

    def close(self) -> None:
        self._stream.close()


def _cell(value: object) -> str:
    """Text as no spreadsheet takes it for a formula; numbers in full; nothing for null."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, float) else defused(str(value))


class _Json:
    def __init__(self, path: Path, schema: pa.Schema, about: dict[str, Any]) -> None:
        self._stream: IO[str] = path.open("w", encoding="utf-8")
        self._stream.write(json.dumps(about, ensure_ascii=False)[:-1] + ', "scans": [')
        self._is_first = True

    def write(self, table: pa.Table) -> None:
        for row in table.to_pylist():
            self._stream.write(("\n" if self._is_first else ",\n") + json.dumps(row, ensure_ascii=False))
            self._is_first = False

    def close(self) -> None:
        self._stream.write("\n]}\n")
        self._stream.close()


_FILES: dict[str, Callable[[Path, pa.Schema, dict[str, Any]], Writer]] = {
    ".parquet": _Parquet,
    ".csv": _Csv,
    ".json": _Json,
}


class _Sidecars:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()

    def write(self, table: pa.Table) -> None:
        for row in table.to_pylist():
            path = self._folder / sidecar_name(row["path"], row["image_id"])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(row, ensure_ascii=False, indent=1), "utf-8")

    def close(self) -> None:
        pass


def sidecar_name(path: str, image_id: str) -> str:
    """The scan's path with `.json` behind it; its id where that path would lead out of the folder."""
    parts = PurePosixPath(path).parts
    leads_out = path.startswith("/") or ".." in parts or "\\" in path or ":" in path or not parts
    return f"{image_id}.json" if leads_out else f"{path}.json"
