"""Shrunk scans on the disk of this machine, a file a scan, named by the scan's content and the white it is shown with.

Whatever is in the folder can be made again, so nothing waits for the disk: a file is renamed into place whole, and one
that is damaged all the same is set aside when it is read. Any number of processes and runs may share the folder. Its
256 drawers hold an equal part of what it may take in all; who writes into a full one throws out its oldest files.
"""

import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path

from embeddings.decoding import picture_keys
from embeddings.decoding.files import white_of
from embeddings.shrunk import shrunk_scan
from embeddings.shrunk.shrunk_scan import ShrunkScan
from pipeline.contracts.cache import cache_folder
from pipeline.contracts.damaged_files import set_aside

FOLDER = "shrunk"  # in the cache
MIN_PIXELS = 2**19  # a smaller picture is decoded again as quickly as its squares are read
_NUM_DRAWERS = 256
_LEAST_FREE_BYTES = 5 * 2**30  # of the disk: with less, nothing is kept
_ENDING = ".shrunk"


def name_of(key: str, white: int | None) -> str:
    """The name of a scan's file, without the ending.

    Args:
        key: The SHA-256 of its bytes, alone or followed by `-` and more, see `decoding.picture_keys`.
        white: The grey value that its address names as white; None: the file's own values tell.
    """
    content = key.partition("-")[0]
    return content if white is None else f"{content}-white{white}"


def kept(key: str, uri: str, size_px: int) -> ShrunkScan | None:
    """What is kept of the scan with this content at this address; None: nothing, or no square of this side.

    Args:
        key: See `name_of`.
        uri: Its address; only the white is taken from it.
        size_px: Of the square that is wanted.
    """
    path = _path(name_of(key, white_of(uri)))
    try:
        scan = shrunk_scan.from_bytes(path.read_bytes())
    except OSError:  # not there, or a colleague's
        return None
    except (ValueError, KeyError, TypeError) as error:
        with suppress(OSError):
            set_aside(path, error)
        return None
    return scan if size_px in scan.squares else None


def keep(name: str, content: bytes, max_bytes: int) -> bool:
    """Write a scan's file, that nobody but its owner can read, unless the disk is nearly full; whether it was.

    Args:
        name: See `name_of`.
        content: See `shrunk_scan.to_bytes`.
        max_bytes: That all such files may take.
    """
    path = _path(name)
    partial = path.with_name(f".{name}.{uuid.uuid4().hex[:8]}")
    try:
        _make_private(path.parent)
        if shutil.disk_usage(path.parent).free < _LEAST_FREE_BYTES:
            return False
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(content)
        partial.replace(path)
        if int(name[2], 16) == 0:  # one in sixteen looks whether the drawer is full
            _throw_out(path.parent, max_bytes // _NUM_DRAWERS)
    except OSError:  # a full disk, a folder that is a colleague's: nothing needs what is kept
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        return False
    return True


def folder() -> Path:
    """Where the files of this version lie on this machine."""
    version = f"v{shrunk_scan.VERSION}.{picture_keys.DEEP_VERSION}"
    return cache_folder() / FOLDER / version


def _path(name: str) -> Path:
    return folder() / name[:2] / f"{name}{_ENDING}"


def _make_private(drawer: Path) -> None:
    """Make the folders of a drawer so that only their owner can enter."""
    if drawer.is_dir():
        return
    drawer.parent.parent.parent.mkdir(parents=True, exist_ok=True)
    if not drawer.parent.exists():  # pictures that an older version made are of no use to this one, and would stay
        for older in drawer.parent.parent.glob("v*"):
            shutil.rmtree(older, ignore_errors=True)
    for place in (drawer.parent.parent, drawer.parent, drawer):
        with suppress(FileExistsError):
            place.mkdir(0o700)


def _throw_out(drawer: Path, max_bytes: int) -> None:
    """Remove the oldest files of a drawer until it holds no more than this; and what a killed process left."""
    with os.scandir(drawer) as entries:
        files = [(stat.st_mtime_ns, stat.st_size, entry.path) for entry in entries if (stat := _stat(entry))]
    num_bytes = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if num_bytes <= max_bytes:
            break
        with suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108 - a text: a Path for each of thousands takes longer than the rest
        num_bytes -= size


def _stat(entry: "os.DirEntry[str]") -> os.stat_result | None:
    try:
        return entry.stat()
    except FileNotFoundError:  # another process has thrown it out
        return None
