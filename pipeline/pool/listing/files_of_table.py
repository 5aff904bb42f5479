"""Where the files lie that a table names: as written, or where the same name is found; what is found elsewhere is said.

A path is tried as it stands; then below a parent folder, or without its first folders (a table that was moved, or
written on another machine); then by a name that differs in case, in the Unicode form of its letters or in its ending;
then, for bare names and for the end of a path, anywhere below the folder, where there is exactly one such file.
"""

import difflib
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from embeddings.decode import IMAGE_ENDINGS
from pipeline.contracts.errors import InputError
from pipeline.pool.listing.folder_names import is_beside_scans
from pipeline.tables.notes import Notes, counted

_MAX_FILES = 500_000  # of a folder that is walked
_PARENTS, _SAMPLE, _MAX_STRIPPED = 3, 40, 12
_exists = os.path.exists
_HAS_ENDING = re.compile(r"\.[a-z][a-z0-9]{0,7}$")
_ENDINGS = (*IMAGE_ENDINGS, ".dcm", ".dicom", ".bmp", ".gif", ".webp", ".gz", ".nii")


@dataclass(frozen=True)
class Located:
    """Where the files of a table are.

    Attributes:
        root: Folder that the paths are relative to.
        paths: N paths; one that was not found stays as it was written.
        refusal: What to raise, where not one of the files is there.
    """

    root: str
    paths: list[str]
    refusal: InputError | None = None


@dataclass
class _Folder:
    """A folder or an archive, by how its files can be asked for."""

    root: str
    exists: Callable[[str], bool]
    files: Callable[[], Iterable[str]]
    _by_name: dict[str, list[str]] = field(default_factory=dict)
    _by_stem: dict[str, list[str]] = field(default_factory=dict)

    def index(self) -> bool:
        """List the files once; whether there are any."""
        by_name, by_stem = defaultdict(list), defaultdict(list)
        for path in self.files():
            name = _plain(path.rpartition("/")[2])
            stem = _stem(name)
            if stem != name or not _HAS_ENDING.search(name):  # others are no scans, and never meant
                by_name[name].append(path)
                by_stem[stem].append(path)
        self._by_name, self._by_stem = dict(by_name), dict(by_stem)
        return bool(by_name)

    def like(self, path: str) -> tuple[str | None, str]:
        """The one file that a path may mean, and how its name differs; None with the reason."""
        plain = _plain(path).lstrip("/")
        name = plain.rpartition("/")[2]
        for names, key, how in ((self._by_name, name, ""), (self._by_stem, _stem(name), "another ending")):
            end = plain if not how else f"{plain.rpartition('/')[0]}/{_stem(name)}".lstrip("/")
            fitting = [
                other
                for other in names.get(key, ())
                if f"/{_plain(other) if not how else _stem(_plain(other))}".endswith(f"/{end}")
            ]
            here = [other for other in fitting if other.count("/") == path.strip("/").count("/")]
            if len(here) == 1 or len(fitting) == 1:
                other = (here or fitting)[0] if len(here) <= 1 else fitting[0]
                return other, _difference(path, other, how)
            if fitting:
                return None, f"{len(fitting)} files could be meant"
        return None, ""

    def nearest(self, path: str) -> str | None:
        """A file of a name that looks like it, or any."""
        name = _plain(path.rpartition("/")[2])
        close = difflib.get_close_matches(name, list(self._by_name)[:5_000], n=1, cutoff=0.6)
        any_image = (p for names in self._by_name.values() for p in names if p.lower().endswith(IMAGE_ENDINGS))
        return self._by_name[close[0]][0] if close else next(any_image, None)


def locate(root: str, paths: Sequence[str], notes: Notes) -> Located:
    """Find the files of a table.

    Args:
        root: Folder of the table, or what `pool.root` names; a local folder or `ARCHIVE.zip!/folder`. Elsewhere
            every path is taken as it is.
        paths: N paths as the table writes them, with `/`.
        notes: Takes what was found in another place, and how many are missing.
    """
    if "://" in root:
        return Located(root, list(paths))
    return _in_archive(root, paths, notes) if ".zip!" in root.lower() else _in_folder(root, paths, notes)


def _in_folder(root: str, paths: Sequence[str], notes: Notes) -> Located:
    places = (path if path.startswith("/") else f"{root}/{path}" for path in paths)
    missing = [i for i, place in enumerate(places) if not _is_remote(paths[i]) and not _exists(place)]
    if not missing:
        return Located(root, list(paths))
    own = list(paths)
    if len(missing) == len(paths):
        above = _above(root, [paths[i] for i in missing])
        if above is not None:
            notes.warn(f"its paths are read below {above}, not below {root} (pool.root says it otherwise)")
            return _in_folder(above, paths, notes)
    folder = _Folder(root, lambda path: _exists(f"{root}/{path}"), lambda: _walk(root))
    return _found_elsewhere(folder, own, missing, notes)


def _in_archive(root: str, paths: Sequence[str], notes: Notes) -> Located:
    from embeddings.decoding.files import members

    archive, _, inner = root.partition("!")
    inner = inner.strip("/")
    below = [name for name in members(archive) if not inner or name.startswith(f"{inner}/")]
    there = {name[len(inner) + 1 :] if inner else name for name in below}
    missing = [i for i, path in enumerate(paths) if path not in there and not _is_remote(path)]
    folder = _Folder(root, there.__contains__, lambda: sorted(there))
    return _found_elsewhere(folder, list(paths), missing, notes) if missing else Located(root, list(paths))


def _found_elsewhere(folder: _Folder, paths: list[str], missing: list[int], notes: Notes) -> Located:
    """Fill in those that are found in another place of the folder; a file is given to one row alone."""
    taken = Counter(paths)
    prefix = _needless_prefix(folder, [paths[i] for i in missing])
    moves: dict[int, tuple[str, str]] = {}
    for i in missing:
        rest = paths[i][len(prefix) :]
        if prefix and paths[i].startswith(prefix) and folder.exists(rest):
            moves[i] = rest, f"without {prefix!r} at the beginning"
    left, ambiguous = [i for i in missing if i not in moves], 0
    if left and folder.index():
        for i in left:
            path = paths[i][len(prefix) :] if prefix and paths[i].startswith(prefix) else paths[i]
            other, how = folder.like(path)
            if other is None and "%" in path:  # as in an address
                other, how = folder.like(unquote(path))
                how = how and "with the signs behind % read as in an address"
            if other is not None:
                moves[i] = other, how
            ambiguous += bool(how) and other is None
    wanted = Counter(target for target, _ in moves.values())
    clashing = [i for i, (target, _) in moves.items() if wanted[target] > 1 or taken[target]]
    for i in clashing:
        del moves[i]
    if clashing:
        notes.warn(f"{counted(len(clashing), 'path')} would lead to a file of another row, and count as missing")
    if ambiguous:
        notes.warn(f"{counted(ambiguous, 'name')} fit more than one file below {folder.root}, and count as missing")
    _say_moves(paths, moves, notes)
    still = [i for i in missing if i not in moves]
    refusal = _say_missing(folder, paths, still, notes) if still else None
    for i, (target, _) in moves.items():
        paths[i] = target
    return Located(folder.root, paths, refusal)


def _say_moves(paths: Sequence[str], moves: dict[int, tuple[str, str]], notes: Notes) -> None:
    for how, num in Counter(how for _, how in moves.values()).most_common():
        i = next(i for i, (_, own) in moves.items() if own == how)
        notes.warn(f"{counted(num, 'file')} found {how}: {paths[i]!r} is {moves[i][0]!r}")


def _say_missing(folder: _Folder, paths: Sequence[str], still: Sequence[int], notes: Notes) -> InputError | None:
    """Say how many are missing, and where one was looked for; where all are, the error."""
    first = paths[still[0]]
    looked_for = first if first.startswith("/") else f"{folder.root}/{first}"
    near = folder.nearest(first)
    if len(still) == len(paths):
        return InputError(
            f"not one of the {len(paths)} scans can be used: {len(paths)} x the file is missing; the first was looked "
            "for there",
            value=looked_for,
            where=notes.where,
            fix=(f"there is {folder.root}/{near}; " if near else f"there are no scans below {folder.root}; ")
            + "set pool.root to the folder that the paths begin in, or mend the paths",
        )
    like = f"; there is {folder.root}/{near}" if near else ""
    notes.warn(f"{len(still):,} of {len(paths):,} files are missing; the first was looked for at {looked_for}{like}")
    return None


def _above(root: str, paths: Sequence[str]) -> str | None:
    """The nearest parent folder below which the paths, or some of them, exist."""
    sample = paths[:: max(1, len(paths) // _SAMPLE)]
    for parent in list(Path(root).absolute().parents)[:_PARENTS]:
        if any((parent / path).is_file() for path in sample if "/" in path and not path.startswith("/")):
            return str(parent)
    return None


def _needless_prefix(folder: _Folder, paths: Sequence[str]) -> str:
    """The folders that all these paths begin with and that do not exist here, where the rest of a path does."""
    folders = [path[: path.rfind("/") + 1] for path in paths]
    first, last = min(folders, default=""), max(folders, default="")
    alike = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    shared = first[: first[:alike].rfind("/") + 1]
    sample = paths[:: max(1, len(paths) // _SAMPLE)]
    cuts = [i + 1 for i, c in enumerate(shared) if c == "/"][:_MAX_STRIPPED]
    for cut in cuts:
        if any(folder.exists(path[cut:]) for path in sample):
            return shared[:cut]
    return ""


def _walk(root: str) -> Iterable[str]:
    """Files below a folder that may be scans."""
    num = 0
    for place, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not is_beside_scans(name))
        prefix = os.path.relpath(place, root).replace(os.sep, "/")
        for name in sorted(files):
            if not name.startswith("."):
                yield name if prefix == "." else f"{prefix}/{name}"
        num += len(files)
        if num > _MAX_FILES:
            return


def _plain(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


def _stem(path: str) -> str:
    stem, _, ending = path.rpartition(".")
    return stem if stem and f".{ending}" in _ENDINGS else path


def _difference(path: str, other: str, how: str) -> str:
    """In words for the note."""
    same_place = path.strip("/").count("/") == other.count("/")
    if how:
        has_ending = _stem(_plain(path)) != _plain(path)
        how = "with another ending" if has_ending else "with an ending"
    elif same_place and _nfc(path) == _nfc(other):
        how = "in another Unicode form"
    elif same_place:
        how = "with another case of letters"
    return how if same_place else f"in a folder below{' ' + how if how else ''}"


def _nfc(path: str) -> str:
    return unicodedata.normalize("NFC", path)


def _is_remote(path: str) -> bool:
    return "://" in path
