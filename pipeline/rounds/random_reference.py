"""What random selection would have given on the same budget: the curve every strategy must beat.

Only an oracle run can know. The learning and the holdout are the same; roll-backs and the certified gate, which live
on the history of a run, are left out.
"""

import json
import shutil
from typing import Any

from pipeline.annotate import oracle
from pipeline.contracts.tables import write_text
from pipeline.labels.training_labels import ExpertLabels
from pipeline.learn import self_training
from pipeline.measures.holdout_record import HoldoutMetrics
from pipeline.rounds import holdout_score
from pipeline.rounds.learn_round import adapter_of, cannot_learn
from pipeline.rounds.run_scans import Dataset
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.selection import draw
from pipeline.selection.draw import Proposals

_Score = tuple[str | None, HoldoutMetrics | None]


def run(ctx: StageContext) -> dict[str, Any]:
    """Write `reference.jsonl`, one object a round like `metrics.jsonl`; nothing without an oracle.

    For one finding of a run the scans of the whole run are drawn, whether the finding is known of them or not.
    """
    path = ctx.folder / run_files.REFERENCE
    if not (ctx.config.oracle and ctx.config.rounds.reference) or ctx.config.strategy.name == "random":
        path.unlink(missing_ok=True)
        return {"num_rounds": 0}
    data = Dataset.open(ctx)
    answers: dict[str, str | None] = {}
    rows: list[dict[str, Any]] = []
    rounds = min(len(run_files.rounds_with(ctx.folder, run_files.ROW)), ctx.config.rounds.num)
    for round_index in range(1, rounds + 1):
        ctx.progress("reference", round_index - 1, rounds)
        queue = draw.draw(ctx.whole or ctx, round_index, set(answers), Proposals({}), strategy="random", holdout=[])
        revealed = oracle.answer(queue["image_id"].to_pylist(), data.pool_labels, round_index)
        answers |= {answer.image_id: answer.finding for answer in revealed}
        learner, scores = _score(ctx, data, answers, round_index)
        holdout = None if scores is None else scores.to_json()
        num_expert = sum(answer is not None for answer in answers.values())
        rows.append({"round": round_index, "num_expert": num_expert, "learner": learner, "holdout": holdout})
        write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    ctx.progress("reference", rounds, rounds)
    return {"num_rounds": len(rows)}


def _score(ctx: StageContext, data: Dataset, answers: dict[str, str | None], round_index: int) -> _Score:
    """What the classifier learned from, and its scores; None and None before there is one."""
    material = data.material(ExpertLabels(answers, answers, {}), set(answers))
    if cannot_learn(material.class_E, material.group_E):
        return None, None
    admitted = [ctx.config.pseudo.gate == "estimated"] * len(data.findings)
    rng = ctx.rng("learn-reference", round_index)
    fits = ctx.folder / run_files.REFERENCE_FITS
    adapter = adapter_of(ctx, data, round_index, answers, fits / run_files.NETWORK_FITS)
    learned = self_training.learn(material, ctx.config, ctx.engine, len(data.findings), admitted, rng, adapter)
    if adapter is not None:
        shutil.rmtree(fits)
    model = learned.classifier(data.findings)
    prob_NC = model.probabilities(learned.student_logit_NC)
    predicted_N = model.classes(prob_NC)
    return learned.learner, holdout_score.evaluate(
        ctx, round_index, prob_NC, predicted_N, data.findings, reader="reference"
    )
