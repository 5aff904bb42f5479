"""Random selection on the same budget, for each finding."""

from typing import Any

from pipeline import reference
from pipeline.context import StageContext
from pipeline.several import folders


def run(ctx: StageContext) -> dict[str, Any]:
    """Write `reference.jsonl` in every finding's folder; nothing without an oracle."""
    found = [reference.run(part, ctx)["num_rounds"] for part in folders.parts_of(ctx).values()]
    return {"num_rounds": max(found)}
