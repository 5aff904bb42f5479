"""The loop: queue -> labels -> learn -> pseudo-labels -> evaluate, round after round.

A round is finished when its `metrics.json` is there; everything before is repeated on resume, except what people have
seen: a queue once drawn is never drawn again, an answer once given is never asked again.
"""

import json
import logging
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.annotate import handout_files, oracle, worklist
from pipeline.annotate.handout_files import Handout
from pipeline.annotate.pictures import uris_and_priors
from pipeline.annotate.queue_csv import Origin
from pipeline.contracts.errors import WaitingForLabels
from pipeline.contracts.tables import PSEUDO, QUEUE, write_text
from pipeline.labels import agreement_report, label_table, training_labels, verdicts
from pipeline.labels.training_labels import Heard
from pipeline.rounds import learn_round as rounds_learn_round
from pipeline.rounds import round_outputs
from pipeline.rounds.learn_round import learn_round, timed
from pipeline.rounds.run_scans import Dataset
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.selection import draw
from pipeline.selection.draw import Proposals

log = logging.getLogger(__name__)


def run(ctx: StageContext) -> dict[str, Any]:
    """Run all rounds.

    Raises:
        WaitingForLabels: when a queue is not answered yet.
    """
    return run_loop(Loop(ctx))


def run_loop(loop: "Loop") -> dict[str, Any]:
    """Run all rounds of a loop; see `run`."""
    ctx = loop.ctx
    if not ctx.config.oracle:  # a label that came with the training pool is an expert label already given
        label_table.add_answers(ctx.folder, loop.data.pool_answers(), loop.data.findings)
    try:
        loop.run_rounds()
    except WaitingForLabels:
        loop.publish()
        raise
    loop.publish()
    ctx.progress("rounds", ctx.config.rounds.num, ctx.config.rounds.num)
    last = loop.finished()[-1] if loop.finished() else {}
    return {
        "num_rounds": len(loop.finished()),
        "num_expert": last.get("num_expert", 0),
        "num_pseudo": last.get("num_pseudo", 0),
    }


class Loop:
    """One run's rounds.

    Args:
        ctx: The stage's context.
        of_what: What the log adds to a round's number, such as `, effusion`.
    """

    def __init__(self, ctx: StageContext, of_what: str = "") -> None:
        self.ctx, self.of_what = ctx, of_what
        self.data = Dataset.open(ctx)

    def run_rounds(self) -> None:
        """Run round after round until all are done, or nothing is left to ask."""
        for round_index in range(1, self.ctx.config.rounds.num + 1):
            self.ctx.progress("rounds", round_index - 1, self.ctx.config.rounds.num)
            run_dir.write_status(self.ctx.folder, "running", "rounds", round_index)
            if not self.run_round(round_index):
                log.info("round %d: nothing is left to ask; the loop ends here", round_index)
                return

    def publish(self) -> None:
        """Make the last finished round the run's: metrics, predictions, pseudo-labels; and say who labelled."""
        self.write_metrics()
        if self.finished():
            round_outputs.publish(self.ctx, self.data, len(self.finished()))
        agreement_report.save_summary(self.ctx.folder, label_table.read(self.ctx.folder), self.data.findings)

    def finished(self) -> list[dict[str, Any]]:
        """Metrics of the finished rounds, in order."""
        found = []
        for round_index in range(1, self.ctx.config.rounds.num + 1):
            path = self.ctx.round_folder(round_index) / "metrics.json"
            if not path.exists():
                break
            found.append(json.loads(path.read_text("utf-8")))
        return found

    def write_metrics(self) -> None:
        """`metrics.jsonl`, one line a round."""
        write_text(self.ctx.folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in self.finished()))

    def run_round(self, round_index: int) -> bool:
        """Run one round, or find it finished; False when there was nothing to ask and nothing new to learn from."""
        clock: dict[str, float] = {}
        with timed(clock, "queue"):
            queue = self._queue(round_index)
        with timed(clock, "labels"):
            self._collect(round_index, queue)
        if len(queue) == 0 and round_index > 1:
            return False
        self.learn(round_index, clock)
        self.write_metrics()
        return True

    def learn(self, round_index: int, clock: dict[str, float]) -> None:
        """Learn from what the label table says up to a round, unless that was done before; leaves `metrics.json`."""
        folder = self.ctx.round_folder(round_index)
        heard = self.heard(round_index)
        fingerprint = self._fingerprint(round_index, heard)
        path = folder / "metrics.json"
        if path.exists() and json.loads(path.read_text("utf-8")).get("fingerprint") == fingerprint:
            log.info("round %d%s: finished before, kept", round_index, self.of_what)
            return
        path.unlink(missing_ok=True)  # until the new row is written, the round counts as not finished
        row = learn_round(self.ctx, self.data, round_index, heard, clock)
        seconds = {name: round(value, 3) for name, value in clock.items()}
        write_text(path, json.dumps({"round": round_index, **row, "seconds": seconds, "fingerprint": fingerprint}))
        tell(round_index, self.of_what, row)

    def heard(self, round_index: int) -> Heard:
        """What the experts have said up to a round."""
        return training_labels.hear(self.ctx.folder, label_table.read(self.ctx.folder), self.data.findings, round_index)

    def _queue(self, round_index: int) -> pa.Table:
        folder = self.ctx.round_folder(round_index)
        queue = QUEUE.read(folder) if (folder / "queue.parquet").exists() else QUEUE.empty()
        if len(queue):  # somebody may have seen it: it stays as it is
            self._say_if_drawn_otherwise(folder)
        else:
            queue = self._draw(round_index)
            if len(queue) or round_index == 1:
                write_text(folder / "queue.json", json.dumps(self._selection()))
                self._keep(round_index, queue)
        if len(queue) and not (folder / "queue.html").exists():
            self._write_files(round_index, queue)
        return queue

    def _keep(self, round_index: int, queue: pa.Table) -> None:
        """Write a queue that was drawn; from now on it stays."""
        QUEUE.write(self.ctx.round_folder(round_index), queue)

    def _write_files(self, round_index: int, queue: pa.Table) -> None:
        """The queue as files that anybody may fill; `queue export` makes those for named annotators."""
        folder = self.ctx.round_folder(round_index)
        ids = queue.sort_by("rank")["image_id"].to_pylist()
        uris, _ = uris_and_priors(self.ctx.folder, set(ids))
        origin = Origin("", round_index, run_files.run_code(self.ctx.folder) or "")
        given = Handout(folder, handout_files.rows_of(folder, ids), origin, self.data.findings)
        handout_files.write_files(given, ("csv", "labelstudio", "html"), uris, self.ctx.config.pool.max_pixels)

    def _draw(self, round_index: int) -> pa.Table:
        label_table.settle(self.ctx.folder, self.data.findings)
        table, config = label_table.read(self.ctx.folder), self.ctx.config
        label_table.check_table(table, self.data.findings)
        answered = verdicts.read_whole(table)
        holdout = [] if config.oracle or round_index > 1 else draw.holdout_request(self.ctx, answered)
        again = [] if config.oracle else self._second_looks(round_index, table)
        return draw.draw(
            self.ctx,
            round_index,
            answered,
            self.proposals(round_index - 1),
            strategy=config.strategy.name,
            holdout=holdout,
            second_looks=again,
            rejected=set(verdicts.rejections(table)),
        )

    def _second_looks(self, round_index: int, table: pa.Table) -> list[tuple[str, str]]:
        queue = self.ctx.config.queue
        num = min(math.ceil(queue.second_look_share * queue.budget), queue.budget - 1)
        return self.second_looks(round_index, table, num)

    def second_looks(self, round_index: int, table: pa.Table, num: int) -> list[tuple[str, str]]:
        """Answered scans that deserve another look, each with its kind; see `training_labels.second_looks`."""
        asked = run_files.kinds(self.ctx.folder, round_index)
        return training_labels.second_looks(self.ctx.folder, table, self.data.findings, num, asked)

    def _selection(self) -> dict[str, Any]:
        """The options a queue is drawn with; kept beside it, because they may change from round to round."""
        return {name: getattr(self.ctx.config, name).model_dump() for name in ("strategy", "queue")}

    def _say_if_drawn_otherwise(self, folder: Path) -> None:
        path = folder / "queue.json"
        if path.exists() and json.loads(path.read_text("utf-8")) != self._selection():
            log.warning("%s was drawn with other options (queue.json) and stays as it is", folder.name)

    def proposals(self, round_index: int) -> Proposals:
        """Accepted pseudo-labels of a round; none before it has learned."""
        folder = self.ctx.round_folder(round_index)
        if not (folder / "pseudo.parquet").exists():
            return Proposals({})
        table = PSEUDO.read(folder)
        accepted = table.filter(pc.equal(table["decision"], "accept"))
        return Proposals(dict(zip(accepted["image_id"].to_pylist(), accepted["finding"].to_pylist(), strict=True)))

    def _collect(self, round_index: int, queue: pa.Table) -> None:
        """Bring the answers into the label table.

        Raises:
            WaitingForLabels: when the queue is not answered.
        """
        if self.ctx.config.oracle:
            given = oracle.answer(queue["image_id"].to_pylist(), self.data.pool_labels, round_index)
            label_table.add_answers(self.ctx.folder, given, self.data.findings)
        label_table.settle(self.ctx.folder, self.data.findings)
        if len(queue):
            self._wait_for_labels(round_index, label_table.read(self.ctx.folder))

    def _wait_for_labels(self, round_index: int, table: pa.Table) -> None:
        given = verdicts.answers(table, run_files.asked(self.ctx.folder), round_index)
        found = worklist.open_worklist(self.ctx.folder, round_index, given, oracle=self.ctx.config.oracle)
        if found.open():
            raise WaitingForLabels(f"{found.said()}\n{worklist.how_to_answer(self.ctx.folder, round_index)}")

    def _fingerprint(self, round_index: int, heard: Heard) -> str:
        config = self.ctx.config
        before = run_dir.stage_records(self.ctx.folder)
        earlier = self.ctx.round_folder(round_index - 1) / "metrics.json"
        return run_dir.fingerprint(
            {
                "config": {
                    name: getattr(config, name).model_dump()
                    for name in ("train", "network", "calibrate", "pseudo", "evaluate")
                },
                "seed": config.seed,
                "adapts": rounds_learn_round.adapts(self.ctx, round_index, heard.answers),
                "looks": config.rounds.num if config.pseudo.gate == "certified" else 1,
                "answers": heard.answers,
                "consensus": {i: c for i, c in heard.training.items() if c != heard.answers[i]},
                "rejected": heard.rejected,
                "inputs": before.get("clusters", {}).get("fingerprint"),
                "before": json.loads(earlier.read_text("utf-8")).get("fingerprint") if earlier.exists() else None,
            }
        )


def tell(round_index: int, of_what: str, row: dict[str, Any]) -> None:
    """Log a round in one line."""

    def show(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    holdout = row["holdout"] or {}
    log.info(
        "round %d%s: %d expert labels, %d pseudo-labels (precision estimated %s, certified at least %s); "
        "holdout AUROC %s, accuracy %s",
        round_index,
        of_what,
        row["num_expert"],
        row["num_pseudo"],
        show(row["pseudo_precision_estimated"]),
        show(row["pseudo_precision_certified"]),
        show(holdout.get("auroc")),
        show(holdout.get("accuracy")),
    )
