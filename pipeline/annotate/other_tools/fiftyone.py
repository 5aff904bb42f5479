"""FiftyOne's exports of classifications: `labels.json` of one label a scan, and `samples.json` of whole data sets.

https://docs.voxel51.com/user_guide/export_datasets.html: FiftyOneImageClassificationDataset (`labels` by the name of
the picture: an index, a name, an object with `label`, or a list of these) and FiftyOneDataset (`samples`).
"""

import json
import re
from pathlib import PurePosixPath
from typing import Any

from pipeline.annotate.filled_row import Filled
from pipeline.contracts.errors import InputError
from pipeline.tables.notes import Notes, counted, listed

_SCAN = re.compile("[0-9a-f]{16}")
_KINDS = ("Classification", "Classifications")
_OURS = ("finding", "label")  # where a sample has several fields of labels


def is_export(text: str) -> bool:
    """Whether JSON is such an export; it may be damaged."""
    head = re.sub(r"\s", "", text[:4096])
    return head.startswith(('{"classes":', '{"labels":{', '{"samples":', '{"name":', '{"version":'))


def read(name: str, text: str, notes: Notes) -> list[Filled]:
    """The answers of an export; a scan without a label is a blank one.

    Args:
        name: The file, for messages.
        text: What it holds.
        notes: Takes what is not read.

    Raises:
        InputError: it is damaged, or holds no classifications.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"the JSON breaks off or is damaged ({error})", where=name, fix="export the data set again"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("labels"), dict):
        labels = content["labels"]
    elif isinstance(content, dict) and isinstance(content.get("samples"), list):
        labels = _of_samples(name, content["samples"])
    else:
        raise InputError(
            "holds no classifications of FiftyOne",
            where=name,
            fix="export them as FiftyOneImageClassificationDataset, or fill queue.csv",
        )
    classes = content.get("classes") or []
    num_scored = sum(_has_confidence(target) for target in labels.values())
    if num_scored:
        notes.warn(
            f"{counted(num_scored, 'label')} carry a confidence, as predictions of a network do; they are taken as "
            "answers of people"
        )
    return [Filled(f"{name}, {key}", _scan(key), _names(target, classes)) for key, target in labels.items()]


def _of_samples(name: str, samples: list[Any]) -> dict[str, Any]:
    """Path of each sample -> what its one field of classifications holds."""
    samples = [sample for sample in samples if isinstance(sample, dict)]
    fields = {
        field
        for sample in samples
        for field, value in sample.items()
        if isinstance(value, dict) and value.get("_cls") in _KINDS
    }
    ours = [field for field in _OURS if field in fields]
    if len(fields) != 1 and not ours:
        raise InputError(
            f"its samples have {len(fields)} fields of classifications"
            + (f": {listed(sorted(fields))}" if fields else ""),
            where=name,
            fix="export one of them, or call it finding",
        )
    field = (ours or sorted(fields))[0]
    return {str(sample.get("filepath", place)): sample.get(field) for place, sample in enumerate(samples, 1)}


def _scan(key: str) -> str:
    """The scan that a picture is of: pictures are handed out under its id."""
    name = PurePosixPath(key.replace("\\", "/")).name
    stem = name.partition(".")[0]
    return stem if _SCAN.fullmatch(stem) else key


def _names(target: Any, classes: list[Any]) -> str:
    """What is said of one scan: nothing, a name, several with `|`."""
    if isinstance(target, dict):
        target = target.get("label", target.get("labels", target.get("classifications")))
    if isinstance(target, list):
        return "|".join(name for answer in target if (name := _names(answer, classes)))
    if isinstance(target, int) and not isinstance(target, bool):
        return str(classes[target]) if 0 <= target < len(classes) else f"class number {target}"
    return "" if target is None else str(target)


def _has_confidence(target: Any) -> bool:
    targets = target if isinstance(target, list) else [target]
    return any(isinstance(answer, dict) and answer.get("confidence") is not None for answer in targets)
