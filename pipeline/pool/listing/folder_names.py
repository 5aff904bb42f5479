"""What the name of a folder says: a class, a patient or a part of an export, masks, what a system put there."""

import re
from collections.abc import Mapping, Sequence

from pipeline.contracts.finding_line import plain
from pipeline.contracts.healthy_class import is_negative
from pipeline.tables.placeholders import NO_LABEL, is_placeholder

_SYSTEM = frozenset(
    {"__macosx", "#recycle", "#snapshot", "$recycle.bin", "system volume information", "lost+found", "__pycache__"}
)
_THUMBNAILS = re.compile(r"(thumb(nail)?s?|preview(s)?|\.?thumb.*)", re.IGNORECASE)
_MASK_WORDS = frozenset(
    {
        *("mask", "masks", "segmentation", "segmentations", "seg", "segs", "segm", "annotation", "annotations"),
        *("groundtruth", "contour", "contours", "heatmap", "heatmaps", "overlay", "overlays", "bbox", "bboxes"),
        "landmarks",
    }
)
# Numbered parts of an export: patients, studies, series, batches; not `class_1`, `stage 2` or `covid19`.
_NUMBERED = re.compile(
    r"(patients?|pat|pt|p|subjects?|subj?|persons?|studys?|studies|stud?|st|exams?|series|ser|se|s|visits?|sessions?|"
    r"ses|accession|acc|images?|imgs?|im|files?|batch(es)?|parts?|volumes?|vol|chunks?|folders?|dirs?|dicoms?|scans?|cases?|"
    r"archives?|disks?|shards?|sets?|folds?|sites?|hospitals?|cent(?:er|re)s?|wards?|rooms?|scanners?|cxr|pngs?|jpe?gs?|"
    r"data|download)[-_. ]?#?[-_.\d]*\d[-_.\d]*",
    re.IGNORECASE,
)
_NUMBER_OR_DATE = re.compile(r"[\d._\- ]*\d[\d._\- ]*")
_CODE = re.compile(r"(?=.*\d)[0-9a-fA-F-]{8,}|[A-Za-z]{0,4}[-_]?\d{4,}")
_OF_ANYTHING = re.compile(
    r"((all|raw|original|resized|new) )?(images?|imgs?|pics?|pictures?|pngs?|jpe?gs?|dcms?|dicoms?|scans?|files?|data"
    r"|x ?rays?|cxrs?|radiographs?|bilder|im[aá]genes|imagens)( (all|raw|resized|new|png|jpe?g))?"
)
_STUDY = re.compile(r"(study|studies|stu|st|series|ser|se|exam|visit|session|ses)[-_. ]?\d+|[\d._-]{4,}", re.IGNORECASE)
_MAX_DIGIT_CLASSES, _FEW_SCANS, _MANY_FOLDERS = 10, 2, 5


def is_beside_scans(name: str) -> bool:
    """Whether systems make such folders: thumbnails of a NAS, waste baskets, hidden ones."""
    return name.startswith((".", "@")) or name.casefold() in _SYSTEM


def is_of_thumbnails(name: str) -> bool:
    """Whether small copies lie in it."""
    return _THUMBNAILS.fullmatch(name) is not None


def is_of_masks(name: str) -> bool:
    """Whether a folder, or a file without its ending, is called a mask: `ManualMask`, `left_masks`, `a_mask`."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return any(word.casefold() in _MASK_WORDS for word in words) or "mask" in {w.casefold()[-4:] for w in words}


def may_be_of_masks(name: str) -> bool:
    """Whether masks lie in it if every file has its twin elsewhere: `labels`, `gt`."""
    return name.casefold() in ("label", "labels", "gt", "target", "targets", "truth")


def is_unlabelled(name: str) -> bool:
    """Whether a folder holds what nobody has labelled: `unlabelled`, `_unlabeled_images`, `todo`."""
    words = " ".join(re.sub(r"[\s_\-.]+", " ", name).split()).casefold()
    words = re.sub(r" (data|images?|scans?|pool|set|cases?|x ?rays?|cxrs?)$", "", words)
    return is_placeholder(words, NO_LABEL) and not (is_negative(words) and words != "none")


def is_of_anything(name: str) -> bool:
    """Whether a folder's name says no more than that scans lie in it: `images`, `png`, `all data`."""
    return _OF_ANYTHING.fullmatch(re.sub(r"[\s_\-.]+", " ", name).strip().casefold()) is not None


def why_no_classes(num_scans: Mapping[str, int], inner: Sequence[str], *, findings: Sequence[str] | None) -> str | None:
    """Why folders are no classes; None where they may be.

    Args:
        num_scans: Folder at the place of the classes -> how many scans lie in it; unlabelled ones left out.
        inner: Names of the folders one level below, one for each scan that has one.
        findings: What the user calls the classes.
    """
    names = list(num_scans)
    if not names or (findings and {plain(name) for name in names} & {plain(finding) for finding in findings}):
        return None
    mean = sum(num_scans.values()) / len(names)
    numbered = sum(_NUMBERED.fullmatch(name) is not None for name in names)
    digits = [name for name in names if _NUMBER_OR_DATE.fullmatch(name)]
    codes = sum(_CODE.fullmatch(name) is not None or _NUMBER_OR_DATE.fullmatch(name) is not None for name in names)
    if numbered >= max(1, 0.8 * len(names)):
        return "are numbered, as patients or parts of an export are"
    if codes >= max(1, 0.8 * len(names)) and not _could_be_grades(digits, names, mean):
        return "are numbers, dates or codes"
    if len(names) >= _MANY_FOLDERS and mean <= _FEW_SCANS:
        return f"hold {mean:.1f} scans each"
    if (
        len(names) >= _MANY_FOLDERS
        and inner
        and sum(_STUDY.fullmatch(n) is not None for n in inner) > 0.8 * sum(num_scans.values())
    ):
        return "hold folders of studies"
    return None


def _could_be_grades(digits: Sequence[str], names: Sequence[str], mean: float) -> bool:
    """`0`, `1`, `2`: few short numbers with several scans each, or two of them."""
    short = len(digits) == len(names) <= _MAX_DIGIT_CLASSES and all(len(name) <= 2 for name in digits)
    return short and (mean > _FEW_SCANS or len(names) <= 3)
