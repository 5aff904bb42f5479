"""Which files of a folder are scans, and what its folders say of them; what is left out is counted.

A file without an ending is looked into: archives write DICOM so.
"""

import difflib
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from embeddings.decode import IMAGE_ENDINGS
from embeddings.decoding.dicom_file import has_preamble, is_dicom
from embeddings.decoding.files import head_of
from embeddings.decoding.raster import is_raster
from pipeline.contracts.errors import InputError
from pipeline.contracts.finding_line import plain
from pipeline.pool import vocabulary
from pipeline.pool.dicom import dicomdir
from pipeline.pool.listing import folder_names, levels
from pipeline.tables.notes import Notes, counted, listed

_log = logging.getLogger(__name__)

_MAX_SHOWN = 5
_DICOM_ENDINGS = (".dcm", ".dicom")
_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,7}$")  # not the last number of a UID
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"})
_TABLES = (".csv", ".tsv", ".xlsx", ".parquet", ".csv.gz")
_THUMBNAIL_FILE = re.compile(r"(.*?)[-_. ]?(thumb|thumbnail|preview)", re.IGNORECASE)
_MASK_FILE = re.compile(r"(.*?)[-_. ]?(mask|masks|seg|segmentation|lungmask|annotation|overlay)", re.IGNORECASE)
# Folders that exports of archives name by patient, study and series.
_OF_A_STUDY = re.compile(
    r"(pat|patient|p|stu|study|st|ser|series|se|s|img|im|dicom|exam|scan|case)?[-_ ]?[\d.]+", re.IGNORECASE
)
_MAX_CLASSES = 20
_MOST_LOOKED_AT = 20  # files of one ending that are none
# Endings that are not worth a look.
_NEVER_SCANS = frozenset(
    {*_TABLES, ".txt", ".json", ".jsonl", ".xml", ".html", ".md", ".pdf", ".py", ".zip", ".gz", ".npy", ".npz", ".nii"}
    | {".bmp", ".gif", ".webp", ".svg", ".jp2", ".log", ".yaml", ".yml", ".ini", ".pt", ".pth", ".h5", ".mp4"}
)


def local_files(root: Path, *, follow_outside: bool = False) -> list[str]:
    """Paths of all files below a folder, with / and relative to it; links are followed inside the folder.

    Args:
        root: The folder.
        follow_outside: Links to folders elsewhere too.

    Raises:
        InputError: a folder in it cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise InputError(
            f"the folder cannot be read: {error.strerror}", where=error.filename, fix="check its permissions"
        )

    paths: list[str] = []
    top = os.path.realpath(root)
    seen, elsewhere, not_text = {top}, list[str](), list[str]()
    for folder, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        kept = []
        not_text += (name for name in (*folders, *files) if not _is_text(name))
        files = [name for name in files if _is_text(name)]
        for name in sorted(filter(_is_text, folders)):
            real = os.path.realpath(Path(folder, name))
            if real in seen:  # a link to a folder above would never end
                continue
            seen.add(real)
            if follow_outside or real.startswith(top.rstrip(os.sep) + os.sep):
                kept.append(name)
            else:
                elsewhere.append(name)
        folders[:] = kept
        prefix = Path(folder).relative_to(root).as_posix()
        paths += files if prefix == "." else [f"{prefix}/{name}" for name in files]
    _warn_of(elsewhere, "folders are links to outside the pool, which pool.allow_outside does not name (links)", root)
    _warn_of(not_text, "files and folders have names that are not UTF-8", root)
    return paths


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _warn_of(names: Sequence[str], what: str, root: Path) -> None:
    if names:
        shown = ascii(names[0].encode(errors="surrogateescape"))[1:]
        _log.warning("%d %s and are left out of %s, first %s", len(names), what, root, shown)


def scans(root: str, files: Sequence[str], notes: Notes, findings: Sequence[str] | None = None) -> list[str]:
    """The paths that are scans, sorted; all others are counted by their endings, and why they are none.

    Args:
        root: The folder or archive.
        files: All paths in it.
        notes: Takes the counts.
        findings: Names of classes, which are never taken for masks or thumbnails.
    """
    kept: list[str] = []
    others, hidden, masks, thumbnails = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    classes = {plain(finding) for finding in findings or ()}
    tables = []
    for path in files:
        *folders, name = path.split("/")
        ending = _ending(name)
        shown = ending or "without an ending"
        inner = [folder for folder in folders if plain(folder) not in classes]
        if name.startswith(".") or any(map(folder_names.is_beside_scans, inner)) or name.lower() in _SYSTEM_FILES:
            hidden[shown] += 1
        elif dicomdir.is_dicomdir(path):
            continue
        elif not (ending in IMAGE_ENDINGS or _looks_like_a_scan(root, path, ending, others[shown])):
            others[shown] += 1
            tables += [path] if path.lower().endswith(_TABLES) else []
        elif any(map(folder_names.is_of_masks, inner)):
            masks[shown] += 1
        elif any(map(folder_names.is_of_thumbnails, inner)):
            thumbnails[shown] += 1
        else:
            kept.append(path)
    if not kept and (masks or thumbnails):  # a pool of nothing else is what its owner says
        kept = [path for path in files if _ending(path) in IMAGE_ENDINGS and not _is_hidden(path)]
        masks, thumbnails = Counter(), Counter()
    kept, beside = _without_twins(kept, _MASK_FILE, folder_names.may_be_of_masks)
    masks += beside
    kept, beside = _without_twins(kept, _THUMBNAIL_FILE, lambda _: False)
    thumbnails += beside
    if kept:
        _say_left_out(others, hidden, masks, thumbnails, len(files), notes)
        _say_twins(kept, notes)
        if tables:
            notes.warn(
                f"the table {min(tables, key=len)!r} in it is not read; to take what it lists, give it as pool.uri"
            )
    return sorted(kept)


def _without_twins(
    paths: list[str], name_of_twin: re.Pattern[str], may_hold_twins: Callable[[str], bool]
) -> tuple[list[str], Counter[str]]:
    """Scans without files such as `a_mask.png` beside `a.png`, or `labels/a.png` beside `images/a.png`."""
    stem_of = {path: path[: len(path) - len(_ending(path))] for path in paths}
    stems = set(stem_of.values())
    twins = {p for p, stem in stem_of.items() if (match := name_of_twin.fullmatch(stem)) and match[1] in stems}
    inside = {path for path in paths if any(map(may_hold_twins, path.split("/")[:-1]))}
    if inside:
        outside = {stem.rpartition("/")[2] for path, stem in stem_of.items() if path not in inside}
        if all(stem_of[path].rpartition("/")[2] in outside for path in inside):
            twins |= inside
    return [path for path in paths if path not in twins], Counter(_ending(path) for path in twins)


def _say_left_out(
    others: Counter[str],
    hidden: Counter[str],
    masks: Counter[str],
    thumbnails: Counter[str],
    num_files: int,
    notes: Notes,
) -> None:
    why = (
        (others, "are no scans"),
        (masks, "are called masks or annotations"),
        (thumbnails, "lie in folders of thumbnails"),
    )
    for endings, what in why:
        if endings:
            notes.warn(f"{endings.total()} of {num_files} files {what} and are left out: {_counted(endings)}")
    if hidden:
        say = notes.warn if set(hidden) & {*IMAGE_ENDINGS} else notes.mention
        say(
            f"{hidden.total()} of {num_files} files are hidden, or put there by systems (such as @eaDir), and are left "
            f"out: {_counted(hidden)}"
        )


def _say_twins(paths: Sequence[str], notes: Notes) -> None:
    """Say where one scan seems to be there as DICOM and as a picture."""
    dicom: set[str] = set()
    pictures: set[str] = set()
    for path in paths:
        name = path.rpartition("/")[2].casefold()
        (dicom if is_of_dicom(path) else pictures).add(name[: len(name) - len(_ending(name))])
    if both := dicom & pictures:
        notes.warn(
            f"{len(both)} names are there as DICOM and as a picture; both are in the pool, and copies of one scan are "
            "joined by their pixels"
        )


def _counted(endings: Counter[str]) -> str:
    return ", ".join(f"{count} {ending}" for ending, count in sorted(endings.items(), key=_by_count))


def is_of_dicom(path: str) -> bool:
    """Whether a file is DICOM by its ending, or has none, or one that pictures do not have."""
    ending = _ending(path)
    return ending in _DICOM_ENDINGS or ending not in IMAGE_ENDINGS


def _by_count(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def _ending(name: str) -> str:
    match = _ENDING.search(name)
    return match[0].lower() if match else ""


def _looks_like_a_scan(root: str, path: str, ending: str, num_others: int) -> bool:
    """By the first bytes; in an object store, where each look costs a request, the manifest stage finds out.

    DICOM has many endings (`.ima`, `.img`, `.dc3`); a picture of an ending that is none of pictures is meant otherwise.
    Where many of an ending are none, no other is looked at.
    """
    if ending and (ending in _NEVER_SCANS or num_others >= _MOST_LOOKED_AT):
        return False
    head = head_of(f"{root}/{path}")
    if ending:
        return head is not None and has_preamble(head)
    return head is None or is_dicom(head) or is_raster(head)


def _is_hidden(path: str) -> bool:
    *folders, name = path.split("/")
    return name.startswith(".") or any(map(folder_names.is_beside_scans, folders))


def names(
    root: str,
    files: Sequence[str],
    paths: Sequence[str],
    findings: Sequence[str] | None,
    notes: Notes,
    *,
    patients_are_read: bool = False,
) -> tuple[pa.Array, pa.Array]:
    """Class and split of each path from its folders; one lone folder around everything names neither.

    Args:
        root: The folder or archive.
        files: All paths in it.
        paths: N paths of scans.
        findings: The classes, where the user names them.
        notes: Takes what is no class.
        patients_are_read: The user has said where in its path a scan names its patient.

    Returns:
        N classes and N splits, null where a folder names none.

    Raises:
        InputError: folders of splits stand beside others, or folders beside classes are no class that is asked for.
    """
    folders = [path.split("/")[:-1] for path in paths]
    while (tops := {parts[0] if parts else "" for parts in folders}) and len(tops) == 1 and tops != {""}:
        if tops.pop().lower() in vocabulary.SPLIT_NAMES:
            break
        folders = [parts[1:] for parts in folders]
    tops = {parts[0] for parts in folders if parts}
    named = {top for top in tops if top.lower() in vocabulary.SPLIT_NAMES} or levels.sides(tops)
    beside = {top for top in tops - named if not folder_names.is_unlabelled(top)}
    if named and beside:
        raise InputError(
            f"folders of splits ({', '.join(sorted(named))}) stand beside others "
            f"({', '.join(sorted(beside)[:_MAX_SHOWN])})",
            where=root,
            fix="keep either split folders or class folders at the top, or write a manifest",
        )
    splits = [parts[0] if parts and parts[0] in named else None for parts in folders]
    inner = [parts[1:] if parts and parts[0] in named else parts for parts in folders]
    level = levels.of_classes(inner, findings)
    if not named and (split_level := levels.of_splits(inner, level)) is not None:
        splits = [parts[split_level] if len(parts) > split_level else None for parts in inner]
        notes.mention(
            "its folders train, test and the like lie below those of classes, and name the split all the same"
        )
    levels.say(inner, level, notes)
    inner = [parts[level:] for parts in inner]
    labels = _classes(root, files, paths, inner, findings, notes, patients_are_read)
    return pa.array(labels, pa.string()), pa.array(splits, pa.string())


def _classes(
    root: str,
    files: Sequence[str],
    paths: Sequence[str],
    folders: Sequence[Sequence[str]],
    findings: Sequence[str] | None,
    notes: Notes,
    patients_are_read: bool,
) -> list[str | None]:
    """The class of each path, from the folder that could name one."""
    labels = [parts[0] if parts else None for parts in folders]
    counts = Counter(label for label in labels if label is not None)
    asked = {plain(finding): finding for finding in findings or ()}
    unlabelled = {name for name in counts if plain(name) not in asked and folder_names.is_unlabelled(name)}
    of_anything = {name for name in counts if plain(name) not in asked and folder_names.is_of_anything(name)}
    if len(unlabelled | of_anything) < len(counts):  # `images` beside `normal` is no class
        unlabelled |= of_anything
    num_scans = {name: count for name, count in counts.items() if name not in unlabelled}
    second = [parts[1] for parts in folders if len(parts) > 1]
    why = folder_names.why_no_classes(num_scans, second, findings=findings)
    if why is None and num_scans and not (asked.keys() & {plain(name) for name in num_scans}):
        why = _why_of_dicom(files, paths, num_scans, folders)
    if why is None and asked and num_scans:
        why = _why_not_asked(root, num_scans, asked)
    if unlabelled:
        shown = ", ".join(f"{name!r} {counts[name]}" for name in sorted(unlabelled))
        notes.warn(f"scans in these folders count as unlabelled: {shown}")
    if why is not None:
        hint = "" if patients_are_read else ", and if they are patients, pool.patient_regex reads their ids"
        notes.warn(
            f"its {len(num_scans)} folders ({', '.join(sorted(num_scans)[:3])}{', ...' if len(num_scans) > 3 else ''}) "
            f"{why}: they are taken for no classes, and their scans count as unlabelled; if they are classes, name "
            f"them in pool.findings{hint}"
        )
        return [None] * len(labels)
    _say_inner(folders, num_scans, notes)
    if num_scans and (num_beside := labels.count(None)):
        notes.warn(f"{counted(num_beside, 'scan')} in no folder of a class, taken for unlabelled")
    return [None if label in unlabelled else label for label in labels]


def _say_inner(folders: Sequence[Sequence[str]], num_scans: Mapping[str, int], notes: Notes) -> None:
    """Say which folders inside some of the classes could be classes of their own (`PNEUMONIA/virus`)."""
    inner: dict[str, set[str]] = {}
    for parts in folders:
        if parts and parts[0] in num_scans:
            inner.setdefault(parts[0], set()).update(parts[1:2])
    if len(set(map(frozenset, inner.values()))) == 1:
        return  # alike in all: spoken of elsewhere, if at all
    for top, names in sorted(inner.items()):
        own = [n for n in names if not (folder_names.is_of_anything(n) or folder_names.is_unlabelled(n))]
        are_many = dict.fromkeys(own, _MAX_CLASSES)
        if 2 <= len(own) <= _MAX_CLASSES and not folder_names.why_no_classes(are_many, (), findings=None):
            notes.warn(
                f"folders inside the class {top!r} are not told apart: {listed(sorted(own))}; if they are classes, "
                "move them beside the others, or write a manifest"
            )


def _why_of_dicom(
    files: Sequence[str], paths: Sequence[str], num_scans: Mapping[str, int], folders: Sequence[Sequence[str]]
) -> str | None:
    """Of a DICOM tree most folders are patients, studies and series."""
    if 2 * sum(map(is_of_dicom, paths)) < len(paths):
        return None
    is_flat = {len(parts) for parts in folders} == {1} and len(num_scans) <= _MAX_CLASSES
    is_tree = not is_flat or any(_OF_A_STUDY.fullmatch(name) for name in num_scans)
    if is_tree or any(dicomdir.is_dicomdir(path) for path in files):
        return "are taken for patients and studies, as of any DICOM tree"
    return None


def _why_not_asked(root: str, num_scans: Mapping[str, int], asked: Mapping[str, str]) -> str | None:
    """What to make of folders beside the classes that are asked for.

    Raises:
        InputError: some folders are classes and some are none of them, or one looks like a misspelt one.
    """
    outside = sorted(name for name in num_scans if plain(name) not in asked)
    near = {name: close[0] for name in outside if (close := difflib.get_close_matches(plain(name), asked, 1, 0.8))}
    if len(outside) == len(num_scans) and not near:
        return "are none of pool.findings"
    if not outside:
        return None
    hint = f"did you mean {asked[near[outside[0]]]!r}? " if outside[0] in near else ""
    raise InputError(
        "folders stand beside the classes and are none of pool.findings",
        value={name: num_scans[name] for name in outside[:_MAX_SHOWN]},
        where=root,
        fix=f"{hint}If they are classes too, add them to pool.findings; if nobody has labelled their scans, call the "
        "folder 'unlabelled'; else move it out of the pool",
    )
