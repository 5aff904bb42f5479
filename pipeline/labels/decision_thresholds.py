"""From which probability on the model may decide alone: `act_or_defer.json` read, and matched with the model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.contracts.errors import InputError
from pipeline.measures.act_or_defer import NO, YES
from pipeline.runtime import run_dir, run_files

Rules = dict[str, tuple[float | None, float | None]]


def thresholds(certified: Mapping[str, Any]) -> Rules:
    """Of each finding the highest probability that is a no, and the lowest that is a yes; None: never alone."""
    return {
        finding: (row["sides"][NO]["threshold_prob"], row["sides"][YES]["threshold_prob"])
        for finding, row in certified["findings"].items()
    }


def read(folder: Path) -> dict[str, Any] | None:
    """The file, with `is_current`: whether it speaks of the model of the last round; None where there is none.

    Raises:
        InputError: it is no JSON.
    """
    path = folder / run_files.ACT_OR_DEFER
    if not path.exists():
        return None
    try:
        certified: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputError(
            f"is no JSON: {error}", where=path, fix="write it again: cxr-ssl evaluate RUN --act-or-defer ERROR"
        ) from error
    return certified | {"is_current": certified["model"] == model_hash(folder)}


def model_hash(folder: Path) -> str:
    """What the model of the last round is known by: its weights, and the card with its calibration."""
    place = run_files.round_folder(folder, run_files.last_round(folder) or 0) / run_files.MODEL
    files = (run_files.CARD, run_files.MODEL_WEIGHTS, run_files.MODEL_ONNX)
    return run_dir.fingerprint({name: run_dir.file_hash(place / name) for name in files})
