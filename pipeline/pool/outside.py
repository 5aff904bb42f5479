"""Whether a scan lies in its pool: what a table or a link points at elsewhere is read only where that is allowed.

A path that begins at the root of the machine is taken as it stands: whoever wrote the table says where the scans are.
"""

import os
import re
from collections.abc import Sequence
from functools import lru_cache

from embeddings.decoding.files import archive_of, place_of
from embeddings.decoding.unusable import DecodeError

LINKS, PARENTS, ADDRESSES = "links", "parents", "addresses"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def refuse(path: str, uri: str, root: str, allowed: Sequence[str]) -> None:
    """Refuse a scan that lies outside.

    Args:
        path: Inside the pool, as its table or folder gives it.
        uri: Where it would be read.
        root: Of the pool.
        allowed: `pool.allow_outside`.

    Raises:
        DecodeError: it does, in a way that is not allowed.
    """
    place = place_of(uri)
    if ADDRESSES not in allowed and not _is_of_storage(place, root):
        raise DecodeError(_not_allowed("it is at an address of another storage than the pool's", ADDRESSES))
    goes_up = ".." in re.split(r"[/\\]", path)
    if PARENTS not in allowed and goes_up:
        raise DecodeError(_not_allowed("its path goes up by '..'", PARENTS))
    if LINKS not in allowed and not goes_up and "://" not in place and _leaves(place, root):
        raise DecodeError(_not_allowed("it is a link to outside the pool", LINKS))


def _not_allowed(what: str, name: str) -> str:
    return f"{what}, which pool.allow_outside does not name ({name})"


def _is_of_storage(place: str, root: str) -> bool:
    """Whether an address begins in the root, or is a plain one of the same storage."""
    rest = place.removeprefix(f"{root}/")
    if rest != place or ("::" in place and "://" in place):
        return "://" not in rest
    scheme, own = _SCHEME.match(place), _SCHEME.match(root)
    of_place, of_root = (match[1].lower() if match else "file" for match in (scheme, own))
    return of_place == of_root


def _leaves(place: str, root: str) -> bool:
    """Whether a local file below the root is really elsewhere."""
    archive = archive_of(place)
    file = place if archive is None else archive[0]
    if not file.startswith(f"{root}/"):
        return False
    folder = _real(root)
    return not os.path.realpath(file).startswith(folder if folder.endswith(os.sep) else folder + os.sep)


@lru_cache(maxsize=4)
def _real(root: str) -> str:
    return os.path.realpath(root)
