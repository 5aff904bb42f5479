"""What random selection would have given on the same budget: the curve every strategy must beat.

Only an oracle run can know. The learning and the holdout are the same; roll-backs and the certified gate, which live
on the history of a run, are left out.
"""

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.annotate import oracle
from pipeline.contracts.tables import write_text
from pipeline.labels.training_labels import ExpertLabels
from pipeline.learn import self_training
from pipeline.learn.material import Material
from pipeline.learn.self_training import Learned
from pipeline.rounds import holdout_score
from pipeline.rounds.learn_round import adapter_of, cannot_learn
from pipeline.rounds.run_scans import Dataset
from pipeline.runtime import run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.growth import record
from pipeline.selection import draw
from pipeline.selection.draw import Proposals

log = logging.getLogger(__name__)


def run(ctx: StageContext) -> dict[str, Any]:
    """Write `reference.jsonl`, one object a round like `metrics.jsonl`; nothing without an oracle."""
    num_rounds = rounds_of(ctx)
    if not num_rounds:
        return {"num_rounds": 0}
    reference = Reference(ctx)
    for round_index in range(1, num_rounds + 1):
        ctx.progress("reference", round_index - 1, num_rounds)
        material = reference.draw(round_index)
        reference.keep(round_index, None if material is None else reference.learn(material, round_index))
    ctx.progress("reference", num_rounds, num_rounds)
    return {"num_rounds": num_rounds}


def rounds_of(ctx: StageContext) -> int:
    """Rounds that have a reference: none without an oracle, or of a strategy that is the reference itself."""
    if not (ctx.config.oracle and ctx.config.rounds.reference) or ctx.config.strategy.name == "random":
        (ctx.folder / run_files.REFERENCE).unlink(missing_ok=True)
        return 0
    if record.parts(ctx.folder):
        log.info("random selection is not carried on: its rounds before the run grew stay as they are")
        return 0
    return min(len(run_files.rounds_with(ctx.folder, run_files.ROW)), ctx.config.rounds.num)


def fits_folder(ctx: StageContext) -> Path:
    """Where the networks of the reference are kept until their round is scored."""
    return ctx.folder / run_files.REFERENCE_FITS / run_files.NETWORK_FITS


class Reference:
    """Random selection for one question, round after round.

    For one finding of a run the scans of the whole run are drawn, whether the finding is known of them or not.

    Args:
        ctx: The stage's context.
    """

    def __init__(self, ctx: StageContext) -> None:
        self.ctx, self.data = ctx, Dataset.open(ctx)
        self.answers: dict[str, str | None] = {}
        self.rows: list[dict[str, Any]] = []

    def draw(self, round_index: int) -> Material | None:
        """Draw the queue of a round and look its answers up; None where they give no classifier yet."""
        ctx = self.ctx.whole or self.ctx
        queue = draw.draw(ctx, round_index, set(self.answers), Proposals({}), strategy="random", holdout=[])
        revealed = oracle.answer(queue["image_id"].to_pylist(), self.data.pool_labels, round_index)
        self.answers |= {answer.image_id: answer.finding for answer in revealed}
        material = self.data.material(ExpertLabels(self.answers, self.answers, {}), set(self.answers))
        return None if cannot_learn(material.class_E, material.group_E) else material

    def admitted(self) -> Sequence[bool]:
        """Whether the gate lets each class into training."""
        return [self.ctx.config.pseudo.gate == "estimated"] * len(self.data.findings)

    def learn(self, material: Material, round_index: int) -> Learned:
        """Learn by itself."""
        ctx, fits = self.ctx, fits_folder(self.ctx)
        adapter = adapter_of(ctx, self.data, round_index, self.answers, fits.parent)
        rng, num_classes = ctx.rng("learn-reference", round_index), len(self.data.findings)
        learned = self_training.learn(material, ctx.config, ctx.engine, num_classes, self.admitted(), rng, adapter)
        shutil.rmtree(fits.parent, ignore_errors=True)
        return learned

    def keep(self, round_index: int, learned: Learned | None) -> None:
        """Score what was learned, and write the row of the round; without scores before there is a classifier."""
        holdout = None
        if learned is not None:
            model = learned.classifier(self.data.findings)
            prob_NC = model.probabilities(learned.student_logit_NC)
            predicted_N = model.classes(prob_NC)
            findings = self.data.findings
            scores = holdout_score.evaluate(self.ctx, round_index, prob_NC, predicted_N, findings, reader="reference")
            holdout = None if scores is None else scores.to_json()
        num_expert = sum(answer is not None for answer in self.answers.values())
        learner = None if learned is None else learned.learner
        self.rows.append({"round": round_index, "num_expert": num_expert, "learner": learner, "holdout": holdout})
        path = self.ctx.folder / run_files.REFERENCE
        write_text(path, "".join(json.dumps(row) + "\n" for row in self.rows))
