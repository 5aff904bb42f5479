"""The rounds of independent findings: one queue, one expert reading of all findings, one question for each."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts import finding_line
from pipeline.contracts.errors import AuditBlocked
from pipeline.contracts.tables import DOUBT, LABELS, PREDICTIONS, QUEUE, copy_file, write_text
from pipeline.labels import agreement_report, label_table, verdicts
from pipeline.labels.training_labels import ExpertLabels
from pipeline.learn.releases import frozen_release
from pipeline.learn.scan_rows import ScanRows
from pipeline.per_finding import audit as audits
from pipeline.per_finding import false_alarms, one_network, parts
from pipeline.per_finding import releases as finding_releases
from pipeline.per_finding.merge import merged_row
from pipeline.rounds import grown_pool, loop, question, round_outputs
from pipeline.rounds.learn_round import timed
from pipeline.rounds.question import Question, log_round
from pipeline.rounds.run_scans import Dataset
from pipeline.runtime import run_dir, run_files
from pipeline.runtime.context import StageContext
from pipeline.runtime.growth import record as growth
from pipeline.selection.draw import Proposals

# N scans with a vector

_UNKNOWN = -1
log = logging.getLogger(__name__)


def run(ctx: StageContext) -> dict[str, Any]:
    """Run all rounds.

    Raises:
        WaitingForLabels: when a queue is not answered yet.
    """
    data = Dataset.open(ctx)
    questions = {
        finding: Question(part, Dataset.open(part), expert_labels, of_what=f", {finding}")
        for finding, part in parts.parts_of(ctx).items()
    }
    learning = Findings(ctx, data, questions)
    learning.catch_up()
    return loop.run_rounds(ctx, data, learning)


def expert_labels(part: StageContext, findings: tuple[str, ...], round_index: int) -> ExpertLabels:
    """What the experts have said of one finding; whether a scan is any good their readings as a whole decide."""
    of_finding = question.expert_labels(part, findings, round_index)
    rejected = verdicts.rejections(label_table.read(run_files.home(part.folder)), round_index)
    return replace(of_finding, rejected={i: why for i, why in of_finding.rejected.items() if i in rejected})


class Findings:
    """What a run of independent findings learns: every finding by itself, from its part of the answers.

    The network is trained for all of them at once (`one_network`), before each decides for itself what to do with it.

    Args:
        ctx: Of the run.
        data: The run's scans.
        questions: The question of each finding, in its folder.
    """

    def __init__(self, ctx: StageContext, data: Dataset, questions: Mapping[str, Question]) -> None:
        self.ctx, self.data, self.questions = ctx, data, questions
        self._projected: str | None = None

    def catch_up(self) -> None:
        """A finding that was added later has proposed nothing in the rounds before."""
        drawn = run_files.drawn_rounds(self.ctx.folder)
        for finding, asked in self.questions.items():
            missed = sorted({*drawn} - {*run_files.drawn_rounds(asked.ctx.folder)})
            for round_index in missed:
                queue = QUEUE.read(self.ctx.round_folder(round_index))
                parts.write_queue(asked.ctx.round_folder(round_index), queue, {})
            if missed and not self.ctx.config.oracle:
                log.warning(
                    "%s was added after %d rounds: scans that people have read are not asked for again, of the holdout "
                    "neither; what the pool itself says of it counts",
                    finding,
                    len(missed),
                )

    def predict_grown_pool(self) -> None:
        """Let each finding's last model before the run grew predict the grown pool, and put it side by side."""
        grown_pool.predict([(asked.ctx, asked.data) for asked in self.questions.values()])
        part = growth.last(self.ctx.folder)
        if part is None or not (self.ctx.round_folder(part.after_round) / PREDICTIONS.file).exists():
            return
        place = growth.before_folder(self.ctx.folder, part.part)
        if not grown_pool.has_predicted(place, self.data):
            folders = {f: growth.before_folder(asked.ctx.folder, part.part) for f, asked in self.questions.items()}
            PREDICTIONS.write(place, self._side_by_side(folders, part.after_round))

    def learn(self, round_index: int, clock: dict[str, float]) -> None:
        """Learn every finding from its part of the answers; leaves the round's row and predictions."""
        if self._is_frozen(round_index):
            log.info("round %d: finished before the run grew, kept", round_index)
            return
        self._project()
        rows = {}
        path = self.ctx.round_folder(round_index) / run_files.ROW
        before = path.read_text("utf-8") if path.exists() else None
        path.unlink(missing_ok=True)  # until all findings have learned, the round counts as not finished
        shared = one_network.of_round(self.ctx, self.data, self.questions, round_index)
        learned, together = {}, None
        if shared is not None:
            with timed(clock, "network"):
                learned, together = shared.learn(self._blamed), shared.fingerprint
        for number, (finding, asked) in enumerate(self.questions.items()):
            self.ctx.progress("findings", number, len(self.questions))
            with self._blamed(finding):
                asked.learn(round_index, {}, learned.get(finding), together)
            round_outputs.write_metrics(asked.ctx)
            row_of_finding = asked.ctx.round_folder(round_index) / run_files.ROW
            rows[finding] = json.loads(row_of_finding.read_text("utf-8"))
        if shared is not None:
            shared.clean()
        if not self.ctx.config.oracle:
            audits.conclude(self.ctx)  # each finding was audited again with the new labels
        row = merged_row(round_index, self._num_read(round_index), rows)
        row["releases_together"] = finding_releases.together(self.ctx.folder)
        of_parts = {finding: asked.ctx for finding, asked in self.questions.items()}
        row["healthy_scans"] = false_alarms.of_healthy_scans(self.ctx, of_parts, round_index)
        folders = {finding: asked.ctx.round_folder(round_index) for finding, asked in self.questions.items()}
        PREDICTIONS.write(self.ctx.round_folder(round_index), self._side_by_side(folders, round_index))
        if before is not None and json.loads(before)["fingerprint"] == row["fingerprint"]:
            write_text(path, before)
        else:
            seconds = {name: round(value, 3) for name, value in clock.items()} | row["seconds"]
            write_text(path, json.dumps(row | {"seconds": seconds}))
            log_round(round_index, ", mean of the findings", row)

    def _is_frozen(self, round_index: int) -> bool:
        """Whether a round was finished before the run grew, by all its findings; one added since has yet to learn."""
        if round_index > growth.frozen_rounds(self.ctx.folder):
            return False
        every = [self.ctx, *(asked.ctx for asked in self.questions.values())]
        return all((ctx.round_folder(round_index) / run_files.ROW).exists() for ctx in every)

    @contextmanager
    def _blamed(self, finding: str) -> Iterator[None]:
        """An audit that blocks is that of a finding; the run's own audit says so too.

        Raises:
            AuditBlocked: naming the finding.
        """
        try:
            yield
        except AuditBlocked as blocked:
            audits.conclude(self.ctx)
            where = self.ctx.folder / run_files.AUDIT_PAGE
            raise AuditBlocked(f"{finding}: {blocked.what}", where=where) from blocked

    def publish(self) -> None:
        """Make the last finished round the run's, of each finding and of all."""
        self._project()
        for asked in self.questions.values():
            asked.publish()
        num_finished = round_outputs.write_metrics(self.ctx)
        if num_finished:
            copy_file(self.ctx.round_folder(num_finished) / PREDICTIONS.file, self.ctx.folder / PREDICTIONS.file)
            label_table.replace_pseudo_values(self.ctx.folder, self._pseudo_rows())
        table = label_table.read(self.ctx.folder)
        num_disputed = len(parts.disagreements(table, list(self.questions)))
        agreement_report.save_counts(self.ctx.folder, table, self.data.findings, num_disputed)

    def ends(self, round_index: int) -> bool:
        """Whether no further round is wanted: the findings share one queue, so each of them must be done."""
        return all(asked.ends(round_index) for asked in self.questions.values())

    def proposals(self, round_index: int) -> Proposals:
        """Scans that have a proposal of some finding, those of which no finding is left open, and what to check next.

        The releases of the findings take turns, each in its own order; a scan that is in several of them is read once.
        """
        self._project()
        proposals = {finding: asked.proposals(round_index) for finding, asked in self.questions.items()}
        proposed = {finding: set(of_finding.finding) for finding, of_finding in proposals.items()}
        settled = set.intersection(
            *({*(of_finding.settled or ())} | self._known(finding) for finding, of_finding in proposals.items())
        )
        turns = chain.from_iterable(zip_longest(*(of_finding.checks for of_finding in proposals.values())))
        checks = tuple(dict.fromkeys(image_id for image_id in turns if image_id is not None))
        reported = frozenset().union(*(of_finding.reported for of_finding in proposals.values()))
        return Proposals(dict.fromkeys(sorted(set().union(*proposed.values()))), frozenset(settled), checks, reported)

    def second_looks(self, round_index: int, num: int) -> list[tuple[str, str]]:
        """Scans that some finding wants looked at again; the findings take turns.

        A second look reads a scan for all findings: what is in the release of one is not doubted for another's sake.
        """
        self._project()
        frozen = {i for asked in self.questions.values() for i in frozen_release.frozen_ids(asked.ctx.folder)}
        looks = [asked.second_looks(round_index, num) for asked in self.questions.values()]
        turns: Iterable[tuple[str, str] | None] = chain.from_iterable(zip_longest(*looks))
        chosen: dict[str, str] = {}
        for look in turns:
            if look is not None and len(chosen) < num and not (look[1] == DOUBT and look[0] in frozen):
                chosen.setdefault(*look)
        return list(chosen.items())

    def keep(self, round_index: int, queue: pa.Table) -> None:
        """Write a queue that was drawn, each finding's copy first: what is proposed is frozen before anybody is asked.

        From now on it stays.
        """
        for asked in self.questions.values():
            proposed = {i: str(finding) for i, finding in asked.proposals(round_index - 1).finding.items()}
            parts.write_queue(asked.ctx.round_folder(round_index), queue, proposed)
        QUEUE.write(self.ctx.round_folder(round_index), queue)

    def _project(self) -> None:
        """Bring the findings' label tables up to date, where the run's has changed since."""
        content = run_dir.file_hash(self.ctx.folder / LABELS.file)
        if content == self._projected:
            return
        table = label_table.read(self.ctx.folder)
        for finding, asked in self.questions.items():
            parts.write_labels(asked.ctx.folder, table, finding)
        self._projected = content

    def _known(self, finding: str) -> set[str]:
        """Scans of which experts have said whether they show a finding."""
        asked = self.questions[finding]
        classes = verdicts.expert_classes(label_table.read(asked.ctx.folder), asked.data.findings)
        return {image_id for image_id, known in classes.items() if known is not None}

    def _num_read(self, round_index: int) -> int:
        """Training scans of which experts have said something about a finding."""
        table = label_table.read(self.ctx.folder)
        is_known = pc.and_(pc.equal(table["origin"], "expert"), pc.invert(pc.is_nan(table["value"])))
        known = table.filter(pc.and_(is_known, pc.less_equal(table["round"], round_index)))
        read = set(pc.unique(known["image_id"]).to_pylist()) - set(verdicts.rejections(table, round_index))
        return pc.sum(pc.equal(self.data.sides(ScanRows.of(read)), "train")).as_py() or 0

    def _side_by_side(self, folders: Mapping[str, Path], round_index: int) -> pa.Table:
        """Predictions of all findings as one table; NaN of one that has no classifier, or has not seen the scan.

        Args:
            folders: Of each finding, where its predictions lie.
            round_index: Whose models they are of.
        """
        ids = self.data.scans_N.image_id
        prob_N = {finding: np.full(len(ids), np.nan, np.float32) for finding in self.questions}
        state_NF = np.full((len(ids), len(self.questions)), _UNKNOWN, np.int8)
        for place, finding in enumerate(self.questions):
            folder = folders[finding]
            if not (folder / PREDICTIONS.file).exists():
                continue
            table = PREDICTIONS.read(folder)
            table = table.take(pc.index_in(ids, value_set=table["image_id"].combine_chunks()))
            prob_N[finding] = table[f"prob_{finding}"].to_numpy()
            is_there = pc.equal(table["predicted"], finding).cast(pa.int8())
            state_NF[:, place] = pc.fill_null(is_there, _UNKNOWN).to_numpy()
        return round_outputs.predictions_table(self.data, round_index, _lines(state_NF, tuple(self.questions)), prob_N)

    def _pseudo_rows(self) -> pa.Table:
        """The pseudo-labels of the findings as rows of the run's label table: value 1 or 0 of that finding."""
        rows = [LABELS.empty()]
        for finding, asked in self.questions.items():
            table = label_table.read(asked.ctx.folder)
            of_finding = pc.and_(pc.equal(table["origin"], "pseudo"), pc.equal(table["finding"], finding))
            rows.append(table.filter(of_finding))
        return pa.concat_tables(rows)


def _lines(state_NF: np.ndarray, findings: tuple[str, ...]) -> pa.Array:
    """The line of findings of each scan; what many scans show is written once.

    Args:
        state_NF: 1 there, 0 not there, `_UNKNOWN`.
        findings: F names.
    """
    meaning = {0: 0.0, 1: 1.0, _UNKNOWN: finding_line.UNKNOWN}
    distinct_LF, line_N = np.unique(state_NF, axis=0, return_inverse=True)
    lines = [
        finding_line.write({name: meaning[state] for name, state in zip(findings, row, strict=True)}, findings)
        for row in distinct_LF.tolist()
    ]
    return pa.array(lines, pa.string()).take(pa.array(line_N.reshape(-1)))
