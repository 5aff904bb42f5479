"""What a run keeps to itself: the secret behind its patient ids, and who may read its files.

A patient id is short, so whoever can compute its hash can try them all. So the hash is keyed (BLAKE2b, RFC 7693) with
a secret that each run draws for itself. It lies in `private/`, apart from all that is meant to be shown to others:
without that folder nobody can go back from a pseudonym to an id.
"""

import hashlib
import os
import secrets
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.contracts import config_file
from pipeline.contracts.errors import InputError, RunDirError
from pipeline.contracts.tables import write_text
from pipeline.runtime import run_files

_SECRET_BYTES = 32
_DIGEST_BYTES = 8
_PURPOSE = b"cxr-ssl/ids"  # at most 16 bytes: the hash of anything else differs
_FORBIDDEN_BITS = {"owner": 0o077, "group": 0o027, "everyone": 0o022}
_masks: dict[object, int] = {}  # of the blocks that are open; under None the one of the process before them
_masks_lock = threading.Lock()


def pseudonym(value: str, salt: str) -> str:
    """16 hex digits that stand for an id; without the salt nobody can find the id by trying.

    Args:
        value: Id of a patient, a study or a series, as the pool writes it.
        salt: The secret, of any length.
    """
    key = hashlib.sha256(salt.encode()).digest()
    return hashlib.blake2b(value.encode(), digest_size=_DIGEST_BYTES, key=key, person=_PURPOSE).hexdigest()


def salt_of(folder: Path, configured: str | None = None) -> str:
    """The secret of a run; drawn, or taken from the options, and kept where there is none yet.

    Args:
        folder: The run, or a folder in it with another pool: what is compared needs the same pseudonyms.
        configured: `splits.salt`; it replaces the run's own.

    Raises:
        InputError: another secret is asked for another pool in the folder of a run.
        RunDirError: the file is there, but empty or unreadable.
    """
    known = read_salt(folder)
    if known is not None and configured in (None, known):
        return known
    if _home(folder) != folder:
        _refuse_other_secret(folder, known)
    salt = configured or secrets.token_hex(_SECRET_BYTES)
    place = _home(folder) / run_files.SALT
    with _umask(_FORBIDDEN_BITS["owner"]):
        write_text(place, salt)
        place.parent.chmod(0o700)
    return salt


def _refuse_other_secret(folder: Path, known: str | None) -> None:
    """Refuse pseudonyms that could not be compared with those of the run.

    Raises:
        InputError: another one is asked for.
        RunDirError: the run has none: it was written by an older version, or the file was taken away.
    """
    if known is not None:
        raise InputError(
            "patients of this pool could not be matched with those of the run",
            where="splits.salt",
            fix="leave it out: the run's own secret is used",
        )
    home = _home(folder)
    raise RunDirError(
        "the secret behind the run's pseudonyms is missing: patients of another pool cannot be matched with its own",
        where=home / run_files.SALT,
        fix=f"bring the file back; `cxr-ssl run --out {home} --resume` gives a run of an older version new pseudonyms",
    )


def read_salt(folder: Path) -> str | None:
    """The secret of a run; None where none was kept yet.

    Raises:
        RunDirError: the file is there, but empty or unreadable.
    """
    place = _home(folder) / run_files.SALT
    try:
        salt = place.read_text("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise RunDirError("cannot be read", where=place, fix=_fix(place)) from error
    if not salt:
        raise RunDirError("is empty", where=place, fix=_fix(place))
    return salt


def _fix(place: Path) -> str:
    return f"bring it back from a backup, or delete {place.name}: new pseudonyms are then given"


def _home(folder: Path) -> Path:
    """The run that a folder is in: another pool lies in `site/`, `external/` or `grown/`, a finding in `findings`."""
    of_another_pool = folder.parent.name in (run_files.EXTERNAL, run_files.SITE, run_files.GROWN)
    if of_another_pool and (folder.parent.parent / run_files.RESOLVED).is_file():
        return run_files.home(folder.parent.parent)
    return run_files.home(folder)


@contextmanager
def readable_by(folder: Path, who: str | None = None) -> Iterator[None]:
    """Close a run's folder to others, and create what is written meanwhile, here and in child processes, likewise.

    Args:
        folder: The run; made where it is missing.
        who: `owner`, `group` or `everyone`; None: what the run's own options say, else `owner`.
    """
    forbidden = _FORBIDDEN_BITS[who or _configured(folder)]
    with _umask(forbidden):
        folder.mkdir(parents=True, exist_ok=True)
        mode = stat.S_IMODE(folder.stat().st_mode)
        with suppress(PermissionError):  # a colleague's folder, which is hers to close
            if mode & forbidden:
                folder.chmod(mode & ~forbidden)
        yield


def _configured(folder: Path) -> str:
    resolved = run_files.home(folder) / run_files.RESOLVED
    try:
        options: Any = config_file.values_of(resolved.read_text("utf-8"))
        who = options["privacy"]["readable_by"]
    except Exception:  # noqa: BLE001 - missing, of an older version or damaged: then nobody else reads it
        return "owner"
    return who if who in _FORBIDDEN_BITS else "owner"


@contextmanager
def _umask(forbidden: int) -> Iterator[None]:
    """Create files without these bits. A process has one mask for all its threads, and their blocks may overlap (the
    page of annotators merges labels in threads of its own): the last to end puts back what the process began with.
    """
    block = object()
    with _masks_lock:
        before = os.umask(forbidden)
        if not _masks:
            _masks[None] = before
        _masks[block] = forbidden
    try:
        yield
    finally:
        with _masks_lock:
            del _masks[block]
            os.umask(next(reversed(_masks.values())))
            if len(_masks) == 1:
                _masks.clear()
