"""Which files of a folder are scans, and what its folders say of them; what is left out is counted.

A file without an ending is looked into: archives write DICOM so.
"""

import logging
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from embeddings.decode import IMAGE_ENDINGS
from embeddings.decoding.dicom_file import is_dicom
from embeddings.decoding.files import head_of
from embeddings.decoding.raster import is_raster
from pipeline.contracts.errors import InputError
from pipeline.pool import vocabulary
from pipeline.pool.dicom import dicomdir

_log = logging.getLogger(__name__)

_MAX_SHOWN = 5
_DICOM_ENDINGS = (".dcm", ".dicom")
_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,7}$")  # not the last number of a UID
# What systems put beside scans: neither scans nor worth a word.
_SYSTEM_FOLDERS = frozenset({"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN"})
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini"})
# Folders that exports of archives name by patient, study and series.
_OF_A_STUDY = re.compile(
    r"(pat|patient|p|stu|study|st|ser|series|se|s|img|im|dicom|exam|scan|case)?[-_ ]?[\d.]+", re.IGNORECASE
)
_MAX_CLASSES = 20


def local_files(root: Path) -> list[str]:
    """Paths of all files below a folder, links followed; with / and relative to it.

    Raises:
        InputError: a folder in it cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise InputError(
            f"the folder cannot be read: {error.strerror}", where=error.filename, fix="check its permissions"
        )

    paths: list[str] = []
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
        paths += files if prefix == "." else [f"{prefix}/{name}" for name in files]
    return paths


def scans(root: str, files: Sequence[str]) -> list[str]:
    """The paths that are scans, sorted; the others are counted in a warning, by their endings."""
    kept, left_out = [], Counter[str]()
    for path in files:
        name = path.rpartition("/")[2]
        if _is_hidden(path) or name.lower() in _SYSTEM_FILES or dicomdir.is_dicomdir(path):
            continue
        ending = _ending(name)
        if ending in IMAGE_ENDINGS or (not ending and _looks_like_a_scan(root, path)):
            kept.append(path)
        else:
            left_out[ending or "without an ending"] += 1
    if left_out and kept:
        shown = ", ".join(f"{count} {ending}" for ending, count in sorted(left_out.items(), key=_by_count))
        _log.warning(
            "%d of %d files in %s are no scans and are left out: %s", left_out.total(), len(files), root, shown
        )
    return sorted(kept)


def may_name_classes(root: str, files: Sequence[str], paths: Sequence[str], findings: Sequence[str] | None) -> bool:
    """Whether folders can be classes; those of a DICOM tree are mostly patients, studies and series."""
    num_dicom = sum(not _ending(path) or path.lower().endswith(_DICOM_ENDINGS) for path in paths)
    if 2 * num_dicom < len(paths):
        return True
    tops = {path.split("/")[0] for path in paths if "/" in path}
    if findings is not None:
        return bool(tops & {*findings, *vocabulary.SPLIT_NAMES})
    is_flat = {path.count("/") for path in paths} == {1} and len(tops) <= _MAX_CLASSES
    plain = is_flat and not any(_OF_A_STUDY.fullmatch(top) for top in tops)
    is_tree = not plain or any(dicomdir.is_dicomdir(path) for path in files)
    if is_tree and tops:
        _log.warning(
            "the folders of %s are taken for patients and studies, as of any DICOM tree, not for classes; if they are "
            "classes, name them in pool.findings",
            root,
        )
    return not is_tree


def _by_count(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def _ending(name: str) -> str:
    match = _ENDING.search(name)
    return match[0].lower() if match else ""


def _looks_like_a_scan(root: str, path: str) -> bool:
    """By the first bytes; in an object store, where each look costs a request, the manifest stage finds out."""
    head = head_of(f"{root}/{path}")
    return head is None or is_dicom(head) or is_raster(head)


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") or part in _SYSTEM_FOLDERS for part in path.split("/"))


def names(root: str, paths: list[str]) -> tuple[pa.Array, pa.Array]:
    """Class and split of each path from its folders; one lone folder around everything names neither."""
    folders = [path.split("/")[:-1] for path in paths]
    while (tops := {parts[0] if parts else "" for parts in folders}) and len(tops) == 1 and tops != {""}:
        if tops.pop().lower() in vocabulary.SPLIT_NAMES:
            break
        folders = [parts[1:] for parts in folders]
    tops = {parts[0] for parts in folders if parts}
    named = {top for top in tops if top.lower() in vocabulary.SPLIT_NAMES}
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
