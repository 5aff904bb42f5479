"""What the overview says of a run of independent findings, as data; `overview.gather` fills it.

A finding's folder is a run of one question with pages of its own; nothing here is computed that it did not measure.
"""

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.audit.page_data import AuditData
from pipeline.labels.class_counts import with_few_labels
from pipeline.pages.wording import count, known
from pipeline.report.gather import Row, RunData

FEW = 10  # scans with a finding, or without it, below which its numbers say next to nothing


@dataclass(frozen=True)
class Part:
    """One finding of the run.

    Attributes:
        finding: Its name.
        folder: Its own run folder; its pages are in `report/`.
        row: Its metrics of the run's last finished round; empty before the first.
        present: Training scans of which the experts say that it is there.
        absent: That it is not.
        num_open: Training scans they have read without settling it.
        verdict: Of its own audit.
        flow: Counts of the pool, see `counts.flow`; empty where the folder holds no run yet, as are the rest.
        reference: Its rounds with scans drawn at random.
        outlook: What its last round says of further labels, as `forecast.json`.
        agreement: How far those who labelled agree on it, as in `agreement.json`.
        backbone: What made the numbers it learns from.
        cautions: What limits its result.
        card: Its model card, in Markdown.
        network: Whether its classifier is an adapted network.
        grown: What growing did to it, see `auroc.auroc_in`.
    """

    finding: str
    folder: Path
    row: Row
    present: frozenset[str] = frozenset()
    absent: frozenset[str] = frozenset()
    num_open: int = 0
    verdict: str | None = None
    flow: Row = field(default_factory=dict)
    reference: list[Row] = field(default_factory=list)
    outlook: Row = field(default_factory=dict)
    agreement: Row = field(default_factory=dict)
    backbone: Row = field(default_factory=dict)
    cautions: tuple[str, ...] = ()
    card: str = ""
    network: bool = False
    grown: list[Row] = field(default_factory=list)

    @property
    def scores(self) -> Row:
        """Its own row of the holdout; empty where nothing was scored."""
        return own_scores(self.row, self.finding)

    @property
    def auroc(self) -> float | None:
        """None where it could not be measured."""
        value = self.scores.get("auroc")
        return value if known(value) else None

    @property
    def num_with(self) -> int | None:
        """Scored holdout scans that show it."""
        return _sum(self.scores, "tp", "fn")

    @property
    def num_without(self) -> int | None:
        """Scored holdout scans that do not."""
        return _sum(self.scores, "tn", "fp")

    @property
    def has_classifier(self) -> bool:
        """Whether the last finished round learnt to tell it."""
        return known(self.row.get("temperature"))

    @property
    def has_few_labels(self) -> bool:
        """Whether the last finished round knew too few scans with it, or without it."""
        return bool(with_few_labels(self.row.get("expert_by_class") or {}))

    @property
    def is_thin(self) -> bool:
        """Whether it was scored on too few scans to judge by."""
        return any(number is not None and number < FEW for number in (self.num_with, self.num_without))

    @property
    def remark(self) -> str:
        """What a reader must know before the numbers of this finding, in words; empty where there is nothing."""
        if not self.row:
            return "no round has finished"
        if not self.has_classifier:
            return f"no classifier yet: {self._why_none()}"
        if self.num_with is None or self.num_without is None:
            return "not scored: no holdout scan has an answer"
        if not self.num_with or not self.num_without:
            return f"not scored: {'no' if not self.num_with else 'every'} holdout scan shows it"
        sides = {"with it": self.num_with, "without it": self.num_without}
        few = [f"{count(number)} {side}" for side, number in sides.items() if number < FEW]
        remarks = [f"of holdout scans only {' and '.join(few)}: too few to judge by"] if few else []
        return "; ".join([*remarks, "last round rolled back"] if self.row.get("rolled_back") else remarks)

    def _why_none(self) -> str:
        if not self.present and not self.absent:
            return "no expert has said whether it is there"
        if not self.present:
            return f"absent from all {count(len(self.absent))} scans read"
        return "too few labels" if self.absent else f"present in all {count(len(self.present))} scans read"


@dataclass(frozen=True)
class Overview:
    """What the overview says of a run.

    Attributes:
        rounds: Rows of `metrics.jsonl`.
        annotators: Who labelled, as `agreement.json`; how far they agree is told by the findings.
        num_read: Training scans with an expert's answer so far.
        asked: Round, size and open scans of the latest queue.
        joined: Rows of `growth.json`.
    """

    folder: Path
    parts: list[Part]
    config: Row = field(default_factory=dict)
    config_text: str = ""
    env: Row = field(default_factory=dict)
    status: Row = field(default_factory=dict)
    rounds: list[Row] = field(default_factory=list)
    stages: list[Row] = field(default_factory=list)
    audit: AuditData | None = None
    annotators: Row = field(default_factory=dict)
    num_read: int = 0
    asked: tuple[int, int, int] | None = None
    joined: list[Row] = field(default_factory=list)

    @property
    def last(self) -> Row | None:
        """The last finished round."""
        return self.rounds[-1] if self.rounds else None

    @property
    def scores(self) -> Row:
        """The means over the findings of the last round; empty where nothing was scored."""
        return (self.last or {}).get("holdout") or {}

    @property
    def ranked(self) -> list[Part]:
        """The findings, the weakest first; those without an AUROC last, in the order of the run."""
        scored = [(part.auroc, place, part) for place, part in enumerate(self.parts) if part.auroc is not None]
        return [part for _, _, part in sorted(scored)] + [part for part in self.parts if part.auroc is None]

    @property
    def scored(self) -> list[Part]:
        """The findings with an AUROC, the weakest first."""
        return [part for part in self.ranked if part.auroc is not None]

    @property
    def flow(self) -> Row:
        """Counts of the pool, which all findings share."""
        return next((part.flow for part in self.parts if part.flow), {})

    @property
    def backbone(self) -> Row:
        """What made the numbers that all findings are learnt from."""
        return next((part.backbone for part in self.parts if part.backbone), {})

    @property
    def as_run(self) -> RunData:
        """The run's own facts in the shape that the parts of an ordinary report take."""
        return RunData(
            folder=self.folder,
            config=self.config,
            config_text=self.config_text,
            env=self.env,
            status=self.status,
            audit=self.audit,
            backbone=self.backbone,
            flow=self.flow,
            findings=tuple(p.finding for p in self.parts),
        )


def own_scores(row: Row, finding: str) -> Row:
    """A finding's own holdout numbers in a row of its metrics; empty where it was not scored."""
    class_scores: Row = ((row.get("holdout") or {}).get("per_class") or {}).get(finding) or {}
    return class_scores


def _sum(row: Row, *keys: str) -> int | None:
    values = [row.get(key) for key in keys]
    return sum(v for v in values if v is not None) if all(known(v) for v in values) else None
