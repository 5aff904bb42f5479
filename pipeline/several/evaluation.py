"""The evidence of every finding, and one file that leads to them."""

import json
from typing import Any

from pipeline import audit, evaluation
from pipeline.context import StageContext
from pipeline.contracts import write_text
from pipeline.several import audit as audits
from pipeline.several import folders, layout


def run(ctx: StageContext) -> dict[str, Any]:
    """Write each finding's `evaluation.json`, the run's own, and the audit's last word."""
    counts = {finding: evaluation.run(part) for finding, part in folders.parts_of(ctx).items()}
    summarise(ctx)
    audits.conclude(ctx)
    scored = [count["num_scored"] for count in counts.values()]
    return {"num_scored": max(scored), "verdict": (audit.read(ctx.folder) or {}).get("verdict")}


def summarise(ctx: StageContext) -> None:
    """Write the run's `evaluation.json`: each finding's main numbers and where the rest is; none without a score."""
    found = {}
    for finding, part in layout.parts_in(ctx.folder).items():
        path = part / evaluation.FILE
        if path.exists():
            one = json.loads(path.read_text("utf-8"))
            found[finding] = {
                "folder": f"{layout.FOLDER}/{part.name}",
                "scope": one["scope"],
                "overall": one["overall"],
            }
    path = ctx.folder / evaluation.FILE
    if not found:
        path.unlink(missing_ok=True)
        return
    round_index = evaluation.last_round(ctx.folder)
    scope = {"kind": "holdout", "pool": ctx.config.pool.uri, "round": round_index, "findings": list(found)}
    write_text(path, json.dumps({"scope": scope, "findings": found}, indent=1))
