"""One run as a comparison sees it: how far it came, what it scored, what it cost; or why that cannot be said."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from pipeline.audit import stage as audit_stage
from pipeline.contracts.config import Config
from pipeline.contracts.errors import CxrSslError
from pipeline.contracts.tables import SPLIT_TABLE
from pipeline.measures.holdout_record import num_holdouts
from pipeline.runtime import finding_folders, run_dir, run_files

Row = dict[str, Any]
CURVES = {"auroc": "AUROC", "balanced_accuracy": "balanced accuracy"}
SCORES = ("auroc", "balanced_accuracy", "accuracy", "sensitivity", "specificity", "ece", "brier")
FINISHED = "done"

ALONE = {"audit": "an audit", "embed": "vectors"}  # the last stage of commands that go no further


@dataclass(frozen=True)
class RunRecord:
    """A run, read without its holdout's labels.

    Attributes:
        name: What it is called on the page; unique among the runs compared.
        folder: Of the run.
        state: As in `status.json`; None where that is missing.
        updated: When the state was written, ISO 8601; empty where nobody knows.
        reason: Why there are no scores; None where there are.
        note: What a reader must know of a run that is not finished.
        config: Its options; None where they cannot be read.
        rows: Its lines of `metrics.jsonl`.
        findings: Classes, or independent findings, that were scored.
        positive: The class that is the finding; None where no single one is.
        holdout: Names the sealed scans: equal in runs that sealed the same ones. None where nothing is sealed.
        audit: Its `audit.json`.
        asked: Number of scans that its queues asked for, by kind.
    """

    name: str
    folder: Path
    state: str | None = None
    updated: str = ""
    reason: str | None = None
    note: str | None = None
    config: Config | None = None
    rows: list[Row] = field(default_factory=list)
    findings: tuple[str, ...] = ()
    positive: str | None = None
    holdout: str | None = None
    audit: Row | None = None
    asked: dict[str, int] = field(default_factory=dict)

    @property
    def last(self) -> Row:
        """The row of the last finished round; empty before there is one."""
        return self.rows[-1] if self.rows else {}

    @property
    def scores(self) -> Row:
        """What the last round scored on the holdout; empty where nothing was."""
        return self.last.get("holdout") or {}

    @property
    def question(self) -> tuple[str | None, bool, tuple[str, ...], str | None]:
        """What two runs must have in common for their curves to share a chart."""
        several = self.config is not None and self.config.pool.asks_several
        return self.holdout, several, tuple(sorted(self.findings)), self.positive

    def to_json(self) -> Row:
        """The row of the run in the answer with `--json`."""
        audit, config = self.audit or {}, self.config
        scores = {name: self.scores.get(name) for name in SCORES}
        return {
            "run": self.name,
            "folder": str(self.folder),
            "state": self.state,
            "updated": self.updated or None,
            "reason": self.reason,
            "note": self.note,
            "pool": config.pool.uri if config else None,
            "findings": list(self.findings),
            "positive": self.positive,
            "holdout": self.holdout,
            "rounds_finished": len(self.rows),
            "rounds": config.rounds.num if config else None,
            "num_expert": self.last.get("num_expert"),
            "num_pseudo": self.last.get("num_pseudo"),
            "asked": self.asked,
            "verdict": audit.get("verdict"),
            "blocking": audit.get("blocking") or [],
            "warnings": [check["id"] for check in audit.get("checks") or [] if check.get("severity") == "warn"],
            "scores": {
                **scores,
                **{f"{name}_ci95": self.scores.get(f"{name}_ci95") for name in CURVES},
                "num_scans": self.scores.get("num_scans"),
            }
            if self.scores
            else None,
            "curve": [_point(row) for row in self.rows],
        }


def _point(row: Row) -> Row:
    """One round of the learning curve; scores on holdouts of another number of `pools` do not compare."""
    scores = row.get("holdout") or {}
    point = {name: row.get(name) for name in ("round", "num_expert", "num_pseudo")} | {"pools": num_holdouts(row)}
    return point | {key: scores.get(key) for name in CURVES for key in (name, f"{name}_ci95")}


def read_all(folders: Sequence[Path]) -> list[RunRecord]:
    """The records of runs, each with a name of its own; a run that cannot be read has the reason."""
    return [_read(folder, name) for folder, name in zip(folders, _names(folders), strict=True)]


def _names(folders: Sequence[Path]) -> list[str]:
    """The shortest end of each path that tells the runs apart."""
    parts = [folder.absolute().parts for folder in folders]
    for length in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(of[-length:]) for of in parts]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def _read(folder: Path, name: str) -> RunRecord:
    try:
        return _of_run(folder, name)
    except CxrSslError as error:
        return RunRecord(name, folder, reason=str(error))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # a file that was cut off
        return RunRecord(name, folder, reason=f"cannot be read ({type(error).__name__}: {str(error)[:120]})")


def _of_run(folder: Path, name: str) -> RunRecord:
    config = run_dir.config_of(folder)
    status = run_dir.read_status(folder)
    rows = run_dir.read_metrics(folder)
    scores = (rows[-1].get("holdout") if rows else None) or {}
    state = status.get("state")
    return RunRecord(
        name=name,
        folder=folder,
        state=state,
        updated=status.get("updated") or "",
        reason=_reason(rows, scores, state, status.get("stage")),
        note=_note(rows, config, state),
        config=config,
        rows=rows,
        findings=tuple(scores.get("per_class") or finding_folders.parts_in(folder) or config.pool.findings or ()),
        positive=scores.get("positive"),
        holdout=_sealed(folder),
        audit=audit_stage.read(folder),
        asked=dict(sorted(Counter(kind for _, _, kind in run_files.asks_of(folder)).items())),
    )


def _reason(rows: list[Row], scores: Row, state: str | None, stage: str | None) -> str | None:
    if not rows and state == FINISHED and stage in ALONE:
        return f"{ALONE[stage]} alone: no round was asked for"
    if not rows:
        return "no round is finished yet" + (f" (the run is {state})" if state not in (None, FINISHED) else "")
    return None if scores else "no scan of the sealed holdout has an expert's label, so nothing could be scored"


def _note(rows: list[Row], config: Config, state: str | None) -> str | None:
    if not rows or state in (None, FINISHED):
        return None
    return f"half-way: {len(rows)} of {config.rounds.num} rounds finished, the run is {state}"


def _sealed(folder: Path) -> str | None:
    """A name for the set of sealed scans; their labels are not looked at."""
    if not run_files.path(folder, SPLIT_TABLE.file).exists():
        return None
    splits = run_files.read(folder, SPLIT_TABLE)
    ids = splits.filter(pc.equal(splits["split"], "holdout"))["image_id"].to_pylist()
    return run_files.digest(*sorted(ids))[:12] if ids else None
