"""Random selection on the same budget, for each finding; where the findings share a network, so they do here."""

import shutil
from collections.abc import Mapping
from typing import Any

from pipeline.learn.material import Material
from pipeline.learn.self_training import Learned
from pipeline.per_finding import one_network, parts
from pipeline.rounds.random_reference import Reference, fits_folder, rounds_of
from pipeline.rounds.run_scans import Dataset
from pipeline.runtime.context import StageContext


def run(ctx: StageContext) -> dict[str, Any]:
    """Write `reference.jsonl` in every finding's folder; nothing without an oracle."""
    contexts = parts.parts_of(ctx)
    num_rounds = max(rounds_of(part) for part in contexts.values())
    if not num_rounds:
        return {"num_rounds": 0}
    data = Dataset.open(ctx)
    references = {finding: Reference(part) for finding, part in contexts.items()}
    for round_index in range(1, num_rounds + 1):
        ctx.progress("reference", round_index - 1, num_rounds)
        drawn = {finding: reference.draw(round_index) for finding, reference in references.items()}
        materials = {finding: material for finding, material in drawn.items() if material is not None}
        learned = _learn(ctx, data, references, materials, round_index)
        for finding, reference in references.items():
            reference.keep(round_index, learned.get(finding))
    ctx.progress("reference", num_rounds, num_rounds)
    return {"num_rounds": num_rounds}


def _learn(
    ctx: StageContext,
    data: Dataset,
    references: Mapping[str, Reference],
    materials: Mapping[str, Material],
    round_index: int,
) -> dict[str, Learned]:
    """What each finding has learned, with one network or each by itself."""
    if not one_network.is_shared([reference.ctx for reference in references.values()], round_index):
        return {finding: references[finding].learn(material, round_index) for finding, material in materials.items()}
    admitted, fits = {finding: references[finding].admitted() for finding in materials}, fits_folder(ctx)
    rng = ctx.rng("learn-reference", round_index)
    learned = one_network.learn_all(ctx, data, materials, admitted, rng, fits)
    shutil.rmtree(fits.parent, ignore_errors=True)
    return learned
