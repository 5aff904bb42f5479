"""The evidence of every finding, and one file that leads to them."""

import json
from typing import Any

from pipeline.audit import stage
from pipeline.contracts.tables import write_text
from pipeline.evidence import stage as evidence_stage
from pipeline.pages.wording import place
from pipeline.per_finding import audit as audits
from pipeline.per_finding import parts
from pipeline.runtime import finding_folders, run_files
from pipeline.runtime.context import StageContext


def run(ctx: StageContext) -> dict[str, Any]:
    """Write each finding's `evaluation.json`, the run's own, and the audit's last word."""
    counts = {finding: evidence_stage.run(part) for finding, part in parts.parts_of(ctx).items()}
    summarise(ctx)
    audits.conclude(ctx)
    scored = [count["num_scored"] for count in counts.values()]
    return {"num_scored": max(scored), "verdict": (stage.read(ctx.folder) or {}).get("verdict")}


def summarise(ctx: StageContext) -> None:
    """Write the run's `evaluation.json`: each finding's main numbers and where the rest is; none without a score."""
    summaries = {}
    for finding, part in finding_folders.parts_in(ctx.folder).items():
        path = part / run_files.EVALUATION
        if path.exists():
            evaluation = json.loads(path.read_text("utf-8"))
            summaries[finding] = {
                "folder": f"{finding_folders.FOLDER}/{part.name}",
                "scope": evaluation["scope"],
                "overall": evaluation["overall"],
            }
    path = ctx.folder / run_files.EVALUATION
    if not summaries:
        path.unlink(missing_ok=True)
        return
    round_index = run_files.last_round(ctx.folder)
    scope = {"kind": "holdout", "pool": place(ctx.config.pool.uri), "round": round_index, "findings": list(summaries)}
    write_text(path, json.dumps({"scope": scope, "findings": summaries}, indent=1))
