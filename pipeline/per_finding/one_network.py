"""One network for all findings of a run, trained before each finding decides for itself what to do with it."""

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from pipeline.audit import stage
from pipeline.learn import self_training
from pipeline.learn.material import Material
from pipeline.learn.network.adapter import Adapter
from pipeline.learn.self_training import Learned
from pipeline.rounds.learn_round import adapts
from pipeline.rounds.question import Question
from pipeline.rounds.run_scans import Dataset
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.context import StageContext

log = logging.getLogger(__name__)
Watch = Callable[[str], AbstractContextManager[None]]  # of a finding: says whose audit it was that blocked


class OneNetwork:
    """The network that the findings of a round share.

    A finding of which too little is known has no part in it, and no say in whether it has to be trained again.

    Args:
        ctx: Of the run.
        data: The run's scans.
        questions: The question of each finding.
        round_index: From 1.
    """

    def __init__(self, ctx: StageContext, data: Dataset, questions: Mapping[str, Question], round_index: int) -> None:
        self.ctx, self.data, self.round_index = ctx, data, round_index
        begun = {finding: asked.begun(round_index) for finding, asked in questions.items()}
        for finding, start in begun.items():
            if start.reason:
                log.warning("round %d: %s has no part in the network, %s", round_index, finding, start.reason)
        self.begun = {finding: start for finding, start in begun.items() if not start.reason}
        self.questions = {finding: questions[finding] for finding in self.begun}
        own = {finding: asked.fingerprint(round_index) for finding, asked in self.questions.items()}
        self.fingerprint = run_dir.fingerprint(own)

    def learn(self, watch: Watch) -> dict[str, Learned]:
        """What each finding has of it; nothing where all have finished the round before.

        The network is found, and not trained again, where some have finished and the run was killed then.

        Raises:
            AuditBlocked: the audit of a finding blocks, seen before the training and not after.
        """
        todo = {f: of for f, of in self.questions.items() if not of.has_learned(self.round_index, self.fingerprint)}
        for finding, asked in todo.items():
            with watch(finding):
                stage.recheck(asked.ctx)
        if not todo:
            return {}
        materials = {finding: start.material for finding, start in self.begun.items()}
        admitted = {finding: start.admitted_C for finding, start in self.begun.items()}
        return learn_all(self.ctx, self.data, materials, admitted, self.ctx.rng("learn", self.round_index), self._fits)

    def clean(self) -> None:
        """Remove the fits: each finding has its model now."""
        shutil.rmtree(self._fits, ignore_errors=True)

    @property
    def _fits(self) -> Path:
        return self.ctx.round_folder(self.round_index) / run_files.NETWORK_FITS


def of_round(
    ctx: StageContext, data: Dataset, questions: Mapping[str, Question], round_index: int
) -> OneNetwork | None:
    """The network that the findings share in a round; None where each learns alone, or none adapts a network."""
    if not is_shared([asked.ctx for asked in questions.values()], round_index):
        return None
    return OneNetwork(ctx, data, questions, round_index)


def is_shared(parts: Sequence[StageContext], round_index: int) -> bool:
    """Whether the findings share a network in a round."""
    part = parts[0]  # whether a network is trained is the run's matter, the same for all
    return part.config.train.findings == "together" and adapts(part, round_index, ())


def learn_all(
    ctx: StageContext,
    data: Dataset,
    materials: Mapping[str, Material],
    admitted: Mapping[str, Sequence[bool]],
    rng: np.random.Generator,
    fits: Path,
) -> dict[str, Learned]:
    """Learn all findings, with one network; see `self_training.learn_together`.

    Args:
        ctx: Of the run.
        data: The run's scans.
        materials: What is learned from, by finding.
        admitted: Whether the gate lets absence and presence into training, by finding.
        rng: Folds and seeds.
        fits: Folder of the network's fits, which stay.
    """
    adapter = Adapter(ctx, data.scans_N, fits)
    return self_training.learn_together(materials, admitted, ctx.config, ctx.engine, rng, adapter) if materials else {}
