"""Where a scan's bytes are: a local path, any URI of fsspec, or a member of a ZIP archive (`pool.zip!/a/b.png`).

An address may end in `#white=4095`: the grey value that the pool decided is white, where the file leaves it open.
"""

import functools
import hashlib
import io
import os
import re
import stat
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

from embeddings.decoding.unusable import DecodeError
from pipeline.contracts.storage import SCAN_WAITS_SECONDS, patiently

_WHITE = re.compile(r"#white=(\d+)$")
_MEMBER = re.compile(r"(.*\.zip)!/(.*)", re.IGNORECASE | re.DOTALL)
# A member that unpacks to more is refused, and so is a large one that unpacks to so many times its size: a bomb.
MAX_MEMBER_BYTES = 2**30
MAX_FILE_BYTES = 2**30
_LARGE_BYTES, _MAX_RATIO = 2**26, 200
_ENCRYPTED = 1  # of an entry's flags
_ABSOLUTE = re.compile(r"^([A-Za-z]:)?/+")
# RuntimeError: it is encrypted.
_BROKEN_MEMBER = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError)
CHANGED = "the file has changed since the pool was read; --resume reads it anew"


def with_white(uri: str, white: int) -> str:
    """The address of a scan whose white is this grey value."""
    return f"{place_of(uri)}#white={white}"


def white_of(uri: str) -> int | None:
    """The white that an address names; None: the file decides."""
    match = _WHITE.search(uri)
    return int(match[1]) if match else None


def place_of(uri: str) -> str:
    """An address without the white."""
    return _WHITE.sub("", uri)


def archive_of(uri: str) -> tuple[str, str] | None:
    """The ZIP archive and the member in it that an address names; None: it is no member."""
    match = _MEMBER.fullmatch(place_of(uri))
    return (match[1], match[2]) if match else None


def read_uri(uri: str, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """The bytes behind a local path, any URI that fsspec knows, or a member of a ZIP; OSError as it comes."""
    member = archive_of(uri)
    if member is not None:
        return _read_member(*member, max_bytes)
    uri = place_of(uri)
    if "://" not in uri:
        with open_regular(Path(uri)) as stream:
            return _read_at_most(stream, max_bytes)
    import fsspec

    try:
        with fsspec.open(uri, "rb") as stream:
            return _read_at_most(stream, max_bytes)
    except OSError:
        raise
    except Exception as error:  # each kind of storage has errors of its own
        raise OSError(f"{type(error).__name__}: {str(error)[:120]}") from error


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading; a pipe would never answer, a device never end.

    Raises:
        OSError: it is neither, or cannot be opened.
    """
    _refuse_irregular(path.stat())
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        _refuse_irregular(os.fstat(descriptor))  # another may stand there by now
        return os.fdopen(descriptor, "rb")
    except OSError:
        os.close(descriptor)
        raise


def _refuse_irregular(of: os.stat_result) -> None:
    if stat.S_ISDIR(of.st_mode):
        raise IsADirectoryError
    if not stat.S_ISREG(of.st_mode):
        kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
        raise OSError(f"it is {kinds.get(stat.S_IFMT(of.st_mode), 'something else')}, not a regular file")


def _read_at_most(stream: BinaryIO, max_bytes: int) -> bytes:
    data = stream.read(max_bytes + 1) or b""
    if len(data) > max_bytes:
        raise OSError(f"it is longer than {max_bytes:,} bytes, the limit")
    return data


def read_bytes(uri: str, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """Read what `read_uri` knows.

    Raises:
        DecodeError: the file is missing, longer than `max_bytes`, no regular file, or cannot be read.
    """
    try:
        return patiently(lambda: read_uri(uri, max_bytes), "a scan", SCAN_WAITS_SECONDS)
    except FileNotFoundError:
        raise DecodeError("the file is missing") from None
    except IsADirectoryError:
        raise DecodeError("it is a folder, not a file") from None
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        raise DecodeError(f"the file cannot be read: {why}") from error
    except ValueError as error:  # a NUL in it, half a character
        raise DecodeError(f"the file cannot be read: no file can have this name ({str(error)[:80]})") from error


def read_unchanged(uri: str, key: str) -> bytes:
    """Read what `read_uri` knows and hash it: what is stored under a hash is made of the very bytes it names.

    Args:
        uri: Where it is.
        key: The SHA-256 of the bytes, alone or followed by `-` and more, see `picture_keys`.

    Raises:
        DecodeError: the file cannot be read, or another one stands in its place.
    """
    data = read_bytes(uri)
    if hashlib.sha256(data).hexdigest() != key.partition("-")[0]:
        raise DecodeError(CHANGED)
    return data


def head_of(uri: str, num_bytes: int = 256) -> bytes | None:
    """The first bytes of a local file or of a member of a local archive; None of what lies elsewhere."""
    if "://" in uri:
        return None
    member = archive_of(uri)
    try:
        if member is not None:
            with _archive(member[0], _stamp(member[0])).open(member[1]) as stream:
                return stream.read(num_bytes)
        with open_regular(Path(uri)) as stream:
            return stream.read(num_bytes) or b""
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile, EOFError):
        return b""  # what cannot be opened is no scan


def members(archive: str) -> list[str]:
    """Names of the files in a ZIP archive, as they stand in it.

    Raises:
        OSError: it cannot be read, or is no ZIP archive.
    """
    try:
        names = (entry.filename for entry in _archive(archive, _stamp(archive)).infolist() if not entry.is_dir())
        return list(dict.fromkeys(names))  # of one that was packed again the last counts, as where it is unpacked
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:  # the second: of a name that is not UTF-8
        raise OSError(f"it is not a ZIP archive, or a broken one: {error}") from error


def _read_member(archive: str, name: str, max_bytes: int) -> bytes:
    try:
        zip_file = _archive(archive, _stamp(archive))
        entry = zip_file.getinfo(name)
        if entry.flag_bits & _ENCRYPTED:
            raise OSError("the archive is encrypted: unpack it with its password, and give the folder")
        ratio = entry.file_size / max(entry.compress_size, 1)
        if entry.file_size > MAX_MEMBER_BYTES or (entry.file_size > _LARGE_BYTES and ratio > _MAX_RATIO):
            raise OSError(f"it would unpack to {entry.file_size:,} bytes, {ratio:.0f} times its size in the archive")
        if entry.file_size > max_bytes:
            raise OSError(f"it is longer than {max_bytes:,} bytes, the limit")
        with zip_file.open(entry) as stream:
            data = stream.read(entry.file_size + 1)
    except KeyError:
        raise FileNotFoundError(name) from None
    except _BROKEN_MEMBER as error:
        raise OSError(f"the archive: {str(error)[:120]}") from error
    if len(data) != entry.file_size:
        raise OSError("the archive: the file is not as long as its entry says")
    return data


def _stamp(archive: str) -> object:
    """Changes when a local archive does."""
    if "://" in archive:
        return None
    of = Path(archive).stat()
    _refuse_irregular(of)
    return of.st_size, of.st_mtime_ns


@functools.lru_cache(maxsize=4)
def _archive(archive: str, _: object) -> zipfile.ZipFile:
    """An open archive: reading the list of 100,000 members once is enough."""
    if "://" not in archive:
        return _with_slashes(zipfile.ZipFile(archive))
    import fsspec

    with fsspec.open(archive, "rb") as stream:
        return _with_slashes(zipfile.ZipFile(io.BytesIO(stream.read())))


def _with_slashes(archive: zipfile.ZipFile) -> zipfile.ZipFile:
    r"""The same archive, also where `folder\scan.png` or `/folder/scan.png` was written into it."""
    for entry in archive.infolist():
        plain = _ABSOLUTE.sub("", entry.filename.replace("\\", "/"))
        if plain != entry.filename and plain:
            entry.filename = plain
            archive.NameToInfo[plain] = entry
    return archive
