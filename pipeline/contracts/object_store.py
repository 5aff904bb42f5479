"""Objects under a URL, on any storage that fsspec knows: S3 and what speaks like it, Google Cloud, memory.

An object is written whole or not at all, and can be created on the condition that nobody has created it: that is all
that locks and atomic publication need. What passes is tried again (`storage.patiently`); what stays is one clear error.
"""

import datetime as dt
import errno
import os
import re
import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

from pipeline.contracts.errors import InputError, StorageError
from pipeline.contracts.storage import patiently

T = TypeVar("T")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://.+", re.DOTALL)
_LOCAL = ("file", "local")
_LOCAL_URL = re.compile(rf"({'|'.join(_LOCAL)})://(localhost(?=/))?", re.IGNORECASE)
# Storage that creates an object only where there is none, as one step, by fsspec's `mode="create"`.
CAN_CREATE_ONCE = ("s3", "s3a", "gs", "gcs", "memory")
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}
_EXTRAS = {"s3fs": "s3", "gcsfs": "gcs"}
# Attempts are counted here and nowhere below, so that a server that is gone is told within a minute.
_OPTIONS: dict[str, dict[str, Any]] = {
    "s3fs": {
        "use_listings_cache": False,
        "config_kwargs": {"retries": {"total_max_attempts": 1}, "connect_timeout": 10, "read_timeout": 60},
    },
    "gcsfs": {"use_listings_cache": False},
}
_TIMES = ("LastModified", "mtime", "created")  # of S3, Google Cloud, memory
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "DefaultCredentialsError")
# Of botocore, aiohttp and their like, which have no number of an error.
_PASSING = (
    *("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError"),
    *("HTTPClientError", "IncompleteReadError", "IncompleteRead", "ResponseStreamingError", "ResponseParserError"),
    *("ClientPayloadError", "ServerDisconnectedError", "ClientConnectorError", "ClientOSError", "FSTimeoutError"),
)
_PASSING_CODES = ("InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout", "ConditionalRequestConflict")
_EXISTS_CODES = ("PreconditionFailed", "412")


def is_url(text: str) -> bool:
    """Whether a text names a place on another machine, such as `s3://bucket/run`; a `file://` address is a path."""
    match = _URL.fullmatch(text)
    return match is not None and match[1].lower() not in _LOCAL


def local_path(place: Path | str) -> Path:
    """The path of a place on this machine, which may be written as `file:///folder` or `file://localhost/folder`.

    Nothing in it is decoded: `%20` is the name of a file, as everywhere else here.
    """
    address = _LOCAL_URL.match(str(place))
    return Path(str(place)[address.end() :] if address else place)


def scheme_of(url: str) -> str:
    """`s3` of `s3://bucket/run`."""
    return url.partition("://")[0].lower()


def safe_name(name: str, where: object) -> str:
    """A name of an object or a file, checked: below a folder of this machine it is a file in it, and nowhere else.

    Raises:
        StorageError: it begins with /, or has a part that is empty, `.` or `..`, a backslash or a zero byte.
    """
    if {"", ".", ".."}.intersection(name.split("/")) or "\\" in name or "\0" in name:
        fix = "name no . or .. and no empty part, and remove what was written under such a name"
        raise StorageError("a name that would lead out of its folder is refused", value=name, where=where, fix=fix)
    return name


class ObjectStore:
    """The objects below a URL, each by its name, with /.

    Args:
        url: Such as `s3://bucket/folder`; the storage's own variables (AWS_…, GOOGLE_…) say who asks and where.

    Raises:
        InputError: no such storage, or its package is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._files, self._root = _file_system(self.url)

    def __reduce__(self) -> tuple[Any, ...]:
        return ObjectStore, (self.url,)  # connections stay where they are

    def read(self, name: str) -> bytes:
        """What an object holds.

        Raises:
            FileNotFoundError: there is none.
        """
        data: bytes = self._asked(lambda: self._files.cat_file(self._path(name)), name)
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write a small object, over one of its name."""
        self._asked(lambda: self._files.pipe_file(self._path(name), data), name)

    def create(self, name: str, data: bytes) -> bool:
        """Write a small object of which there must be one writer; False where another's is there.

        A try whose answer was lost may have written it: who finds these very bytes takes them for its own, so `data`
        must hold something that no other writer has.
        """
        try:
            self._asked(lambda: self._files.pipe_file(self._path(name), data, mode="create"), name)
        except FileExistsError:
            return self.read(name) == data
        return True

    def send(self, path: Path, name: str) -> None:
        """Write an object from a file."""
        self._asked(lambda: self._files.put_file(str(path), self._path(name)), name)

    def fetch(self, name: str, path: Path) -> None:
        """Write a file from an object, whole or not at all.

        Raises:
            FileNotFoundError: there is no such object.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
        try:
            self._asked(lambda: self._files.get_file(self._path(name), str(unfinished)), name)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    def names(self, below: str = "") -> list[str]:
        """Names of all objects that begin with `below`, a folder; in order. Markers of empty folders are left out.

        Raises:
            StorageError: one of them is no path below a folder.
        """
        start = len(self._root) + 1
        paths = self._asked(lambda: self._files.find(self._path(below) if below else self._root), below)
        names = sorted(path[start:] for path in paths if len(path) > start and not path.endswith("/"))
        return [safe_name(name, self.url) for name in names]

    def top(self) -> list[str]:
        """Names of the objects and folders that lie directly here; in order, and without looking into them."""
        start = len(self._root) + 1
        try:
            paths = self._asked(lambda: self._files.ls(self._root, detail=False), "")
        except FileNotFoundError:
            return []
        return sorted(path[start:].rstrip("/") for path in paths if len(path) > start)

    def written(self, below: str) -> dict[str, dt.datetime]:
        """When each object in a folder was written, by the clock of the storage, as far as one look at all tells."""
        start = len(self._root) + 1
        info_by_path = self._asked(lambda: self._files.find(self._path(below), detail=True), below)
        times: dict[str, dt.datetime] = {}
        for path, info in info_by_path.items():
            time = next((info[key] for key in _TIMES if key in info), None)
            time = dt.datetime.fromtimestamp(time, dt.UTC) if isinstance(time, float) else time
            if isinstance(time, dt.datetime):
                times[path[start:]] = time
        return times

    def modified(self, name: str) -> dt.datetime:
        """When an object was written, by the clock of the storage.

        Raises:
            FileNotFoundError: there is none.
        """
        moment: dt.datetime = self._asked(lambda: self._files.modified(self._path(name)), name)
        return moment

    def remove(self, names: Collection[str]) -> None:
        """Remove objects; those that are gone already are no mistake."""
        for name in names:
            with suppress(FileNotFoundError):
                self._asked(partial(self._files.rm_file, self._path(name)), name)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _asked(self, step: Callable[[], T], name: str) -> T:
        """What the storage answers.

        Raises:
            FileNotFoundError: there is no such object.
            FileExistsError: there is one.
            InputError: no bucket, no credentials, no permission.
            StorageError: it still fails after the last try.
        """
        place = f"{self.url}/{name}".rstrip("/")
        try:
            return patiently(lambda: _in_numbers(step), place)
        except FileExistsError:
            raise
        except FileNotFoundError as error:
            if _code(error) == "NoSuchBucket" or "bucket does not exist" in str(error).lower():
                raise InputError(
                    "there is no such bucket", where=self.url, fix="create it, or correct the URL"
                ) from error
            raise
        except PermissionError as error:
            fix = "its keys must be allowed to list, read, write and delete below this address"
            raise InputError(f"the storage forbids this ({_words(error)})", where=place, fix=fix) from error
        except OSError as error:
            fix = "look at the storage, then go on with --resume: what was published is kept"
            raise StorageError(f"the storage fails ({_words(error)})", where=place, fix=fix) from error


def _in_numbers(step: Callable[[], T]) -> T:
    """A step whose errors are those of Python, with a number that says whether they pass.

    Raises:
        InputError: there are no credentials.
        OSError: any other failure.
    """
    try:
        return step()
    except OSError as error:
        if _code(error) in _EXISTS_CODES:
            raise FileExistsError(str(error)) from error
        if _code(error) in _PASSING_CODES or isinstance(error, TimeoutError | ConnectionError):
            raise OSError(errno.EBUSY, _words(error)) from error
        raise
    except Exception as error:
        names = {kind.__name__ for kind in type(error).__mro__}
        if names.intersection(_NO_CREDENTIALS):
            fix = "give them as the storage's own tools take them: AWS_ACCESS_KEY_ID, a profile, a role of the machine"
            raise InputError(f"no credentials for the storage ({_words(error)})", fix=fix) from error
        if names.intersection(_PASSING):
            raise OSError(errno.ECONNRESET, _words(error)) from error
        if type(error).__module__.partition(".")[0] in ("botocore", "aiobotocore", "gcsfs", "google"):
            raise OSError(errno.EINVAL, _words(error)) from error
        raise


def _code(error: BaseException) -> str:
    """The storage's own word for what is wrong; empty where it said none."""
    response = getattr(error.__cause__, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _words(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())[:200]


@lru_cache(maxsize=32)
def _file_system_of(url: str, process: int) -> tuple[Any, str]:
    import fsspec

    scheme = scheme_of(url)
    if scheme not in fsspec.available_protocols():
        raise InputError("no such kind of storage", value=scheme, where=url, fix="s3://… and gs://… are known")
    try:
        files, root = fsspec.core.url_to_fs(url, **_OPTIONS.get(_PACKAGES.get(scheme, ""), {}))
    except ImportError as error:
        package = _PACKAGES.get(scheme, scheme)
        fix = f"install it: pip install 'cxr-ssl[{_EXTRAS[package]}]'" if package in _EXTRAS else str(error)
        raise InputError(f"needs the package {package}, which is not installed", where=url, fix=fix) from error
    if scheme in ("s3", "s3a"):
        files.retries = 1  # see `_OPTIONS`
    return files, root.rstrip("/")


def _file_system(url: str) -> tuple[Any, str]:
    return _file_system_of(url, os.getpid())  # a connection does not survive a fork
