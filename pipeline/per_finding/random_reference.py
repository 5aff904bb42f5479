"""Random selection on the same budget, for each finding."""

from typing import Any

from pipeline.per_finding import parts
from pipeline.rounds import random_reference
from pipeline.runtime.context import StageContext


def run(ctx: StageContext) -> dict[str, Any]:
    """Write `reference.jsonl` in every finding's folder; nothing without an oracle."""
    num_rounds = [random_reference.run(part)["num_rounds"] for part in parts.parts_of(ctx).values()]
    return {"num_rounds": max(num_rounds)}
