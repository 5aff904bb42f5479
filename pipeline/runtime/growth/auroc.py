"""What `evaluation.json` says of the model before a run grew and of the one now; imports nothing that computes."""

import json
from pathlib import Path
from typing import Any

from pipeline.runtime import run_files


def auroc_in(folder: Path) -> list[dict[str, Any]]:
    """The AUROC of the model before and now, by the `evaluation.json` of a run or of one finding of it.

    Returns:
        [{"which","before","now","difference","difference_ci95"}], one a set that was compared.
    """
    place = folder / run_files.EVALUATION
    evaluation = json.loads(place.read_text("utf-8")) if place.exists() else {}
    sets = (evaluation.get("growth") or {}).get("sets") or []
    return [_auroc(on_set) for on_set in sets if on_set["comparison"]]


def _auroc(on_set: dict[str, Any]) -> dict[str, Any]:
    row = next(row for row in on_set["comparison"]["metrics"] if row["metric"] == "auroc")
    return {
        "which": on_set["which"],
        "before": row["first"],
        "now": row["second"],
        "difference": row["difference"],
        "difference_ci95": row["difference_ci95"],
    }
