"""One question of a run, learned round after round: which of C classes a scan shows.

A run of exclusive classes is one question; a run of independent findings is one for each of them. What a question
learns from comes in as `read_labels`, so that it need not know whose answers they are.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts.tables import PSEUDO, QUEUE, RELEASE_CHECK, write_text
from pipeline.labels import agreement_report, label_table, training_labels, verdicts
from pipeline.labels.training_labels import ExpertLabels
from pipeline.learn.releases import check_planning, frozen_release
from pipeline.learn.self_training import Learned
from pipeline.learn.stopping import record
from pipeline.radiology_reports import soft_labels
from pipeline.rounds import forecast_round, grown_pool, report_tier, round_outputs
from pipeline.rounds.learn_round import Begun, adapts, begun, learn_round, timed
from pipeline.rounds.run_scans import Dataset
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.growth import record as growth
from pipeline.selection.draw import Proposals

log = logging.getLogger(__name__)
ReadLabels = Callable[[StageContext, tuple[str, ...], int], ExpertLabels]


def expert_labels(ctx: StageContext, findings: tuple[str, ...], round_index: int) -> ExpertLabels:
    """What the experts have said up to a round, by the label table in the folder."""
    return training_labels.expert_labels(ctx.folder, label_table.read(ctx.folder), findings, round_index)


class Question:
    """What the rounds learn, and what they tell the next queue; see `loop.Learning`.

    Args:
        ctx: The stage's context.
        data: The run's scans.
        read_labels: What the experts have said, by context, classes and round.
        of_what: What the log adds to a round's number, such as `, effusion`.
    """

    def __init__(
        self, ctx: StageContext, data: Dataset, read_labels: ReadLabels = expert_labels, of_what: str = ""
    ) -> None:
        self.ctx, self.data, self.of_what = ctx, data, of_what
        self._read_labels = read_labels

    def predict_grown_pool(self) -> None:
        """Let the last model before the run grew predict the grown pool; see `grown_pool.predict`."""
        grown_pool.predict([(self.ctx, self.data)])

    def learn(
        self, round_index: int, clock: dict[str, float], learned: Learned | None = None, together: str | None = None
    ) -> None:
        """Learn from what the label table says up to a round, unless that was done before; leaves `metrics.json`.

        Args:
            round_index: From 1.
            clock: Seconds of each step are added here.
            learned: What came of learning together with others; None: it learns here.
            together: Fingerprint of what all of them learn from; None: it learns alone.
        """
        if round_index <= growth.frozen_rounds(self.ctx.folder) and self._row(round_index):
            log.info("round %d%s: finished before the run grew, kept", round_index, self.of_what)
            return
        expert = self.expert_labels(round_index)
        fingerprint = self._fingerprint(round_index, expert, together)
        path = self.ctx.round_folder(round_index) / run_files.ROW
        before = self._row(round_index)
        if before.get("fingerprint") == fingerprint:
            log.info("round %d%s: finished before, kept", round_index, self.of_what)
            forecast_round.update(self.ctx, self.data, round_index, expert, before, fingerprint)
            return
        path.unlink(missing_ok=True)  # until the new row is written, the round counts as not finished
        row = learn_round(self.ctx, self.data, round_index, expert, clock, learned)
        with timed(clock, "forecast"):
            forecast_round.update(self.ctx, self.data, round_index, expert, row, fingerprint)
        seconds = {name: round(value, 3) for name, value in clock.items()}
        write_text(path, json.dumps({"round": round_index, **row, "seconds": seconds, "fingerprint": fingerprint}))
        log_round(round_index, self.of_what, row)

    def begun(self, round_index: int) -> Begun:
        """What a round has before it learns."""
        return begun(self.ctx, self.data, round_index, self.expert_labels(round_index))

    def has_learned(self, round_index: int, together: str | None = None) -> bool:
        """Whether `learn` would find the round finished."""
        return bool(self._row(round_index).get("fingerprint") == self.fingerprint(round_index, together))

    def fingerprint(self, round_index: int, together: str | None = None) -> str:
        """Hash of whatever decides the outcome of a round; `together` is that of the questions it learns with."""
        return self._fingerprint(round_index, self.expert_labels(round_index), together)

    def publish(self) -> None:
        """Make the last finished round the run's: metrics, predictions, pseudo-labels; and say who labelled."""
        num_finished = round_outputs.write_metrics(self.ctx)
        if num_finished:
            round_outputs.publish(self.ctx, self.data, num_finished)
        agreement_report.save_summary(self.ctx.folder, label_table.read(self.ctx.folder), self.data.findings)

    def expert_labels(self, round_index: int) -> ExpertLabels:
        """What the experts have said up to a round."""
        return self._read_labels(self.ctx, self.data.findings, round_index)

    def ends(self, round_index: int) -> bool:
        """Whether the rounds end after this one: what `stop.when` waits for has come, and no blind check is to come."""
        when, advised = self.ctx.config.stop.when, record.read(self.ctx.folder, round_index)
        if when == "never" or advised is None or when not in advised["advice"]["by"]:
            return False
        answers = verdicts.expert_classes(label_table.read(self.ctx.folder), self.data.findings)
        return not check_planning.checks_to_come(self.ctx, round_index, answers)

    def proposals(self, round_index: int) -> Proposals:
        """Accepted pseudo-labels of a round, none before it has learned; and what reports tell."""
        folder = self.ctx.round_folder(round_index)
        answers = verdicts.expert_classes(label_table.read(self.ctx.folder), self.data.findings)
        reports = report_tier.of_round(self.ctx, self.data.findings, round_index, answers)
        reported = frozenset(reports.used) if self.ctx.config.reports.rank else frozenset()
        if not (folder / PSEUDO.file).exists():
            return Proposals({}, reported, reported=reports.to_check)
        table = PSEUDO.read(folder)
        accepted = table.filter(pc.equal(table["decision"], "accept"))
        proposed = dict(zip(accepted["image_id"].to_pylist(), accepted["finding"].to_pylist(), strict=True))
        checks = frozen_release.next_checks(self.ctx.folder, answers, round_index + 1)
        return Proposals(proposed, reported | frozenset(proposed), checks, reports.to_check)

    def second_looks(self, round_index: int, num: int) -> list[tuple[str, str]]:
        """Answered scans that deserve another look, each with its kind; see `training_labels.second_looks`."""
        asked: dict[str, Counter[str]] = run_files.kinds(self.ctx.folder, round_index)
        for image_id in frozen_release.frozen_ids(self.ctx.folder):  # to doubt them would flatter the certificate
            asked.setdefault(image_id, Counter())[RELEASE_CHECK] += 1
        table = label_table.read(self.ctx.folder)
        return training_labels.second_looks(self.ctx.folder, table, self.data.findings, num, asked)

    def keep(self, round_index: int, queue: pa.Table) -> None:
        """Write a queue that was drawn; from now on it stays."""
        QUEUE.write(self.ctx.round_folder(round_index), queue)

    def _row(self, round_index: int) -> dict[str, Any]:
        """The row of a finished round; empty of another."""
        path = self.ctx.round_folder(round_index) / run_files.ROW
        row: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
        return row

    def _fingerprint(self, round_index: int, expert: ExpertLabels, together: str | None) -> str:
        config = self.ctx.config
        before = run_dir.stage_records(self.ctx.folder)
        earlier = self.ctx.round_folder(round_index - 1) / run_files.ROW
        reports = soft_labels.fingerprint(self.ctx.folder, config)
        return run_dir.fingerprint(
            {
                "config": {
                    name: getattr(config, name).model_dump()
                    for name in ("train", "network", "calibrate", "pseudo", "release", "evaluate")
                },
                "seed": config.seed,
                "adapts": adapts(self.ctx, round_index, expert.answers),
                "looks": config.rounds.num if config.pseudo.gate == "certified" else 1,
                "answers": expert.answers,
                "consensus": {i: c for i, c in expert.training.items() if c != expert.answers[i]},
                "rejected": expert.rejected,
                "inputs": before.get("clusters", {}).get("fingerprint"),
                "before": json.loads(earlier.read_text("utf-8")).get("fingerprint") if earlier.exists() else None,
                **({} if together is None else {"together": together}),
                **({} if reports is None else {"reports": reports}),
            }
        )


def log_round(round_index: int, of_what: str, row: dict[str, Any]) -> None:
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
