"""The loop: queue -> labels -> learn -> pseudo-labels -> evaluate, round after round.

A round is finished when its `metrics.json` is there; everything before is repeated on resume, except what people have
seen: a queue once drawn is never drawn again, an answer once given is never asked again.
"""

import json
import logging
import math
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from pipeline.annotate import handout_files, oracle, worklist
from pipeline.annotate.handout_files import Handout
from pipeline.annotate.pictures import uris_and_priors
from pipeline.annotate.queue_csv import Origin
from pipeline.contracts.errors import WaitingForLabels
from pipeline.contracts.tables import QUEUE, write_text
from pipeline.labels import label_table, pool_readings, verdicts
from pipeline.learn.releases import frozen_release
from pipeline.pool.burned_in import scans as burned_in
from pipeline.rounds import grown_pool, round_outputs
from pipeline.rounds.learn_round import timed
from pipeline.rounds.question import Question
from pipeline.rounds.run_scans import Dataset
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.growth import record as growth
from pipeline.runtime.object_storage import session
from pipeline.selection import draw, marks
from pipeline.selection.draw import Proposals

log = logging.getLogger(__name__)


class Learning(Protocol):
    """What the rounds of a run learn, and what they tell the next queue."""

    def predict_grown_pool(self) -> None:
        """Let the last model before the run grew predict the grown pool; nothing of a run that never has."""

    def learn(self, round_index: int, clock: dict[str, float]) -> None:
        """Learn from the answers up to a round, unless that was done before; leaves the round's `metrics.json`."""

    def publish(self) -> None:
        """Make the last finished round the run's, and say who labelled."""

    def ends(self, round_index: int) -> bool:
        """Whether no further round is wanted, see `stop.when`."""

    def proposals(self, round_index: int) -> Proposals:
        """What a round proposes; nothing before it has learned."""

    def second_looks(self, round_index: int, num: int) -> list[tuple[str, str]]:
        """At most `num` answered scans that deserve another look, each with its kind."""

    def keep(self, round_index: int, queue: pa.Table) -> None:
        """Write a queue that was drawn; from now on it stays."""


def run(ctx: StageContext) -> dict[str, Any]:
    """Run all rounds.

    Raises:
        WaitingForLabels: when a queue is not answered yet.
    """
    data = Dataset.open(ctx)
    return run_rounds(ctx, data, Question(ctx, data))


def run_rounds(ctx: StageContext, data: Dataset, learning: Learning) -> dict[str, Any]:
    """Run all rounds of what is to be learned; see `run`."""
    if not ctx.config.oracle:  # a label that came with the training pool is an expert label already given
        read = pool_readings.enter(ctx.folder, data.train_ids())
        answers = [answer for answer in data.pool_answers() if answer.image_id not in read]
        label_table.add_answers(ctx.folder, answers, data.findings)
    learning.predict_grown_pool()
    try:
        _Loop(ctx, data, learning).run_rounds()
    except WaitingForLabels:
        learning.publish()
        raise
    learning.publish()
    ctx.progress("rounds", ctx.config.rounds.num, ctx.config.rounds.num)
    rows = run_files.finished_rows(ctx.folder, ctx.config.rounds.num)
    last = rows[-1] if rows else {}
    return {
        "num_rounds": len(rows),
        "num_expert": last.get("num_expert", 0),
        "num_pseudo": last.get("num_pseudo", 0),
    }


class _Loop:
    """One run's rounds: queues are drawn, answers are waited for, and `learning` does the rest."""

    def __init__(self, ctx: StageContext, data: Dataset, learning: Learning) -> None:
        self.ctx, self.data, self.learning = ctx, data, learning

    def run_rounds(self) -> None:
        """Run round after round until all are done, or nothing is left to ask."""
        for round_index in range(1, self.ctx.config.rounds.num + 1):
            self.ctx.progress("rounds", round_index - 1, self.ctx.config.rounds.num)
            run_dir.write_status(self.ctx.folder, "running", "rounds", round_index)
            if not self.run_round(round_index):
                log.info("round %d: nothing is left to ask; the loop ends here", round_index)
                return
            if self._ends(round_index):
                log.info("round %d: stop.when is %s; the loop ends here", round_index, self.ctx.config.stop.when)
                return

    def run_round(self, round_index: int) -> bool:
        """Run one round, or find it finished; False when there was nothing to ask and nothing new to learn from."""
        clock: dict[str, float] = {}
        with timed(clock, "queue"):
            queue = self._queue(round_index)
        with timed(clock, "labels"):
            self._collect(round_index, queue)
        if len(queue) == 0 and round_index > 1:
            return False
        self.learning.learn(round_index, clock)
        round_outputs.write_metrics(self.ctx)
        session.publish(self.ctx.folder)
        return True

    def _ends(self, round_index: int) -> bool:
        """Whether the rounds end by `stop.when`; not where the next queue is drawn: somebody may be at work on it."""
        drawn = run_files.latest_round(self.ctx.folder) or 0
        if round_index <= growth.frozen_rounds(self.ctx.folder):  # its advice is about the pool of before
            return False
        return drawn <= round_index < self.ctx.config.rounds.num and self.learning.ends(round_index)

    def _queue(self, round_index: int) -> pa.Table:
        folder = self.ctx.round_folder(round_index)
        queue = QUEUE.read(folder) if (folder / QUEUE.file).exists() else QUEUE.empty()
        if len(queue):  # somebody may have seen it: it stays as it is
            self._say_if_drawn_otherwise(folder)
        else:
            queue, answered = self._draw(round_index)
            if len(queue) or round_index == 1:
                owed = grown_pool.owed(self.ctx, answered, queue)
                options = self._selection() | ({"grown": owed} if owed else {})
                write_text(folder / run_files.QUEUE_OPTIONS, json.dumps(options))
                self.learning.keep(round_index, queue)
        if len(queue) and not (folder / run_files.QUEUE_PAGE).exists():
            self._write_files(round_index, queue)
        return queue

    def _write_files(self, round_index: int, queue: pa.Table) -> None:
        """The queue as files that anybody may fill; `queue export` makes those for named annotators."""
        folder = self.ctx.round_folder(round_index)
        ids = queue.sort_by("rank")["image_id"].to_pylist()
        uris, _ = uris_and_priors(self.ctx.folder, set(ids))
        origin = Origin("", round_index, run_files.run_code(self.ctx.folder) or "")
        handout = Handout(folder, handout_files.rows_of(folder, ids), origin, self.data.findings)
        pool = self.ctx.config.pool
        kept_back = burned_in.kept_back(self.ctx.folder, pool, ids)
        handout_files.write_files(handout, ("csv", "labelstudio", "html"), uris, pool.max_pixels, kept_back)

    def _draw(self, round_index: int) -> tuple[pa.Table, set[str]]:
        """A new queue, and the scans that were answered before it."""
        label_table.settle(self.ctx.folder, self.data.findings)
        table, config = label_table.read(self.ctx.folder), self.ctx.config
        label_table.check_table(table, self.data.findings)
        answered = verdicts.read_whole(table)
        holdout = [] if config.oracle else self._holdout(round_index, answered)
        again = [] if config.oracle else self._second_looks(round_index)
        queue = draw.draw(
            self.ctx,
            round_index,
            answered,
            self.learning.proposals(round_index - 1),
            strategy=config.strategy.name,
            holdout=holdout,
            second_looks=again,
            rejected=set(verdicts.rejections(table)),
            wished=self._wished(),
        )
        return queue, answered

    def _holdout(self, round_index: int, answered: set[str]) -> list[str]:
        """What of the sealed holdout is asked for: once of the run's own pool, once of each pool that joined."""
        parts = grown_pool.asking_parts(self.ctx.folder, round_index)
        return [image_id for part in parts for image_id in draw.holdout_request(self.ctx, answered, part)]

    def _wished(self) -> list[str]:
        """What people wished for; scans of a frozen release are left to its checks."""
        folder = self.ctx.folder
        frozen = frozen_release.frozen_anywhere(folder)
        return [image_id for image_id in marks.wished_for(folder) if image_id not in frozen]

    def _second_looks(self, round_index: int) -> list[tuple[str, str]]:
        queue = self.ctx.config.queue
        num = min(math.ceil(queue.second_look_share * queue.budget), queue.budget - 1)
        return self.learning.second_looks(round_index, num)

    def _selection(self) -> dict[str, Any]:
        """The options a queue is drawn with; kept beside it, because they may change from round to round."""
        return {name: getattr(self.ctx.config, name).model_dump() for name in ("strategy", "queue")}

    def _say_if_drawn_otherwise(self, folder: Path) -> None:
        path = folder / run_files.QUEUE_OPTIONS
        drawn_with = json.loads(path.read_text("utf-8")) if path.exists() else self._selection()
        if {name: drawn_with.get(name) for name in self._selection()} != self._selection():
            log.warning("%s was drawn with other options (%s) and stays as it is", folder.name, path.name)

    def _collect(self, round_index: int, queue: pa.Table) -> None:
        """Bring the answers into the label table.

        Raises:
            WaitingForLabels: when the queue is not answered.
        """
        if self.ctx.config.oracle:
            answers = oracle.answer(queue["image_id"].to_pylist(), self.data.pool_labels, round_index)
            label_table.add_answers(self.ctx.folder, answers, self.data.findings)
        label_table.settle(self.ctx.folder, self.data.findings)
        if len(queue):
            self._wait_for_labels(round_index, label_table.read(self.ctx.folder))

    def _wait_for_labels(self, round_index: int, table: pa.Table) -> None:
        answers = verdicts.answers(table, run_files.asked(self.ctx.folder), round_index)
        open_work = worklist.open_worklist(self.ctx.folder, round_index, answers, oracle=self.ctx.config.oracle)
        if open_work.open():
            raise WaitingForLabels(f"{open_work.summary()}\n{worklist.how_to_answer(self.ctx.folder, round_index)}")
