"""The loop of independent findings: one queue, one expert reading of all findings, one round of learning for each."""

import json
import logging
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.contracts import finding_line
from pipeline.contracts.errors import AuditBlocked
from pipeline.contracts.tables import LABELS, PREDICTIONS, QUEUE, write_bytes, write_text
from pipeline.labels import agreement_report, label_table, verdicts
from pipeline.labels.training_labels import Heard
from pipeline.per_finding import audit as audits
from pipeline.per_finding import parts
from pipeline.per_finding.merge import merged_row
from pipeline.rounds import round_outputs
from pipeline.rounds.loop import Loop, run_loop, tell
from pipeline.runtime.context import StageContext
from pipeline.selection.draw import Proposals

# N scans with a vector

log = logging.getLogger(__name__)


def run(ctx: StageContext) -> dict[str, Any]:
    """Run all rounds.

    Raises:
        WaitingForLabels: when a queue is not answered yet.
    """
    return run_loop(SharedLoop(ctx))


class PartLoop(Loop):
    """The rounds of one finding.

    Args:
        ctx: Of the finding's folder.
        finding: Its name.
        whole: Folder of the run.
    """

    def __init__(self, ctx: StageContext, finding: str, whole: Path) -> None:
        super().__init__(ctx, f", {finding}")
        self.whole = whole

    def heard(self, round_index: int) -> Heard:
        """What the experts have said of the finding; whether a scan is any good their readings as a whole decide."""
        found = super().heard(round_index)
        rejected = verdicts.rejections(label_table.read(self.whole), round_index)
        return replace(found, rejected={i: why for i, why in found.rejected.items() if i in rejected})

    def settled(self, round_index: int) -> set[str]:
        """Scans of which the finding is known, or a round has proposed something."""
        classes = verdicts.expert_classes(label_table.read(self.ctx.folder), self.data.findings)
        return {i for i, known in classes.items() if known is not None} | set(self.proposals(round_index).finding)


class SharedLoop(Loop):
    """One run's rounds, learned finding by finding."""

    def __init__(self, ctx: StageContext) -> None:
        super().__init__(ctx)
        self.parts = {name: PartLoop(part, name, ctx.folder) for name, part in parts.parts_of(ctx).items()}
        for finding, part in self.parts.items():
            self._catch_up(finding, part)

    def _catch_up(self, finding: str, part: PartLoop) -> None:
        """A finding that was added later has proposed nothing in the rounds before."""
        queues = [path.parent for path in sorted((self.ctx.folder / "rounds").glob("*/queue.parquet"))]
        missed = [path for path in queues if not (part.ctx.folder / "rounds" / path.name / "queue.parquet").exists()]
        for path in missed:
            parts.write_queue(part.ctx.folder / "rounds" / path.name, QUEUE.read(path), {})
        if missed and not self.ctx.config.oracle:
            log.warning(
                "%s was added after %d rounds: scans that people have read are not asked for again, of the holdout "
                "neither; what the pool itself says of it counts",
                finding,
                len(missed),
            )

    def learn(self, round_index: int, clock: dict[str, float]) -> None:
        """Learn every finding from its part of the answers; leaves the round's row and predictions."""
        self._project()
        rows = {}
        path = self.ctx.round_folder(round_index) / "metrics.json"
        before = path.read_text("utf-8") if path.exists() else None
        path.unlink(missing_ok=True)  # until all findings have learned, the round counts as not finished
        for number, (finding, part) in enumerate(self.parts.items()):
            self.ctx.progress("findings", number, len(self.parts))
            self._learn_one(part, round_index)
            mine = part.ctx.round_folder(round_index) / "metrics.json"
            rows[finding] = json.loads(mine.read_text("utf-8"))
        if not self.ctx.config.oracle:
            audits.conclude(self.ctx)  # each finding was audited again with the new labels
        row = merged_row(round_index, self._num_read(round_index), rows)
        self._write_predictions(round_index)
        if before is not None and json.loads(before)["fingerprint"] == row["fingerprint"]:
            write_text(path, before)
        else:
            seconds = {name: round(value, 3) for name, value in clock.items()} | row["seconds"]
            write_text(path, json.dumps(row | {"seconds": seconds}))
            tell(round_index, ", mean of the findings", row)

    def _learn_one(self, part: PartLoop, round_index: int) -> None:
        """Learn one finding.

        Raises:
            AuditBlocked: its audit blocks; the run's own audit says so too.
        """
        try:
            part.learn(round_index, {})
        except AuditBlocked as blocked:
            audits.conclude(self.ctx)
            where = self.ctx.folder / "report" / "audit.html"
            raise AuditBlocked(f"{part.of_what.strip(', ')}: {blocked.what}", where=where) from blocked
        part.write_metrics()

    def publish(self) -> None:
        """Make the last finished round the run's, of each finding and of all."""
        self._project()
        for part in self.parts.values():
            part.publish()
        self.write_metrics()
        num_finished = len(self.finished())
        if num_finished:
            latest = self.ctx.round_folder(num_finished) / "predictions.parquet"
            write_bytes(self.ctx.folder / "predictions.parquet", latest.read_bytes())
            label_table.replace_pseudo_values(self.ctx.folder, self._pseudo_rows())
        table = label_table.read(self.ctx.folder)
        agreement_report.save_counts(self.ctx.folder, table, len(parts.disagreements(table, list(self.parts))))

    def proposals(self, round_index: int) -> Proposals:
        """Scans that have a proposal of some finding, and those of which no finding is left open."""
        self._project()
        found = [set(part.proposals(round_index).finding) for part in self.parts.values()]
        settled = set.intersection(*(part.settled(round_index) for part in self.parts.values()))
        return Proposals(dict.fromkeys(sorted(set().union(*found))), frozenset(settled))

    def second_looks(self, round_index: int, table: pa.Table, num: int) -> list[tuple[str, str]]:
        """Scans that some finding wants looked at again; the findings take turns."""
        self._project()
        looks = [part.second_looks(round_index, label_table.read(part.ctx.folder), num) for part in self.parts.values()]
        turns: Iterable[tuple[str, str] | None] = chain.from_iterable(zip_longest(*looks))
        chosen: dict[str, str] = {}
        for look in turns:
            if look is not None and len(chosen) < num:
                chosen.setdefault(*look)
        return list(chosen.items())

    def _keep(self, round_index: int, queue: pa.Table) -> None:
        for part in self.parts.values():  # before the run's own: what is proposed is frozen before anybody is asked
            proposed = {i: str(finding) for i, finding in part.proposals(round_index - 1).finding.items()}
            parts.write_queue(part.ctx.round_folder(round_index), queue, proposed)
        super()._keep(round_index, queue)

    def _project(self) -> None:
        table = label_table.read(self.ctx.folder)
        for finding, part in self.parts.items():
            parts.write_labels(part.ctx.folder, table, finding)

    def _num_read(self, round_index: int) -> int:
        """Training scans of which experts have said something about a finding."""
        table = label_table.read(self.ctx.folder)
        said = pc.and_(pc.equal(table["origin"], "expert"), pc.invert(pc.is_nan(table["value"])))
        known = table.filter(pc.and_(said, pc.less_equal(table["round"], round_index)))
        read = set(pc.unique(known["image_id"]).to_pylist()) - set(verdicts.rejections(table, round_index))
        return sum(self.data.split.get(image_id) == "train" for image_id in read)

    def _write_predictions(self, round_index: int) -> None:
        """The round's predictions of all findings side by side; NaN of one that has no classifier yet."""
        ids = self.data.scans_N.image_id
        prob_N = {finding: np.full(len(ids), np.nan, np.float32) for finding in self.parts}
        said_N = {finding: np.full(len(ids), finding_line.UNKNOWN) for finding in self.parts}
        for finding, part in self.parts.items():
            folder = part.ctx.round_folder(round_index)
            if not (folder / "predictions.parquet").exists():
                continue
            table = PREDICTIONS.read(folder)
            table = table.take(pc.index_in(ids, value_set=table["image_id"].combine_chunks()))
            prob_N[finding] = table[f"prob_{finding}"].to_numpy()
            said_N[finding] = pc.equal(table["predicted"], finding).to_numpy(zero_copy_only=False).astype(np.float64)
        findings = tuple(self.parts)
        lines = [
            finding_line.write(dict(zip(findings, of_scan, strict=True)), findings)
            for of_scan in zip(*said_N.values(), strict=True)
        ]
        round_outputs.write_predictions(self.ctx, self.data, round_index, lines, prob_N)

    def _pseudo_rows(self) -> pa.Table:
        """The pseudo-labels of the findings as rows of the run's label table: value 1 or 0 of that finding."""
        found = [LABELS.empty()]
        for finding, part in self.parts.items():
            table = label_table.read(part.ctx.folder)
            mine = pc.and_(pc.equal(table["origin"], "pseudo"), pc.equal(table["finding"], finding))
            found.append(table.filter(mine))
        return pa.concat_tables(found)
