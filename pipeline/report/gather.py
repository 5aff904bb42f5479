"""Read a run directory into plain data for the page; computes nothing that the run did not measure.

Legend: N scans of the holdout with a known answer, C findings.
"""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.audit import page_data
from pipeline.audit.page_data import AuditData
from pipeline.contracts import config_file
from pipeline.contracts import tables as contracts_tables
from pipeline.contracts.errors import RunDirError
from pipeline.labels import decision_thresholds, verdicts
from pipeline.labels.holdout import scores_of, sealed_classes
from pipeline.learn.stopping import record
from pipeline.measures.holdout_record import HoldoutMetrics, num_holdouts
from pipeline.pages.wording import known
from pipeline.report import counts
from pipeline.runtime import run_files
from pipeline.runtime.finding_folders import whole_of
from pipeline.runtime.growth import record as growth

Row = dict[str, Any]
CANNOT_TELL = "cannot tell"
_TOLD = {  # of the large tables what the page tells of; of the others all
    "manifest": (
        *("image_id", "uri", "view", "patient_id", "source", "population", "age_years", "sex", "note"),
        *("status", "reason"),
    ),
    "duplicates": ("group_id", "kind"),
}
MAX_POINTS = 6000  # of the map; beyond it a uniform sample stands for the pool


@dataclass(frozen=True)
class Scan:
    """One scan as the page shows it; `None` is "not known here".

    Attributes:
        probability: Of the predicted class.
        answer: The experts' answer, in words.
        truth: What the holdout's label says.
        kind: Why the queue holds it.
    """

    image_id: str
    uri: str | None = None
    note: str | None = None
    source: str | None = None
    view: str | None = None
    age_years: float | None = None
    sex: str | None = None
    split: str | None = None
    cluster: int | None = None
    x: float = math.nan
    y: float = math.nan
    predicted: str | None = None
    probability: float | None = None
    answer: str | None = None
    truth: str | None = None
    round: int | None = None
    rank: int | None = None
    kind: str | None = None

    @property
    def who(self) -> str:
        """Source, view, sex and age, as far as they are known."""
        age = f"{self.age_years:.0f} y" if known(self.age_years) else None
        view = None if self.view == "unknown" else self.view
        return " · ".join(part for part in (self.source, view, self.sex, age) if part)

    @property
    def is_mistake(self) -> bool:
        """A scored scan of the sealed holdout whose prediction is not its label."""
        return self.split == "holdout" and None not in (self.truth, self.predicted) and self.truth != self.predicted


@dataclass(frozen=True)
class Holdout:
    """The sealed scans whose answer is known, with the last model's probabilities."""

    image_ids: list[str]
    truth_N: list[str]
    predicted_N: list[str]
    prob_NC: np.ndarray

    def mistakes(self) -> list[str]:
        """The scans it takes for another class."""
        rows = zip(self.image_ids, self.truth_N, self.predicted_N, strict=True)
        return [image_id for image_id, truth, predicted in rows if truth != predicted]


@dataclass(frozen=True)
class RunData:
    """All that the page says about a run."""

    folder: Path
    config: Row = field(default_factory=dict)
    config_text: str = ""
    env: Row = field(default_factory=dict)
    status: Row = field(default_factory=dict)
    rounds: list[Row] = field(default_factory=list)
    reference: list[Row] = field(default_factory=list)
    forecasts: list[Row] = field(default_factory=list)
    stages: list[Row] = field(default_factory=list)
    training: dict[int, Row] = field(default_factory=dict)
    audit: AuditData | None = None
    evaluation: Row | None = None
    act_or_defer: Row | None = None
    comparison: Row | None = None
    external: dict[str, Row] = field(default_factory=dict)
    access: list[Row] = field(default_factory=list)
    growth: list[Row] = field(default_factory=list)
    annotators: Row = field(default_factory=dict)
    backbone: Row = field(default_factory=dict)
    pretraining: list[Row] = field(default_factory=list)
    sides: dict[str, Row] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    flow: Row = field(default_factory=dict)
    queues: dict[int, list[Scan]] = field(default_factory=dict)
    points: list[Scan] = field(default_factory=list)
    medoids: list[Scan] = field(default_factory=list)
    mistakes: list[Scan] = field(default_factory=list)
    holdout: Holdout | None = None

    @property
    def last(self) -> Row | None:
        """The last finished round."""
        return self.rounds[-1] if self.rounds else None

    @property
    def scores(self) -> HoldoutMetrics | None:
        """The last round's holdout metrics; see `labels.holdout.scores_of`."""
        return scores_of(self.folder, (self.last or {}).get("holdout"))

    @property
    def finding(self) -> str | None:
        """The one of several findings that this run is about."""
        name: str | None = (self.config.get("pool") or {}).get("finding")
        return name

    @property
    def is_part(self) -> bool:
        """Whether it is a finding's part of a run, which has an overview."""
        return whole_of(self.folder) is not None

    @property
    def positive(self) -> str | None:
        """The finding a two-class run is about: the one whose sensitivity the last round reports."""
        return self.scores.positive if self.scores else None


def gather(folder: Path) -> RunData:
    """Read every file of the run that exists.

    Raises:
        RunDirError: `folder` holds no run.
    """
    needed = (contracts_tables.MANIFEST.file, run_files.METRICS, run_files.RESOLVED)
    if not any(run_files.path(folder, name).is_file() for name in needed):
        raise RunDirError("no run was found", where=folder, fix="give the folder that `cxr-ssl run --out` wrote")
    tables = {
        c.name: _table(run_files.path(folder, c.file), c)
        for c in contracts_tables.CONTRACTS
        if c.name not in ("queue", "pseudo")
    }
    queues = _queue_tables(folder)
    resolved = folder / run_files.RESOLVED
    config_text = resolved.read_text("utf-8") if resolved.is_file() else ""
    rounds = _lines(folder / run_files.METRICS)
    findings = _findings(tables["predictions"], rounds)
    holdout = _holdout(tables, findings)
    describe = _Describe(tables, queues, holdout, _answers(tables["labels"], findings))
    mistakes = [] if holdout is None else holdout.mistakes()
    queued = {number: describe.scans(rows["image_id"].to_pylist()) for number, rows in queues.items()}
    return RunData(
        folder=folder,
        config=config_file.values_of(config_text),
        config_text=config_text,
        env=_json(folder / run_files.ENV) or {},
        status=_json(run_files.path(folder, run_files.STATUS)) or {},
        rounds=rounds,
        reference=_lines(folder / run_files.REFERENCE),
        forecasts=record.read_all(folder),
        stages=(_json(run_files.path(folder, run_files.STAGES)) or {}).get("stages", []),
        training=_training(folder),
        audit=page_data.read(folder) if (folder / run_files.AUDIT).is_file() else None,
        evaluation=_json(folder / run_files.EVALUATION),
        act_or_defer=decision_thresholds.read(folder),
        comparison=_json(folder / run_files.COMPARISON),
        external=_external(folder),
        access=_read_lines(folder / run_files.HOLDOUT_READS),
        growth=[asdict(part) for part in growth.parts(folder)],
        annotators=_json(folder / run_files.AGREEMENT) or {},
        backbone=_json(run_files.path(folder, run_files.BACKBONE)) or {},
        pretraining=_read_lines(run_files.path(folder, run_files.PRETRAINED_HISTORY)),
        sides=counts.sides(tables),
        findings=findings,
        flow=counts.flow(tables, queues) | _listing(folder),
        queues=queued,
        points=describe.scans(
            _map_ids(tables["clusters"], [*mistakes, *(s.image_id for q in queued.values() for s in q)])
        ),
        medoids=describe.scans(_medoid_ids(tables["clusters"])),
        mistakes=sorted(describe.scans(mistakes), key=lambda s: (-(s.probability or 0.0), s.image_id)),
        holdout=holdout,
    )


def _listing(folder: Path) -> Row:
    """What was left out by choice before a file was opened, and what was forgiven while the pool was listed."""
    content = _json(run_files.path(folder, run_files.POOL_NOTES)) or {}
    not_chosen = [(row["reason"], row["count"]) for row in content.get("not_chosen") or ()]
    return {
        "not_chosen": not_chosen,
        "num_not_chosen": sum(number for _, number in not_chosen) or None,
        "listing_notes": content.get("notes") or [],
    }


def _json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def _lines(path: Path) -> list[Row]:
    return sorted(_read_lines(path), key=lambda row: row["round"])


def _read_lines(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def _table(path: Path, contract: contracts_tables.Contract) -> pa.Table:
    """A table, or what the report tells of it; empty where there is none yet."""
    columns = _TOLD.get(contract.name)
    if not path.is_file():
        return contract.empty() if columns is None else contract.empty().select(columns)
    return contract.read(path.parent, columns)


def _queue_tables(folder: Path) -> dict[int, pa.Table]:
    return {
        round_index: contracts_tables.QUEUE.read(run_files.round_folder(folder, round_index)).sort_by("rank")
        for round_index in run_files.drawn_rounds(folder)
    }


def _external(folder: Path) -> dict[str, Row]:
    """Name of every other pool the run was tested on, and what came of it."""
    paths = sorted((folder / run_files.EXTERNAL).glob(f"*/{run_files.EVALUATION}"))
    return {path.parent.name: _json(path) for path in paths}


def _training(folder: Path) -> dict[int, Row]:
    name = f"{run_files.MODEL}/{run_files.TRAINING}"
    return {r: _json(run_files.round_folder(folder, r) / name) for r in run_files.rounds_with(folder, name)}


def _findings(predictions: pa.Table, rounds: list[Row]) -> tuple[str, ...]:
    columns = tuple(c.removeprefix("prob_") for c in predictions.column_names if c.startswith("prob_"))
    if columns or not rounds:
        return columns
    last = rounds[-1]
    return tuple((last.get("holdout") or {}).get("per_class") or last.get("prevalence") or ())


def _answers(table: pa.Table, findings: tuple[str, ...]) -> dict[str, str]:
    """Image id to what the experts said, as the rounds count it: the majority of their latest answers."""
    names = findings or tuple(sorted(set(table["finding"].to_pylist())))
    return {i: expert_class or CANNOT_TELL for i, expert_class in verdicts.expert_classes(table, names).items()}


def _holdout(tables: dict[str, pa.Table], findings: tuple[str, ...]) -> Holdout | None:
    predictions = tables["predictions"]
    rows = predictions.filter(pc.equal(predictions["split"], "holdout")).sort_by("image_id")
    ids = rows["image_id"].to_pylist()
    if not ids:
        return None
    pool = tables["pool_labels"]
    pool = pool.filter(pc.is_in(pool["image_id"], value_set=rows["image_id"].combine_chunks()))
    of_pool = dict(zip(pool["image_id"].to_pylist(), pool["label"].to_pylist(), strict=True))
    known_or_not = sealed_classes({i: of_pool.get(i) for i in ids}, tables["labels"], findings)
    truth = {image_id: label for image_id, label in known_or_not.items() if label is not None}
    keep = [i for i, image_id in enumerate(ids) if image_id in truth]
    if not keep:
        return None
    prob_CN = [np.asarray(rows[f"prob_{finding}"].to_numpy(), dtype=np.float64)[keep] for finding in findings]
    predicted = rows["predicted"].to_pylist()
    return Holdout(
        image_ids=[ids[i] for i in keep],
        truth_N=[truth[ids[i]] for i in keep],
        predicted_N=[predicted[i] for i in keep],
        prob_NC=np.stack(prob_CN, axis=1),
    )


class _Describe:
    """Looks up what the tables say about a few scans, without a row object for every scan of the pool."""

    def __init__(
        self,
        tables: dict[str, pa.Table],
        queues: dict[int, pa.Table],
        holdout: Holdout | None,
        answers: dict[str, str],
    ) -> None:
        self.tables = tables
        self.answers = answers
        self.truth = {} if holdout is None else dict(zip(holdout.image_ids, holdout.truth_N, strict=True))
        self.queued = {
            row["image_id"]: {"round": number, "rank": row["rank"], "kind": row["kind"]}
            for number, rows in queues.items()
            for row in rows.to_pylist()
        }

    def scans(self, ids: list[str]) -> list[Scan]:
        wanted = pa.array(ids, pa.string())
        manifest = self._rows("manifest", wanted, ["uri", "source", "view", "age_years", "sex", "note"])
        split = self._rows("splits", wanted, ["split"])
        place = self._rows("clusters", wanted, ["cluster", "x", "y"])
        predictions = self.tables["predictions"]
        probs = [c for c in predictions.column_names if c.startswith("prob_")]
        prediction_rows = self._rows("predictions", wanted, ["predicted", *probs])
        out = []
        for image_id in ids:
            row = prediction_rows.get(image_id, {})
            predicted = row.get("predicted")
            out.append(
                Scan(
                    image_id=image_id,
                    **manifest.get(image_id, {}),
                    **split.get(image_id, {}),
                    **place.get(image_id, {}),
                    predicted=predicted,
                    probability=row.get(f"prob_{predicted}"),
                    answer=self.answers.get(image_id),
                    truth=self.truth.get(image_id),
                    **self.queued.get(image_id, {}),
                )
            )
        return out

    def _rows(self, name: str, wanted: pa.Array, columns: list[str]) -> dict[str, Row]:
        table = self.tables[name]
        rows = table.filter(pc.is_in(table["image_id"], wanted)).select(["image_id", *columns])
        return {row.pop("image_id"): row for row in rows.to_pylist()}


def _medoid_ids(clusters: pa.Table) -> list[str]:
    """The scan that is most like the centre of its cluster, cluster after cluster; the first id among equals."""
    order = [("cluster", "ascending"), ("similarity", "descending"), ("image_id", "ascending")]
    rows = clusters.sort_by(order)
    cluster_N = rows["cluster"].to_numpy()
    first_K = np.unique(cluster_N, return_index=True)[1]
    ids: list[str] = rows["image_id"].take(first_K).to_pylist()
    return ids


def _map_ids(clusters: pa.Table, always: list[str]) -> list[str]:
    """Ids are hashes, so the first in order are a uniform sample; queued scans and mistakes always show."""
    ids = clusters["image_id"]
    if len(ids) <= MAX_POINTS:
        return sorted(ids.to_pylist())
    sample = ids.take(pc.select_k_unstable(ids, MAX_POINTS, [("", "ascending")]))
    there = ids.filter(pc.is_in(ids, value_set=pa.array(always, pa.string())))
    return sorted({*sample.to_pylist(), *there.to_pylist()})


def on_the_last_holdout(rows: list[Row]) -> list[Row]:
    """The rounds scored on the holdout of the last one; those before a run grew were scored on fewer scans."""
    return [row for row in rows if num_holdouts(row) == num_holdouts(rows[-1])]


def measured(rows: list[Row], *keys: str) -> list[tuple[Row, Any]]:
    """The rounds where the number under `keys` was measured, each with that number."""
    out = []
    for row in rows:
        value: Any = row
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if known(value):
            out.append((row, value))
    return out
